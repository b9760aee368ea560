//! Webhooks and their deliveries.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::state::Status;
use reveille_shared::store::{
    Action, By, ClaimedDelivery, DefinitionKind, DeliveryAttempt, DeliveryState, Generation, Matched, NewWebhook, Next,
    Redelivery, Room, ScheduleKey, Sealed, StoreError, Tried, Untold, Webhook, WebhookCounts, WebhookDelivery,
    WebhookFilter,
};
use reveille_shared::work_request::{Happening, WorkRequestId};
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, on_both, succeeded};

on_both!(
    a_webhook_is_kept_changed_and_deleted,
    a_namespace_has_as_many_as_it_may,
    only_what_somebody_may_want_is_kept,
    each_entry_is_delivered_once_to_each_who_wants_it,
    of_a_run_only_the_first_pending_entry_is_due,
    a_deposed_leader_gives_birth_to_nothing,
    what_is_claimed_is_nobody_elses_until_patience_is_over,
    a_backlog_of_one_takes_no_room_of_another,
    nothing_taken_for_long_disables,
    nobody_there_disables_at_once_and_enabling_goes_on,
    a_delivery_can_be_sent_again,
    a_deleted_webhook_is_sent_nothing_more,
    old_deliveries_are_forgotten_but_not_pending_ones,
    deliveries_are_listed_by_page_and_state,
    what_is_deleted_is_in_nobodys_way,
);

/// Who changes webhooks here, and why.
const BY: By<'static> = ("alice", Some("it is a test"));
const PATIENCE: Duration = Duration::from_secs(20);
const DAYS: SignedDuration = SignedDuration::from_hours(72);
const ENDS: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Canceled];
const ALL: [Status; 6] = Status::ALL;

fn filter(statuses: &[Status]) -> WebhookFilter {
    WebhookFilter { jobs: Vec::new(), schedules: Vec::new(), statuses: statuses.to_vec() }
}

fn new(namespace: &str, statuses: &[Status]) -> Webhook {
    let secret = Sealed(vec![1, 2, 3]);
    Webhook::new(Uuid::new_v4(), namespace, "https://portal.test/hook", filter(statuses), secret)
}

async fn hook(bed: &Bed, statuses: &[Status]) -> Webhook {
    match bed.store.create_webhook(new(NAMESPACE, statuses), 100, BY).await.unwrap() {
        NewWebhook::Made(made) => *made,
        NewWebhook::TooMany => panic!("too many"),
    }
}

fn is_end(what: &Happening) -> bool {
    matches!(what, Happening::Succeeded { .. } | Happening::Failed { .. } | Happening::Canceled { .. })
}

/// By the names of the statuses alone: the scheduler has the rule.
fn wants(webhook: &Webhook, entry: &Untold) -> bool {
    webhook.namespace == entry.namespace && (webhook.filter.statuses.len() == ALL.len() || is_end(&entry.event.what))
}

async fn born(bed: &Bed, generation: Generation) -> Matched {
    bed.store.match_webhooks(generation, 1_000, wants).await.unwrap()
}

/// A run that has ended well: entries accepted, started, succeeded.
async fn ended(bed: &Bed) -> WorkRequestId {
    let run = bed.running().await;
    bed.report(&run, succeeded()).await.unwrap();
    run.id
}

async fn claimed(bed: &Bed) -> Vec<ClaimedDelivery> {
    bed.store.claim_deliveries(&[], 100, PATIENCE).await.unwrap()
}

fn tried(claimed: &ClaimedDelivery, at: Timestamp, next: Next) -> Tried {
    let error = (next != Next::Taken).then(|| "answered 500".to_owned());
    let attempt = DeliveryAttempt { at, ms: 7, status: Some(200), error };
    let attempts = Tried::remember(claimed.delivery.attempts.clone(), attempt);
    let WebhookDelivery { webhook, id, .. } = claimed.delivery;
    Tried { webhook, id, claim: claimed.claim, attempts, next }
}

async fn keep(bed: &Bed, claimed: &ClaimedDelivery, next: Next) -> Vec<Webhook> {
    let one = tried(claimed, bed.now().await, next);
    bed.store.keep_tried(&[one], DAYS).await.unwrap()
}

async fn log(bed: &Bed, webhook: &Webhook) -> Vec<WebhookDelivery> {
    bed.store.webhook_deliveries(webhook.id, None, Uuid::max(), 1_000).await.unwrap()
}

