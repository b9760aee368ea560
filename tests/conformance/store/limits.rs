//! Limits: never more under way or started than they allow, nobody left behind, and which runs are the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::definition::{Priority, UniqueSpan};
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Hold, Phase, Status};
use reveille_shared::store::{Acceptance, Claimed, Limit, NewWorkRequest, Outcome, Outgoing, Report, UniqueKey};
use reveille_shared::work_request::WorkRequestId;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, claim, failed, on_both, succeeded, worker};
use crate::idempotency::named;

on_both!(
    a_run_without_a_slot_is_held_and_the_end_of_another_lets_it_go,
    held_runs_go_by_priority_and_then_by_acceptance_and_before_newcomers,
    every_way_to_free_a_slot_lets_the_next_one_go,
    a_limit_that_is_raised_lets_more_go,
    the_sweep_finds_whom_nobody_has_woken,
    limits_hold_whoever_asks_at_once,
    a_rate_is_never_exceeded_in_any_span_of_its_length,
    both_limits_hold_for_a_run_that_has_both,
    limits_that_nobody_uses_are_forgotten,
    one_run_stands_for_all_that_are_the_same,
    a_run_that_is_the_same_for_a_time,
    of_many_that_are_the_same_one_is_accepted,
);

fn at_one_time(key: &str, most: u32) -> Option<Limit> {
    Some(Limit { key: key.into(), most, per: None })
}

fn within(key: &str, most: u32, millis: u64) -> Option<Limit> {
    Some(Limit { key: key.into(), most, per: Some(HumanDuration::from_millis(millis)) })
}

/// A work request to be, with an id above all earlier ones: within a millisecond their order is left to chance.
async fn next_request(bed: &Bed) -> NewWorkRequest {
    bed.pass(Duration::from_millis(2)).await;
    bed.new_request().await
}

async fn limited(bed: &Bed, most: u32) -> WorkRequestId {
    bed.accept(NewWorkRequest { concurrency: at_one_time("a", most), ..next_request(bed).await }).await
}

/// The runs whose triggers go out now.
async fn gone_out(bed: &Bed) -> Vec<WorkRequestId> {
    bed.take().await.iter().map(|out| out.trigger.id).collect()
}

async fn hold_of(bed: &Bed, id: WorkRequestId) -> Option<Hold> {
    match bed.get(id).await.phase {
        Phase::Held { hold, .. } => Some(hold),
        _ => None,
    }
}

async fn run(bed: &Bed, out: &Outgoing) -> Claimed {
    bed.claim(&out.trigger).await.unwrap()
}

async fn a_run_without_a_slot_is_held_and_the_end_of_another_lets_it_go(bed: Bed) {
    let (first, second, third) = (limited(&bed, 2).await, limited(&bed, 2).await, limited(&bed, 2).await);
    let free = bed.accepted().await;
    let sent = bed.take().await;
    let ids: Vec<_> = sent.iter().map(|out| out.trigger.id).collect();
    assert_eq!(ids, [first, second, free], "what has no limit is not concerned");
    assert_eq!(hold_of(&bed, third).await, Some(Hold::Concurrency));
    assert!(bed.take().await.is_empty(), "it is not asked again and again");
    assert_eq!(bed.store.next_due().await.unwrap(), None);
    let runs = [run(&bed, &sent[0]).await, run(&bed, &sent[1]).await];
    assert!(bed.take().await.is_empty());
    bed.report(&runs[1], succeeded()).await.unwrap();
    assert!(bed.store.next_due().await.unwrap().is_some(), "the dispatcher knows that someone may go");
    assert_eq!(gone_out(&bed).await, [third]);
    assert_eq!(bed.told(third).await, ["accepted"], "limits let go too many to tell of each");
    assert!(bed.take().await.is_empty());
}

async fn held_runs_go_by_priority_and_then_by_acceptance_and_before_newcomers(bed: Bed) {
    let with = async |priority| {
        let request = next_request(&bed).await;
        bed.accept(NewWorkRequest { concurrency: at_one_time("a", 1), priority, ..request }).await
    };
    let mut running = with(Priority::Low).await;
    assert_eq!(gone_out(&bed).await, [running]);
    let (low, first, second) = (with(Priority::Low).await, with(Priority::Normal).await, with(Priority::Normal).await);
    let high = with(Priority::High).await;
    assert!(bed.take().await.is_empty());
    for next in [high, first, second, low] {
        // A newcomer of the highest priority is due at the moment at which the slot comes free.
        let newcomer = with(Priority::High).await;
        bed.store.cancel(NAMESPACE, running, "test".into()).await.unwrap();
        assert_eq!(gone_out(&bed).await, [next]);
        assert_eq!(hold_of(&bed, newcomer).await, Some(Hold::Concurrency));
        bed.store.cancel(NAMESPACE, newcomer, "test".into()).await.unwrap();
        running = next;
    }
}

