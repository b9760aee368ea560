use reveille_shared::definition::{Chained, DayRule, Dst, Gap, Schedule, Timing, read_part};
use reveille_shared::store::Pause;

use super::*;

const NOW: &str = "2026-03-01T00:00:30Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn read(text: &str) -> Definitions {
    read_part(&[("test.yaml".into(), format!("version: 1\n{text}"))]).unwrap()
}

fn current(text: &str) -> Current {
    let definitions = read(text);
    let in_force = InForce {
        version: 4,
        digest: definitions.digest(),
        revision: definitions.revision,
        applied_at: at(NOW),
        applied_by: "test".into(),
    };
    Current {
        in_force: Some(in_force),
        jobs: definitions.jobs.into_iter().map(|item| Versioned { version: 1, item }).collect(),
        schedules: definitions.schedules.into_iter().map(|schedule| ScheduleRow::new(schedule, 1, at(NOW))).collect(),
    }
}

fn names(keys: &[ScheduleKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

const BASE: &str = "
jobs: { a: { function: f }, b: { function: g } }
schedules: { s: { cron: '0 2 * * *', trigger: a }, t: { every: 1h, trigger: b } }
";

#[test]
fn what_is_in_force_again_changes_nothing_and_has_the_same_digest() {
    let current = current(BASE);
    let merged = merge(&current, &read(BASE), true).unwrap();
    assert!(!merged.is_change(&current) && merged.jobs.is_empty() && merged.schedules.is_empty());
    assert_eq!(merged.set.digest, current.in_force.as_ref().unwrap().digest);
    assert_eq!(merged.set.base, Some(4));
}

#[test]
fn a_part_leaves_the_rest_as_it_is_unless_it_is_pruned() {
    let current = current(BASE);
    let part = read("jobs: { c: { function: h } }\nschedules: { s: { cron: '0 3 * * *', trigger: [a, c] } }");
    let merged = merge(&current, &part, false).unwrap();
    assert_eq!(names(&merged.jobs.added), ["default/c"]);
    assert_eq!(
        (names(&merged.kept_jobs), names(&merged.kept_schedules)),
        (vec!["default/a".into(), "default/b".into()], vec!["default/t".to_owned()])
    );
    let [(key, changes)] = &merged.schedules.changed[..] else { panic!("one schedule changes") };
    let members: Vec<_> = changes.iter().map(|change| change.member.as_str()).collect();
    assert_eq!((key.to_string().as_str(), members), ("default/s", vec!["cron", "trigger"]));
    assert_eq!((merged.definitions.jobs.len(), merged.definitions.schedules.len()), (3, 2));

    // What is in force is kept by its name alone: pruned, the schedule would call a job that is gone.
    let unsound = merge(&current, &part, true).unwrap_err();
    assert_eq!(unsound.len(), 1);
    assert!(unsound[0].to_string().starts_with("schedule default/s: calls job a, which would not be in force"));

    let other = read("namespace: other\njobs: { x: { function: f } }");
    let merged = merge(&current, &other, true).unwrap();
    assert!(merged.set.remove_jobs.is_empty() && merged.set.remove_schedules.is_empty(), "of another tenant");
    let whole = read("jobs: { a: { function: f } }\nschedules: { s: { cron: '0 2 * * *', trigger: a } }");
    let merged = merge(&current, &whole, true).unwrap();
    assert_eq!(
        (names(&merged.jobs.removed), names(&merged.schedules.removed)),
        (vec!["default/b".to_owned()], vec!["default/t".to_owned()])
    );
    assert_eq!(merged.set.digest, whole.digest());
}

#[test]
fn each_key_of_a_job_is_a_change_with_what_it_was_and_is() {
    let job = |keys: &str| format!("jobs: {{ a: {{ http: {{ url: 'http://a' }}, {keys} }} }}");
    let current = current(&job("queue: default"));
    for (keys, told) in [
        ("priority: high", "priority none → \"high\""),
        ("concurrency: 3", "concurrency none → {\"limit\":3}"),
        ("rate: 100/m", "rate none → {\"limit\":100,\"per\":\"1m\"}"),
        ("unique: { key: k, while: running }", "unique none → {\"key\":\"k\",\"while\":\"running\"}"),
        ("expires: 10m", "expires none → \"10m\""),
        ("on_lost: fail", "onLost \"retry\" → \"fail\""),
        (
            "verify: { command: [v], timeout: 1s }",
            "verify none → {\"how\":{\"command\":{\"argv\":[\"v\"]}},\"timeout\":\"1s\"}",
        ),
    ] {
        let merged = merge(&current, &read(&job(keys)), true).unwrap();
        let [(_, changes)] = &merged.jobs.changed[..] else { panic!("one job changes by {keys}") };
        assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
        assert_ne!(merged.set.digest, current.in_force.as_ref().unwrap().digest);
    }
    let cancel = read("jobs: { a: { http: { url: 'http://a', cancel: { url: 'http://a/stop' } } } }");
    let changed = merge(&current, &cancel, true).unwrap().jobs.changed;
    assert_eq!((changed.len(), changed[0].1[0].member.as_str()), (1, "handler"));
}

#[test]
fn of_two_revisions_the_higher_stays() {
    let current = current("revision: 7\njobs: { a: { function: f } }");
    let of = |text: &str| merge(&current, &read(text), false).unwrap().set.revision;
    assert_eq!(of("jobs: { a: { function: f } }"), Some(7));
    assert_eq!(of("revision: 3\njobs: { a: { function: f } }"), Some(7));
    assert_eq!(of("revision: 8\njobs: { a: { function: f } }"), Some(8));
}

#[test]
fn chains_that_come_back_are_told_once_and_forks_that_meet_are_fine() {
    let chained = |name: &str| Chained { job: name.into(), input: None };
    let graph = |edges: &[(&str, &str)]| {
        let mut definitions =
            read("jobs: { a: { function: f }, b: { function: f }, c: { function: f }, d: { function: f } }");
        for (from, to) in edges {
            let job = definitions.jobs.iter_mut().find(|job| job.name == *from).unwrap();
            job.on_finish.push(chained(to));
        }
        sound::check(&definitions)
    };
    assert_eq!(graph(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), []);
    let circle = graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "b")]);
    assert_eq!(circle.len(), 1);
    assert_eq!(circle[0].message, "its chain comes back to itself: b → c → b");
    assert_eq!(graph(&[("a", "a")])[0].message, "its chain comes back to itself: a → a");
    assert_eq!(graph(&[("a", "e")])[0].message, "calls job e, which would not be in force");
}