async fn get(bed: &Bed, webhook: &Webhook) -> Webhook {
    bed.store.webhook(NAMESPACE, webhook.id).await.unwrap().unwrap()
}

async fn a_webhook_is_kept_changed_and_deleted(bed: Bed) {
    let mut wanted = new(NAMESPACE, &ENDS);
    wanted.description = Some("the portal".into());
    wanted.filter.jobs = vec!["copy".into()];
    let NewWebhook::Made(made) = bed.store.create_webhook(wanted.clone(), 100, BY).await.unwrap() else { panic!() };
    let id = made.id;
    // Databases keep microseconds.
    let kept = get(&bed, &made).await;
    assert_eq!(kept, Webhook { created_at: kept.created_at, ..wanted.clone() });
    assert!(made.created_at.duration_since(kept.created_at) < SignedDuration::from_millis(1));
    assert_eq!(bed.store.webhook("other", id).await.unwrap(), None);
    assert_eq!(
        bed.store.change_webhook("other", id, |_, _| panic!("not theirs"), Some((Action::Changed, BY))).await.unwrap(),
        None
    );
    assert!(!bed.store.delete_webhook("other", id, BY).await.unwrap());

    let change = |webhook: &mut Webhook, now: Timestamp| {
        webhook.url = "http://other.test/".into();
        webhook.rotate(Sealed(vec![9]), now, SignedDuration::from_hours(24));
        webhook.disable(now, "at someone's wish");
        webhook.disable(now, "for another reason");
    };
    let changed = bed.store.change_webhook(NAMESPACE, id, change, Some((Action::Changed, BY))).await.unwrap().unwrap();
    let kept = get(&bed, &made).await;
    assert_eq!((kept.url.as_str(), &kept.secret), ("http://other.test/", &Sealed(vec![9])));
    let (old, until) = kept.old_secret.clone().unwrap();
    let day = until.duration_since(bed.now().await);
    assert!(old == Sealed(vec![1, 2, 3]) && day > SignedDuration::from_hours(23), "{day}");
    assert_eq!(kept.disabled.as_ref().unwrap().1, "at someone's wish");
    assert_eq!(changed.url, kept.url);

    // Each change is recorded, and no secret with it.
    let of_it = ScheduleKey { namespace: NAMESPACE.into(), name: id.to_string() };
    let told = bed.store.changes(DefinitionKind::Webhook, &of_it, i64::MAX, 10).await.unwrap();
    let seen: Vec<_> = told.iter().map(|change| (change.version, change.action, change.actor.as_str())).collect();
    assert_eq!(seen, [(2, Action::Changed, "alice"), (1, Action::Created, "alice")]);

    let second = hook(&bed, &ALL).await;
    let mut ids = [id, second.id];
    ids.sort_unstable();
    let page = async |after| bed.store.webhooks(NAMESPACE, after, 1).await.unwrap().into_iter().map(|known| known.id);
    assert_eq!(page(Uuid::nil()).await.collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(page(ids[0]).await.collect::<Vec<_>>(), [ids[1]]);
    assert_eq!(page(ids[1]).await.count(), 0);
    assert_eq!(bed.store.webhook_counts().await.unwrap(), WebhookCounts { pending: 0, disabled: 1 });

    assert!(bed.store.delete_webhook(NAMESPACE, id, BY).await.unwrap());
    assert!(!bed.store.delete_webhook(NAMESPACE, id, BY).await.unwrap());
    assert_eq!(bed.store.webhook(NAMESPACE, id).await.unwrap(), None);
    assert_eq!(
        bed.store.change_webhook(NAMESPACE, id, |_, _| panic!("deleted"), Some((Action::Changed, BY))).await.unwrap(),
        None
    );
    assert_eq!(bed.store.every_webhook().await.unwrap().len(), 1);
    assert_eq!(bed.store.webhook_counts().await.unwrap(), WebhookCounts::default());
}

async fn a_namespace_has_as_many_as_it_may(bed: Bed) {
    // Side by side, too, there is never one too many.
    let stores = [bed.second().await, bed.second().await, bed.second().await, bed.second().await];
    let made =
        futures_util::future::join_all(stores.iter().map(|store| store.create_webhook(new(NAMESPACE, &ENDS), 3, BY)));
    let made: Vec<NewWebhook> = made.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(made.iter().filter(|one| **one == NewWebhook::TooMany).count(), 1, "{made:?}");
    let elsewhere = bed.store.create_webhook(new("other", &ENDS), 3, BY).await.unwrap();
    assert!(matches!(elsewhere, NewWebhook::Made(_)));
}

async fn only_what_somebody_may_want_is_kept(bed: Bed) {
    let generation = bed.lead().await;
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched::default(), "nobody wants to know");
    let ends = hook(&bed, &ENDS).await;
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched { entries: 1, deliveries: 1 }, "only how it ended");
    let all = hook(&bed, &ALL).await;
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched { entries: 3, deliveries: 4 });
    bed.store
        .change_webhook(NAMESPACE, all.id, |known, now| known.disable(now, "test"), Some((Action::Changed, BY)))
        .await
        .unwrap();
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched { entries: 1, deliveries: 1 });
    bed.store.delete_webhook(NAMESPACE, ends.id, BY).await.unwrap();
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched::default());
    bed.store.change_webhook(NAMESPACE, all.id, |known, _| known.enable(), Some((Action::Changed, BY))).await.unwrap();
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await, Matched { entries: 3, deliveries: 3 });
}

