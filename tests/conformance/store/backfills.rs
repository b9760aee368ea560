//! Backfills make each fire once, whatever is asked twice, and disturb nobody.

use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::{
    BackfillStatus, BackfillStep, BackfillVerdict, Fire, FireOutcome, NewBackfill, NewWorkRequest,
};
use reveille_shared::work_request::{FireRef, Origin};
use tokio::task::JoinSet;

use crate::bed::{Bed, on_both, succeeded};
use crate::fires::{after, key, ping, plan, record, recorded, trigger, with_ping};
use crate::overlap::follow;

on_both!(
    asked_for_twice_it_is_made_once,
    of_several_planners_one_makes_a_step,
    its_percentage_counts_what_is_over,
    canceled_it_makes_nothing_more_and_its_runs_end,
    it_does_not_disturb_the_schedule,
);

pub(crate) async fn asked(bed: &Bed, id: &str) -> NewBackfill {
    let row = ping(bed).await;
    NewBackfill {
        key: row.key(),
        id: id.into(),
        version: row.version,
        schedule: row.schedule,
        from: "2026-01-01T00:00:00Z".parse().unwrap(),
        to: "2026-01-01T00:00:30Z".parse().unwrap(),
        total: 4,
        max_parallel: 1,
        by: "ann".into(),
        reason: Some("the disk was full".into()),
    }
}

/// A step that makes the fire of this due time.
async fn step(bed: &Bed, from: Timestamp, due_at: Timestamp) -> BackfillStep {
    let fire = FireRef { schedule: "ping".into(), due_at, origin: Origin::Backfill("b".into()) };
    let request = NewWorkRequest { fire: Some(fire), follow: true, ..bed.new_request().await };
    let made = Fire {
        key: key("ping"),
        origin: Origin::Backfill("b".into()),
        due_at,
        last_due_at: due_at,
        count: 1,
        outcome: FireOutcome::Triggered(vec![request.id]),
        version: 1,
        decided_at: bed.now().await,
    };
    BackfillStep {
        key: key("ping"),
        id: "b".into(),
        from,
        to: due_at,
        fires: vec![made],
        requests: vec![request],
        done: false,
    }
}

async fn asked_for_twice_it_is_made_once(bed: Bed) {
    with_ping(&bed).await;
    let new = asked(&bed, "b").await;
    let BackfillVerdict::New(made) = bed.store.create_backfill(new.clone(), None).await.unwrap() else {
        panic!("not new")
    };
    assert_eq!((made.status, made.asked.clone(), made.percent()), (BackfillStatus::Running, new.clone(), 0.0));
    assert!(made.cursor < new.from);
    assert_eq!(bed.store.create_backfill(new.clone(), None).await.unwrap(), BackfillVerdict::Repeated(made));
    let other = NewBackfill { to: after(new.to, 10), ..new };
    assert!(matches!(bed.store.create_backfill(other, None).await.unwrap(), BackfillVerdict::Other(_)));
    assert_eq!(bed.store.running_backfills().await.unwrap().len(), 1);
    assert_eq!(bed.store.backfills(&key("ping"), "", 10).await.unwrap().len(), 1);
    assert!(bed.store.backfills(&key("ping"), "b", 10).await.unwrap().is_empty());
}

async fn of_several_planners_one_makes_a_step(bed: Bed) {
    with_ping(&bed).await;
    let new = asked(&bed, "b").await;
    bed.store.create_backfill(new.clone(), None).await.unwrap();
    let cursor = bed.store.backfill(&key("ping"), "b").await.unwrap().unwrap().cursor;
    let mut racing = JoinSet::new();
    for _ in 0..6 {
        let (store, step) = (bed.second().await, step(&bed, cursor, new.from).await);
        racing.spawn(async move { store.advance_backfill(step).await.unwrap() });
    }
    let made = racing.join_all().await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(bed.take().await.len(), 1);
    // Put back by a restored backup, say: the ledger's key still forbids a second fire.
    bed.tamper("UPDATE backfills SET cursor = from_at").await;
    let again = bed.store.backfill(&key("ping"), "b").await.unwrap().unwrap().cursor;
    assert!(!bed.store.advance_backfill(step(&bed, again, new.from).await).await.unwrap());
    assert!(bed.take().await.is_empty());
}

async fn its_percentage_counts_what_is_over(bed: Bed) {
    with_ping(&bed).await;
    let new = asked(&bed, "b").await;
    bed.store.create_backfill(new.clone(), None).await.unwrap();
    let read = async || bed.store.backfill(&key("ping"), "b").await.unwrap().unwrap();
    assert!(bed.store.advance_backfill(step(&bed, read().await.cursor, new.from).await).await.unwrap());
    let backfill = read().await;
    assert_eq!((backfill.triggered, backfill.unended, backfill.percent()), (1, 1, 0.0));
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(read().await.percent(), 25.0);
    let last = BackfillStep { fires: vec![], requests: vec![], done: true, ..step(&bed, new.from, new.to).await };
    assert!(bed.store.advance_backfill(last).await.unwrap());
    let backfill = read().await;
    assert_eq!((backfill.status, backfill.percent(), backfill.ended_at.is_some()), (BackfillStatus::Done, 100.0, true));
}

async fn canceled_it_makes_nothing_more_and_its_runs_end(bed: Bed) {
    with_ping(&bed).await;
    let new = asked(&bed, "b").await;
    bed.store.create_backfill(new.clone(), None).await.unwrap();
    let cursor = bed.store.backfill(&key("ping"), "b").await.unwrap().unwrap().cursor;
    let first = step(&bed, cursor, new.from).await;
    bed.store.advance_backfill(first.clone()).await.unwrap();
    let canceled = bed.store.cancel_backfill(&key("ping"), "b", "bob").await.unwrap().unwrap();
    assert_eq!((canceled.status, canceled.ended_by.as_deref()), (BackfillStatus::Canceled, Some("bob")));
    assert_eq!(bed.status(first.requests[0].id).await, Status::Canceled);
    assert!(!bed.store.advance_backfill(step(&bed, new.from, after(new.from, 10)).await).await.unwrap());
    let again = bed.store.cancel_backfill(&key("ping"), "b", "eve").await.unwrap().unwrap();
    assert_eq!(again.ended_by.as_deref(), Some("bob"), "once");
    assert_eq!(bed.store.cancel_backfill(&key("ping"), "none", "eve").await.unwrap(), None);
}

async fn it_does_not_disturb_the_schedule(bed: Bed) {
    let row = with_ping(&bed).await;
    let new = asked(&bed, "b").await;
    bed.store.create_backfill(new.clone(), None).await.unwrap();
    let cursor = bed.store.backfill(&key("ping"), "b").await.unwrap().unwrap().cursor;
    bed.store.advance_backfill(step(&bed, cursor, new.from).await).await.unwrap();
    assert_eq!(ping(&bed).await, row);
    // Its unended run is no overlap, though the schedule skips.
    let due_at = row.next_due_at.unwrap();
    assert_eq!(record(&bed, plan(&row, vec![trigger(&bed, due_at).await])).await, recorded(1, 0));
    assert_eq!(follow(&bed.store).await.ended, 0);
}
