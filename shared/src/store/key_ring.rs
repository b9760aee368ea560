//! The keys that are known: a request does not ask the store for its key each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::keys::{ApiKey, KeyStanding};
use super::{Result, Store, StoreError};
use crate::access::{KeyText, MalformedKey};
use crate::periodic::Pass;

/// For so long a process may take for good what another one has revoked. What it revokes itself it forgets at once.
const FRESH: Duration = Duration::from_secs(2);
/// More keys than this are not remembered.
const MOST: usize = 10_000;

/// The keys that were shown of late.
#[derive(Debug, Default)]
pub struct KeyRing(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    key: Arc<ApiKey>,
    read: Instant,
    used: Option<Timestamp>,
}

/// Why a request is not known to be anybody's.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// It shows none.
    #[error(
        "the request has no key: send a key as X-API-Key, x-goog-api-key or Authorization: Bearer; see `reveille keys`"
    )]
    Missing,
    /// What it shows is none.
    #[error(transparent)]
    Malformed(#[from] MalformedKey),
    /// It shows one that nobody has made.
    #[error("the key is not known")]
    Unknown,
    /// It shows one that is good for nothing any more.
    #[error("key {prefix} {how}")]
    Ended {
        /// The public part of the key.
        prefix: String,
        /// What became of it.
        how: &'static str,
    },
    /// Nobody can tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyRing {
    /// The key that a request shows.
    ///
    /// # Errors
    /// [`NoKey`].
    pub async fn find(&self, store: &Store, shown: Option<&str>, now: Timestamp) -> Result<Arc<ApiKey>, NoKey> {
        let text: &KeyText = &shown.ok_or(NoKey::Missing)?.parse()?;
        let mut known = self.fresh(text.prefix());
        if known.is_none() {
            known = store.key(text.prefix()).await?.map(|key| self.keep(key));
        }
        let key = known.filter(|key| key.is_opened_by(text, now)).ok_or(NoKey::Unknown)?;
        let ended = |how| Err(NoKey::Ended { prefix: text.prefix().to_owned(), how });
        match key.standing(now) {
            KeyStanding::Good => {
                self.note_use(text.prefix(), now);
                Ok(key)
            }
            KeyStanding::Expired => ended("has expired: make another one with `reveille keys create`"),
            KeyStanding::Revoked => ended("was revoked"),
        }
    }

    /// Looks at a key anew when it is shown next.
    pub fn forget(&self, prefix: &str) {
        if let Some(kept) = self.lock().get_mut(prefix) {
            kept.read = kept.read.checked_sub(FRESH).unwrap_or(kept.read);
        }
    }

    fn fresh(&self, prefix: &str) -> Option<Arc<ApiKey>> {
        let ring = self.lock();
        ring.get(prefix).filter(|kept| kept.read.elapsed() < FRESH).map(|kept| Arc::clone(&kept.key))
    }

    fn keep(&self, key: ApiKey) -> Arc<ApiKey> {
        let key = Arc::new(key);
        let mut ring = self.lock();
        let used = ring.remove(&key.prefix).and_then(|before| before.used);
        if ring.len() < MOST {
            let kept = Kept { key: Arc::clone(&key), read: Instant::now(), used };
            ring.insert(key.prefix.clone(), kept);
        }
        key
    }

    fn note_use(&self, prefix: &str, now: Timestamp) {
        if let Some(kept) = self.lock().get_mut(prefix) {
            kept.used = Some(now);
        }
    }

    /// When keys were used since the last time that this was asked. Those that were not are forgotten.
    fn take_uses(&self) -> Vec<(String, Timestamp)> {
        let mut ring = self.lock();
        ring.retain(|_, kept| kept.used.is_some() || kept.read.elapsed() < FRESH);
        ring.iter_mut().filter_map(|(prefix, kept)| Some((prefix.clone(), kept.used.take()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        // Whoever panicked has left a map that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down when keys were used last.
///
/// - Reads and writes: the ring, `api_keys`.
/// - Repeating is safe; after a crash the uses of the last moments are not known.
#[derive(Debug)]
pub struct KeyUses {
    ring: Arc<KeyRing>,
    store: Store,
}

impl KeyUses {
    /// How often to do so.
    pub const PERIOD: Duration = Duration::from_secs(15);

    /// Of the keys on this ring.
    #[must_use]
    pub fn new(ring: Arc<KeyRing>, store: Store) -> Self {
        Self { ring, store }
    }
}

#[async_trait]
impl Pass for KeyUses {
    const NAME: &'static str = "key uses";
    type Report = usize;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(usize, Option<Duration>)> {
        let mut uses = self.ring.take_uses();
        // Rows are locked in one order by all.
        uses.sort();
        if !uses.is_empty() {
            self.store.keys_used(&uses).await?;
        }
        Ok((uses.len(), None))
    }
}
