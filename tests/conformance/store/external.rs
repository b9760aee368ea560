//! Workers in other languages: claims, signs of life, and what they tell by events.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::cloud_event::RefusedEvent;
use reveille_shared::definition::{Backoff, RetryPolicy};
use reveille_shared::duration::HumanDuration;
use reveille_shared::run_event::{Line, RunEnd, RunEvent, Told};
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{
    Cancellation, Claim, EventVerdict, ExternalClaim, ExternalLease, Incoming, LateReport, Loss, NewWorkRequest,
    Outcome, Via, external_worker,
};
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::{Happening, RunError, Stream, WorkRequestId};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, error, on_both};

on_both!(
    a_claim_gives_a_lease_that_ends_in_silence,
    of_many_who_claim_one_gets_it,
    a_claim_that_comes_too_late_gets_nothing,
    a_token_is_good_for_one_lease,
    a_sign_of_life_that_comes_in_time_keeps_the_lease,
    a_worker_is_known_while_it_holds_something,
    what_events_tell_is_told,
    events_come_to_the_same_in_any_order_and_number,
    an_event_counts_once_whoever_takes_it,
    under_a_lost_lease_nothing_is_told,
    a_run_is_canceled_only_if_someone_asked,
    what_is_refused_is_recorded_and_counted,
);

const POLICY: RetryPolicy = RetryPolicy {
    max_attempts: 2,
    initial: HumanDuration::from_secs(1),
    max: HumanDuration::from_secs(60),
    backoff: Backoff::Constant,
};

fn claim(trigger: &Trigger, worker: &str) -> ExternalClaim {
    ExternalClaim {
        claim: Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() },
        worker: worker.into(),
        queue: "thumbnails".into(),
        lease: HumanDuration::from_secs(60),
        retry: POLICY,
    }
}

/// A run that a worker in another language has.
async fn leased(bed: &Bed) -> ExternalLease {
    let request = NewWorkRequest { timeout: HumanDuration::from_secs(3600), ..bed.new_request().await };
    let id = bed.accept(request).await;
    let trigger = bed.take().await.into_iter().find(|out| out.trigger.id == id).unwrap().trigger;
    bed.store.claim_external(&claim(&trigger, "thumb-7")).await.unwrap().unwrap()
}

/// An event of a lease, `second` seconds after the epoch.
fn event(lease: &ExternalLease, id: &str, second: i64, what: Told) -> RunEvent {
    RunEvent {
        namespace: NAMESPACE.into(),
        run: lease.claimed.id,
        token: lease.claimed.token,
        source: "/thumb-7".into(),
        id: id.into(),
        at: Timestamp::from_second(second).unwrap(),
        what,
    }
}

async fn take(bed: &Bed, events: Vec<RunEvent>) -> Vec<EventVerdict> {
    bed.store.take_events(Via::Rest, events.into_iter().map(Ok).collect(), || 1.0).await.unwrap()
}

async fn tell(bed: &Bed, event: RunEvent) -> EventVerdict {
    take(bed, vec![event]).await.remove(0)
}

fn progress(percent: impl Into<Option<f32>>, message: &str) -> Told {
    Told::Progress { percent: percent.into(), message: Some(message.into()) }
}

fn line(seq: i32, text: &str) -> Line {
    Line { seq, stream: Stream::Stdout, text: text.into() }
}

fn succeeded(output: Option<Value>) -> Told {
    Told::End(RunEnd::Succeeded { output })
}

fn failed(retryable: bool) -> Told {
    Told::End(RunEnd::Failed { error: RunError::new("C", "m"), retryable, not_before: Duration::ZERO })
}

fn code(verdict: &EventVerdict) -> &'static str {
    match verdict {
        EventVerdict::Taken | EventVerdict::Repeated => verdict.as_str(),
        EventVerdict::Late(event) | EventVerdict::Refused(event) => event.code,
    }
}

async fn lose(bed: &Bed, lease: &ExternalLease, retry: Option<Duration>, if_overdue: bool) -> usize {
    let (id, token) = (lease.claimed.id, lease.claimed.token);
    let loss = Loss { id, token, error: error("silent"), retry, verify: retry.is_some(), if_overdue };
    bed.store.lose(vec![loss]).await.unwrap()
}