async fn every_way_to_free_a_slot_lets_the_next_one_go(bed: Bed) {
    let start = async |bed: &Bed| {
        limited(bed, 1).await;
        bed.take().await.remove(0)
    };
    let mut out = start(&bed).await;
    for way in 0..7 {
        let next = limited(&bed, 1).await;
        assert!(bed.take().await.is_empty(), "{way}");
        let (id, trigger) = (out.trigger.id, out.trigger.clone());
        match way {
            0 => bed.report(&run(&bed, &out).await, failed(None)).await.unwrap(),
            1 => bed.report(&run(&bed, &out).await, failed(Some(Duration::from_secs(3600)))).await.unwrap(),
            2 => drop(bed.store.cancel(NAMESPACE, id, "test".into()).await.unwrap()),
            3 => assert!(bed.store.give_up(&trigger, crate::bed::error("no queue")).await.unwrap()),
            4 => bed.store.unsend(&[(trigger, Duration::from_secs(3600), None)]).await.unwrap(),
            5 => bed.report(&run(&bed, &out).await, Outcome::Stopped).await.unwrap(),
            _ => {
                let run = run(&bed, &out).await;
                let error = crate::bed::error("its worker died");
                let (id, token) = (run.id, run.token);
                let loss =
                    reveille_shared::store::Loss { id, token, error, retry: None, verify: false, if_overdue: false };
                assert_eq!(bed.store.lose(vec![loss]).await.unwrap(), 1);
            }
        }
        let mut sent = bed.take().await;
        assert_eq!(sent.iter().map(|out| out.trigger.id).collect::<Vec<_>>(), [next], "{way}");
        out = sent.remove(0);
    }
}

async fn a_limit_that_is_raised_lets_more_go(bed: Bed) {
    let ids = [limited(&bed, 1).await, limited(&bed, 1).await, limited(&bed, 1).await];
    assert_eq!(gone_out(&bed).await, ids[..1]);
    let newcomer = limited(&bed, 3).await;
    assert_eq!(gone_out(&bed).await, ids[1..], "those that were held go first");
    assert_eq!(hold_of(&bed, newcomer).await, Some(Hold::Concurrency));
    limited(&bed, 1).await;
    bed.store.cancel(NAMESPACE, ids[0], "test".into()).await.unwrap();
    assert!(bed.take().await.is_empty(), "lowered: two are under way");
}

async fn the_sweep_finds_whom_nobody_has_woken(bed: Bed) {
    let (first, second) = (limited(&bed, 1).await, limited(&bed, 1).await);
    bed.take().await;
    bed.store.cancel(NAMESPACE, first, "test".into()).await.unwrap();
    bed.tamper("UPDATE limits SET wake_at = NULL").await;
    assert!(bed.take().await.is_empty());
    assert_eq!(bed.store.wake_stranded_limits().await.unwrap(), 1);
    assert_eq!(gone_out(&bed).await, [second]);
    assert_eq!(bed.store.wake_stranded_limits().await.unwrap(), 0);
}

