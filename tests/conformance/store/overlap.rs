//! Fires that wait for the runs of earlier ones: none is lost, none left behind, none too early.

use jiff::Timestamp;
use reveille_shared::definition::{Overlap, Schedule};
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{
    Claimed, FireOutcome, FollowUp, Followed, Outcome, Planned, ScheduleRow, SkipReason, Store,
};
use reveille_shared::work_request::{Origin, WorkRequestId};
use tokio::task::JoinSet;

use crate::bed::{Bed, NAMESPACE, on_both, succeeded};
use crate::definitions::{apply, definitions, every, schedule};
use crate::fires::{after, born, key, ledger, ping, plan, record, recorded, trigger};

on_both!(
    of_queue_one_one_fire_waits_and_the_next_is_skipped,
    of_queue_all_fires_go_one_after_the_other_up_to_the_maximum,
    fires_of_one_plan_wait_for_each_other,
    cancel_running_ends_what_waits_and_stops_what_runs,
    of_several_due_at_once_cancel_running_takes_the_last,
    a_held_run_that_is_canceled_makes_room,
    runs_by_hand_count_only_if_told,
    a_held_fire_goes_when_its_schedule_is_gone,
    no_fire_is_left_behind_when_a_run_ends_while_it_is_planned,
);

async fn with_overlap(bed: &Bed, overlap: Overlap, queue_max: u32) -> ScheduleRow {
    let schedule = Schedule { overlap, queue_max, ..schedule("ping", every(10)) };
    apply(bed, &definitions(vec![schedule]), "d1").await;
    ping(bed).await
}

/// Records one fire at the schedule's next due time, and answers its run.
async fn fire(bed: &Bed) -> (WorkRequestId, FireOutcome) {
    let row = ping(bed).await;
    let decision = trigger(bed, row.next_due_at.unwrap()).await;
    let id = born(&decision);
    record(bed, plan(&row, vec![decision])).await;
    (id, ledger(bed).await.remove(0).1)
}

async fn is_held(bed: &Bed, id: WorkRequestId) -> bool {
    let request = bed.get(id).await;
    assert!(request.status == Status::Accepted || !matches!(request.phase, Phase::Held { .. }));
    matches!(request.phase, Phase::Held { .. })
}

/// Draws the consequences of all ends.
pub(crate) async fn follow(store: &Store) -> Followed {
    let ends = store.ended_runs(100).await.unwrap();
    let follow_ups = ends.into_iter().map(|run| FollowUp { run, births: Vec::new() }).collect();
    store.follow(follow_ups, &|_| false).await.unwrap()
}

/// Takes the only trigger that is due, which must be this run's, and claims it.
async fn start(bed: &Bed, id: WorkRequestId) -> Claimed {
    let taken = bed.take().await;
    assert_eq!(taken.iter().map(|out| out.trigger.id).collect::<Vec<_>>(), [id]);
    bed.claim(&taken[0].trigger).await.unwrap()
}

async fn of_queue_one_one_fire_waits_and_the_next_is_skipped(bed: Bed) {
    with_overlap(&bed, Overlap::QueueOne, 100).await;
    let (first, _) = fire(&bed).await;
    let run = start(&bed, first).await;
    let (second, outcome) = fire(&bed).await;
    assert_eq!(outcome, FireOutcome::Triggered(vec![second]), "its runs are accepted, and wait");
    assert!(is_held(&bed, second).await && bed.take().await.is_empty());
    assert_eq!(bed.told(second).await, ["accepted", "held"]);
    let (_, third) = fire(&bed).await;
    let why = format!("work request {second} was waiting already");
    assert_eq!(third, FireOutcome::Skipped(SkipReason::Overlap, why));
    assert_eq!(follow(&bed.store).await, Followed::default(), "nothing has ended");

    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(follow(&bed.store).await, Followed { ended: 1, admitted: 1, ..Followed::default() });
    assert_eq!(follow(&bed.store).await, Followed::default(), "once");
    assert_eq!(bed.told(second).await, ["accepted", "held", "admitted"]);
    let run = start(&bed, second).await;
    bed.report(&run, succeeded()).await.unwrap();
    follow(&bed.store).await;
    let (fourth, _) = fire(&bed).await;
    assert!(!is_held(&bed, fourth).await, "nothing runs any more");
}

