//! A backlog goes out unmarked: a first trigger that arrives shows that it was sent.

use std::time::Duration;

use jiff::ToSpan as _;
use reveille_shared::broker::Route;
use reveille_shared::definition::Priority;
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Lane, Limit, NewWorkRequest, Position, Seeing};
use reveille_shared::trigger::{Trigger, UNMARKED};
use reveille_shared::work_request::{RunError, WorkRequestId};
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, error, failed, on_both};

on_both!(
    a_first_trigger_is_claimed_without_a_mark_and_only_once,
    only_a_first_trigger_that_is_due_and_counts_against_nothing_needs_no_mark,
    what_the_broker_did_not_take_is_due_again_and_marked_the_next_time,
    what_can_not_be_delivered_ends,
    what_was_lost_is_marked_as_sent_again,
);

/// A run's first trigger, as it goes out unmarked.
async fn unmarked(bed: &Bed, id: WorkRequestId) -> Trigger {
    let run = bed.get(id).await;
    Trigger { v: UNMARKED, id, n: 1, namespace: run.namespace, job: run.job }
}

async fn a_first_trigger_is_claimed_without_a_mark_and_only_once(bed: Bed) {
    let id = bed.accepted().await;
    let first = unmarked(&bed, id).await;
    let run = bed.claim(&first).await.unwrap();
    assert_eq!((run.attempt, run.sent_at <= run.claimed_at), (1, true));
    assert_eq!(bed.claim(&first).await, Err(Refusal::OldTrigger), "another copy");
    bed.report(&run, failed(Some(Duration::ZERO))).await.unwrap();
    bed.pass(Duration::from_millis(1)).await;
    assert_eq!(bed.claim(&first).await, Err(Refusal::OldTrigger), "a late copy");
    assert_eq!(bed.take().await[0].trigger.n, 2);
    assert_eq!(bed.told(id).await, ["accepted", "started", "attemptFailed"]);
}

async fn only_a_first_trigger_that_is_due_and_counts_against_nothing_needs_no_mark(bed: Bed) {
    let second = Trigger { n: 2, ..unmarked(&bed, bed.accepted().await).await };
    assert_eq!(bed.claim(&second).await, Err(Refusal::OldTrigger));
    let delayed = NewWorkRequest { delay: "1h".parse().unwrap(), ..bed.new_request().await };
    let delayed = unmarked(&bed, bed.accept(delayed).await).await;
    assert_eq!(bed.claim(&delayed).await, Err(Refusal::OldTrigger));
    let limit = |key: &str| Some(Limit { key: key.to_owned(), most: 5, per: None });
    let limited = NewWorkRequest { concurrency: limit("slots"), ..bed.new_request().await };
    let limited = unmarked(&bed, bed.accept(limited).await).await;
    assert_eq!(bed.claim(&limited).await, Err(Refusal::OldTrigger), "it has no slot");
    let expired = NewWorkRequest { expires: Some("1ms".parse().unwrap()), ..bed.new_request().await };
    let expired = unmarked(&bed, bed.accept(expired).await).await;
    bed.pass(Duration::from_millis(5)).await;
    assert_eq!(bed.claim(&expired).await, Err(Refusal::Ended));
    assert_eq!(bed.status(expired.id).await, Status::Failed);
}

async fn what_the_broker_did_not_take_is_due_again_and_marked_the_next_time(bed: Bed) {
    let first = unmarked(&bed, bed.accepted().await).await;
    bed.store.unsend(&[(first.clone(), Duration::from_secs(3600), Some("no queue".into()))]).await.unwrap();
    assert_eq!(bed.take().await, []);
    assert_eq!(bed.claim(&first).await, Err(Refusal::OldTrigger));
    bed.age(3600).await;
    assert_eq!(bed.take().await[0].trigger.n, 2);
    assert_eq!(bed.told(first.id).await, ["accepted", "returned"]);
}

