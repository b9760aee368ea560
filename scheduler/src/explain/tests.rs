use reveille_shared::definition::{CommandCall, Day};
use reveille_shared::definition::{DayRule, Handler, Job, Overlap, Schedule, Timing};
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Action, Pause, RecordedChange, ScheduleKey, SkipReason};
use reveille_shared::work_request::{RunError, WorkRequestId};
use serde_json::Value;
use uuid::Uuid;

use super::*;

const NOW: &str = "2026-07-30T07:15:00Z"; // a Thursday; 09:15 in Berlin

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// 02:00 in Berlin, decided up to today's.
fn nightly() -> ScheduleRow {
    let timing = Timing::Cron("0 2 * * *".into());
    let schedule = Schedule { timezone: "Europe/Berlin".into(), ..Schedule::new("billing", "nightly", timing, "bill") };
    ScheduleRow::new(schedule, 3, at("2026-07-30T00:00:00Z"))
}

/// Everything that may be known, to be changed where a test needs it.
struct World {
    row: ScheduleRow,
    then: Then,
    fires: Vec<Fire>,
    runs: Vec<WorkRequest>,
    leader: Option<Generation>,
}

impl World {
    fn new(row: ScheduleRow) -> Self {
        Self { row, then: Then::AsNow, fires: Vec::new(), runs: Vec::new(), leader: Some(Generation(7)) }
    }

    fn says(&self, instant: &str) -> (Verdict, String) {
        let due = DueTimes::of(&self.row.schedule).unwrap();
        let facts = Facts {
            row: &self.row,
            due: &due,
            then: &self.then,
            fires: &self.fires,
            runs: &self.runs,
            missing_job: None,
            leader: self.leader,
            now: at(NOW),
        };
        let explanation = explain(&facts, at(instant));
        (explanation.verdict, explanation.text)
    }

