//! Limits: how many runs may be under way at one time, and how many may start within a time.
//!
//! A run has its slot from the sending of its trigger until its lease has ended, so that nothing is sent that could not
//! run. What is under way is counted among the deliveries: there is no counter that could drift. Who counts holds the
//! limit's row locked until its transaction ends. A run without a slot is held; who frees one marks the limit to be woken,
//! and the next taking of due triggers lets go as many of those held as there is room for, before any newcomer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::database::{Locking, Tx, Which};
use super::dispatch::expire;
use super::transition::{Batch, Locked};
use super::{Hint, Result, Store};
use crate::crash::{self, Commit};
use crate::duration::HumanDuration;
use crate::state::{Hold, Input};
use crate::work_request::WorkRequestId;

/// The most limits that are woken in one transaction.
const WOKEN: i64 = 200;
/// How soon a limit is looked at again whose runs wait for another limit that someone else was counting.
const SOON: SignedDuration = SignedDuration::from_millis(50);
/// A limit's row is marked as used at most so often, and kept for much longer.
const USED: SignedDuration = SignedDuration::from_hours(1);

/// How many runs of one key may be under way, or may start within a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name, the same for all runs that share it.
    pub key: String,
    /// At least 1.
    pub most: u32,
    /// In any span of this length; at one time, if there is none.
    pub per: Option<HumanDuration>,
}

/// A limit, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitRow {
    pub(crate) key: String,
    pub(crate) most: i64,
    pub(crate) per: Option<HumanDuration>,
    pub(crate) used_at: Timestamp,
}

impl LimitRow {
    fn says(&self, limit: &Limit) -> bool {
        (self.most, self.per) == (i64::from(limit.most), limit.per)
    }

    /// When the span that counts at `now` has begun.
    fn since(&self, now: Timestamp) -> Option<Timestamp> {
        Some(now.saturating_sub(self.per?.signed()).unwrap_or(Timestamp::MIN))
    }
}

/// Makes the limits of new runs known.
pub(crate) async fn make_known(tx: &mut dyn Tx, mut wanted: Vec<&Limit>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    // Of those of one name the last one counts.
    wanted.reverse();
    wanted.sort_by(|a, b| a.key.cmp(&b.key));
    wanted.dedup_by(|a, b| a.key == b.key);
    let keys: Vec<_> = wanted.iter().map(|limit| limit.key.clone()).collect();
    // Looked at first: whoever writes the row waits for all who count.
    let known: HashMap<_, _> =
        tx.limits(&keys, Locking::No).await?.into_iter().map(|row| (row.key.clone(), row)).collect();
    let now = tx.now();
    let is_current = |limit: &Limit| {
        known.get(&limit.key).is_some_and(|row| row.says(limit) && now.duration_since(row.used_at) < USED)
    };
    wanted.retain(|limit| !is_current(limit));
    if wanted.is_empty() { Ok(()) } else { tx.put_limits(&wanted).await }
}

/// Marks limits to be woken whose slots a batch has freed and for which a run is held.
pub(crate) async fn wake_freed(tx: &mut dyn Tx, rows: &[&Locked]) -> Result<()> {
    let freed: BTreeSet<String> = rows.iter().filter_map(|row| row.freed()).map(str::to_owned).collect();
    if freed.is_empty() {
        return Ok(());
    }
    let freed: Vec<_> = freed.into_iter().collect();
    // Locked by a statement of its own: the next one sees what others have held meanwhile.
    tx.limits(&freed, Locking::Wait).await?;
    tx.wake_holding(&freed).await
}

/// The room in one limit.
struct Room {
    row: LimitRow,
    left: i64,
    /// The start that is the first to count no more.
    oldest: Option<Timestamp>,
    /// A run of it is held, as far as this transaction knows.
    holds: bool,
}

/// The limits that one transaction counts.
#[derive(Default)]
pub(crate) struct Gate {
    rooms: BTreeMap<String, Room>,
    starts: Vec<(String, WorkRequestId)>,
    woken: Vec<String>,
    /// To be woken once more, as runs of them wait for limits that someone else was counting.
    again: BTreeSet<String>,
}

impl Gate {
    /// Counts the limits of these runs, and those that are to be woken.
    pub(crate) async fn look(tx: &mut dyn Tx, due: &Batch) -> Result<Self> {
        let woken = tx.limits_to_wake(WOKEN).await?;
        let keys: BTreeSet<_> = due.rows().flat_map(keys_of).map(str::to_owned).chain(woken.iter().cloned()).collect();
        let mut gate = Self { woken, ..Self::default() };
        if !keys.is_empty() {
            gate.count(tx, keys.into_iter().collect(), Locking::Wait).await?;
        }
        Ok(gate)
    }