#[test]
fn an_external_job_shares_its_queue_with_none_that_stays_in_force() {
    let current =
        current("jobs: { copy: { function: f, queue: pictures, fan_out: { job: resize } }, resize: { function: g } }");
    let external = |queue: &str| read(&format!("jobs: {{ resize: {{ external: {{}}, queue: {queue} }} }}"));
    let unsound = merge(&current, &external("pictures"), false).unwrap_err();
    assert_eq!(
        unsound.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["job default/resize: is external and shares the queue pictures with job default/copy, which is none\n  \
          = give it a queue of its own"]
    );
    // A queue knows no namespace.
    let elsewhere = read("namespace: other\njobs: { blur: { external: {}, queue: pictures } }");
    assert!(merge(&current, &elsewhere, false).unwrap_err()[0].at.ends_with("other/blur"));
    // Children in a queue of their own are what workers of other languages are for.
    assert!(merge(&current, &external("thumbs"), false).is_ok());
}

#[test]
fn a_long_chain_is_walked_without_a_deep_stack() {
    let mut definitions = Definitions::default();
    for number in 0..20_000 {
        let mut job = read("jobs: { a: { function: f } }").jobs.remove(0);
        job.name = format!("j{number:05}");
        job.on_success.push(Chained { job: format!("j{:05}", (number + 1) % 20_000), input: None });
        definitions.jobs.push(job);
        if number > 200 && cfg!(debug_assertions) {
            break;
        }
    }
    let last = definitions.jobs.len();
    definitions.jobs[last - 1].on_success[0].job = "j00000".into();
    assert_eq!(sound::check(&definitions).len(), 1);
}