async fn of_queue_all_fires_go_one_after_the_other_up_to_the_maximum(bed: Bed) {
    with_overlap(&bed, Overlap::QueueAll, 2).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(fire(&bed).await.0);
    }
    let (_, fourth) = fire(&bed).await;
    let why = "2 fires were waiting, and that is the most".to_owned();
    assert_eq!(fourth, FireOutcome::Skipped(SkipReason::Cap, why));
    for id in ids {
        let run = start(&bed, id).await;
        assert!(bed.take().await.is_empty(), "one at a time");
        bed.report(&run, succeeded()).await.unwrap();
        follow(&bed.store).await;
    }
    assert!(bed.take().await.is_empty());
}

async fn fires_of_one_plan_wait_for_each_other(bed: Bed) {
    let row = with_overlap(&bed, Overlap::QueueAll, 100).await;
    let due_at = row.next_due_at.unwrap();
    let mut decisions = Vec::new();
    for n in 0..3 {
        decisions.push(trigger(&bed, after(due_at, n * 10)).await);
    }
    let ids: Vec<_> = decisions.iter().map(born).collect();
    assert_eq!(record(&bed, plan(&row, decisions)).await, recorded(3, 0));
    for id in ids {
        let run = start(&bed, id).await;
        bed.report(&run, succeeded()).await.unwrap();
        follow(&bed.store).await;
    }
}

async fn cancel_running_ends_what_waits_and_stops_what_runs(bed: Bed) {
    with_overlap(&bed, Overlap::CancelRunning, 100).await;
    let (first, _) = fire(&bed).await;
    let (second, _) = fire(&bed).await;
    assert_eq!(bed.status(first).await, Status::Canceled, "it had not started");
    follow(&bed.store).await;
    let run = start(&bed, second).await;
    let (third, _) = fire(&bed).await;
    assert_eq!(bed.status(second).await, Status::Canceling);
    assert!(is_held(&bed, third).await && bed.take().await.is_empty(), "two would run at once");
    let (fourth, _) = fire(&bed).await;
    assert_eq!(bed.status(third).await, Status::Canceled, "the newest one counts");
    follow(&bed.store).await;
    assert!(is_held(&bed, fourth).await);
    bed.report(&run, Outcome::Stopped).await.unwrap();
    follow(&bed.store).await;
    start(&bed, fourth).await;
}

async fn of_several_due_at_once_cancel_running_takes_the_last(bed: Bed) {
    let row = with_overlap(&bed, Overlap::CancelRunning, 100).await;
    let due_at = row.next_due_at.unwrap();
    let both = vec![trigger(&bed, due_at).await, trigger(&bed, after(due_at, 10)).await];
    let last = born(&both[1]);
    assert_eq!(record(&bed, plan(&row, both)).await, recorded(1, 1));
    start(&bed, last).await;
}

async fn a_held_run_that_is_canceled_makes_room(bed: Bed) {
    with_overlap(&bed, Overlap::QueueOne, 100).await;
    let (first, _) = fire(&bed).await;
    let run = start(&bed, first).await;
    let (second, _) = fire(&bed).await;
    bed.store.cancel(NAMESPACE, second, "ann".into()).await.unwrap();
    assert_eq!(bed.status(second).await, Status::Canceled);
    let (third, _) = fire(&bed).await;
    assert!(is_held(&bed, third).await);
    follow(&bed.store).await;
    assert!(is_held(&bed, third).await, "the end of what was held lets nobody go");
    bed.report(&run, succeeded()).await.unwrap();
    follow(&bed.store).await;
    start(&bed, third).await;
}

