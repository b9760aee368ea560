//! Schedules operated against a real server, as a person does.

use serde_json::{Value, json};

use crate::workbench::{Dev, LIMIT, Workbench, eventually};

const FILE: &str = r#"
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  hello: { command: [echo, hello] }
  broken: { command: ["false"] }
  slow: { command: [sleep, "600"] }
  hourly: { command: [echo, hour] }
schedules:
  often: { every: 1s, trigger: hello, overlap: allow }
  hourly: { every: 1h, trigger: hourly }
  mixed: { cron: "0 2 * * *", timezone: Europe/Berlin, trigger: [hello, broken] }
  stuck: { every: 1h, trigger: slow }
"#;

fn start() -> (Workbench, Dev) {
    let bench = Workbench::new();
    bench.write("deploy/schedules/jobs.yaml", FILE);
    let dev = Dev::start(&bench, "");
    (bench, dev)
}

#[test]
fn jobs_are_listed_and_named_to_who_asks_for_another_one() {
    let (bench, dev) = start();
    let server = dev.server();
    bench.run(&format!("jobs --search h {server}")).exits(0).says("hello   default  command  1").never_says("slow");
    bench.run(&format!("jobs --search nobody {server}")).exits(0).says("No jobs.");
    assert_eq!(bench.run(&format!("jobs --json --limit 3 {server}")).exits(0).json().as_array().unwrap().len(), 3);
    bench.run(&format!("trigger helo {server}")).exits(1).says("helo").says("reveille jobs");
}

#[test]
fn a_pause_is_told_explained_and_remembered() {
    let (bench, dev) = start();
    let server = dev.server();
    let done = bench.run(&format!("pause often --by anna --reason lunch {server}")).exits(0);
    done.says("often is paused since").says("by anna: lunch");
    bench.run(&format!("pause often {server}")).exits(1).says("anna").says("lunch").says("reveille resume");
    let done = bench.run(&format!("schedules --search oft {server}")).exits(0);
    done.says("PAUSED by anna: lunch").never_says("hourly");
    bench.run(&format!("next often --count 1 {server}")).exits(0).says("paused since");
    bench.run(&format!("explain often {server}")).exits(0).says("It is paused now, since").says("by anna: lunch");
    let paused = bench.run(&format!("schedules --search often --json {server}")).exits(0).json();
    let since = paused[0]["paused"]["since"].as_str().unwrap();
    let due = eventually(LIMIT, || {
        let now = bench.run(&format!("explain often --json {server}")).exits(0).json();
        let last = now["lastDue"].as_str().unwrap();
        if last > since { Ok(last.to_owned()) } else { Err(now.to_string()) }
    });
    bench.run(&format!("explain often --at {due} {server}")).exits(0).says("anna").says("lunch").says("Next due");
    bench.run(&format!("resume often --by otto {server}")).exits(0).says("often goes on: next due");
    bench.run(&format!("resume often {server}")).exits(1).says("not paused");
    let done = bench.run(&format!("explain often --at {due} {server}")).exits(0);
    done.says("skipped (paused)").says("anna").says("lunch");
    let done = bench.run(&format!("history often {server}")).exits(0);
    done.says("schedule often").says("resumed").says("by otto").says("paused").says("by anna: lunch").says("created");
    bench.run(&format!("history hourly {server}")).exits(2).says("--job").says("--schedule");
    bench.run(&format!("history hourly --job {server}")).exits(0).says("job hourly");
    bench.run(&format!("history nobody {server}")).exits(1).says("ever called nobody");
}

#[test]
fn what_will_be_is_explained_in_the_schedules_zone() {
    let (bench, dev) = start();
    let server = dev.server();
    let done = bench.run(&format!("explain mixed --at 2126-11-25T02:00 {server}")).exits(0);
    done.says("will trigger").says("Mon 2126-11-25 02:00:00 +01:00");
    let json = bench.run(&format!("explain mixed --at 2126-11-25T02:30 --json {server}")).exits(0).json();
    assert_eq!((&json["verdict"], &json["at"]), (&json!("not_due"), &json!("2126-11-25T01:30:00.000Z")));
    bench.run(&format!("explain nobody {server}")).exits(1).says("nobody").says("does not exist");
}

