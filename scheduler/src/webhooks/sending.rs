//! Pass: deliveries that are due → posts to their targets, and what comes of them → the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::clock::Clock;
use reveille_shared::crash::{self, Act};
use reveille_shared::periodic::Pass;
use reveille_shared::store::{ClaimedDelivery, DeliveryAttempt, Next, Room, Store, StoreError, Tried};
use reveille_shared::telemetry::chain;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use uuid::Uuid;

use super::Webhooks;
use super::poster::{LIMIT, Post};
use super::secrets::{SealError, SigningSecret};
use super::verdict;
use crate::announce::cloud_event;
use crate::leader::Leadership;

/// How often to look for what is due.
pub const PERIOD: Duration = Duration::from_millis(250);
/// How long a claim is good: longer than a post takes, and than it takes to keep what came of it.
const CLAIM: Duration = LIMIT.saturating_add(Duration::from_secs(10));
/// Posts at one time, in all and to one target.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 64;
/// Posts at one time to a target whose last one has failed: it must not take others' room while it makes them wait.
const MOST_OF_FAILING: usize = 2;
/// How long after its last bad answer a webhook is remembered.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How long posts may go on when the process stops; claims of what is broken off end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendReport {
    /// Posts that were begun.
    pub begun: usize,
    /// Posts of which it is kept what came of them.
    pub kept: usize,
    /// Posts that go on.
    pub under_way: usize,
    /// There is no key to decrypt secrets by.
    pub is_without_key: bool,
}

impl fmt::Display for SendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begun, kept, under_way, is_without_key } = self;
        write!(f, "{begun} posts begun, {kept} ended, {under_way} under way")?;
        if *is_without_key { f.write_str("; no REVEILLE_SECRET_KEY is set: nothing is sent") } else { Ok(()) }
    }
}

/// Sends deliveries, while this process leads; what it has begun it ends also when it leads no more.
///
/// - Reads: deliveries that are due, and what they tell.
/// - Writes: claims; posts; what came of them, which may disable a webhook.
/// - Repeating is safe: a delivery is claimed by one at a time, and what is posted twice has the same id.
/// - A crash here leaves claims that end by themselves: what they were of is posted again.
pub struct Sender {
    store: Store,
    clock: Arc<dyn Clock>,
    leadership: Arc<Leadership>,
    webhooks: Arc<Webhooks>,
    /// Rings when a post has ended.
    nudge: Arc<Notify>,
    answers: (mpsc::Sender<Flown>, mpsc::Receiver<Flown>),
    flights: JoinSet<()>,
    /// Posts that go on, by webhook.
    under_way: HashMap<Uuid, Vec<AbortHandle>>,
    /// Webhooks whose last answer was not good, and until when they are sent nothing at all, as they have asked for.
    spared: HashMap<Uuid, Instant>,
    /// What came of posts and is not kept yet.
    tried: Vec<Tried>,
}

/// A post that has ended.
struct Flown {
    tried: Tried,
    /// How long the target wants to be left alone, if it was not good.
    spare: Option<Duration>,
}

impl Sender {
    /// A sender that acts while this process leads; `nudge` is what wakes it.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        leadership: Arc<Leadership>,
        webhooks: Arc<Webhooks>,
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            clock,
            leadership,
            webhooks,
            nudge,
            answers: mpsc::channel(MOST),
            flights: JoinSet::new(),
            under_way: HashMap::new(),
            spared: HashMap::new(),
            tried: Vec::new(),
        }
    }

    /// Takes what has come of posts.
    fn take_answers(&mut self) {
        while let Ok(Flown { tried, spare }) = self.answers.1.try_recv() {
            let outcome = match tried.next {
                Next::Taken => "delivered",
                Next::Again(_) => "retried",
                Next::GivenUp | Next::Gone | Next::Void => "failed",
            };
            metrics::counter!("reveille_webhook_attempts_total", "outcome" => outcome).increment(1);
            match spare {
                None => drop(self.spared.remove(&tried.webhook)),
                Some(wish) => drop(self.spared.insert(tried.webhook, Instant::now() + wish)),
            }
            self.tried.push(tried);
        }
        while self.flights.try_join_next().is_some() {}
        // Whether one fails still comes with its deliveries.
        self.spared.retain(|_, until| until.elapsed() < FORGOTTEN);
        self.under_way.retain(|_, posts| {
            posts.retain(|post| !post.is_finished());
            !posts.is_empty()
        });
    }

    /// Keeps what has come of posts.
    async fn keep(&mut self) -> Result<usize, StoreError> {
        if self.tried.is_empty() {
            return Ok(0);
        }
        crash::at(Act::DeliveryAnswered);
        for webhook in self.store.keep_tried(&self.tried, self.webhooks.patience).await? {
            let (_, reason) = webhook.disabled.unwrap_or_default();
            tracing::warn!(webhook = %webhook.id, namespace = webhook.namespace, reason, "a webhook is disabled");
        }
        Ok(std::mem::take(&mut self.tried).len())
    }

    /// How many more posts each target may have that may not have as many as any.
    fn rooms(&self) -> Vec<Room> {
        let now = Instant::now();
        let known = self.under_way.keys().chain(self.spared.keys().filter(|id| !self.under_way.contains_key(*id)));
        let room = |webhook: &Uuid| {
            let most = match self.spared.get(webhook) {
                None => MOST_OF_ONE,
                Some(until) if *until > now => 0,
                Some(_) => MOST_OF_FAILING,
            };
            let left = most.saturating_sub(self.under_way.get(webhook).map_or(0, Vec::len));
            Room { webhook: *webhook, left: i64::try_from(left).unwrap_or(0) }
        };
        known.map(room).collect()
    }

    /// Begins posts, if there is room for any.
    async fn begin(&mut self) -> Result<usize, StoreError> {
        let under_way = self.under_way.values().map(Vec::len).sum::<usize>();
        let Some(left) = MOST.checked_sub(under_way).filter(|left| *left > 0) else { return Ok(0) };
        let most = (left / (self.under_way.len() + 1)).clamp(1, MOST_OF_ONE);
        let most = i64::try_from(most).unwrap_or(1);
        let mut rooms = self.rooms();
        rooms.iter_mut().for_each(|room| room.left = room.left.min(most));
        let claimed = self.store.claim_deliveries(&rooms, most, CLAIM).await?;
        let begun = claimed.len();
        for one in claimed {
            let id = one.delivery.webhook;
            if one.is_failing {
                self.spared.entry(id).or_insert_with(Instant::now);
            }
            let flight = fly(one, Arc::clone(&self.webhooks), Arc::clone(&self.clock));
            let (answers, nudge) = (self.answers.0.clone(), Arc::clone(&self.nudge));
            let post = self.flights.spawn(async move {
                let flown = flight.await;
                // Nobody hears it only if the pass is gone.
                let _ = answers.send(flown).await;
                nudge.notify_one();
            });
            self.under_way.entry(id).or_default().push(post);
        }
        Ok(begun)
    }
}