    /// Checks the verdict, and that the text holds these parts.
    fn expect(&self, instant: &str, verdict: Verdict, parts: &[&str]) {
        let (found, text) = self.says(instant);
        assert_eq!(found, verdict, "{instant}: {text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert!(text.ends_with('.') && !text.contains(".."), "{text:?}");
    }
}

fn fire(due: &str, outcome: FireOutcome) -> Fire {
    Fire {
        key: ScheduleKey { namespace: "billing".into(), name: "nightly".into() },
        origin: Origin::Schedule,
        due_at: at(due),
        last_due_at: at(due),
        count: 1,
        outcome,
        version: 3,
        decided_at: at(due) + jiff::SignedDuration::from_millis(43),
    }
}

fn work_request(id: WorkRequestId, status: Status) -> WorkRequest {
    let job = Job::new(
        "billing",
        "bill",
        Handler::Command(CommandCall { argv: vec!["true".into()], ..serde_json::from_str(r#"{"argv":[]}"#).unwrap() }),
    );
    WorkRequest {
        id,
        namespace: job.namespace,
        job: job.name,
        job_version: 1,
        queue: job.queue,
        fire: None,
        chained_from: None,
        parent: None,
        retry_of: None,
        children: None,
        status,
        phase: Phase::Done,
        attempt: 2,
        input: Value::Null,
        resource: None,
        percent: 0.0,
        message: None,
        error: (status == Status::Failed).then(|| RunError::new("ExitCode", "it exited with 3")),
        expires_at: None,
        accepted_at: at("2026-07-30T00:00:00Z"),
        started_at: Some(at("2026-07-30T00:00:01Z")),
        finished_at: Some(at("2026-07-30T00:01:13Z")),
    }
}

#[test]
fn a_fire_that_triggered_says_how_late_and_how_its_runs_are() {
    let mut world = World::new(nightly());
    let id = WorkRequestId(Uuid::from_u128(1));
    world.fires.push(fire("2026-07-30T00:00:00Z", FireOutcome::Triggered(vec![id])));
    world.runs.push(work_request(id, Status::Failed));
    let parts = [
        "Triggered 43ms after it was due",
        "by version 3",
        "failed after 1m12s in 2 attempts: ExitCode: it exited with 3",
    ];
    world.expect("2026-07-30T00:00:00Z", Verdict::Triggered, &parts);
}

#[test]
fn why_it_ran_twice_is_told_with_who_asked() {
    let mut world = World::new(nightly());
    let triggered = || FireOutcome::Triggered(vec![WorkRequestId(Uuid::from_u128(2))]);
    world.fires.push(fire("2026-07-30T00:00:00Z", triggered()));
    let again = Origin::Backfill("after-the-outage".into());
    world.fires.push(Fire { origin: again, ..fire("2026-07-30T00:00:00Z", triggered()) });
    world.expect("2026-07-30T00:00:00Z", Verdict::Triggered, &["Beside that: Triggered by backfill after-the-outage"]);
}

#[test]
fn every_reason_to_skip_is_a_sentence() {
    for reason in SkipReason::ALL {
        let mut world = World::new(nightly());
        let detail = "paused by alice at 2026-07-29T20:00:00Z: maintenance".to_owned();
        let mut skipped = fire("2026-07-28T00:00:00Z", FireOutcome::Skipped(reason, detail.clone()));
        world.fires.push(skipped.clone());
        world.expect("2026-07-28T00:00:00Z", Verdict::Skipped, &["Skipped, as", &detail]);
        // Of a stretch, each due time is explained, and nothing else within it is.
        skipped.last_due_at = at("2026-07-30T00:00:00Z");
        skipped.count = 3;
        world.fires = vec![skipped];
        world.expect(
            "2026-07-29T00:00:00Z",
            Verdict::Skipped,
            &["with all 3 due times", "The first of them was decided at 2026-07-28T00:00:00", &detail],
        );
        world.expect("2026-07-29T00:30:00Z", Verdict::NotDue, &["the minute field is 0"]);
    }
}

#[test]
fn what_is_no_due_time_says_why_and_names_its_neighbours() {
    let world = World::new(nightly());
    let parts = [
        "Thursday, 30 July 2026, 09:15:00 in Europe/Berlin",
        "It was not due then: the hour field is 2, and it is 09:15 in Europe/Berlin",
        "The due time before is 2026-07-30T00:00:00Z, the next one 2026-07-31T00:00:00Z",
    ];
    world.expect(NOW, Verdict::NotDue, &parts);
    world.expect("2026-08-01T07:00:00Z", Verdict::NotDue, &["It is not due then"]);
}

#[test]
fn what_is_due_and_not_decided_says_who_is_missing() {
    let mut world = World::new(ScheduleRow { cursor: at("2026-07-29T00:00:00Z"), ..nightly() });
    let due = "2026-07-30T00:00:00Z";
    world.expect(due, Verdict::Undecided, &["It has been due for 7h15m", "leads, as generation 7, has not decided it"]);
    world.leader = None;
    world.expect(due, Verdict::Undecided, &["no scheduler leads now"]);
    let pause = Pause { at: at("2026-07-29T20:00:00Z"), by: "alice".into(), reason: Some("maintenance".into()) };
    world.row.pause = Some(pause);
    world.expect(due, Verdict::Undecided, &["paused by alice at 2026-07-29T20:00:00Z: maintenance"]);
    world.expect("2026-07-31T00:00:00Z", Verdict::WillBeSkipped, &["paused by alice", "resumed before"]);

    let timing = Timing::Every("15m".parse().unwrap());
    let often = ScheduleRow::new(Schedule::new("billing", "often", timing, "bill"), 1, at("2026-07-30T07:00:00Z"));
    World::new(often).expect(NOW, Verdict::Undecided, &["it is being decided"]);
    let recorded = World::new(nightly());
    recorded.expect("2026-07-20T00:00:00Z", Verdict::Undecided, &["no entry"]);
}

#[test]
fn the_future_is_told_as_things_stand() {
    let next = "2026-07-31T00:00:00Z"; // a Friday, by the local calendar as well
    let with = |change: fn(&mut ScheduleRow)| {
        let mut row = nightly();
        change(&mut row);
        World::new(row)
    };
    let plain = with(|_| {});
    plain.expect(next, Verdict::WillTrigger, &["It will trigger bill in 16h45m", "overlap: skip"]);
    let parts = ["and the trigger goes out ", "(jitter 30m)"];
    with(|row| row.schedule.jitter = "30m".parse().unwrap()).expect(next, Verdict::WillTrigger, &parts);
    with(|row| row.schedule.overlap = Overlap::QueueOne).expect(next, Verdict::WillTrigger, &["it waits for that"]);
    with(|row| row.schedule.except = vec![DayRule::Weekdays { from: Day::Fri, to: Day::Fri }]).expect(
        next,
        Verdict::WillBeSkipped,
        &["except FRI"],
    );
    with(|row| row.schedule.starts_at = Some(at("2026-08-01T00:00:00Z"))).expect(
        next,
        Verdict::WillBeSkipped,
        &["before starts_at 2026-08-01T00:00:00Z"],
    );
    let over = with(|row| row.schedule.ends_at = Some(at("2026-07-30T12:00:00Z")));
    over.expect(next, Verdict::NotDue, &["after ends_at 2026-07-30T12:00:00Z"]);
    let exhausted = with(|row| (row.schedule.max_fires, row.fired) = (Some(2), 2));
    exhausted.expect(next, Verdict::NotDue, &["all 2 of its max_fires have triggered"]);
    let one_left = with(|row| (row.schedule.max_fires, row.fired) = (Some(2), 1));
    one_left.expect(next, Verdict::WillTrigger, &["number 2 of max_fires 2"]);
    one_left.expect("2026-08-01T00:00:00Z", Verdict::NotDue, &["1 have triggered, and 1 due times come before it"]);
}

#[test]
fn excluded_days_are_no_next_due_times() {
    let mut row = nightly();
    row.schedule.only = vec![DayRule::Weekdays { from: Day::Mon, to: Day::Fri }];
    let due = DueTimes::of(&row.schedule).unwrap();
    let then = Then::AsNow;
    let facts = Facts {
        row: &row,
        due: &due,
        then: &then,
        fires: &[],
        runs: &[],
        missing_job: None,
        leader: None,
        now: at(NOW),
    };
    let next = explain(&facts, at(NOW)).next_due;
    assert_eq!(next, ["2026-07-31T00:00:00Z", "2026-08-03T00:00:00Z", "2026-08-04T00:00:00Z"].map(at));
}

#[test]
fn the_past_is_judged_by_what_was_in_force_then() {
    let row = nightly();
    let spec = |cron: &str| {
        let schedule = Schedule { timing: Timing::Cron(cron.into()), ..row.schedule.clone() };
        Some(serde_json::to_value(schedule).unwrap())
    };
    let change = |seq, version, action, when: &str, spec| RecordedChange {
        seq,
        version,
        action,
        at: at(when),
        actor: "bob".into(),
        reason: None,
        spec,
    };
    let history = [
        change(9, 3, Action::Paused, "2026-07-25T00:00:00Z", None),
        change(8, 3, Action::Created, "2026-07-20T00:00:00Z", spec("0 2 * * *")),
        change(6, 2, Action::Removed, "2026-07-18T00:00:00Z", None),
        change(5, 2, Action::Changed, "2026-07-10T00:00:00Z", spec("0 5 * * *")),
        change(2, 1, Action::Created, "2026-07-01T00:00:00Z", spec("0 4 * * *")),
    ];
    let expect = |instant: &str, verdict, part: &str| {
        let world = World { then: Then::of(&row, &history, at(instant)), ..World::new(row.clone()) };
        world.expect(instant, verdict, &[part]);
    };
    expect("2026-07-26T01:00:00Z", Verdict::NotDue, "the hour field is 2");
    expect("2026-07-19T00:00:00Z", Verdict::NotDue, "bob had removed it at 2026-07-18T00:00:00Z");
    expect(
        "2026-07-12T00:00:00Z",
        Verdict::NotDue,
        "By version 2, which was in force then, it was not due then: the hour field is 5",
    );
    expect("2026-06-30T00:00:00Z", Verdict::NotDue, "did not exist then: bob created it at 2026-07-01T00:00:00Z");
}
