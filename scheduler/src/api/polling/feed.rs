//! What happens to runs, read once for all in this process who listen.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reveille_shared::store::{Feed, FeedEntry, Result, Store};
use reveille_shared::telemetry::chain;
use tokio::sync::broadcast::{self, Receiver, Sender, WeakSender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::transition::{Transition, Whose};

/// Between two looks, when something has just happened …
const SOON: Duration = Duration::from_millis(20);
/// … when nothing has for a while …
const LATER: Duration = Duration::from_millis(100);
/// … and when the store does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// Entries that are read at once.
const MOST_AT_ONCE: i64 = 500;
/// Looks with something new that a reader may be behind.
const BEHIND: usize = 64;
/// How often the store is told that somebody listens.
const KEEP: Duration = Duration::from_secs(60);

/// An entry, and how it is told; that is the same for all who hear it, and made when the first one does.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) entry: FeedEntry,
    text: OnceLock<(&'static str, String)>,
}

impl Told {
    /// What has happened, as a word, and the whole as JSON.
    pub(crate) fn text(&self) -> (&'static str, &str) {
        let (what, text) = self.text.get_or_init(|| {
            let FeedEntry { id, namespace, job, schedule, status, event, .. } = self.entry.clone();
            let transition = Transition::new(Whose { id, namespace, job, schedule }, event, status);
            (transition.what(), transition.text())
        });
        (what, text)
    }
}

/// Entries in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Told>,
    /// The number up to which there are no others.
    pub(crate) until: i64,
}

impl Batch {
    pub(crate) fn new(entries: Vec<FeedEntry>, until: i64) -> Self {
        Self { entries: entries.into_iter().map(|entry| Told { entry, text: OnceLock::new() }).collect(), until }
    }
}

/// A place among those who listen.
#[derive(Debug)]
pub(crate) struct Listening {
    /// All behind this number will be received.
    pub(crate) position: i64,
    pub(crate) receiver: Receiver<Arc<Batch>>,
}

/// There is a task that reads as long as anybody listens.
#[derive(Debug, Default)]
pub(super) struct Feeds(tokio::sync::Mutex<Option<Live>>);

#[derive(Debug)]
struct Live {
    channel: Arc<Channel>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// Where what was read goes. The task has the one sender, so that all know when it has ended, however it does.
#[derive(Debug)]
struct Channel {
    position: Mutex<i64>,
    sender: WeakSender<Arc<Batch>>,
}

impl Feeds {
    /// Takes a place. The first one waits until the store numbers what happens.
    pub(super) async fn listen(&self, store: &Store) -> Result<Listening> {
        let mut live = self.0.lock().await;
        if let Some(place) = live.as_ref().and_then(|live| live.channel.listen()) {
            return Ok(place);
        }
        let feed = store.listen_to_feed().await?;
        let (sender, receiver) = broadcast::channel(BEHIND);
        let position = feed.position();
        let channel = Arc::new(Channel { position: Mutex::new(position), sender: sender.downgrade() });
        let mut task = JoinSet::new();
        task.spawn(follow(feed, store.clone(), Arc::clone(&channel), sender));
        *live = Some(Live { channel, _task: task });
        Ok(Listening { position, receiver })
    }
}

impl Channel {
    fn position(&self) -> MutexGuard<'_, i64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if the task has ended.
    fn listen(&self) -> Option<Listening> {
        let position = self.position();
        let sender = self.sender.upgrade()?;
        Some(Listening { position: *position, receiver: sender.subscribe() })
    }

    /// Passes on what was read. Gives the sender back if anybody listens; nobody can begin to meanwhile.
    fn publish(&self, sender: Sender<Arc<Batch>>, batch: Batch) -> Option<Sender<Arc<Batch>>> {
        let mut position = self.position();
        if sender.receiver_count() == 0 {
            drop(sender);
            return None;
        }
        *position = batch.until;
        if !batch.entries.is_empty() {
            // Who has gone since was not to be told.
            let _ = sender.send(Arc::new(batch));
        }
        Some(sender)
    }
}

/// Reads until nobody listens, or what follows is not whole: who listens then comes again, and is told so.
async fn follow(mut feed: Feed, store: Store, channel: Arc<Channel>, mut sender: Sender<Arc<Batch>>) {
    let (mut pause, mut keep_at, mut is_failing) = (SOON, Instant::now() + KEEP, false);
    loop {
        tokio::time::sleep(pause).await;
        let entries = match look(&mut feed, &store, &mut keep_at).await {
            Ok(Some(entries)) => {
                is_failing = false;
                pause = match entries.len() {
                    0 => (pause.max(SOON) * 2).min(LATER),
                    count if i64::try_from(count).is_ok_and(|count| count >= MOST_AT_ONCE) => Duration::ZERO,
                    _ => SOON,
                };
                entries
            }
            Ok(None) => {
                tracing::warn!("what happens was not followed for too long: streams end");
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(error = chain(&error), "can't follow what happens; trying again");
                }
                pause = AGAIN;
                Vec::new()
            }
        };
        match channel.publish(sender, Batch::new(entries, feed.position())) {
            Some(back) => sender = back,
            None => return,
        }
    }
}

async fn look(feed: &mut Feed, store: &Store, keep_at: &mut Instant) -> Result<Option<Vec<FeedEntry>>> {
    if Instant::now() >= *keep_at {
        store.keep_feed().await?;
        *keep_at = Instant::now() + KEEP;
    }
    feed.next(MOST_AT_ONCE).await
}