#[test]
fn a_past_range_is_made_up_for() {
    let (bench, dev) = start();
    let server = dev.server();
    let range = "backfill hourly --from 2020-01-01T00:00Z --to 2020-01-01T03:00Z --id lost --reason outage";
    bench.run(&format!("{range} --dry-run {server}")).exits(0).says("nothing was done: there are 4 due times");
    let done = bench.run(&format!("{range} --max-parallel 2 --wait {server}")).exits(0);
    done.says("lost  done after").says("4 of 4 due times triggered").says("100 %");
    // Asked for again it is the same one.
    bench.run(&format!("{range} --max-parallel 2 --wait {server}")).exits(0).says("lost  done");
    bench.run(&format!("{range} --max-parallel 3 {server}")).exits(1).says("another id");
    bench.run(&format!("backfill hourly --list {server}")).exits(0).says("lost").says("100 %").says("outage");
    let done = bench.run(&format!("explain hourly --at 2020-01-01T02:00Z {server}")).exits(0);
    done.says("backfill:lost").says("Also fired");
    let enormous = bench.run(&format!("backfill often --from 2020-01-01T00:00Z --to 2021-01-01T00:00Z {server}"));
    enormous.exits(1).says("31622401 due times").says("choose a shorter range");
    bench.run(&format!("backfill hourly --from now --to 2126-01-01T00:00Z {server}")).exits(1).says("in the future");
}

#[test]
fn a_backfill_is_canceled() {
    let (bench, dev) = start();
    let server = dev.server();
    let range = "backfill stuck --from 2020-01-01T00:00Z --to 2020-01-01T03:00Z --id late";
    bench.run(&format!("{range} {server}")).exits(0).says("late  running").says("--cancel late");
    let done = bench.run(&format!("backfill stuck --cancel late {server}")).exits(0);
    done.says("late  canceled");
    bench.run(&format!("{range} --wait {server}")).exits(4).says("late  canceled");
    let list: Value = bench.run(&format!("backfill stuck --list --json {server}")).exits(0).json();
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&json!("late"), &json!("canceled")));
}

#[test]
fn all_jobs_of_a_schedule_run_by_hand() {
    let (bench, dev) = start();
    let server = dev.server();
    let done = bench.run(&format!("trigger --schedule mixed --wait {server}")).exits(3);
    done.says("SUCCEEDED").says("FAILED");
    let fired = bench.run(&format!("trigger --schedule hourly --by anna --json {server}")).exits(0).json();
    assert_eq!((&fired["fire"]["origin"], &fired["workRequests"][0]["job"]), (&json!("manual"), &json!("hourly")));
    bench.run(&format!("trigger --schedule nobody {server}")).exits(1).says("does not exist");
}

#[test]
fn files_are_planned_and_applied() {
    let bench = Workbench::new();
    // The folder that the server reads is never put in force over a higher revision.
    let whole = |revision: u8| {
        format!(
            "version: 1\nrevision: {revision}\njobs: {{ hello: {{ command: [echo, hello] }} }}\n\
             schedules: {{ idle: {{ every: 1h, trigger: hello }} }}\n"
        )
    };
    bench.write("first.yaml", &whole(1));
    let dev = Dev::start(&bench, "--schedules first.yaml");
    let server = dev.server();
    bench.run(&format!("plan first.yaml {server}")).exits(0).says("Nothing would change");
    bench.run(&format!("apply first.yaml {server}")).exits(0).says("Nothing to do.");

    let part = |cron: &str| {
        let timing = format!("{{ cron: '{cron}', timezone: Europe/Berlin, trigger: hello }}");
        bench.write("part.yaml", &format!("version: 1\nrevision: 2\nschedules: {{ nightly: {timing} }}\n"));
    };
    part("30 2 * * *");
    let done = bench.run(&format!("plan part.yaml {server}")).exits(2);
    done.says("+ schedule nightly").says("nightly: 100 new").says("jobs: hello").says("Clock changes");
    bench.run(&format!("schedules {server}")).exits(0).never_says("nightly");
    let done = bench.run(&format!("apply part.yaml --by anna --reason start {server}")).exits(0);
    done.says("Applied: version").says("0 jobs and 1 schedule are new or changed, 0 removed");

    part("30 3 * * *");
    let plan = bench.run(&format!("plan part.yaml --json {server}")).exits(2).json();
    let version = plan["inForceVersion"].as_i64().unwrap();
    let done = bench.run(&format!("plan part.yaml {server}")).exits(2);
    done.says("~ schedule nightly\n    cron: \"30 2 * * *\" → \"30 3 * * *\"").says("of 100 stay");
    let stale = bench.run(&format!("apply part.yaml --if-version {} {server}", version - 1)).exits(1);
    stale.says(&format!("version {version} is in force, not {}", version - 1));
    let applied =
        bench.run(&format!("apply part.yaml --if-version {version} --by otto --json {server}")).exits(0).json();
    assert_eq!(applied["applied"]["schedules"], 1, "{applied}");
    let done = bench.run(&format!("history nightly {server}")).exits(0);
    done.says("changed (version 2) by otto").says("30 3 * * *").says("created (version 1) by anna: start");

    // Without the job that it calls the whole would not be sound: the server says so.
    bench.write("other.yaml", "version: 1\nschedules: { s: { every: 1h, trigger: nobody } }\n");
    bench.run(&format!("apply other.yaml {server}")).exits(1).says("nobody").says("nothing of this would be applied");
    bench.write("whole.yaml", &whole(3));
    bench.run(&format!("plan whole.yaml --prune {server}")).exits(2).says("- schedule nightly");
    bench.run(&format!("apply whole.yaml --prune --by anna {server}")).exits(0).says("1 removed");
    bench.run(&format!("explain nightly {server}")).exits(1).says("not in force").says("anna removed it");
    bench.run(&format!("history nightly {server}")).exits(0).says("removed");
}