/// Dispatchers, workers and someone who cancels, all at once over two keys: at no instant are there more leases than
/// slots, and all runs come to their end.
async fn limits_hold_whoever_asks_at_once(bed: Bed) {
    const RUNS: usize = 60;
    let most = HashMap::from([("a", 3_usize), ("b", 1)]);
    let mut key_of = HashMap::new();
    for index in 0..RUNS {
        let key = if index % 3 == 0 { "b" } else { "a" };
        let limit = at_one_time(key, u32::try_from(most[key]).unwrap());
        let id = bed.accept(NewWorkRequest { concurrency: limit, ..bed.new_request().await }).await;
        key_of.insert(id, key);
    }
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (store, clock) = (bed.second().await, bed.clock.clone());
        // Where the clock does not run by itself, it does with each step.
        let tick = move || clock.iter().for_each(|clock| clock.advance(Duration::from_millis(1)));
        tasks.spawn(async move {
            let mut ended = Vec::new();
            let mut idle = 0;
            while idle < 200 {
                // A database that is locked for a moment, or a deadlock that it resolves, is asked again.
                let Ok(out) = store.take_due(4).await else { continue };
                if out.is_empty() {
                    idle += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
                idle = 0;
                let claims: Vec<_> = out.iter().map(|out| claim(&out.trigger)).collect();
                tick();
                let answers = loop {
                    if let Ok(answers) = store.claim(worker(), &claims).await {
                        break answers;
                    }
                };
                for run in answers.into_iter().flatten() {
                    tokio::time::sleep(Duration::from_millis(task)).await;
                    let retry = (run.attempt == 1 && run.id.0.as_u128() % 4 == 0).then_some(Duration::ZERO);
                    let outcome = if retry.is_some() { failed(retry) } else { succeeded() };
                    tick();
                    let report = Report::new(run.id, run.token, outcome);
                    while store.report(vec![report.clone()]).await.is_err() {}
                    ended.push(run.id);
                }
            }
            ended
        });
    }
    tasks.join_all().await;
    // From the histories: how many were under way after each event.
    let mut changes: BTreeMap<(Timestamp, i32), Vec<(&str, i32)>> = BTreeMap::new();
    for (id, key) in &key_of {
        assert_eq!(bed.status(*id).await, Status::Succeeded, "{:?}", bed.get(*id).await);
        for event in bed.store.events(*id, 0, 100).await.unwrap() {
            let name = serde_json::to_value(&event.what).unwrap()["type"].as_str().unwrap().to_owned();
            // At one instant what has ended has done so before what starts.
            let change = match name.as_str() {
                "started" => 1,
                "succeeded" | "attemptFailed" => -1,
                _ => continue,
            };
            changes.entry((event.at, change)).or_default().push((key, change));
        }
    }
    let mut under_way: HashMap<&str, i32> = HashMap::new();
    for (key, change) in changes.into_values().flatten() {
        let count = under_way.entry(key).or_default();
        *count += change;
        assert!(usize::try_from(*count).unwrap() <= most[key], "{key}: {count}");
    }
}

async fn a_rate_is_never_exceeded_in_any_span_of_its_length(bed: Bed) {
    const SPAN: u64 = 300;
    let mut waiting = HashSet::new();
    for _ in 0..8 {
        let request = NewWorkRequest { rate: within("r", 3, SPAN), ..bed.new_request().await };
        waiting.insert(bed.accept(request).await);
    }
    let mut starts: Vec<Timestamp> = Vec::new();
    while !waiting.is_empty() {
        let now = bed.now().await;
        match bed.store.next_due().await.unwrap() {
            Some(at) if at > now => bed.pass(at.duration_since(now).unsigned_abs()).await,
            Some(_) => {}
            None => panic!("{waiting:?} are forgotten"),
        }
        for id in gone_out(&bed).await {
            assert!(waiting.remove(&id));
            let Phase::Sent { at } = bed.get(id).await.phase else { panic!() };
            starts.push(at);
        }
        if let Some(one) = waiting.iter().next() {
            assert_eq!(hold_of(&bed, *one).await, Some(Hold::Rate));
        }
    }
    for (index, start) in starts.iter().enumerate().skip(3) {
        let span = start.duration_since(starts[index - 3]);
        assert!(span.as_millis() >= i128::from(SPAN), "four starts within {span:?}");
    }
    // And no slower than it has to be: three spans for eight runs.
    let took = starts[7].duration_since(starts[0]);
    assert!(bed.clock.is_none() || took.as_millis() < i128::from(3 * SPAN), "{took:?}");
}

