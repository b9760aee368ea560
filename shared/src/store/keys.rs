//! API keys: who calls, and what they may do. The store has hashes of secrets only.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::changes::{Action, Change, DefinitionKind, Spec};
use super::database::Tx;
use super::schedules::ScheduleKey;
use super::{Result, Store};
use crate::access::{Grant, KeyText};
use crate::crash::{self, Commit};

/// The namespace of changes that are of none, or of several.
pub const EVERYWHERE: &str = "*";

/// A key as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// The public part of its text: its name for programs.
    pub prefix: String,
    /// Its name for people.
    pub name: String,
    /// What its holder may do.
    pub grant: Grant,
    /// Counts its changes from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From when on it is good for nothing.
    pub expires_at: Option<Timestamp>,
    /// Since when it is good for nothing.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to some minutes.
    pub last_used_at: Option<Timestamp>,
    /// Until when the secret before the last rotation is good too.
    pub previous_until: Option<Timestamp>,
    pub(crate) hash: String,
    pub(crate) previous_hash: Option<String>,
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its text, for its holder.
    pub text: KeyText,
    /// Its name for people.
    pub name: String,
    /// What its holder may do.
    pub grant: Grant,
    /// From when on it is good for nothing.
    pub expires_at: Option<Timestamp>,
}

/// What a key is worth at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It is good.
    Good,
    /// It has expired.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ApiKey {
    /// Whether this text is of the key, by its present secret or by the one before, while that is good.
    #[must_use]
    pub fn is_opened_by(&self, text: &KeyText, now: Timestamp) -> bool {
        // Comparing hashes takes the same time whatever they are.
        let is = |hash: &str| blake3::Hash::from_hex(hash).is_ok_and(|kept| kept == text.hash());
        let previous = self.previous_hash.as_ref().filter(|_| self.previous_until.is_some_and(|until| now < until));
        is(&self.hash) || previous.is_some_and(|hash| is(hash))
    }

    /// What it is worth.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> KeyStanding {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => KeyStanding::Revoked,
            (None, Some(at)) if at <= now => KeyStanding::Expired,
            _ => KeyStanding::Good,
        }
    }

    fn change<'a>(&self, action: Action, (actor, reason): By<'a>, spec: Option<&'a Value>) -> Change<'a> {
        let only = self.grant.namespaces.listed().filter(|names| names.len() == 1).and_then(|names| names.first());
        let namespace = only.map_or(EVERYWHERE, String::as_str).to_owned();
        let key = ScheduleKey { namespace, name: self.prefix.clone() };
        let kind = DefinitionKind::Key;
        Change { key, kind, version: self.version, action, actor, reason, spec: spec.map(Spec::Other) }
    }

    /// What people are told of it, in the record of its changes.
    fn spec(&self) -> Value {
        json!({"name": self.name, "access": self.grant, "expiresAt": self.expires_at.map(|at| at.to_string())})
    }
}

/// Who changes something, and why.
pub type By<'a> = (&'a str, Option<&'a str>);

impl Store {
    /// Makes a key.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn create_key(&self, new: NewKey, by: By<'_>) -> Result<ApiKey> {
        let tx = self.begin().await?;
        let key = ApiKey {
            prefix: new.text.prefix().to_owned(),
            name: new.name,
            grant: new.grant,
            version: 1,
            created_at: tx.now(),
            created_by: by.0.to_owned(),
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
            previous_until: None,
            hash: new.text.hash().to_hex().to_string(),
            previous_hash: None,
        };
        keep(tx, key, Action::Created, by).await
    }

    /// The key of this prefix.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn key(&self, prefix: &str) -> Result<Option<ApiKey>> {
        self.db.key(prefix).await
    }

    /// Up to `limit` keys behind the prefix `after` whose prefix or name holds `part`, by prefix.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn keys(&self, after: &str, part: &str, limit: i64) -> Result<Vec<ApiKey>> {
        self.db.keys(after, part, limit).await
    }

    /// Gives a key another secret, that of `text`; the present one is good for `overlap` from now on. None if there is no such
    /// key, or it is good for nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn rotate_key(&self, text: &KeyText, overlap: SignedDuration, by: By<'_>) -> Result<Option<ApiKey>> {
        let mut tx = self.begin().await?;
        let now = tx.now();
        let found = tx.lock_key(text.prefix()).await?.filter(|key| key.standing(now) == KeyStanding::Good);
        let Some(mut key) = found else { return Ok(None) };
        let hash = text.hash().to_hex().to_string();
        key.previous_hash = Some(std::mem::replace(&mut key.hash, hash));
        key.previous_until = Some(now.saturating_add(overlap).unwrap_or(now));
        key.version += 1;
        keep(tx, key, Action::Rotated, by).await.map(Some)
    }

    /// Makes a key good for nothing. Of one that was revoked before nothing changes. None if there is no such key.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn revoke_key(&self, prefix: &str, by: By<'_>) -> Result<Option<ApiKey>> {
        let mut tx = self.begin().await?;
        let Some(mut key) = tx.lock_key(prefix).await? else { return Ok(None) };
        if key.revoked_at.is_some() {
            return Ok(Some(key));
        }
        key.revoked_at = Some(tx.now());
        key.version += 1;
        keep(tx, key, Action::Revoked, by).await.map(Some)
    }

    /// Remembers that keys were used at these instants.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn keys_used(&self, uses: &[(String, Timestamp)]) -> Result<()> {
        let mut tx = self.begin().await?;
        for (prefix, at) in uses {
            tx.key_used(prefix, *at).await?;
        }
        crash::around(Commit::KeysUsed, tx.commit()).await
    }
}

async fn keep(mut tx: Box<dyn Tx>, key: ApiKey, action: Action, by: By<'_>) -> Result<ApiKey> {
    let spec = (action == Action::Created).then(|| key.spec());
    tx.put_key(&key).await?;
    tx.insert_changes(&[key.change(action, by, spec.as_ref())]).await?;
    crash::around(Commit::ChangeKey, tx.commit()).await?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(text: &KeyText) -> ApiKey {
        ApiKey {
            prefix: text.prefix().to_owned(),
            name: "ci".to_owned(),
            grant: Grant::everything(),
            version: 1,
            created_at: at(0),
            created_by: "anna".to_owned(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            previous_until: None,
            hash: text.hash().to_hex().to_string(),
            previous_hash: None,
        }
    }

    #[test]
    fn the_secret_before_a_rotation_is_good_for_a_while() {
        let (old, new) = (KeyText::generate().unwrap(), KeyText::generate().unwrap());
        let previous_hash = Some(old.hash().to_hex().to_string());
        let rotated = ApiKey { previous_hash, previous_until: Some(at(10)), ..key(&new) };
        assert!(rotated.is_opened_by(&new, at(99)) && rotated.is_opened_by(&old, at(9)));
        assert!(!rotated.is_opened_by(&old, at(10)));
        assert!(!rotated.is_opened_by(&KeyText::generate().unwrap(), at(9)));
    }

    #[test]
    fn a_key_is_good_until_it_expires_or_is_revoked() {
        let good = key(&KeyText::generate().unwrap());
        let expiring = ApiKey { expires_at: Some(at(10)), ..good.clone() };
        assert_eq!(good.standing(at(99)), KeyStanding::Good);
        assert_eq!([9, 10].map(|second| expiring.standing(at(second))), [KeyStanding::Good, KeyStanding::Expired]);
        assert_eq!(ApiKey { revoked_at: Some(at(1)), ..expiring }.standing(at(11)), KeyStanding::Revoked);
    }
}
