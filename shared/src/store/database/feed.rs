//! What a database must do for those who listen to what happens.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::store::Result;
use crate::store::feed::FeedPage;

/// Reads of what happens, the same text in both databases.
#[async_trait]
pub(crate) trait ReadFeed {
    /// Up to `limit` numbers behind `after` and up to `until`, and whether any is missing.
    async fn feed(&self, after: i64, until: i64, limit: i64) -> Result<FeedPage>;
    /// The number behind which nothing is missing, and the last one; 0 if there are none.
    async fn feed_bounds(&self) -> Result<(i64, i64)>;
}

/// Single statements about who listens to what happens.
#[async_trait]
pub(crate) trait Feed {
    /// Notes that somebody does; answers whether what happens is numbered. That stays so until the transaction ends.
    async fn hear_feed(&mut self) -> Result<bool>;
    /// Takes a number for nothing.
    async fn skip_feed_number(&mut self) -> Result<i64>;
    /// What happens is numbered from now on; what has happened before this number is not known.
    async fn open_feed(&mut self, floor: i64) -> Result<()>;
    /// What happens is no more numbered if nobody has listened since this instant.
    async fn close_feed(&mut self, before: Timestamp) -> Result<()>;
    /// Forgets those of the first `limit` numbers whose entries are from before this instant.
    async fn trim_feed(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
}