async fn each_entry_is_delivered_once_to_each_who_wants_it(bed: Bed) {
    let generation = bed.lead().await;
    let hooks = [hook(&bed, &ENDS).await, hook(&bed, &ENDS).await];
    let mut runs = BTreeSet::new();
    for _ in 0..5 {
        runs.insert(ended(&bed).await);
    }
    // In batches smaller than what there is.
    let mut entries = 0;
    for _ in 0..3 {
        entries += bed.store.match_webhooks(generation, 2, wants).await.unwrap().entries;
    }
    assert_eq!((entries, born(&bed, generation).await), (5, Matched::default()));
    let out = claimed(&bed).await;
    for hook in &hooks {
        let of_it: Vec<_> = out.iter().filter(|one| one.delivery.webhook == hook.id).collect();
        assert_eq!(of_it.iter().map(|one| one.delivery.run).collect::<BTreeSet<_>>(), runs);
        for one in of_it {
            let entry = one.entry.as_ref().unwrap();
            assert_eq!((entry.id, entry.event.seq, entry.job.as_str()), (one.delivery.run, 3, "copy"));
            assert!(matches!(entry.event.what, Happening::Succeeded { .. }));
            assert_eq!((one.url.as_str(), &one.secret, one.is_failing), (hook.url.as_str(), &hook.secret, false));
            assert_eq!((one.delivery.tries, one.delivery.claim), (1, Some(one.claim)));
        }
    }
    assert_eq!(bed.store.webhook_counts().await.unwrap().pending, 10);
    for one in &out {
        assert_eq!(keep(&bed, one, Next::Taken).await, []);
    }
    assert_eq!(claimed(&bed).await, []);
    assert!(log(&bed, &hooks[0]).await.iter().all(|one| {
        one.state == DeliveryState::Delivered
            && one.attempts.len() == 1
            && one.due_at.is_none()
            && one.ended_at.is_some()
    }));
}

async fn of_a_run_only_the_first_pending_entry_is_due(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ALL).await;
    let run = bed.running().await;
    // Two entries in one batch, the third in another one while the first is on its way.
    assert_eq!(born(&bed, generation).await.deliveries, 2);
    let first = claimed(&bed).await;
    assert_eq!(first.iter().map(|one| one.delivery.seq).collect::<Vec<_>>(), [1]);
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(born(&bed, generation).await.deliveries, 1);
    assert_eq!(claimed(&bed).await, []);
    // It fails, and is tried again: the others wait for it.
    keep(&bed, &first[0], Next::Again(bed.now().await)).await;
    let again = claimed(&bed).await;
    assert_eq!(again.iter().map(|one| (one.delivery.seq, one.delivery.tries)).collect::<Vec<_>>(), [(1, 2)]);
    keep(&bed, &again[0], Next::GivenUp).await;
    for seq in [2, 3] {
        let next = claimed(&bed).await;
        assert_eq!(next.iter().map(|one| one.delivery.seq).collect::<Vec<_>>(), [seq]);
        keep(&bed, &next[0], Next::Taken).await;
    }
    assert_eq!(claimed(&bed).await, []);
    let states: Vec<_> = [1, 2, 3].map(|seq| (seq, seq == 1)).to_vec();
    let mut known = log(&bed, &hook).await;
    known.sort_by_key(|one| one.seq);
    assert_eq!(known.iter().map(|one| (one.seq, one.state == DeliveryState::Failed)).collect::<Vec<_>>(), states);
    assert_eq!(known[0].attempts.len(), 2);
}

