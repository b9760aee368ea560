//! Cursors and the fire ledger: one decision per due time (I1), each with its reason (I8).

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::Overlap;
use reveille_shared::state::Status;
use reveille_shared::store::{
    Decision, FireOutcome, FirePlan, FireVerdict, OverlapRule, Planned, ScheduleKey, ScheduleRow, SkipReason,
    StoreError,
};
use reveille_shared::work_request::{FireRef, Origin, WorkRequestId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, on_both, succeeded};
use crate::definitions::{apply, definitions, every, schedule};

on_both!(
    a_fire_gives_birth_and_moves_the_cursor,
    a_plan_by_an_old_cursor_or_version_records_nothing,
    of_two_planners_one_records,
    a_deposed_leader_records_nothing,
    a_clock_that_is_ahead_records_nothing,
    a_fire_is_skipped_while_an_earlier_one_runs,
    overlap_can_be_allowed,
    a_stretch_of_skips_is_one_row,
    a_due_time_is_decided_once_even_if_the_cursor_goes_back,
    a_due_time_within_a_stretch_is_decided_once,
    a_fire_decided_before_does_not_count_as_running,
    the_ledger_can_be_paged,
    the_most_overdue_come_first,
);

pub(crate) fn key(name: &str) -> ScheduleKey {
    ScheduleKey { namespace: NAMESPACE.into(), name: name.into() }
}

pub(crate) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap()
}

/// A bed on which the schedule `ping` is in force, and its row.
pub(crate) async fn with_ping(bed: &Bed) -> ScheduleRow {
    apply(bed, &definitions(vec![schedule("ping", every(10))]), "d1").await;
    bed.store.schedule(&key("ping")).await.unwrap().unwrap()
}

pub(crate) async fn trigger(bed: &Bed, due_at: Timestamp) -> Decision {
    let mut request = bed.new_request().await;
    request.fire = Some(FireRef { schedule: "ping".into(), due_at, origin: Origin::Schedule });
    Decision { due_at, last_due_at: due_at, count: 1, planned: Planned::Trigger(vec![request]) }
}

pub(crate) fn born(decision: &Decision) -> WorkRequestId {
    let Planned::Trigger(requests) = &decision.planned else { panic!("nothing is born") };
    requests[0].id
}

pub(crate) fn skip(due_at: Timestamp, last_due_at: Timestamp, count: i64) -> Decision {
    Decision { due_at, last_due_at, count, planned: Planned::Skip(SkipReason::Late, "nobody was there".into()) }
}

/// A plan that stands on `row` and leaves the cursor at its last decision.
pub(crate) fn plan(row: &ScheduleRow, decisions: Vec<Decision>) -> FirePlan {
    let next_cursor = decisions.last().map_or(row.cursor, |last| last.last_due_at);
    FirePlan {
        key: row.key(),
        version: row.version,
        cursor: row.cursor,
        planned_at: Timestamp::UNIX_EPOCH,
        overlap: OverlapRule::of(&row.schedule),
        fired: row.schedule.max_fires.map(|max| (row.fired, max)),
        decisions,
        next_cursor,
        next_due_at: Some(after(next_cursor, 10)),
    }
}

pub(crate) async fn record(bed: &Bed, plan: FirePlan) -> FireVerdict {
    bed.store.record_fires(bed.lead().await, vec![plan]).await.unwrap().remove(0)
}

pub(crate) fn recorded(triggered: usize, skipped: usize) -> FireVerdict {
    FireVerdict::Recorded { triggered, skipped }
}

pub(crate) async fn ping(bed: &Bed) -> ScheduleRow {
    bed.store.schedule(&key("ping")).await.unwrap().unwrap()
}

pub(crate) async fn ledger(bed: &Bed) -> Vec<(Timestamp, FireOutcome)> {
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 100).await.unwrap();
    fires.into_iter().map(|fire| (fire.due_at, fire.outcome)).collect()
}

async fn a_fire_gives_birth_and_moves_the_cursor(bed: Bed) {
    let row = with_ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    let decision = trigger(&bed, due_at).await;
    let id = born(&decision);
    assert_eq!(record(&bed, plan(&row, vec![decision])).await, recorded(1, 0));

    let moved = ping(&bed).await;
    assert_eq!((moved.cursor, moved.next_due_at, moved.version), (due_at, Some(after(due_at, 10)), row.version));
    let fire = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap().remove(0);
    assert_eq!((fire.key, fire.origin, fire.due_at, fire.last_due_at), (key("ping"), Origin::Schedule, due_at, due_at));
    assert_eq!((fire.count, fire.outcome, fire.version), (1, FireOutcome::Triggered(vec![id]), row.version));
    let request = bed.get(id).await;
    assert_eq!(request.status, Status::Accepted);
    assert_eq!(request.fire, Some(FireRef { schedule: "ping".into(), due_at, origin: Origin::Schedule }));
    let out = bed.take().await.remove(0);
    assert_eq!((out.trigger.id, out.fire), (id, request.fire));
    assert!(bed.store.record_fires(bed.lead().await, vec![]).await.unwrap().is_empty());
}