fn times(current: &Current, files: &str, prune: bool) -> Vec<FireTimes> {
    let merged = merge(current, &read(files), prune).unwrap();
    outlook(current, &merged, at(NOW)).unwrap().fire_times
}

#[test]
fn fires_are_compared_as_far_as_both_are_known() {
    let current = current(BASE);
    let changed = &times(&current, "schedules: { t: { every: 30m, trigger: b } }", false)[0];
    // A hundred half hours reach less far than a hundred hours.
    assert_eq!((changed.before, changed.after, changed.same), (50, 100, 50));
    assert_eq!(changed.first_difference, Some(at("2026-03-01T00:30:00Z")));
    assert_eq!((changed.added.len(), changed.removed.len()), (5, 0));
    assert!(changed.note.as_ref().unwrap().contains("compared up to 2026-03-03T02:2"), "{:?}", changed.note);

    let same = &times(&current, "schedules: { t: { every: 1h, trigger: b, overlap: allow } }", false)[0];
    assert_eq!((same.before, same.after, same.same, same.first_difference), (100, 100, 100, None));
    assert_eq!(same.note, None);

    let gone = &times(
        &current,
        "jobs: { a: { function: f }, b: { function: g } }\nschedules: { s: { cron: '0 2 * * *', trigger: a } }",
        true,
    )[0];
    assert_eq!((gone.key.name.as_str(), gone.before, gone.after), ("t", 100, 0));
    let new = &times(&current, "schedules: { n: { at: 2026-03-05T00:00:00Z, trigger: b } }", false)[0];
    assert_eq!((new.before, new.after, new.added.clone()), (0, 1, vec![at("2026-03-05T00:00:00Z")]));
}

#[test]
fn exclusions_limits_and_pauses_count() {
    let mut current = current(BASE);
    let row = &mut current.schedules[0];
    row.pause = Some(Pause { at: at(NOW), by: "alice".into(), reason: None });
    row.schedule.max_fires = Some(3);
    row.fired = 1;
    let old = row.schedule.clone();
    let day = |text: &str| DayRule::Dates { from: text.parse().unwrap(), to: text.parse().unwrap() };
    let new = Schedule { except: vec![day("2026-03-01")], ..old };
    let files = Definitions { schedules: vec![new], ..Definitions::default() };
    let merged = merge(&current, &files, false).unwrap();
    let times = &outlook(&current, &merged, at(NOW)).unwrap().fire_times[0];
    assert_eq!((times.before, times.after, times.same), (2, 2, 1));
    assert_eq!((&times.removed, &times.added), (&vec![at("2026-03-01T02:00:00Z")], &vec![at("2026-03-03T02:00:00Z")]));
    assert!(times.note.as_ref().unwrap().contains("paused by alice"));
}

#[test]
fn full_seconds_are_named_and_work_is_bounded() {
    let mut files = read("jobs: { a: { function: f } }");
    let mut add = |name: String, timing| files.schedules.push(Schedule::new("default", name, timing, "a"));
    for number in 0..12 {
        add(format!("s{number:02}"), Timing::Cron("0 2 * * *".into()));
    }
    let current = Current::default();
    let merged = merge(&current, &files, false).unwrap();
    let seen = outlook(&current, &merged, at(NOW)).unwrap();
    assert_eq!(seen.collisions.len(), 1);
    let collision = &seen.collisions[0];
    assert_eq!((collision.at, collision.count, collision.schedules.len()), (at("2026-03-01T02:00:00Z"), 12, 5));
    assert!(!seen.cut);

    for number in 0..14 {
        files.schedules.push(Schedule::new(
            "default",
            format!("z{number:02}"),
            Timing::Every("1s".parse().unwrap()),
            "a",
        ));
    }
    let merged = merge(&current, &files, false).unwrap();
    let seen = outlook(&current, &merged, at(NOW)).unwrap();
    assert!(seen.cut, "14 schedules of each second are more than a million due times");
    assert_eq!(seen.collisions.len(), 10);
    assert_eq!(seen.collisions[0].at, at("2026-03-01T02:00:00Z"));
}