async fn a_deposed_leader_gives_birth_to_nothing(bed: Bed) {
    let generation = bed.lead().await;
    hook(&bed, &ENDS).await;
    ended(&bed).await;
    let deposed = bed.store.match_webhooks(Generation(generation.0 - 1), 10, wants).await;
    assert!(matches!(deposed, Err(StoreError::Deposed)), "{deposed:?}");
    assert_eq!(born(&bed, generation).await, Matched { entries: 1, deliveries: 1 });
}

async fn what_is_claimed_is_nobody_elses_until_patience_is_over(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    for _ in 0..4 {
        ended(&bed).await;
    }
    born(&bed, generation).await;
    let other = bed.second().await;
    let (mine, theirs) =
        tokio::join!(bed.store.claim_deliveries(&[], 3, PATIENCE), other.claim_deliveries(&[], 3, PATIENCE));
    let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
    let ids: BTreeSet<_> = mine.iter().chain(&theirs).map(|one| one.delivery.id).collect();
    assert_eq!(ids.len(), mine.len() + theirs.len(), "some were claimed twice");
    let rest = claimed(&bed).await;
    assert_eq!(ids.len() + rest.len(), 4);
    for one in &rest {
        keep(&bed, one, Next::Taken).await;
    }
    bed.age(PATIENCE.as_secs()).await;
    let again = claimed(&bed).await;
    assert_eq!(again.iter().map(|one| one.delivery.id).collect::<BTreeSet<_>>(), ids, "whoever had them is dead");
    // What the dead one says after all counts for nothing.
    let late: Vec<_> = mine.iter().chain(&theirs).collect();
    for one in &late {
        keep(&bed, one, Next::GivenUp).await;
    }
    assert!(log(&bed, &hook).await.iter().all(|one| one.state != DeliveryState::Failed));
    for one in &again {
        keep(&bed, one, Next::Taken).await;
    }
    assert!(log(&bed, &hook).await.iter().all(|one| one.state == DeliveryState::Delivered));
}

async fn a_backlog_of_one_takes_no_room_of_another(bed: Bed) {
    let generation = bed.lead().await;
    let slow = hook(&bed, &ENDS).await;
    for _ in 0..6 {
        ended(&bed).await;
    }
    born(&bed, generation).await;
    let quick = hook(&bed, &ENDS).await;
    ended(&bed).await;
    born(&bed, generation).await;
    let out = bed.store.claim_deliveries(&[], 4, PATIENCE).await.unwrap();
    let count = |out: &[ClaimedDelivery], of: &Webhook| out.iter().filter(|one| one.delivery.webhook == of.id).count();
    assert_eq!((count(&out, &slow), count(&out, &quick)), (4, 1));
    ended(&bed).await;
    born(&bed, generation).await;
    let full = [Room { webhook: slow.id, left: 0 }];
    let out = bed.store.claim_deliveries(&full, 4, PATIENCE).await.unwrap();
    assert_eq!((count(&out, &slow), count(&out, &quick)), (0, 1));
    let some = [Room { webhook: slow.id, left: 2 }];
    let out = bed.store.claim_deliveries(&some, 4, PATIENCE).await.unwrap();
    assert_eq!((count(&out, &slow), count(&out, &quick)), (2, 0));
}

async fn nothing_taken_for_long_disables(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    ended(&bed).await;
    born(&bed, generation).await;
    let [first] = &claimed(&bed).await[..] else { panic!() };
    let now = bed.now().await;
    assert_eq!(keep(&bed, first, Next::Again(now)).await, []);
    assert!(get(&bed, &hook).await.failing_since.is_some());
    // One that is taken ends the bad time.
    let [second] = &claimed(&bed).await[..] else { panic!() };
    assert!(second.is_failing);
    assert_eq!(keep(&bed, second, Next::Taken).await, []);
    assert_eq!(get(&bed, &hook).await.failing_since, None);

    ended(&bed).await;
    born(&bed, generation).await;
    let [third] = &claimed(&bed).await[..] else { panic!() };
    let long_ago = now.saturating_sub(DAYS).unwrap();
    let began = tried(third, long_ago, Next::Again(now));
    let disabled = bed.store.keep_tried(&[began], DAYS).await.unwrap();
    assert_eq!(disabled.iter().map(|known| known.id).collect::<Vec<_>>(), [hook.id]);
    let known = get(&bed, &hook).await;
    assert!(known.disabled.as_ref().unwrap().1.contains("every delivery has failed"), "{known:?}");
    let of_it = ScheduleKey { namespace: NAMESPACE.into(), name: hook.id.to_string() };
    let told = bed.store.changes(DefinitionKind::Webhook, &of_it, i64::MAX, 1).await.unwrap();
    assert!(told[0].reason.as_ref().is_some_and(|why| why.contains("every delivery has failed")), "{told:?}");
    assert_eq!(claimed(&bed).await, [], "nothing is sent to it");
    assert_eq!(bed.store.webhook_counts().await.unwrap(), WebhookCounts { pending: 1, disabled: 1 });
    // What happens meanwhile is not told later either.
    ended(&bed).await;
    assert_eq!(born(&bed, generation).await.deliveries, 0);
}