async fn a_plan_by_an_old_cursor_or_version_records_nothing(bed: Bed) {
    let row = with_ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    let old_version = FirePlan { version: row.version - 1, ..plan(&row, vec![trigger(&bed, due_at).await]) };
    let old_cursor = FirePlan { cursor: after(row.cursor, -1), ..plan(&row, vec![trigger(&bed, due_at).await]) };
    let gone = FirePlan { key: key("gone"), ..plan(&row, vec![trigger(&bed, due_at).await]) };
    for outdated in [old_version, old_cursor, gone] {
        assert_eq!(record(&bed, outdated).await, FireVerdict::Outdated);
    }
    assert!(ledger(&bed).await.is_empty() && bed.take().await.is_empty());
    assert_eq!(ping(&bed).await, row);

    // One outdated plan leaves the others alone.
    let good = plan(&row, vec![trigger(&bed, due_at).await]);
    let gone = FirePlan { key: key("gone"), ..good.clone() };
    let verdicts = bed.store.record_fires(bed.lead().await, vec![gone, good]).await.unwrap();
    assert_eq!(verdicts, [FireVerdict::Outdated, recorded(1, 0)]);
    assert_eq!(bed.take().await.len(), 1);
}

async fn of_two_planners_one_records(bed: Bed) {
    let row = with_ping(&bed).await;
    let generation = bed.lead().await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = bed.second().await;
        let plan = plan(&row, vec![trigger(&bed, row.next_due_at.unwrap()).await]);
        tasks.spawn(async move { store.record_fires(generation, vec![plan]).await.unwrap().remove(0) });
    }
    let verdicts = tasks.join_all().await;
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == recorded(1, 0)).count(), 1, "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == FireVerdict::Outdated).count(), 7);
    assert_eq!(bed.take().await.len(), 1);
}

async fn a_deposed_leader_records_nothing(bed: Bed) {
    let row = with_ping(&bed).await;
    let old = bed.lead().await;
    bed.store.resign(Uuid::from_u128(1)).await.unwrap();
    bed.store.lead(Uuid::from_u128(2), std::time::Duration::from_secs(60)).await.unwrap().unwrap();
    let plan = plan(&row, vec![trigger(&bed, row.next_due_at.unwrap()).await]);
    let refused = bed.store.record_fires(old, vec![plan]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Deposed), "{refused:?}");
    assert!(ledger(&bed).await.is_empty() && bed.take().await.is_empty());
}

async fn a_clock_that_is_ahead_records_nothing(bed: Bed) {
    let row = with_ping(&bed).await;
    let decisions = vec![trigger(&bed, row.next_due_at.unwrap()).await];
    let early = FirePlan { planned_at: after(bed.now().await, 3600), ..plan(&row, decisions) };
    let refused = bed.store.record_fires(bed.lead().await, vec![early]).await.unwrap_err();
    assert!(matches!(refused, StoreError::ClockAhead(by) if by.as_secs() >= 3590), "{refused:?}");
    assert!(ledger(&bed).await.is_empty() && ping(&bed).await == row);
}

async fn a_fire_is_skipped_while_an_earlier_one_runs(bed: Bed) {
    let row = with_ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    let first = trigger(&bed, due_at).await;
    let id = born(&first);
    // The second of the same plan sees the first.
    let second = trigger(&bed, after(due_at, 10)).await;
    assert_eq!(record(&bed, plan(&row, vec![first, second])).await, recorded(1, 1));
    let overlap = FireOutcome::Skipped(SkipReason::Overlap, format!("work request {id} had not ended"));
    assert_eq!(ledger(&bed).await[0], (after(due_at, 10), overlap.clone()));

    let third = trigger(&bed, after(due_at, 20)).await;
    assert_eq!(record(&bed, plan(&ping(&bed).await, vec![third])).await, recorded(0, 1));
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(
        (fires.len(), fires[0].last_due_at, fires[0].count),
        (2, after(due_at, 20), 2),
        "one stretch by one run"
    );
    assert_eq!(fires[0].outcome, overlap);
    assert_eq!(bed.take().await.len(), 1);
    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
    let fourth = trigger(&bed, after(due_at, 30)).await;
    assert_eq!(record(&bed, plan(&ping(&bed).await, vec![fourth])).await, recorded(1, 0), "it has ended");
}

async fn overlap_can_be_allowed(bed: Bed) {
    let mut row = with_ping(&bed).await;
    row.schedule.overlap = Overlap::Allow;
    let due_at = row.next_due_at.unwrap();
    let both = vec![trigger(&bed, due_at).await, trigger(&bed, after(due_at, 10)).await];
    assert_eq!(record(&bed, plan(&row, both)).await, recorded(2, 0));
    assert_eq!(bed.take().await.len(), 2);
}

