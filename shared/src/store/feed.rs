//! What happens to runs, in one order for all who listen, wherever they listen and from wherever they go on.
//!
//! A trigger of the database gives each entry of a history a number in the transaction that writes it, while somebody listens
//! or did not long ago. Numbers are no commit order: an entry of a low one may appear late. But who writes to histories holds a
//! lock on their table from before it gets a number until its commit is visible to all. So a number that is missing below
//! one that is there is missing for ever once all who wrote when that was seen have ended; until then nothing behind it
//! is told. Where no number is missing there is nothing to ask. In SQLite numbers are in the order of commits.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;

use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::state::Status;
use crate::work_request::{HistoryEvent, WorkRequestId};

/// Between two looks at those who write.
const PAUSE: Duration = Duration::from_millis(5);

/// An entry of a run's history, and its place among those of all runs.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEntry {
    /// Its place: of one run's entries the earlier one has the lower number.
    pub number: i64,
    /// The run.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job.
    pub job: String,
    /// The schedule that called for the run, if one did.
    pub schedule: Option<String>,
    /// The run whose child it is, if it is one.
    pub parent: Option<WorkRequestId>,
    /// Where the run stands from this entry on.
    pub status: Option<Status>,
    /// The entry.
    pub event: HistoryEvent,
}

/// A number and, unless it was deleted since, its entry.
pub(crate) type Numbered = (i64, Option<FeedEntry>);

/// What is behind a number.
#[derive(Debug)]
pub(crate) struct FeedPage {
    /// Nothing is missing behind this number.
    pub(crate) floor: i64,
    /// In the order of their numbers.
    pub(crate) entries: Vec<Numbered>,
}

/// Numbers that are missing, and may still appear.
#[derive(Debug)]
struct Doubt {
    /// The highest that was seen.
    up_to: i64,
    /// Who wrote then and has not ended.
    writers: HashSet<String>,
}

/// Follows what happens. Whatever dies here, another one goes on from its position.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    position: i64,
    /// Missing numbers up to this one are missing for ever.
    settled: i64,
    doubt: Option<Doubt>,
}

impl Feed {
    /// The number up to which all that will ever be there has been seen.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.position
    }

    /// Up to `limit` entries that follow the position, which moves behind them; none at all when what follows is not whole, as
    /// nobody has listened for too long. Can be dropped at any time.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn next(&mut self, limit: i64) -> Result<Option<Vec<FeedEntry>>> {
        if let Some(doubt) = &mut self.doubt {
            let writers = self.store.db.writers().await?;
            doubt.writers.retain(|writer| writers.contains(writer));
            if doubt.writers.is_empty() {
                self.settled = doubt.up_to;
                self.doubt = None;
            }
        }
        let page = self.store.db.feed(self.position, i64::MAX, limit).await?;
        if page.floor > self.position {
            return Ok(None);
        }
        if let (Some((highest, _)), None) = (page.entries.last(), &self.doubt)
            && whole(self.position, self.settled, &page.entries) < page.entries.len()
        {
            self.doubt = Some(Doubt { up_to: *highest, writers: self.store.db.writers().await? });
        }
        let whole = whole(self.position, self.settled, &page.entries);
        let entries: Vec<_> = page.entries.into_iter().take(whole).collect();
        self.position = entries.last().map_or(self.position, |(number, _)| *number);
        Ok(Some(entries.into_iter().filter_map(|(_, entry)| entry).collect()))
    }
}

/// How many of these follow `position` with nothing missing in between that may still appear.
fn whole(position: i64, settled: i64, entries: &[Numbered]) -> usize {
    let mut next = position + 1;
    let follows = |(number, _): &&Numbered| {
        let follows = *number == next || *number <= settled + 1;
        next = number + 1;
        follows
    };
    entries.iter().take_while(follows).count()
}

impl Store {
    /// Begins to listen: what is committed from now on has its place behind the position. To be told again every few minutes by
    /// [`Store::keep_feed`].
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn listen_to_feed(&self) -> Result<Feed> {
        self.keep_feed().await?;
        let position = *self.feed_bounds().await?.end();
        // Who writes now may have a lower number, or may not have known that somebody listens.
        let mut writers = self.db.writers().await?;
        while !writers.is_empty() {
            tokio::time::sleep(PAUSE).await;
            let now = self.db.writers().await?;
            writers.retain(|writer| now.contains(writer));
        }
        Ok(Feed { store: self.clone(), position, settled: position, doubt: None })
    }

    /// Says that somebody listens.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn keep_feed(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        if !tx.hear_feed().await? {
            // A number of its own, as nobody may go on from one before: what has happened since then has none.
            let floor = tx.skip_feed_number().await?;
            tx.open_feed(floor).await?;
        }
        crash::around(Commit::KeepFeed, tx.commit()).await
    }

    /// From where one may go on: behind the lowest of these numbers nothing is missing, and the highest is the last there is.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn feed_bounds(&self) -> Result<RangeInclusive<i64>> {
        let (floor, last) = self.db.feed_bounds().await?;
        Ok(floor..=last.max(floor))
    }

    /// The first of the entries behind `after` and up to `until`, about `limit` of them; none at all when they are not whole.
    /// `until` must not be beyond what a [`Feed`] has seen.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn feed_before(&self, after: i64, until: i64, limit: i64) -> Result<Option<FeedPart>> {
        let page = self.db.feed(after, until, limit).await?;
        let position = match page.entries.last() {
            Some((number, _)) if i64::try_from(page.entries.len()).is_ok_and(|count| count >= limit) => *number,
            _ => until,
        };
        let entries = page.entries.into_iter().filter_map(|(_, entry)| entry).collect();
        Ok((page.floor <= after).then_some(FeedPart { position, entries }))
    }

    /// Forgets up to `limit` of the first entries that are from before an instant, and stops giving numbers if nobody has
    /// listened since then. Answers how many are gone.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn trim_feed(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        tx.close_feed(before).await?;
        let trimmed = tx.trim_feed(before, limit).await?;
        crash::around(Commit::TrimFeed, tx.commit()).await?;
        Ok(trimmed)
    }
}

/// A part of what has happened.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPart {
    /// Up to which number it reaches.
    pub position: i64,
    /// In the order of their numbers.
    pub entries: Vec<FeedEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_behind_a_number_that_may_still_appear() {
        let whole = |position, settled, numbers: &[i64]| {
            let entries: Vec<Numbered> = numbers.iter().map(|number| (*number, None)).collect();
            super::whole(position, settled, &entries)
        };
        assert_eq!(whole(4, 0, &[5, 6, 7]), 3);
        assert_eq!(whole(4, 0, &[6, 7]), 0);
        assert_eq!(whole(4, 0, &[5, 7, 8]), 1);
        assert_eq!(whole(4, 7, &[5, 7, 8]), 3, "what is missing below 7 is so for ever");
        assert_eq!(whole(4, 6, &[5, 7, 8]), 3, "7 is the first behind what is settled");
        assert_eq!(whole(4, 6, &[5, 8]), 1);
        assert_eq!(whole(4, 9, &[]), 0);
    }
}