/// Posts a delivery, and judges the answer.
async fn fly(claimed: ClaimedDelivery, webhooks: Arc<Webhooks>, clock: Arc<dyn Clock>) -> Flown {
    let delivery = claimed.delivery.clone();
    let (attempt, next, spare) = match prepare(&claimed, &webhooks, &*clock) {
        Ok(post) => {
            let answer = webhooks.poster.post(&claimed.url, post).await;
            let (now, luck) = (clock.now(), fastrand::f64());
            let next = verdict::next(&answer, delivery.tries, delivery.queued_at, webhooks.patience, now, luck);
            metrics::histogram!("reveille_webhook_attempt_seconds").record(f64::from(answer.attempt.ms) / 1000.0);
            let wish = answer.retry_after.and_then(|wish| Duration::try_from(wish).ok()).unwrap_or_default();
            let spare = (!answer.is_taken()).then_some(wish.min(Duration::from_secs(86_400)));
            (answer.attempt, next, spare)
        }
        Err((error, next)) => {
            let attempt = DeliveryAttempt { at: clock.now(), ms: 0, status: None, error: Some(error) };
            (attempt, next, None)
        }
    };
    let attempts = Tried::remember(delivery.attempts, attempt);
    Flown { tried: Tried { webhook: delivery.webhook, id: delivery.id, claim: claimed.claim, attempts, next }, spare }
}

/// What to post; or why nothing can be, and what follows.
fn prepare(claimed: &ClaimedDelivery, webhooks: &Webhooks, clock: &dyn Clock) -> Result<Post, (String, Next)> {
    let Some(entry) = &claimed.entry else {
        return Err(("what it tells was deleted".to_owned(), Next::Void));
    };
    let secrets = secrets(claimed, webhooks, clock).map_err(|error| {
        tracing::error!(webhook = %claimed.delivery.webhook, error = chain(&error), "a webhook's secret can't be decrypted");
        let again = clock.now().saturating_add(jiff::SignedDuration::from_mins(5)).unwrap_or(jiff::Timestamp::MAX);
        (format!("the secret can't be decrypted: {error}"), Next::Again(again))
    })?;
    Ok(Post { id: cloud_event::id(entry), body: cloud_event::text(entry), secrets })
}

fn secrets(claimed: &ClaimedDelivery, webhooks: &Webhooks, clock: &dyn Clock) -> Result<Vec<SigningSecret>, SealError> {
    let keys = webhooks.keys.as_ref().ok_or(SealError::UnknownKey)?;
    keys.signing(claimed.delivery.webhook, &claimed.secret, claimed.old_secret.as_ref(), clock.now())
}

#[async_trait]
impl Pass for Sender {
    const NAME: &'static str = "webhook sender";
    type Report = SendReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(SendReport, Option<Duration>), StoreError> {
        self.take_answers();
        let kept = self.keep().await?;
        let is_without_key = self.webhooks.keys.is_none();
        let sends = self.leadership.current().is_some() && !is_without_key;
        let begun = if sends { self.begin().await? } else { 0 };
        let under_way = self.under_way.values().map(Vec::len).sum();
        Ok((SendReport { begun, kept, under_way, is_without_key }, None))
    }

    async fn finish(&mut self) {
        let ended = async { while self.flights.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, ended).await;
        self.take_answers();
        if let Err(error) = self.keep().await {
            tracing::warn!(
                error = chain(&error),
                "what came of the last posts to webhooks is not kept: they are repeated"
            );
        }
    }
}
