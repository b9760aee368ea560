//! The keys that are known: a request does not ask the store for its key each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reveille_shared::access::KeyText;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{ApiKey, KeyStanding, Store, StoreError};
use tokio::time::Instant;

use super::Caller;

/// For so long a process may take for good what another one has revoked. What it revokes itself it forgets at once.
const FRESH: Duration = Duration::from_secs(2);
/// More keys than this are not remembered.
const MOST: usize = 10_000;
/// How often it is written down when keys were used.
pub(crate) const PERIOD: Duration = Duration::from_secs(15);

/// The keys that were shown of late.
#[derive(Debug, Default)]
pub struct KeyRing(Mutex<HashMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    key: Arc<ApiKey>,
    caller: Caller,
    read: Instant,
    used: Option<Timestamp>,
}

/// What a text is worth.
#[derive(Debug)]
pub(super) enum Found {
    /// It is of a good key.
    Good(Caller),
    /// It is of no key.
    Unknown,
    /// It is of one that is good for nothing any more.
    Ended(String),
}

impl KeyRing {
    /// Who shows this text.
    ///
    /// # Errors
    /// The store does not know.
    pub(super) async fn find(&self, store: &Store, text: &KeyText, now: Timestamp) -> Result<Found, StoreError> {
        let mut known = self.fresh(text.prefix());
        if known.is_none() {
            known = store.key(text.prefix()).await?.map(|key| self.keep(key));
        }
        let Some((key, caller)) = known else { return Ok(Found::Unknown) };
        if !key.is_opened_by(text, now) {
            return Ok(Found::Unknown);
        }
        Ok(match key.standing(now) {
            KeyStanding::Good => {
                self.note_use(text.prefix(), now);
                Found::Good(caller)
            }
            KeyStanding::Expired => {
                Found::Ended("has expired: make another one with `reveille keys create`".to_owned())
            }
            KeyStanding::Revoked => Found::Ended("was revoked".to_owned()),
        })
    }

    /// Looks at a key anew when it is shown next.
    pub(crate) fn forget(&self, prefix: &str) {
        if let Some(kept) = self.lock().get_mut(prefix) {
            kept.read = kept.read.checked_sub(FRESH * 2).unwrap_or(kept.read);
        }
    }

    fn fresh(&self, prefix: &str) -> Option<(Arc<ApiKey>, Caller)> {
        let ring = self.lock();
        let kept = ring.get(prefix).filter(|kept| kept.read.elapsed() < FRESH)?;
        Some((Arc::clone(&kept.key), kept.caller.clone()))
    }

    fn keep(&self, key: ApiKey) -> (Arc<ApiKey>, Caller) {
        let grant = Arc::new(key.grant.clone());
        let caller = Caller { key: Some((key.prefix.clone(), key.name.clone())), grant };
        let key = Arc::new(key);
        let mut ring = self.lock();
        let used = ring.remove(&key.prefix).and_then(|before| before.used);
        if ring.len() < MOST {
            let kept = Kept { key: Arc::clone(&key), caller: caller.clone(), read: Instant::now(), used };
            ring.insert(key.prefix.clone(), kept);
        }
        (key, caller)
    }

    fn note_use(&self, prefix: &str, now: Timestamp) {
        if let Some(kept) = self.lock().get_mut(prefix) {
            kept.used = Some(now);
        }
    }

    /// When keys were used since the last time that this was asked. Those that were not for long are forgotten.
    fn take_uses(&self) -> Vec<(String, Timestamp)> {
        let mut ring = self.lock();
        ring.retain(|_, kept| kept.used.is_some() || kept.read.elapsed() < PERIOD * 2);
        ring.iter_mut().filter_map(|(prefix, kept)| Some((prefix.clone(), kept.used.take()?))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        // Whoever panicked has left a map that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down when keys were used last.
///
/// - Reads and writes: the ring, `api_keys`.
/// - Repeating is safe; after a crash the uses of the last minute are not known.
pub(crate) struct Uses {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) store: Store,
}

#[async_trait]
impl Pass for Uses {
    const NAME: &'static str = "key uses";
    type Report = usize;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(usize, Option<Duration>), StoreError> {
        let mut uses = self.ring.take_uses();
        // Rows are locked in one order by all.
        uses.sort();
        if !uses.is_empty() {
            self.store.keys_used(&uses).await?;
        }
        Ok((uses.len(), None))
    }
}
