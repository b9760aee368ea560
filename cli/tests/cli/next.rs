//! `next`, computed without a server.

use serde_json::json;

use crate::workbench::{Workbench, run};

#[track_caller]
fn next(arguments: &[&str]) -> serde_json::Value {
    let bench = Workbench::new();
    let mut command = bench.command("next --json");
    command.args(arguments);
    run(command, "").exits(0).json()
}

#[test]
fn cron_in_a_time_zone_across_the_gap_in_spring() {
    let times = next(&[
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-03-28T00:00:00Z",
        "--count",
        "3",
    ]);
    // 02:30 does not exist on the 29th: due once, right after the gap.
    assert_eq!(times, json!(["2026-03-28T01:30:00.000Z", "2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]));
}

#[test]
fn cron_across_the_fold_in_autumn_is_due_once() {
    let times = next(&[
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-10-24T12:00:00Z",
        "--count",
        "2",
    ]);
    assert_eq!(times, json!(["2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]));
}

#[test]
fn intervals_count_from_1970_and_begin_behind_from() {
    let times = next(&["--every", "90m", "--from", "1970-01-01T01:30:00Z", "--count", "2"]);
    assert_eq!(times, json!(["1970-01-01T03:00:00.000Z", "1970-01-01T04:30:00.000Z"]));
}

#[test]
fn a_single_instant_is_due_once_or_no_more() {
    let at = ["--at", "2026-12-31T23:59:00+01:00"];
    assert_eq!(next(&[&at[..], &["--from", "2026-01-01T00:00:00Z"]].concat()), json!(["2026-12-31T22:59:00.000Z"]));
    assert_eq!(next(&[&at[..], &["--from", "2027-01-01T00:00:00Z"]].concat()), json!([]));
}

#[test]
fn ten_unless_told_otherwise() {
    assert_eq!(next(&["--every", "1s"]).as_array().unwrap().len(), 10);
}

#[test]
fn people_see_local_time_utc_and_how_far_it_is() {
    let bench = Workbench::new();
    let mut command = bench.command("next --timezone Europe/Berlin --from 2126-03-29T00:00:00Z --count 1");
    command.args(["--cron", "0 4 * * *"]);
    let done = run(command, "").exits(0).says("Europe/Berlin").says("UTC");
    done.says("Fri 2126-03-29 04:00:00 +01:00").says("Fri 2126-03-29 03:00:00Z").says("in ").never_says("\x1b[");
}

#[test]
fn a_schedule_of_a_file() {
    let bench = Workbench::new();
    bench.write("a.yaml", "version: 1\nnamespace: billing\njobs: { j: { command: [x] } }\nschedules: { s: { cron: '0 0 1 1 *', timezone: Asia/Tokyo, trigger: j } }\n");
    let done = bench.run("next s --file a.yaml --namespace billing --from 2026-01-01T00:00:00Z --count 1 --json");
    assert_eq!(done.exits(0).json(), json!(["2026-12-31T15:00:00.000Z"]));
    bench.run("next s --file a.yaml").exits(1).says("--namespace");
    bench.run("next t --file a.yaml --namespace billing").exits(1).says("it has s");
    bench.run("next s --file b.yaml").exits(1).says("does not exist");
}

#[test]
fn what_a_schedule_of_a_file_leaves_out_is_left_out_and_counted() {
    let bench = Workbench::new();
    bench.write(
        "a.yaml",
        "version: 1\njobs: { j: { command: [x] } }\nschedules:\n  \
         s: { cron: '0 2 * * *', trigger: j, except: [2126-12-24/2126-12-26, SUN], ends_at: 2126-12-28T02:00:00Z }\n",
    );
    let asked = "next s --file a.yaml --from 2126-12-23T12:00:00Z";
    let done = bench.run(&format!("{asked} --json")).exits(0);
    assert_eq!(done.json(), json!(["2126-12-27T02:00:00.000Z", "2126-12-28T02:00:00.000Z"]));
    assert_eq!(done.stderr, "", "{done}");
    bench.run(asked).exits(0).says("3 due times left out: except").says("2126-12-27 02:00:00Z");
    bench.run("next s --file a.yaml --from 2126-12-29T00:00:00Z").exits(0).says("never");
}

#[test]
fn wrong_timings_are_explained() {
    let bench = Workbench::new();
    let with = |arguments: &[&str]| {
        let mut command = bench.command("next");
        command.args(arguments);
        run(command, "")
    };
    with(&["--cron", "0 25 * * *"]).exits(1).says("25");
    with(&["--cron", "0 0 30 2 *"]).exits(1).says("never fires");
    with(&["--cron", "0 0 * * *", "--timezone", "Europe/Berlni"]).exits(1).says("Europe/Berlin");
    with(&["--every", "tomorrow"]).exits(2).says("tomorrow");
    with(&["--at", "2026-01-01"]).exits(2).says("offset");
    with(&["--cron", "* * * * *", "--every", "1s"]).exits(2).says("cannot be used with");
    with(&["nightly", "--timezone", "UTC"]).exits(2);
    with(&[]).exits(2).says("--cron");
    with(&["--every", "1s", "--count", "0"]).exits(2);
}