async fn a_claim_gives_a_lease_that_ends_in_silence(bed: Bed) {
    let trigger = bed.sent().await;
    let wanted = claim(&trigger, "thumb-7");
    let lease = bed.store.claim_external(&wanted).await.unwrap().unwrap();
    let now = bed.now().await;
    let seconds = |until: Timestamp| until.duration_since(now).as_secs();
    assert!((50..=60).contains(&seconds(lease.until)) && seconds(lease.deadline) > 60, "{lease:?}");
    assert_eq!((lease.claimed.attempt, lease.claimed.doubt, lease.claimed.canceling), (1, false, false));
    assert_eq!(lease.claimed.input, json!({ "from": "here" }));
    // The same again; what differs is when it was asked.
    let again = bed.store.claim_external(&wanted).await.unwrap().unwrap();
    assert_eq!((again.until, again.deadline, again.claimed.attempt), (lease.until, lease.deadline, 1));
    assert_eq!(bed.told(trigger.id).await, ["accepted", "started"]);
    assert_eq!(bed.store.overdue_leases(10).await.unwrap(), []);
    bed.age(61).await;
    let [overdue] = &bed.store.overdue_leases(10).await.unwrap()[..] else { panic!("not one") };
    assert_eq!((overdue.id, overdue.is_silent, overdue.silence), (trigger.id, true, Some(Duration::from_secs(60))));
    assert_eq!(lose(&bed, &lease, Some(Duration::ZERO), true).await, 1);
    let trigger = bed.take().await.remove(0).trigger;
    let next = bed.store.claim_external(&claim(&trigger, "thumb-8")).await.unwrap().unwrap();
    assert_eq!((next.claimed.attempt, next.claimed.doubt), (2, true), "it is told of the doubt");
}

async fn of_many_who_claim_one_gets_it(bed: Bed) {
    let trigger = bed.sent().await;
    let mut claims = JoinSet::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { bed.second().await } else { bed.store.clone() };
        let wanted = claim(&trigger, &format!("thumb-{number}"));
        claims.spawn(async move { store.claim_external(&wanted).await.unwrap() });
    }
    let answers = claims.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Refusal::OldTrigger))), "{answers:?}");
}

async fn a_claim_that_comes_too_late_gets_nothing(bed: Bed) {
    let old = bed.sent().await;
    let lease = bed.store.claim_external(&claim(&old, "a")).await.unwrap().unwrap();
    assert_eq!(tell(&bed, event(&lease, "1", 1, Told::End(RunEnd::Released))).await, EventVerdict::Taken);
    let new = bed.take().await.remove(0).trigger;
    assert_eq!(new.n, 2);
    let refused = async |trigger| bed.store.claim_external(&claim(trigger, "b")).await.unwrap().unwrap_err();
    assert_eq!(refused(&old).await, Refusal::OldTrigger);
    let lease = bed.store.claim_external(&claim(&new, "b")).await.unwrap().unwrap();
    tell(&bed, event(&lease, "2", 1, succeeded(None))).await;
    assert_eq!(refused(&new).await, Refusal::Ended);
    let nothing = Trigger { id: WorkRequestId::new(bed.now().await), ..new.clone() };
    assert_eq!(refused(&nothing).await, Refusal::Ended);
}

async fn a_token_is_good_for_one_lease(bed: Bed) {
    let lease = leased(&bed).await;
    tell(&bed, event(&lease, "1", 1, Told::End(RunEnd::Released))).await;
    let trigger = bed.take().await.remove(0).trigger;
    let wanted = claim(&trigger, "thumb-7");
    let again = ExternalClaim { claim: Claim { token: lease.claimed.token, ..wanted.claim }, ..wanted.clone() };
    assert_eq!(bed.store.claim_external(&again).await.unwrap().unwrap_err(), Refusal::StaleToken);
    assert!(bed.store.claim_external(&wanted).await.unwrap().is_ok());
}

async fn a_sign_of_life_that_comes_in_time_keeps_the_lease(bed: Bed) {
    let lease = leased(&bed).await;
    let (id, token) = (lease.claimed.id, lease.claimed.token);
    bed.age(50).await;
    let heard = bed.store.heartbeat(id, token).await.unwrap().unwrap();
    assert!(!heard.canceling && heard.until.duration_since(bed.now().await) > SignedDuration::from_secs(50));
    assert_eq!(bed.store.heartbeat(id, Uuid::new_v4()).await.unwrap(), Err(Refusal::StaleToken));
    assert_eq!(lose(&bed, &lease, None, true).await, 0, "it has been heard since it was found silent");
    // Each event is one as well, and one that was taken before is none.
    bed.age(50).await;
    assert_eq!(tell(&bed, event(&lease, "1", 1, Told::Heartbeat)).await, EventVerdict::Taken);
    bed.age(50).await;
    assert_eq!(tell(&bed, event(&lease, "1", 1, Told::Heartbeat)).await, EventVerdict::Repeated);
    assert_eq!(bed.store.overdue_leases(10).await.unwrap(), []);
    bed.age(15).await;
    assert_eq!(bed.store.overdue_leases(10).await.unwrap().len(), 1, "the repeated one has not counted");
    assert_eq!(lose(&bed, &lease, None, true).await, 1);
    assert_eq!(bed.store.heartbeat(id, token).await.unwrap(), Err(Refusal::Ended));
    assert_eq!(bed.told(id).await, ["accepted", "started", "failed"], "signs of life are no history");
}