#[test]
fn the_doctor_finds_a_server_well_until_its_files_are_faulty() {
    let (bench, dev) = start();
    let server = dev.server();
    let done = bench.run(&format!("doctor {server}")).exits(0);
    done.says("All is well.").says("✓ database").says("✓ clock here").says("4 schedules in force");
    bench.write("deploy/schedules/bad.yaml", "version: 1\njobs: { j: { comand: [x] } }\n");
    eventually(LIMIT, || {
        let done = bench.run(&format!("doctor {server}"));
        if done.code == Some(1) {
            done.says("bad.yaml:2:").says("reveille check PATH");
            Ok(())
        } else {
            Err(done.to_string())
        }
    });
}

#[test]
fn runs_are_canceled_by_what_they_have_in_common() {
    let (bench, dev) = start();
    let server = dev.server();
    for _ in 0..2 {
        bench.run(&format!("trigger slow {server}")).exits(0);
    }
    bench.run(&format!("cancel {server}")).exits(2).says("--job").says("--all");
    bench.run(&format!("cancel some-id --job slow {server}")).exits(2);
    bench.run(&format!("cancel --job slow --status succeeded {server}")).exits(1).says("status");
    bench.run(&format!("cancel --job slow --dry-run {server}")).exits(0).says("2 runs would be canceled");
    bench.run(&format!("cancel --schedule mixed {server}")).exits(0).says("0 runs canceled, 0 asked to stop");
    let told = bench.run(&format!("cancel --job slow --by anna --json {server}")).exits(0).json();
    assert_eq!(told["matched"], 2);
    eventually(LIMIT, || {
        let runs = bench.run(&format!("runs --job slow --json {server}")).exits(0).json();
        let canceled = runs.as_array().unwrap().iter().filter(|run| run["status"] == "CANCELED").count();
        if canceled == 2 { Ok(()) } else { Err(runs.to_string()) }
    });
}

#[test]
fn whoever_triggers_cancels_and_retries_says_why() {
    let (bench, dev) = start();
    let server = dev.server();
    let id = |command: &str| {
        let run = bench.run(&format!("{command} --by anna --reason disk --json {server}")).exits(0).json();
        run["id"].as_str().unwrap().to_owned()
    };
    let told = |id: &str, what: &str| {
        bench.run(&format!("show {id} {server}")).exits(0).says(&format!("{what} by anna, because: disk"));
    };
    let run = id("trigger slow");
    told(&run, "asked for");
    assert_eq!(id(&format!("cancel {run}")), run);
    let again = id(&format!("retry {run}"));
    assert_ne!(again, run);
    told(&again, "asked for");
    bench.run(&format!("cancel --job slow --by anna --reason disk {server}")).exits(0);
    for canceled in [&run, &again] {
        let shown = bench.run(&format!("show {canceled} {server}")).exits(0);
        let said = ["asked to stop by", "canceled; asked for by"].map(|what| format!("{what} anna, because: disk"));
        assert!(said.iter().any(|said| shown.stdout.contains(said)), "{shown}");
    }
}