async fn what_can_not_be_delivered_ends(bed: Bed) {
    let first = unmarked(&bed, bed.accepted().await).await;
    assert!(bed.store.give_up(&first, RunError::new("Undeliverable", "in a test")).await.unwrap());
    assert_eq!(bed.status(first.id).await, Status::Failed);
    assert!(!bed.store.give_up(&first, error("again")).await.unwrap());
}

async fn what_was_lost_is_marked_as_sent_again(bed: Bed) {
    let marked = bed.sent().await.id;
    let [lost, claimed] = [bed.accepted().await, bed.accepted().await];
    bed.claim(&unmarked(&bed, claimed).await).await.unwrap();
    let resent = bed.store.resend_unmarked([lost, claimed, marked].into_iter()).await.unwrap();
    let names: Vec<_> = resent.iter().map(|out| (out.trigger.id, out.trigger.n)).collect();
    assert_eq!(names, [(lost, 1)]);
    assert!(matches!(bed.get(lost).await.phase, Phase::Sent { .. }));
    assert_eq!(bed.told(lost).await, ["accepted", "resent"]);
    bed.claim(&resent[0].trigger).await.unwrap();
}

/// Runs of these tenants that are due, in the order of their names.
async fn due(bed: &Bed, namespaces: &[&str]) -> Vec<WorkRequestId> {
    let mut ids = Vec::with_capacity(namespaces.len());
    for namespace in namespaces {
        let request = NewWorkRequest { namespace: (*namespace).to_owned(), ..bed.new_request().await };
        ids.push(bed.accept(request).await);
    }
    ids
}

fn names(seeing: &Seeing) -> Vec<WorkRequestId> {
    seeing.due.iter().map(|seen| seen.outgoing.trigger.id).collect()
}

/// Only PostgreSQL has several dispatchers, and positions.
mod postgres_alone {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// What is due, with so much room on each route.
    async fn see(
        bed: &Bed,
        limit: i64,
        room: i64,
        behind: &(dyn Fn(&Lane) -> Option<Position> + Send + Sync),
    ) -> Seeing {
        let lanes = bed.store.due_lanes().await.unwrap();
        bed.store.see_due(&lanes, limit, &|_| room, behind).await.unwrap()
    }

