//! Paused schedules, counted fires, and who changed what.

use jiff::Timestamp;
use reveille_shared::definition::Schedule;
use reveille_shared::store::{
    Action, ChangeSet, DefinitionKind, FireOutcome, FireVerdict, PauseVerdict, ScheduleRow, SkipReason, StoreError,
};

use crate::bed::{Bed, failed, on_both, succeeded};
use crate::definitions::{apply, definitions, every, job, schedule};
use crate::fires::{after, born, key, ledger, ping, plan, record, recorded, skip, trigger, with_ping};
use crate::overlap::follow;

on_both!(
    a_pause_takes_effect_on_what_a_planner_has_in_hand,
    a_pause_costs_one_row_of_the_ledger,
    a_pause_outlives_a_changed_definition,
    a_pause_that_meets_a_changed_folder_stands,
    what_was_missed_before_a_pause_is_not_called_paused,
    equal_skips_one_after_the_other_are_one_row,
    max_fires_are_counted_and_then_it_is_over,
    failures_in_a_row_pause_a_schedule,
    every_change_is_told_with_who_and_why,
    changes_made_from_an_older_state_are_refused,
    what_a_change_leaves_undecided_says_from_what_to_what,
);

async fn pause(bed: &Bed) -> ScheduleRow {
    match bed.store.pause(&key("ping"), "ann", Some("the disk is full")).await.unwrap() {
        PauseVerdict::Done(row) => *row,
        other => panic!("{other:?}"),
    }
}

async fn a_pause_takes_effect_on_what_a_planner_has_in_hand(bed: Bed) {
    let row = with_ping(&bed).await;
    let in_hand = plan(&row, vec![trigger(&bed, row.next_due_at.unwrap()).await]);
    let paused = pause(&bed).await;
    assert_eq!(paused.next_due_at, None);
    assert_eq!(record(&bed, in_hand).await, FireVerdict::Outdated);
    assert!(bed.store.due_schedules(Timestamp::MAX, 10).await.unwrap().is_empty());
    let again = bed.store.pause(&key("ping"), "bob", None).await.unwrap();
    assert_eq!(again, PauseVerdict::Already(Box::new(paused)), "the first word stands");
    assert_eq!(bed.store.pause(&key("gone"), "bob", None).await.unwrap(), PauseVerdict::Unknown);
}

async fn a_pause_costs_one_row_of_the_ledger(bed: Bed) {
    with_ping(&bed).await;
    assert!(matches!(bed.store.resume(&key("ping"), "ann", None).await.unwrap(), PauseVerdict::Already(_)));
    let paused_at = pause(&bed).await.pause.unwrap().at;
    bed.tamper("UPDATE schedules SET cursor = cursor").await;
    bed.pass(std::time::Duration::from_secs(if bed.clock.is_some() { 1000 } else { 11 })).await;
    let PauseVerdict::Done(row) = bed.store.resume(&key("ping"), "bob", None).await.unwrap() else { panic!("paused") };
    assert_eq!((row.pause.clone(), row.failures), (None, 0));
    assert!(row.next_due_at.unwrap() > row.cursor);
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(fires.len(), 1, "{fires:?}");
    let why = format!("paused by ann at {paused_at:.0}: the disk is full");
    assert_eq!(fires[0].outcome, FireOutcome::Skipped(SkipReason::Paused, why));
    let stretch = fires[0].last_due_at.duration_since(fires[0].due_at).as_secs();
    assert_eq!(fires[0].count, 1 + stretch / 10);
}

async fn a_pause_outlives_a_changed_definition(bed: Bed) {
    with_ping(&bed).await;
    let pause = pause(&bed).await.pause;
    apply(&bed, &definitions(vec![schedule("ping", every(20))]), "d2").await;
    let row = ping(&bed).await;
    assert_eq!((row.pause, row.next_due_at, row.version), (pause, None, 2));
}