async fn a_worker_is_known_while_it_holds_something(bed: Bed) {
    let lease = leased(&bed).await;
    let id = external_worker("thumb-7");
    let known = async || bed.store.workers().await.unwrap().into_iter().find(|known| known.worker.incarnation == id);
    let first = known().await.unwrap();
    assert!(first.is_external && first.ended_at.is_none() && first.leases == 1);
    assert_eq!((first.worker.name.as_str(), &first.worker.queues[..]), ("thumb-7", &["thumbnails".to_owned()][..]));
    let started = bed.history(lease.claimed.id).await.remove(1);
    assert_eq!(started, Happening::Started { attempt: 1, worker: id });
    tell(&bed, event(&lease, "1", 1, Told::Heartbeat)).await;
    assert_eq!(known().await.unwrap().beat, first.beat + 1);
    bed.pass(Duration::from_millis(5)).await;
    assert_eq!(bed.store.retire_idle(Duration::ZERO).await.unwrap(), 0, "it holds a lease");
    tell(&bed, event(&lease, "2", 1, succeeded(None))).await;
    bed.pass(Duration::from_millis(5)).await;
    assert_eq!(bed.store.retire_idle(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(bed.store.retire_idle(Duration::ZERO).await.unwrap(), 1);
    assert!(known().await.unwrap().ended_at.is_some());
    leased(&bed).await;
    assert!(known().await.unwrap().ended_at.is_none(), "it is back");
}

async fn what_events_tell_is_told(bed: Bed) {
    let lease = leased(&bed).await;
    let id = lease.claimed.id;
    let verdicts = take(
        &bed,
        vec![
            event(&lease, "1", 1, progress(40.0, "copying")),
            event(&lease, "2", 2, Told::Log(vec![line(1, "a"), line(2, "b")])),
            event(&lease, "3", 3, progress(30.0, "still copying")),
        ],
    )
    .await;
    assert_eq!(verdicts, [const { EventVerdict::Taken }; 3]);
    let run = bed.get(id).await;
    assert_eq!((run.percent, run.message.as_deref()), (40.0, Some("still copying")));
    assert_eq!(tell(&bed, event(&lease, "4", 4, failed(true))).await, EventVerdict::Taken);
    let trigger = bed.store.events(id, 0, 10).await.unwrap().pop().unwrap();
    assert!(matches!(trigger.what, Happening::AttemptFailed { attempt: 1, .. }), "{trigger:?}");
    bed.pass(Duration::from_millis(1_100)).await;
    let trigger = bed.take().await.remove(0).trigger;
    let second = bed.store.claim_external(&claim(&trigger, "thumb-8")).await.unwrap().unwrap();
    assert_eq!((second.claimed.attempt, second.claimed.failures, second.claimed.doubt), (2, 1, false));
    // What the first attempt has to say still comes in.
    assert_eq!(tell(&bed, event(&lease, "5", 2, Told::Log(vec![line(3, "c")]))).await, EventVerdict::Taken);
    tell(&bed, event(&second, "6", 5, Told::Log(vec![line(1, "again")]))).await;
    assert_eq!(tell(&bed, event(&second, "7", 6, failed(true))).await, EventVerdict::Taken);
    let run = bed.get(id).await;
    assert_eq!((run.status, run.error.unwrap().code.as_str()), (Status::Failed, "C"), "no third attempt is granted");
    let lines = bed.store.logs(id, (0, 0), 100).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (line.attempt, line.seq, line.text.as_str())).collect();
    assert_eq!(lines, [(1, 1, "a"), (1, 2, "b"), (1, 3, "c"), (2, 1, "again")]);
}

/// All that is known of a run, but for names and times that no two runs share.
async fn seen(bed: &Bed, id: WorkRequestId) -> (Value, Vec<Value>, Vec<(i32, String)>, Option<Value>) {
    let run = bed.get(id).await;
    let state = json!({
        "status": run.status, "attempt": run.attempt, "percent": run.percent, "message": run.message,
        "error": run.error, "due": matches!(run.phase, Phase::Due { .. }),
    });
    let mut history: Vec<_> = bed.history(id).await.iter().map(|what| serde_json::to_value(what).unwrap()).collect();
    for entry in &mut history {
        ["token", "retryAt"].iter().for_each(|name| drop(entry.as_object_mut().unwrap().remove(*name)));
    }
    let lines = bed.store.logs(id, (0, 0), 1000).await.unwrap();
    let lines = lines.into_iter().map(|line| (line.seq, line.text)).collect();
    (state, history, lines, bed.store.output(id).await.unwrap())
}

/// Some events as one lease may have them; exactly one is its end.
fn story(random: &mut fastrand::Rng) -> Vec<(i64, Told)> {
    let mut told = Vec::new();
    let second = |random: &mut fastrand::Rng| random.i64(1..20);
    for number in 0..random.i32(0..6) {
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let percent = random.bool().then(|| random.u8(0..100) as f32);
        let message = random.bool().then(|| format!("step {number}"));
        told.push((second(random), Told::Progress { percent, message }));
    }
    for seq in 1..random.i32(1..5) {
        told.push((second(random), Told::Log(vec![line(seq, &format!("line {seq}"))])));
    }
    for number in 0..random.i32(0..3) {
        told.push((second(random), Told::Output(json!(number))));
    }
    told.push((second(random), Told::Heartbeat));
    let end = match random.u8(0..5) {
        0 => failed(true),
        1 => failed(false),
        2 => Told::End(RunEnd::Released),
        3 => succeeded(None),
        _ => succeeded(Some(json!({ "made": 5 }))),
    };
    told.push((20, end));
    told
}

async fn events_come_to_the_same_in_any_order_and_number(bed: Bed) {
    let seed =
        std::env::var("REVEILLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let stories = if bed.clock.is_some() { 40 } else { 20 };
    for _ in 0..stories {
        let told = story(&mut random);
        let of = |lease: &ExternalLease| -> Vec<RunEvent> {
            let events = told.iter().enumerate();
            events.map(|(id, (second, what))| event(lease, &id.to_string(), *second, what.clone())).collect()
        };
        let mut expected = None;
        for order in 0..4 {
            let lease = leased(&bed).await;
            let mut events = of(&lease);
            if order > 0 {
                // Each at least once.
                let repeated = events.clone();
                events.extend((0..random.usize(0..30)).map(|_| random.choice(&repeated).unwrap().clone()));
                random.shuffle(&mut events);
            }
            let mut taken = 0;
            while !events.is_empty() {
                let some = events.split_off(events.len() - random.usize(1..=events.len()));
                for verdict in take(&bed, some).await {
                    assert!(matches!(verdict, EventVerdict::Taken | EventVerdict::Repeated), "{seed}: {verdict:?}");
                    taken += usize::from(verdict == EventVerdict::Taken);
                }
            }
            assert_eq!(taken, told.len(), "seed {seed}: each counts once");
            let came = seen(&bed, lease.claimed.id).await;
            match &expected {
                None => expected = Some(came),
                Some(expected) => assert_eq!(&came, expected, "seed {seed}: {told:?}"),
            }
            // Of those that are not ended, no trigger is in the way of the next story.
            bed.store.cancel(NAMESPACE, lease.claimed.id, "test".into()).await.unwrap();
        }
    }
}

async fn an_event_counts_once_whoever_takes_it(bed: Bed) {
    let lease = leased(&bed).await;
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let store = if number % 2 == 0 { bed.second().await } else { bed.store.clone() };
        let events: Vec<Incoming> = (0..50)
            .map(|id| Ok(event(&lease, &id.to_string(), id, progress(1.0, "m"))))
            .chain([Ok(event(&lease, "end", 60, succeeded(None)))])
            .collect();
        tasks.spawn(async move { store.take_events(Via::Broker, events, || 0.5).await.unwrap() });
    }
    let verdicts: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == EventVerdict::Taken).count(), 51);
    assert!(verdicts.iter().all(|verdict| code(verdict) != "refused"));
    assert_eq!(bed.told(lease.claimed.id).await, ["accepted", "started", "succeeded"]);
}

