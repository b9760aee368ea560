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
    let taken = tx.take_key(key, answer).await?;
    Ok(taken.map(|(fields, answer)| key.judge(&fields, answer)))
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