/// Whoever comes first: both take effect.
async fn a_pause_that_meets_a_changed_folder_stands(bed: Bed) {
    let generation = bed.lead().await;
    for round in 0..10 {
        // Many, so that the folder takes its time.
        let mut all: Vec<_> = (0..300).map(|n| schedule(&format!("s{n}"), every(10 + round))).collect();
        all.push(schedule("ping", every(10 + round)));
        let (folder, operator) = (bed.second().await, bed.second().await);
        let known = bed.store.schedule(&key("ping")).await.unwrap().is_some();
        let mut racing = tokio::task::JoinSet::new();
        racing.spawn(async move {
            let definitions = definitions(all);
            folder.apply_definitions(generation, &definitions, &format!("d{round}"), "folder").await.unwrap();
        });
        racing.spawn(async move {
            drop(operator.pause(&key("ping"), "ann", None).await.unwrap());
        });
        racing.join_all().await;
        let row = ping(&bed).await;
        assert_eq!(row.schedule.timing, every(10 + round));
        assert!(!known || row.pause.is_some() && row.next_due_at.is_none(), "the pause is lost in round {round}");
        if row.pause.is_some() {
            bed.store.resume(&key("ping"), "ann", None).await.unwrap();
        }
    }
}

async fn what_was_missed_before_a_pause_is_not_called_paused(bed: Bed) {
    let row = with_ping(&bed).await;
    bed.pass(std::time::Duration::from_secs(12)).await;
    pause(&bed).await;
    bed.store.resume(&key("ping"), "ann", None).await.unwrap();
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    let first = fires.last().unwrap();
    assert_eq!(first.due_at, row.next_due_at.unwrap());
    assert!(
        matches!(&first.outcome, FireOutcome::Skipped(SkipReason::Late, why) if why.contains("before it was made up"))
    );
}

async fn equal_skips_one_after_the_other_are_one_row(bed: Bed) {
    let row = with_ping(&bed).await;
    let first = row.next_due_at.unwrap();
    assert_eq!(record(&bed, plan(&row, vec![skip(first, first, 1)])).await, recorded(0, 1));
    let next = after(first, 10);
    let plan_of = |row: &ScheduleRow, decisions| plan(row, decisions);
    let two = plan_of(&ping(&bed).await, vec![skip(next, after(next, 10), 2)]);
    assert_eq!(record(&bed, two).await, recorded(0, 2));
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!((fires.len(), fires[0].due_at, fires[0].last_due_at, fires[0].count), (1, first, after(first, 20), 3));
    assert_eq!(bed.store.fires_at(&key("ping"), after(first, 10)).await.unwrap(), fires);
    assert!(bed.store.fires_at(&key("ping"), after(first, 30)).await.unwrap().is_empty());
    // What triggers ends the stretch, and the next skip begins another one.
    let third = trigger(&bed, after(first, 30)).await;
    record(&bed, plan(&ping(&bed).await, vec![third])).await;
    let fourth = skip(after(first, 40), after(first, 40), 1);
    record(&bed, plan(&ping(&bed).await, vec![fourth])).await;
    assert_eq!(ledger(&bed).await.len(), 3);
}

async fn max_fires_are_counted_and_then_it_is_over(bed: Bed) {
    let counted = Schedule {
        max_fires: Some(2),
        overlap: reveille_shared::definition::Overlap::Allow,
        ..schedule("ping", every(10))
    };
    apply(&bed, &definitions(vec![counted.clone()]), "d1").await;
    let row = ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    record(&bed, plan(&row, vec![trigger(&bed, due_at).await])).await;
    let row = ping(&bed).await;
    assert_eq!((row.fired, row.next_due_at.is_some()), (1, true));
    let three = vec![trigger(&bed, after(due_at, 10)).await, trigger(&bed, after(due_at, 20)).await];
    assert_eq!(record(&bed, plan(&row, three)).await, recorded(1, 1));
    let row = ping(&bed).await;
    assert_eq!((row.fired, row.next_due_at, row.is_exhausted()), (2, None, true));
    assert!(
        matches!(&ledger(&bed).await[0].1, FireOutcome::Skipped(SkipReason::AfterEnd, why) if why.contains("all 2"))
    );
    // More of them: it goes on from now, and what it passed over has its entry.
    apply(&bed, &definitions(vec![Schedule { max_fires: Some(3), ..counted }]), "d2").await;
    let row = ping(&bed).await;
    assert_eq!(row.fired, 2);
    assert!(row.next_due_at.is_some());
}