async fn under_a_lost_lease_nothing_is_told(bed: Bed) {
    let lease = leased(&bed).await;
    let id = lease.claimed.id;
    assert_eq!(lose(&bed, &lease, Some(Duration::ZERO), false).await, 1);
    let told = async |name: &str, what| code(&tell(&bed, event(&lease, name, 1, what)).await);
    assert_eq!(told("1", progress(50.0, "m")).await, "StaleToken");
    assert_eq!(told("2", Told::Log(vec![line(1, "a")])).await, "StaleToken");
    assert_eq!(told("3", Told::Heartbeat).await, "StaleToken");
    let late = tell(&bed, event(&lease, "4", 1, succeeded(Some(json!(5))))).await;
    assert!(matches!(late, EventVerdict::Late(_)), "{late:?}");
    assert_eq!(tell(&bed, event(&lease, "4", 1, succeeded(Some(json!(5))))).await, late);
    let kept: Vec<LateReport> = bed.store.late_reports(id).await.unwrap();
    assert_eq!(kept.iter().map(|late| &late.outcome).collect::<Vec<_>>(), [&Outcome::Succeeded { output: json!(5) }]);
    assert_eq!(bed.get(id).await.percent, 0.0);
    assert_eq!(bed.store.logs(id, (0, 0), 10).await.unwrap(), []);
    assert_eq!(bed.told(id).await, ["accepted", "started", "attemptFailed"]);
}