    #[tokio::test]
    async fn one_dispatcher_at_a_time_has_a_backlog_and_the_others_leave_it_alone() {
        let bed = Bed::postgres().await;
        let [one, other] = [1, 2].map(Uuid::from_u128);
        bed.accepted().await;
        assert!(bed.store.hold_backlog(one, LONG).await.unwrap());
        assert!(bed.store.hold_backlog(one, LONG).await.unwrap(), "it keeps it");
        assert!(!bed.store.hold_backlog(other, LONG).await.unwrap());
        let taken = bed.store.take_due_within(10, &|_| 10, other).await.unwrap();
        assert!(taken.outgoing.is_empty() && !taken.held_back);
        assert_eq!(taken.elsewhere, [Route { queue: "main".into(), priority: Priority::Normal }]);
        bed.store.leave_backlog(other).await.unwrap();
        assert!(!bed.store.hold_backlog(other, LONG).await.unwrap(), "only its holder leaves it");
        bed.store.leave_backlog(one).await.unwrap();
        assert_eq!(bed.store.take_due_within(10, &|_| 10, other).await.unwrap().outgoing.len(), 1);

        // One that has died has it for a while.
        assert!(bed.store.hold_backlog(one, Duration::from_millis(50)).await.unwrap());
        bed.pass(Duration::from_millis(50)).await;
        assert!(bed.store.hold_backlog(other, LONG).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_due_is_seen_page_by_page_and_stays_as_it_is() {
        let bed = Bed::postgres().await;
        let of_a = due(&bed, &["a"; 5]).await;
        let [of_b] = due(&bed, &["b"]).await[..] else { panic!() };
        let mut position: Option<Position> = None;
        let mut pages = Vec::new();
        for _ in 0..3 {
            let behind = |lane: &Lane| if lane.namespace == "a" { position } else { None };
            let seeing = see(&bed, 3, 10, &behind).await;
            pages.push(names(&seeing).into_iter().filter(|id| *id != of_b).collect::<Vec<_>>());
            assert!(seeing.due.iter().all(|seen| seen.is_free && seen.outgoing.trigger.v == UNMARKED));
            assert!(seeing.due.iter().any(|seen| seen.outgoing.trigger.id == of_b), "its lane begins anew each time");
            let last = seeing.due.iter().rfind(|seen| seen.lane().namespace == "a");
            position = last.map(|seen| seen.position()).or(position);
        }
        assert_eq!(pages.concat(), of_a, "each once, in order: {pages:?}");
        let lane = Lane { route: bed.take().await[0].route.clone(), namespace: "a".into() };
        let lines = [(&lane, position.unwrap())];
        assert_eq!(bed.store.due_until(&lines).await.unwrap(), [], "all were taken meanwhile");
    }

    #[tokio::test]
    async fn what_is_due_up_to_a_position_can_be_told_and_counted() {
        let bed = Bed::postgres().await;
        let ids = due(&bed, &[NAMESPACE; 4]).await;
        let [of_another] = due(&bed, &["another"]).await[..] else { panic!() };
        let seeing = see(&bed, 9, 10, &|_| None).await;
        let seen = |id| seeing.due.iter().find(|seen| seen.outgoing.trigger.id == id).unwrap();
        let (lane, until) = (seen(ids[2]).lane(), seen(ids[2]).position());
        bed.claim(&seen(ids[1]).outgoing.trigger).await.unwrap();
        let (another, last) = (seen(of_another).lane(), seen(of_another).position());
        let elsewhere = Lane { namespace: "elsewhere".into(), ..lane.clone() };
        let lines = [(&elsewhere, until), (&lane, until), (&another, last)];
        let mut left = bed.store.due_until(&lines).await.unwrap();
        left.sort();
        assert_eq!(left, [(1, ids[0]), (1, ids[2]), (2, of_another)]);
        assert_eq!(bed.store.count_due_until(&lines).await.unwrap(), 3);
        assert_eq!(bed.store.count_due_until(&lines[..1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_was_sent_before_or_counts_against_a_limit_is_marked() {
        let bed = Bed::postgres().await;
        let limit = Limit { key: "slots".into(), most: 1, per: None };
        for _ in 0..2 {
            bed.accept(NewWorkRequest { concurrency: Some(limit.clone()), ..bed.new_request().await }).await;
        }
        let again = bed.accepted().await;
        let first = unmarked(&bed, again).await;
        bed.store.unsend(&[(first, Duration::ZERO, None)]).await.unwrap();
        let free = bed.accepted().await;
        let seeing = see(&bed, 10, 10, &|_| None).await;
        let seen_free: Vec<_> =
            seeing.due.iter().filter(|seen| seen.is_free).map(|seen| seen.outgoing.trigger.id).collect();
        assert_eq!(seen_free, [free]);
        let marked = bed.store.take_due_among(&names(&seeing), 10).await.unwrap();
        let mut numbers: Vec<_> = marked.iter().map(|out| out.trigger.n).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 1, 2], "one of the two has a slot");
        let later = bed.now().await + 1.hour();
        assert!(seeing.at < later && seeing.due.iter().all(|seen| seen.outgoing.due_at <= seeing.at));
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_the_rest_is_held_back() {
        let bed = Bed::postgres().await;
        due(&bed, &["a", "a", "a", "b"]).await;
        let seeing = see(&bed, 10, 2, &|_| None).await;
        let mut tenants: Vec<_> = seeing.due.iter().map(|seen| seen.lane().namespace).collect();
        tenants.sort();
        assert_eq!((tenants, seeing.held_back), (vec!["a".to_owned(), "b".to_owned()], true));
        let all = see(&bed, 10, 9, &|_| None).await;
        assert_eq!((all.due.len(), all.held_back), (4, false));
    }
}

#[tokio::test]
async fn on_sqlite_nobody_has_it() {
    let bed = Bed::sqlite().await;
    assert!(!bed.store.hold_backlog(Uuid::from_u128(1), Duration::from_secs(9)).await.unwrap());
}