async fn nobody_there_disables_at_once_and_enabling_goes_on(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    let ends = [ended(&bed).await, ended(&bed).await];
    born(&bed, generation).await;
    let out = bed.store.claim_deliveries(&[], 1, PATIENCE).await.unwrap();
    // Which of the two is due first is the order of their ids, which nothing promises within a millisecond.
    let gone = out[0].delivery.run;
    let left: Vec<_> = ends.into_iter().filter(|run| *run != gone).collect();
    assert_eq!(left.len(), 1);
    let disabled = keep(&bed, &out[0], Next::Gone).await;
    assert!(disabled[0].disabled.as_ref().unwrap().1.contains("410"), "{disabled:?}");
    assert_eq!(claimed(&bed).await, []);
    bed.store.change_webhook(NAMESPACE, hook.id, |known, _| known.enable(), Some((Action::Changed, BY))).await.unwrap();
    let out = claimed(&bed).await;
    assert_eq!(out.iter().map(|one| one.delivery.run).collect::<Vec<_>>(), left, "not {gone}: it was given up");
    assert_eq!(out[0].delivery.tries, 1);
}

async fn a_delivery_can_be_sent_again(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ALL).await;
    let run = bed.running().await;
    born(&bed, generation).await;
    let again = async |id| bed.store.redeliver(hook.id, id).await.unwrap();
    let mut known = log(&bed, &hook).await;
    known.sort_by_key(|one| one.seq);
    let [first, second] = &known[..] else { panic!("{known:?}") };
    assert_eq!(again(second.id).await, Redelivery::Waits);
    assert_eq!(again(Uuid::new_v4()).await, Redelivery::Unknown);
    assert_eq!(bed.store.redeliver(Uuid::new_v4(), first.id).await.unwrap(), Redelivery::Unknown);
    let [out] = &claimed(&bed).await[..] else { panic!() };
    assert_eq!(again(first.id).await, Redelivery::UnderWay);
    let later = bed.now().await.saturating_add(SignedDuration::from_hours(1)).unwrap();
    keep(&bed, out, Next::Again(later)).await;
    assert_eq!(claimed(&bed).await, []);
    // One that waits for its next attempt has it now.
    assert!(matches!(again(first.id).await, Redelivery::Queued(_)));
    let [out] = &claimed(&bed).await[..] else { panic!() };
    assert_eq!((out.delivery.id, out.delivery.tries, out.delivery.attempts.len()), (first.id, 1, 1));
    keep(&bed, out, Next::Taken).await;
    // One that was taken is sent once more, and what has not been sent yet waits for it.
    assert!(matches!(again(first.id).await, Redelivery::Queued(_)));
    bed.report(&run, succeeded()).await.unwrap();
    born(&bed, generation).await;
    // The second was due before that, the third was not.
    let out = claimed(&bed).await;
    assert_eq!(out.iter().map(|one| one.delivery.seq).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    for one in &out {
        keep(&bed, one, Next::Taken).await;
    }
    let [third] = &claimed(&bed).await[..] else { panic!() };
    keep(&bed, third, Next::Taken).await;
    let known = bed.store.webhook_delivery(hook.id, first.id).await.unwrap().unwrap();
    assert_eq!((known.state, known.attempts.len()), (DeliveryState::Delivered, 3));
}