    /// Counts limits, and holds them locked.
    async fn count(&mut self, tx: &mut dyn Tx, keys: Vec<String>, locking: Locking) -> Result<()> {
        let rows = tx.limits(&keys, locking).await?;
        let (rates, slots): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.per.is_some());
        let under_way = if slots.is_empty() {
            HashMap::new()
        } else {
            tx.under_way(&slots.iter().map(|row| row.key.clone()).collect::<Vec<_>>()).await?
        };
        let now = tx.now();
        let spans: Vec<_> = rates.iter().filter_map(|row| Some((row.key.clone(), row.since(now)?))).collect();
        let started = if spans.is_empty() { HashMap::new() } else { tx.starts(&spans).await? };
        for row in slots {
            let left = row.most - under_way.get(&row.key).copied().unwrap_or(0);
            self.rooms.insert(row.key.clone(), Room { row, left, oldest: None, holds: false });
        }
        for row in rates {
            let (count, oldest) = started.get(&row.key).copied().unwrap_or((0, now));
            let room = Room { left: row.most - count, oldest: Some(oldest.min(now)), row, holds: false };
            self.rooms.insert(room.row.key.clone(), room);
        }
        Ok(())
    }

    /// Lets go what is held and for which there is room; answers what is to be sent.
    pub(crate) async fn let_go(&mut self, tx: &mut dyn Tx) -> Result<Vec<Batch>> {
        let mut batches = Vec::new();
        for key in self.woken.clone() {
            let Some(room) = self.rooms.get(&key) else { continue };
            if room.left <= 0 {
                // Of a rate: to be woken when the oldest start counts no more.
                self.mark_holding(&key);
                continue;
            }
            let hold = if room.row.per.is_some() { Hold::Rate } else { Hold::Concurrency };
            let limit = room.left;
            let mut batch = Batch::lock(tx, Which::Held { key: &key, hold, limit }).await?;
            if i64::try_from(batch.names().len()).unwrap_or(i64::MAX) >= limit {
                self.mark_holding(&key);
            }
            let others: BTreeSet<_> = batch.rows().flat_map(keys_of).map(str::to_owned).collect();
            let unseen: Vec<_> = others.into_iter().filter(|key| !self.rooms.contains_key(key)).collect();
            if !unseen.is_empty() {
                self.count(tx, unseen, Locking::PassOver).await?;
            }
            for id in batch.names() {
                let Some(row) = batch.get(id) else { continue };
                if row.has_expired(batch.now) {
                    let input = expire(row);
                    let _refused = batch.apply(id, &input).is_err();
                    continue;
                }
                if keys_of(row).any(|other| !self.rooms.contains_key(other)) {
                    self.again.insert(key.clone());
                    continue;
                }
                match self.admit(row) {
                    // Held and locked, so that neither can be refused.
                    Ok(()) => batch.let_go(id),
                    Err(other) if other != hold => {
                        let _refused = batch.apply(id, &Input::Hold { hold: other }).is_err();
                    }
                    Err(_) => {}
                }
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Gives a run its slot, or says for what it has to wait.
    pub(crate) fn admit(&mut self, row: &Locked) -> std::result::Result<(), Hold> {
        let keys = [(row.concurrency_key.as_ref(), Hold::Concurrency), (row.rate_key.as_ref(), Hold::Rate)];
        for (key, hold) in keys.into_iter().filter_map(|(key, hold)| Some((key?, hold))) {
            // A limit without a row bounds nothing.
            if self.rooms.get(key).is_some_and(|room| room.left <= 0) {
                self.mark_holding(key);
                return Err(hold);
            }
        }
        for key in keys_of(row) {
            if let Some(room) = self.rooms.get_mut(key) {
                room.left -= 1;
            }
        }
        self.starts.extend(row.rate_key.clone().map(|key| (key, row.id)));
        Ok(())
    }

    fn mark_holding(&mut self, key: &str) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.holds = true;
        }
    }

    /// Keeps what has started, and when which limit is to be woken.
    pub(crate) async fn save(self, tx: &mut dyn Tx) -> Result<()> {
        let now = tx.now();
        if !self.starts.is_empty() {
            let spans = self.rooms.values().filter_map(|room| Some((room.row.key.clone(), room.row.since(now)?)));
            tx.record_starts(&self.starts, &spans.collect::<Vec<_>>()).await?;
        }
        let woken: BTreeSet<&String> = self.woken.iter().collect();
        let mut wakes = Vec::new();
        for (key, room) in &self.rooms {
            let at = match (self.again.contains(key), room.oldest, room.row.per) {
                (true, ..) => Some(now.saturating_add(SOON).unwrap_or(now)),
                (false, Some(oldest), Some(per)) if room.holds => {
                    Some(oldest.saturating_add(per.signed()).unwrap_or(Timestamp::MAX))
                }
                _ => None,
            };
            if at.is_some() || woken.contains(key) {
                wakes.push((key.clone(), at));
            }
        }
        if wakes.is_empty() { Ok(()) } else { tx.wake_limits(&wakes).await }
    }
}

fn keys_of(row: &Locked) -> impl Iterator<Item = &str> {
    row.concurrency_key.as_deref().into_iter().chain(row.rate_key.as_deref())
}

impl Store {
    /// Wakes limits for which runs are held, should whoever freed a slot not have seen them. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn wake_stranded_limits(&self) -> Result<u64> {
        let mut tx = self.begin().await?;
        let woken = tx.wake_stranded().await?;
        crash::around(Commit::WakeStrandedLimits, tx.commit()).await?;
        if woken > 0 {
            self.hint(Hint::Due);
        }
        Ok(woken)
    }

    /// Forgets limits that no run has used since this instant, at most `limit` of them. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_limits(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_limits(before, limit).await?;
        crash::around(Commit::PurgeLimits, tx.commit()).await?;
        Ok(purged)
    }
}