async fn a_stretch_of_skips_is_one_row(bed: Bed) {
    let row = with_ping(&bed).await;
    let (first, last) = (row.next_due_at.unwrap(), after(row.next_due_at.unwrap(), 90));
    assert_eq!(record(&bed, plan(&row, vec![skip(first, last, 10)])).await, recorded(0, 10));
    let fires = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(fires.len(), 1);
    assert_eq!((fires[0].due_at, fires[0].last_due_at, fires[0].count), (first, last, 10));
    assert_eq!(fires[0].outcome, FireOutcome::Skipped(SkipReason::Late, "nobody was there".into()));
    assert_eq!(ping(&bed).await.cursor, last);
}

/// Puts the cursor of `ping` back, as a clock step or a restored backup might.
async fn put_back(bed: &Bed, cursor: Timestamp) {
    let at = match bed.clock {
        Some(_) => cursor.as_microsecond().to_string(),
        None => format!("'{cursor}'"),
    };
    bed.tamper(&format!("UPDATE schedules SET cursor = {at} WHERE name = 'ping'")).await;
}

async fn a_due_time_is_decided_once_even_if_the_cursor_goes_back(bed: Bed) {
    let row = with_ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    let first = trigger(&bed, due_at).await;
    let id = born(&first);
    record(&bed, plan(&row, vec![first])).await;
    put_back(&bed, row.cursor).await;
    let again = trigger(&bed, due_at).await;
    assert_eq!(record(&bed, plan(&row, vec![again])).await, recorded(0, 0));
    assert_eq!(ledger(&bed).await, [(due_at, FireOutcome::Triggered(vec![id]))]);
    assert_eq!(bed.take().await.len(), 1);
    assert_eq!(ping(&bed).await.cursor, due_at);
}

async fn a_due_time_within_a_stretch_is_decided_once(bed: Bed) {
    let row = with_ping(&bed).await;
    let first = row.next_due_at.unwrap();
    record(&bed, plan(&row, vec![skip(first, after(first, 90), 10)])).await;
    put_back(&bed, after(first, 40)).await;
    let row = ping(&bed).await;
    let again = vec![trigger(&bed, after(first, 50)).await, trigger(&bed, after(first, 100)).await];
    assert_eq!(record(&bed, plan(&row, again)).await, recorded(1, 0), "only the one behind the stretch");
    assert_eq!(bed.take().await.len(), 1);
    assert_eq!(ledger(&bed).await.len(), 2);
}

async fn a_fire_decided_before_does_not_count_as_running(bed: Bed) {
    let row = with_ping(&bed).await;
    let due_at = row.next_due_at.unwrap();
    record(&bed, plan(&row, vec![trigger(&bed, due_at).await])).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&run, succeeded()).await.unwrap();
    put_back(&bed, row.cursor).await;
    let again = vec![trigger(&bed, due_at).await, trigger(&bed, after(due_at, 10)).await];
    assert_eq!(record(&bed, plan(&row, again)).await, recorded(1, 0), "nothing runs: {:?}", ledger(&bed).await);
    assert_eq!(bed.take().await.len(), 1);
}

async fn the_ledger_can_be_paged(bed: Bed) {
    let row = with_ping(&bed).await;
    let first = row.next_due_at.unwrap();
    let times: Vec<_> = (0..7).map(|at| after(first, at * 10)).collect();
    record(&bed, plan(&row, times.iter().map(|at| skip(*at, *at, 1)).collect())).await;
    let mut before = Timestamp::MAX;
    let mut seen = Vec::new();
    loop {
        let page = bed.store.fires(&key("ping"), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = last.due_at;
        seen.extend(page.iter().map(|fire| fire.due_at));
    }
    assert!(seen.iter().rev().eq(&times), "newest first, no gaps: {seen:?}");
    assert!(bed.store.fires(&key("other"), Timestamp::MAX, 3).await.unwrap().is_empty());
}

async fn the_most_overdue_come_first(bed: Bed) {
    let mut allow = schedule("c", every(10));
    allow.overlap = Overlap::Allow;
    let all = vec![schedule("a", every(86_400)), schedule("b", every(60)), allow];
    apply(&bed, &definitions(all), "d1").await;
    let now = bed.now().await;
    let due = async |until, limit| -> Vec<String> {
        let rows = bed.store.due_schedules(until, limit).await.unwrap();
        rows.into_iter().map(|row| row.schedule.name).collect()
    };
    assert!(due(after(now, -1), 10).await.is_empty());
    // `c` is due within 10 s, `b` within 60 s; `a` may be due at any time of the day.
    let rows = bed.store.due_schedules(after(now, 86_400), 10).await.unwrap();
    assert!(rows.is_sorted_by_key(|row| row.next_due_at) && rows.len() == 3, "{rows:?}");
    assert_eq!(due(after(now, 86_400), 1).await, [rows[0].schedule.name.clone()]);
    let edge = rows[0].next_due_at.unwrap();
    assert!(due(edge, 10).await.contains(&rows[0].schedule.name), "at that very instant");
}