async fn failures_in_a_row_pause_a_schedule(bed: Bed) {
    let brittle = Schedule { pause_after_failures: Some(2), ..schedule("ping", every(10)) };
    apply(&bed, &definitions(vec![brittle]), "d1").await;
    let ends = [false, true, false, false];
    for (n, succeeds) in ends.into_iter().enumerate() {
        let row = ping(&bed).await;
        let mut decision = trigger(&bed, row.next_due_at.unwrap()).await;
        if let reveille_shared::store::Planned::Trigger(requests) = &mut decision.planned {
            requests[0].follow = true;
        }
        let id = born(&decision);
        record(&bed, plan(&row, vec![decision])).await;
        let sent = bed.take().await.into_iter().find(|out| out.trigger.id == id).unwrap();
        let run = bed.claim(&sent.trigger).await.unwrap();
        bed.report(&run, if succeeds { succeeded() } else { failed(None) }).await.unwrap();
        let done = follow(&bed.store).await;
        assert_eq!(done.paused.len(), usize::from(n == 3), "after the run {n}");
    }
    let row = ping(&bed).await;
    let pause = row.pause.unwrap();
    assert_eq!((row.failures, pause.by.as_str()), (2, "reveille"));
    assert_eq!(pause.reason.as_deref(), Some("2 runs in a row have failed (pause_after_failures)"));
}

async fn every_change_is_told_with_who_and_why(bed: Bed) {
    with_ping(&bed).await;
    apply(&bed, &definitions(vec![schedule("ping", every(20))]), "d2").await;
    pause(&bed).await;
    bed.store.resume(&key("ping"), "bob", Some("there is room again")).await.unwrap();
    apply(&bed, &definitions(vec![]), "d3").await;
    with_ping(&bed).await;
    let changes = bed.store.changes(DefinitionKind::Schedule, &key("ping"), i64::MAX, 100).await.unwrap();
    let told: Vec<_> = changes.iter().rev().map(|change| (change.action, change.version)).collect();
    use Action::{Changed, Created, Paused, Removed, Resumed};
    assert_eq!(told, [(Created, 1), (Changed, 2), (Paused, 2), (Resumed, 2), (Removed, 2), (Created, 3)]);
    let resumed = &changes[2];
    assert_eq!((resumed.actor.as_str(), resumed.reason.as_deref()), ("bob", Some("there is room again")));
    assert_eq!(changes[4].spec.as_ref().unwrap()["every"], "20s");
    let page = bed.store.changes(DefinitionKind::Schedule, &key("ping"), changes[2].seq, 1).await.unwrap();
    assert_eq!(page, [changes[3].clone()]);
    let of_job = bed.store.changes(DefinitionKind::Job, &key("copy"), i64::MAX, 100).await.unwrap();
    assert_eq!(of_job.iter().map(|change| change.action).collect::<Vec<_>>(), [Created]);
}

async fn changes_made_from_an_older_state_are_refused(bed: Bed) {
    with_ping(&bed).await;
    let base = bed.store.in_force().await.unwrap().map(|in_force| in_force.version);
    let set = ChangeSet {
        base,
        put_jobs: vec![job("other", "new")],
        put_schedules: vec![schedule("pong", every(30)), schedule("ping", every(10))],
        digest: "d2".into(),
        ..ChangeSet::default()
    };
    let applied = bed.store.apply_changes(None, &set, "ann", Some("a ticket")).await.unwrap();
    assert_eq!((applied.jobs, applied.schedules, applied.removed), (1, 1, 0), "ping is as it was");
    let refused = bed.store.apply_changes(None, &set, "bob", None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Moved), "{refused:?}");
    let removal = ChangeSet {
        base: bed.store.in_force().await.unwrap().map(|in_force| in_force.version),
        remove_schedules: vec![key("pong"), key("never")],
        remove_jobs: vec![key("other")],
        digest: "d3".into(),
        ..ChangeSet::default()
    };
    let applied = bed.store.apply_changes(None, &removal, "ann", None).await.unwrap();
    assert_eq!((applied.jobs, applied.schedules, applied.removed), (0, 0, 2));
    assert!(bed.store.schedule(&key("pong")).await.unwrap().is_none());
    let change = bed.store.changes(DefinitionKind::Schedule, &key("pong"), i64::MAX, 1).await.unwrap().remove(0);
    assert_eq!((change.action, change.actor.as_str()), (Action::Removed, "ann"));
}

async fn what_a_change_leaves_undecided_says_from_what_to_what(bed: Bed) {
    let row = with_ping(&bed).await;
    bed.pass(std::time::Duration::from_secs(11)).await;
    apply(&bed, &definitions(vec![schedule("ping", every(3600))]), "d2").await;
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!((fires.len(), fires[0].due_at), (1, row.next_due_at.unwrap()));
    let FireOutcome::Skipped(SkipReason::Superseded, why) = &fires[0].outcome else { panic!("{fires:?}") };
    assert_eq!(why, "definition changed from version 1 to 2: every \"10s\" → \"1h\"");
}
