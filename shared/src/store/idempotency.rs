//! Requests that may be repeated: under the caller's name for it, a request is done once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::database::Tx;
use super::{Result, Store};
use crate::crash::{self, Commit};

/// A caller's name for a request (draft-ietf-httpapi-idempotency-key-header). Those of different namespaces, callers and
/// operations never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The tenant.
    pub namespace: String,
    /// Who asks.
    pub caller: String,
    /// What is asked for: the method, and the path with its parameters.
    pub operation: String,
    /// What the caller sent.
    pub key: String,
    /// Tell this request from another one under the same key: hashes of what was asked, by name.
    pub fields: BTreeMap<String, String>,
}

/// What was asked for under a key before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// The same; it has come to this: the id of a work request or of a backfill, or the due time of a fire by hand.
    Same(String),
    /// Something else, in these fields.
    Other(Vec<String>),
}

impl IdempotencyKey {
    /// What tells the key from others.
    pub(crate) fn names(&self) -> [&str; 4] {
        [&self.namespace, &self.caller, &self.operation, &self.key]
    }

    /// Compares this request with the one that was made under the key before.
    fn judge(&self, fields: &BTreeMap<String, String>, answer: String) -> Earlier {
        if *fields == self.fields {
            return Earlier::Same(answer);
        }
        let names: BTreeSet<_> = fields.keys().chain(self.fields.keys()).collect();
        let differs = |name: &&&String| fields.get(**name) != self.fields.get(**name);
        Earlier::Other(names.iter().filter(differs).map(|name| (*name).clone()).collect())
    }
}

/// Takes a key for what the request comes to, unless it is taken: answers what it was taken for.
pub(super) async fn take(tx: &mut dyn Tx, key: &IdempotencyKey, answer: &str) -> Result<Option<Earlier>> {
    Ok(take_all(tx, vec![(key.clone(), answer.to_owned())]).await?.pop().flatten())
}

/// The same of several requests, in their order; of those with the same key the first one takes it.
pub(super) async fn take_all(tx: &mut dyn Tx, asked: Vec<(IdempotencyKey, String)>) -> Result<Vec<Option<Earlier>>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    // In one order for all, so that two transactions can't deadlock.
    let mut sorted: Vec<_> = asked.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.names().cmp(&b.names()));
    let mut taken = tx.take_keys(&sorted).await?;
    let mut answers = Vec::with_capacity(asked.len());
    for (key, _) in &asked {
        answers.push(match taken.remove(&key.names().map(str::to_owned)) {
            true => None,
            false => {
                let (fields, answer) = tx.taken_for(key).await?;
                Some(key.judge(&fields, answer))
            }
        });
    }
    Ok(answers)
}

impl Store {
    /// What was asked for under a key before, if anything was.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn earlier(&self, key: &IdempotencyKey) -> Result<Option<Earlier>> {
        let taken = self.db.taken_key(key).await?;
        Ok(taken.map(|(fields, answer)| key.judge(&fields, answer)))
    }

    /// Forgets idempotency keys taken before this instant, at most `limit` of them. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_keys(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_keys(before, limit).await?;
        crash::around(Commit::PurgeKeys, tx.commit()).await?;
        Ok(purged)
    }
}