async fn a_deleted_webhook_is_sent_nothing_more(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    for _ in 0..3 {
        ended(&bed).await;
    }
    born(&bed, generation).await;
    let out = bed.store.claim_deliveries(&[], 1, PATIENCE).await.unwrap();
    assert!(bed.store.delete_webhook(NAMESPACE, hook.id, BY).await.unwrap());
    assert_eq!(claimed(&bed).await, []);
    assert_eq!(keep(&bed, &out[0], Next::Again(bed.now().await)).await, [], "its last word is no trouble");
    assert_eq!(claimed(&bed).await, []);
    assert_eq!(bed.store.webhook_counts().await.unwrap().pending, 0);
    let purge = async || bed.store.purge_deliveries(Timestamp::UNIX_EPOCH, 2).await.unwrap();
    assert_eq!((purge().await, purge().await, purge().await), (2, 2, 0), "three deliveries, then the webhook");
}

async fn old_deliveries_are_forgotten_but_not_pending_ones(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    for _ in 0..3 {
        ended(&bed).await;
    }
    born(&bed, generation).await;
    let out = bed.store.claim_deliveries(&[], 2, PATIENCE).await.unwrap();
    keep(&bed, &out[0], Next::Taken).await;
    keep(&bed, &out[1], Next::GivenUp).await;
    let before = bed.now().await.saturating_sub(SignedDuration::from_hours(1)).unwrap();
    assert_eq!(bed.store.purge_deliveries(before, 100).await.unwrap(), 0, "they are young");
    let later = bed.now().await.saturating_add(SignedDuration::from_hours(1)).unwrap();
    assert_eq!(bed.store.purge_deliveries(later, 1).await.unwrap(), 1);
    assert_eq!(bed.store.purge_deliveries(later, 100).await.unwrap(), 1);
    let [left] = &log(&bed, &hook).await[..] else { panic!() };
    assert_eq!(left.state, DeliveryState::Pending);
    bed.store
        .change_webhook(NAMESPACE, hook.id, |known, now| known.disable(now, "test"), Some((Action::Changed, BY)))
        .await
        .unwrap();
    assert_eq!(bed.store.purge_deliveries(later, 100).await.unwrap(), 1, "nobody may be sent it any more");
    assert_eq!(log(&bed, &hook).await, []);
}

async fn deliveries_are_listed_by_page_and_state(bed: Bed) {
    let generation = bed.lead().await;
    let (hook, other) = (hook(&bed, &ENDS).await, hook(&bed, &ENDS).await);
    for _ in 0..5 {
        ended(&bed).await;
    }
    born(&bed, generation).await;
    let out = bed.store.claim_deliveries(&[Room { webhook: other.id, left: 0 }], 2, PATIENCE).await.unwrap();
    keep(&bed, &out[0], Next::Taken).await;
    keep(&bed, &out[1], Next::GivenUp).await;
    let list = async |state, before, limit| bed.store.webhook_deliveries(hook.id, state, before, limit).await.unwrap();
    let (mut seen, mut before) = (Vec::new(), Uuid::max());
    loop {
        let page = list(None, before, 2).await;
        let Some(last) = page.last() else { break };
        before = last.id;
        seen.extend(page.into_iter().map(|one| one.id));
    }
    assert!(seen.len() == 5 && seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    for (state, count) in [(DeliveryState::Delivered, 1), (DeliveryState::Failed, 1), (DeliveryState::Pending, 3)] {
        let some = list(Some(state), Uuid::max(), 10).await;
        assert_eq!(some.len(), count, "{state:?}");
        assert!(some.iter().all(|one| one.state == state && one.webhook == hook.id));
    }
}

async fn what_is_deleted_is_in_nobodys_way(bed: Bed) {
    let generation = bed.lead().await;
    let hook = hook(&bed, &ENDS).await;
    let (early, late) = (ended(&bed).await, ended(&bed).await);
    let forget = async |id: WorkRequestId| {
        let literal = if bed.is_sqlite() { format!("x'{}'", id.0.simple()) } else { format!("'{id}'") };
        bed.tamper(&format!("DELETE FROM events WHERE work_request_id = {literal}")).await;
    };
    forget(early).await;
    assert_eq!(born(&bed, generation).await, Matched { entries: 2, deliveries: 1 });
    forget(late).await;
    let [out] = &claimed(&bed).await[..] else { panic!() };
    assert_eq!((out.delivery.run, &out.entry), (late, &None));
    keep(&bed, out, Next::Void).await;
    assert_eq!(log(&bed, &hook).await[0].state, DeliveryState::Failed);
    assert_eq!(get(&bed, &hook).await.failing_since, None, "its target has done nothing wrong");
}