#[test]
fn changes_of_clocks_are_told_of_what_is_new() {
    let current = Current::default();
    let mut files = read(
        "jobs: { a: { function: f } }\nschedules: { s: { cron: '30 2 * * *', timezone: Europe/Berlin, trigger: a } }",
    );
    files.schedules[0].dst = Dst { gap: Some(Gap::Skip), fold: None };
    let merged = merge(&current, &files, false).unwrap();
    let seen = outlook(&current, &merged, at(NOW)).unwrap().clock_changes;
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].1.at, at("2026-03-29T01:00:00Z"));
    assert!(seen[0].1.words.contains("02:30 is not due"), "{}", seen[0].1.words);
}

fn overruns_of(text: &str, usual: &[(&str, u64)]) -> Vec<String> {
    let current = current("jobs: { kept: { function: f } }\nschedules: { kept: { every: 1s, trigger: kept } }");
    let merged = merge(&current, &read(text), false).unwrap();
    let outlook = outlook(&current, &merged, at(NOW)).unwrap();
    let usual = usual
        .iter()
        .map(|(job, seconds)| (("default".to_owned(), (*job).to_owned()), std::time::Duration::from_secs(*seconds)));
    let found = overruns(&outlook.intervals, &usual.collect());
    found.into_iter().map(|overrun| format!("{} {}", overrun.key.name, overrun.words)).collect()
}

#[test]
fn a_schedule_that_comes_round_sooner_than_its_job_takes_is_told() {
    let text = "jobs: { a: { function: f }, b: { function: g } }\nschedules:\n  s: { every: 30s, trigger: [a, b] }\n";
    assert_eq!(
        overruns_of(text, &[("a", 10), ("b", 250), ("kept", 99)]),
        [
            "s is due again after 30s at its closest, and b usually takes 4m10s: `overlap: skip` skips what is due meanwhile"
        ],
        "what is in no file is not told"
    );
    assert!(overruns_of(text, &[("a", 30), ("b", 29)]).is_empty(), "it ends just in time");
    assert!(overruns_of(text, &[]).is_empty(), "nobody knows");
}

#[test]
fn the_closest_two_fires_count_and_each_overlap_is_put_in_words() {
    let schedules = [
        (
            "cron: '0 2,3 * * *'",
            "allow",
            "after 1h at its closest, and a usually takes 2h: `overlap: allow` runs them side",
        ),
        (
            "every: 90m",
            "queue_one",
            "after 1h30m at its closest, and a usually takes 2h: `overlap: queue_one` lets one",
        ),
        ("every: 90m", "{ policy: queue_all, max: 7 }", "lets up to 7 fires wait"),
        ("every: 90m", "cancel_running", "cancels each run before it has usually ended"),
    ];
    for (timing, overlap, part) in schedules {
        let text = format!(
            "jobs: {{ a: {{ function: f }} }}\nschedules: {{ s: {{ {timing}, overlap: {overlap}, trigger: a }} }}"
        );
        let found = overruns_of(&text, &[("a", 7200)]);
        assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
    }
    // On weekdays only, and never again: no two fires are so close.
    for timing in [
        "cron: '0 0 * * *', only: [MON]",
        "every: 1h, max_fires: 1",
        "every: 1h, ends_at: 2026-03-01T01:30:00Z",
        "at: 2027-01-01T00:00:00Z",
    ] {
        let text = format!("jobs: {{ a: {{ function: f }} }}\nschedules: {{ s: {{ {timing}, trigger: a }} }}");
        assert!(overruns_of(&text, &[("a", 2 * 86_400)]).is_empty(), "{timing}");
    }
}
