//! What a database must do about API keys.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::store::Result;
use crate::store::keys::ApiKey;

/// Reads of API keys, the same text in both databases.
#[async_trait]
pub(crate) trait ReadKeys {
    async fn key(&self, prefix: &str) -> Result<Option<ApiKey>>;
    /// Up to `limit` keys behind a prefix that hold `part` in their prefix or name.
    async fn keys(&self, after: &str, part: &str, limit: i64) -> Result<Vec<ApiKey>>;
}

/// Single statements about API keys.
#[async_trait]
pub(crate) trait Keys {
    async fn lock_key(&mut self, prefix: &str) -> Result<Option<ApiKey>>;
    /// Keeps a new key, or what has changed of one that is locked.
    async fn put_key(&mut self, key: &ApiKey) -> Result<()>;
    async fn key_used(&mut self, prefix: &str, at: Timestamp) -> Result<()>;
}