async fn runs_by_hand_count_only_if_told(bed: Bed) {
    for (version, count_manual) in ["d1", "d2"].into_iter().zip([false, true]) {
        let skip = Schedule { count_manual, ..schedule("ping", every(10)) };
        let hold = Schedule { overlap: Overlap::QueueOne, name: "hold".into(), ..skip.clone() };
        apply(&bed, &definitions(vec![skip, hold]), version).await;
        for name in ["ping", "hold"] {
            let row = bed.store.schedule(&key(name)).await.unwrap().unwrap();
            let mut by_hand = bed.new_request().await;
            let due_at = row.next_due_at.unwrap();
            by_hand.fire =
                Some(reveille_shared::work_request::FireRef { schedule: name.into(), due_at, origin: Origin::Manual });
            let id = by_hand.id;
            bed.accept(by_hand).await;
            let mut decision = trigger(&bed, due_at).await;
            if let Planned::Trigger(requests) = &mut decision.planned {
                requests.iter_mut().for_each(|request| request.fire.as_mut().unwrap().schedule = name.into());
            }
            let run = born(&decision);
            let verdict = record(&bed, plan(&row, vec![decision])).await;
            match (name, count_manual) {
                ("ping", true) => assert_eq!(verdict, recorded(0, 1)),
                ("hold", true) => {
                    assert!(is_held(&bed, run).await);
                    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
                    assert_eq!(follow(&bed.store).await.admitted, 1, "the end of a run by hand lets it go");
                }
                _ => assert!(verdict == recorded(1, 0) && !is_held(&bed, run).await),
            }
            for id in [id, run] {
                if bed.store.work_request(NAMESPACE, id).await.unwrap().is_some() {
                    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
                }
            }
        }
    }
}

async fn a_held_fire_goes_when_its_schedule_is_gone(bed: Bed) {
    with_overlap(&bed, Overlap::QueueOne, 100).await;
    let (first, _) = fire(&bed).await;
    let run = start(&bed, first).await;
    let (second, _) = fire(&bed).await;
    apply(&bed, &definitions(vec![]), "d2").await;
    assert_eq!(bed.store.admit_stranded().await.unwrap(), 0, "the first runs still");
    bed.report(&run, succeeded()).await.unwrap();
    // The follow-up was lost, as no build that writes one ended the run.
    bed.tamper("DELETE FROM follow_ups").await;
    assert_eq!(bed.store.admit_stranded().await.unwrap(), 1);
    start(&bed, second).await;
}

/// The planner and whoever ends the run meet at every possible moment.
async fn no_fire_is_left_behind_when_a_run_ends_while_it_is_planned(bed: Bed) {
    with_overlap(&bed, Overlap::QueueOne, 100).await;
    let generation = bed.lead().await;
    for _ in 0..30 {
        let (first, _) = fire(&bed).await;
        let run = start(&bed, first).await;
        let row = ping(&bed).await;
        let next: Timestamp = row.next_due_at.unwrap();
        let decision = trigger(&bed, next).await;
        let second = born(&decision);
        let fires = plan(&row, vec![decision]);
        let (planner, worker, follower) = (bed.second().await, bed.second().await, bed.second().await);
        let mut racing = JoinSet::new();
        racing.spawn(async move { drop(planner.record_fires(generation, vec![fires]).await.unwrap()) });
        let report = reveille_shared::store::Report::new(run.id, run.token, succeeded());
        racing.spawn(async move { worker.report(vec![report]).await.unwrap()[0].unwrap() });
        racing.spawn(async move { drop(follow(&follower).await) });
        racing.join_all().await;
        follow(&bed.store).await;
        assert!(!is_held(&bed, second).await, "left behind");
        let run = start(&bed, second).await;
        bed.report(&run, succeeded()).await.unwrap();
        follow(&bed.store).await;
    }
}
