//! Which items of a list by name are shown: `reveille jobs`, `reveille schedules`.

use serde_json::Value;

use crate::client::{Client, ClientError};

#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// Only those with this in their names
    #[arg(long, value_name = "PART")]
    search: Option<String>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl Search {
    /// The items that are meant, and whether there are more.
    pub(crate) async fn list(&self, client: &Client, list: &str) -> Result<(Vec<Value>, bool), ClientError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let query: Vec<_> = self.search.iter().map(|part| ("search", part.clone())).collect();
        let mut items = client.list(&[list], &query, limit.saturating_add(1)).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        Ok((items, more))
    }
}