/// SQLite has one writer, who tells the time when nobody else is left to wait for.
#[tokio::test]
async fn a_start_counts_from_its_sending_on_however_long_its_dispatcher_waited_for_others() {
    const SPAN: u64 = 600;
    let bed = Bed::postgres().await;
    for _ in 0..2 {
        bed.accept(NewWorkRequest { rate: within("r", 1, SPAN), ..next_request(&bed).await }).await;
    }
    let mut other = PgConnection::connect(&bed.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM limits FOR UPDATE").execute(&mut other).await.unwrap();
    let counted_elsewhere = async {
        bed.pass(Duration::from_millis(400)).await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    };
    let before = bed.now().await;
    let (out, ()) = tokio::join!(gone_out(&bed), counted_elsewhere);
    assert_eq!(out.len(), 1);
    let sent = before + Duration::from_millis(400);
    while gone_out(&bed).await.is_empty() {
        bed.pass(Duration::from_millis(10)).await;
    }
    let apart = bed.now().await.duration_since(sent);
    assert!(apart.as_millis() >= i128::from(SPAN), "two starts within {apart:?}");
}

async fn both_limits_hold_for_a_run_that_has_both(bed: Bed) {
    let both = async || {
        let request = next_request(&bed).await;
        let limits = NewWorkRequest { concurrency: at_one_time("a", 1), rate: within("r", 2, 3_600_000), ..request };
        bed.accept(limits).await
    };
    let ids = [both().await, both().await, both().await];
    assert_eq!(gone_out(&bed).await, ids[..1]);
    bed.store.cancel(NAMESPACE, ids[0], "test".into()).await.unwrap();
    assert_eq!(gone_out(&bed).await, ids[1..2]);
    bed.store.cancel(NAMESPACE, ids[1], "test".into()).await.unwrap();
    assert!(bed.take().await.is_empty(), "two have started within the hour");
    assert_eq!(hold_of(&bed, ids[2]).await, Some(Hold::Rate));
    let next = bed.store.next_due().await.unwrap().unwrap();
    assert!(next.duration_since(bed.now().await).as_secs() > 3_000, "{next}");
}

async fn limits_that_nobody_uses_are_forgotten(bed: Bed) {
    let id = limited(&bed, 1).await;
    let later = bed.now().await.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap();
    assert_eq!(bed.store.purge_limits(later, 10).await.unwrap(), 0, "a run waits for it");
    bed.store.cancel(NAMESPACE, id, "test".into()).await.unwrap();
    assert_eq!(bed.store.purge_limits(Timestamp::UNIX_EPOCH, 10).await.unwrap(), 0, "used of late");
    assert_eq!(bed.store.purge_limits(later, 10).await.unwrap(), 1);
}

async fn unique(bed: &Bed, key: &str, span: UniqueSpan) -> NewWorkRequest {
    let unique = Some(UniqueKey { key: key.into(), span });
    NewWorkRequest { unique, ..bed.new_request().await }
}

async fn one_run_stands_for_all_that_are_the_same(bed: Bed) {
    let ask = async |span| bed.store.accept(unique(&bed, "day 1", span).await, None).await.unwrap();
    let Acceptance::New(first) = ask(UniqueSpan::Running).await else { panic!() };
    assert_eq!(ask(UniqueSpan::Running).await, Acceptance::Same(first));
    assert_eq!(ask(UniqueSpan::Waiting).await, Acceptance::Same(first));
    bed.accept(unique(&bed, "day 2", UniqueSpan::Running).await).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!(ask(UniqueSpan::Running).await, Acceptance::Same(first));
    let Acceptance::New(second) = ask(UniqueSpan::Waiting).await else { panic!("it has started") };
    assert_eq!(ask(UniqueSpan::Running).await, Acceptance::Same(second));
    bed.report(&run, succeeded()).await.unwrap();
    bed.store.cancel(NAMESPACE, second, "test".into()).await.unwrap();
    // Under an idempotency key the first answer stands, also when the run has ended since.
    let keyed = async |name| {
        let request = unique(&bed, "day 1", UniqueSpan::Running).await;
        bed.store.accept(request, Some(&named(name))).await.unwrap()
    };
    let Acceptance::New(third) = keyed("one").await else { panic!() };
    assert_eq!(keyed("two").await, Acceptance::Same(third));
    assert_eq!(keyed("two").await, Acceptance::Repeated(third));
    bed.store.cancel(NAMESPACE, third, "test".into()).await.unwrap();
    assert_eq!(keyed("two").await, Acceptance::Repeated(third));
    assert_eq!(keyed("one").await, Acceptance::Repeated(third));

    let later = bed.now().await.saturating_add(jiff::SignedDuration::from_secs(5)).unwrap();
    let waiting = bed.store.purge_unique_keys(later, 10).await.unwrap();
    assert_eq!(waiting, 1, "day 2 is under way");
}

async fn a_run_that_is_the_same_for_a_time(bed: Bed) {
    let span = UniqueSpan::Window(HumanDuration::from_secs(5));
    let first = bed.accept(unique(&bed, "k", span).await).await;
    bed.store.cancel(NAMESPACE, first, "test".into()).await.unwrap();
    assert_eq!(bed.store.accept(unique(&bed, "k", span).await, None).await.unwrap(), Acceptance::Same(first));
    bed.pass(Duration::from_millis(5_100)).await;
    assert_ne!(bed.store.accept(unique(&bed, "k", span).await, None).await.unwrap(), Acceptance::Same(first));
}

async fn of_many_that_are_the_same_one_is_accepted(bed: Bed) {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (store, request) = (bed.second().await, unique(&bed, "k", UniqueSpan::Running).await);
        tasks.spawn(async move {
            loop {
                if let Ok(accepted) = store.accept(request.clone(), None).await {
                    return accepted;
                }
            }
        });
    }
    let mut answers = HashSet::new();
    for accepted in tasks.join_all().await {
        match accepted {
            Acceptance::New(id) | Acceptance::Same(id) => drop(answers.insert(id)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_ne!(answers.into_iter().next().map(|id| id.0), Some(Uuid::nil()));
}
