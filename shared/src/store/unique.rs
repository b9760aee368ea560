//! Runs that are one and the same: asking for another one gives the one that there is.
//!
//! A key's row says which run stands for it; whether it still does is judged when the key is asked for, so that nothing
//! has to be done when a run starts or ends.

use std::collections::HashMap;

use jiff::Timestamp;

use super::accept::NewWorkRequest;
use super::database::Tx;
use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::definition::UniqueSpan;
use crate::state::Status;
use crate::work_request::WorkRequestId;

/// Under which name a run stands for all that are the same, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// The same for all runs that are the same.
    pub key: String,
    /// For how long.
    pub span: UniqueSpan,
}

impl UniqueKey {
    fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.span {
            UniqueSpan::Window(window) => Some(now.saturating_add(window.signed()).unwrap_or(Timestamp::MAX)),
            UniqueSpan::Waiting | UniqueSpan::Running => None,
        }
    }
}

/// Takes out of `requests` those for which another run stands; answers which stands for which. Of those that stay,
/// each stands for its key from now on.
pub(crate) async fn join(
    tx: &mut dyn Tx,
    requests: &mut Vec<NewWorkRequest>,
) -> Result<HashMap<WorkRequestId, WorkRequestId>> {
    let mut joined = HashMap::new();
    let mut asked: Vec<_> = requests.iter().filter_map(|r| Some((r.unique.clone()?, r.id))).collect();
    // One order for all, so that two transactions can't deadlock.
    asked.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    let mut mine: HashMap<String, WorkRequestId> = HashMap::new();
    for (unique, id) in asked {
        let holder = match mine.get(&unique.key) {
            Some(holder) => Some(*holder),
            None => holder(tx, &unique, id).await?,
        };
        match holder {
            Some(holder) => drop(joined.insert(id, holder)),
            None => drop(mine.insert(unique.key, id)),
        }
    }
    requests.retain(|request| !joined.contains_key(&request.id));
    Ok(joined)
}

/// The run that stands for a key, or none: then `id` does from now on.
async fn holder(tx: &mut dyn Tx, unique: &UniqueKey, id: WorkRequestId) -> Result<Option<WorkRequestId>> {
    let now = tx.now();
    let ends_at = unique.ends_at(now);
    let Some((holder, until)) = tx.take_unique(&unique.key, id, ends_at).await? else { return Ok(None) };
    let stands = match unique.span {
        UniqueSpan::Window(_) => until.is_some_and(|until| until > now),
        UniqueSpan::Waiting => tx.status_of(holder).await? == Some(Status::Accepted),
        UniqueSpan::Running => tx.status_of(holder).await?.is_some_and(|status| !status.is_terminal()),
    };
    if stands {
        return Ok(Some(holder));
    }
    tx.replace_unique(&unique.key, id, ends_at).await?;
    Ok(None)
}

impl Store {
    /// Forgets keys of runs that were accepted before this instant and have ended, at most `limit` of them.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_unique_keys(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_unique(before, limit).await?;
        crash::around(Commit::PurgeUniqueKeys, tx.commit()).await?;
        Ok(purged)
    }
}