async fn a_run_is_canceled_only_if_someone_asked(bed: Bed) {
    let lease = leased(&bed).await;
    let (id, token) = (lease.claimed.id, lease.claimed.token);
    let canceled = |name: &str| event(&lease, name, 1, Told::End(RunEnd::Canceled));
    assert_eq!(code(&tell(&bed, canceled("1")).await), "NotCanceling");
    assert_eq!(bed.store.cancel(NAMESPACE, id, "test".into()).await.unwrap(), Cancellation::Canceling);
    assert!(bed.store.heartbeat(id, token).await.unwrap().unwrap().canceling);
    assert_eq!(tell(&bed, canceled("2")).await, EventVerdict::Taken);
    assert_eq!(bed.status(id).await, Status::Canceled);
    assert_eq!(tell(&bed, canceled("3")).await, EventVerdict::Repeated, "under another name");
    assert_eq!(code(&tell(&bed, event(&lease, "4", 1, succeeded(None))).await), "AlreadyEnded");
    assert_eq!(bed.told(id).await, ["accepted", "started", "cancelRequested", "canceled"]);
}

async fn what_is_refused_is_recorded_and_counted(bed: Bed) {
    let lease = leased(&bed).await;
    let good = || event(&lease, "1", 1, Told::Heartbeat);
    let now = bed.now().await;
    let ahead = |minutes| now.saturating_add(SignedDuration::from_mins(minutes)).unwrap();
    let nothing = WorkRequestId::new(now);
    let came = vec![
        RunEvent { token: Uuid::new_v4(), ..good() },
        RunEvent { run: nothing, ..good() },
        RunEvent { namespace: "other".into(), ..good() },
        RunEvent { at: ahead(6), ..good() },
        RunEvent { at: ahead(4), id: "2".into(), ..good() },
    ];
    let verdicts = take(&bed, came.clone()).await;
    let codes: Vec<_> = verdicts.iter().map(code).collect();
    assert_eq!(codes, ["StaleToken", "UnknownRun", "UnknownRun", "FutureTime", "taken"]);
    take(&bed, came.clone()).await;
    let unreadable: Vec<Incoming> = vec![Err(RefusedEvent::of_nothing("Malformed", "no JSON")); 3];
    bed.store.take_events(Via::Broker, unreadable, || 1.0).await.unwrap();
    let kept = bed.store.refused_events(None, 10).await.unwrap();
    let mut told: Vec<_> = kept.iter().map(|kept| (kept.code.as_str(), kept.count, kept.via.as_str())).collect();
    assert_eq!(told.remove(0), ("Malformed", 3, "broker"), "the newest first");
    told.sort_unstable();
    let rest = |code, count| (code, count, "rest");
    assert_eq!(told, [rest("FutureTime", 2), rest("StaleToken", 2), rest("UnknownRun", 2), rest("UnknownRun", 2)]);
    let stale = kept.iter().find(|kept| kept.code == "StaleToken").unwrap();
    assert_eq!((stale.of.subject.as_ref(), stale.of.id.as_deref()), (Some(&lease.claimed.id.to_string()), Some("1")));
    let tokens: Vec<_> = came.iter().map(|event| event.token.to_string()).collect();
    assert!(tokens.iter().all(|token| !format!("{kept:?}").contains(token)), "a token is a secret");
    let page = bed.store.refused_events(Some(kept[1].seq), 2).await.unwrap();
    assert_eq!(page, kept[2..4]);
    // Forgotten: the taken one and all of these.
    bed.pass(Duration::from_millis(5)).await;
    assert_eq!(bed.store.purge_events(now, 100).await.unwrap(), 0);
    assert_eq!(bed.store.purge_events(bed.now().await, 100).await.unwrap(), 6);
    assert_eq!(bed.store.refused_events(None, 10).await.unwrap(), []);
}
