//! What someone asks who looks at runs: pages of a job's, and single ones, one request after the other.

use anyhow::{Context as _, Result};
use harness::client::Client;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use crate::sample::{Sample, millis};

/// In ms.
pub(crate) struct Reads {
    /// A job's newest page and the ones behind it, each named by the one before.
    pages: Sample,
    /// Pages of the same job that begin at any time of its history. The list passes over the runs of the hour behind it,
    /// as ids are made by other clocks: how many these are shows here.
    old_pages: Sample,
    /// One work request of any time.
    single: Sample,
}

impl Reads {
    pub(crate) async fn measure(api: &Client, database: &str, requests: u16) -> Result<Self> {
        let mut page: Option<String> = None;
        let mut pages = Vec::new();
        for _ in 0..requests {
            let behind = page.map(|page| format!("&page={page}")).unwrap_or_default();
            let (took, list) = timed(api, &format!("/v1/workRequests?job=noop{behind}")).await?;
            // From the newest again, where there are not that many.
            page = list["nextPage"].as_str().map(str::to_owned);
            pages.push(took);
        }
        let runs = any(database, requests).await?;
        let (mut old_pages, mut single) = (Vec::new(), Vec::new());
        for id in runs {
            let (took, run) = timed(api, &format!("/v1/workRequests/{id}")).await?;
            single.push(took);
            let accepted = run["timeAccepted"].as_str().context("when it was accepted")?;
            let (took, _) = timed(api, &format!("/v1/workRequests?job=noop&acceptedBefore={accepted}")).await?;
            old_pages.push(took);
        }
        Ok(Self { pages: Sample::of(pages)?, old_pages: Sample::of(old_pages)?, single: Sample::of(single)? })
    }

    pub(crate) fn all(&self) -> [(&'static str, &Sample); 3] {
        [
            ("page of a job, from the newest on", &self.pages),
            ("page of a job, accepted before any time", &self.old_pages),
            ("one work request of any time", &self.single),
        ]
    }
}

/// Names of work requests, evenly spread over the time of all of them.
async fn any(database: &str, count: u16) -> Result<Vec<Uuid>> {
    let mut connection = PgConnection::connect(database).await?;
    let (first, last): (Uuid, Uuid) = sqlx::query_as(
        "SELECT (SELECT id FROM work_requests ORDER BY id LIMIT 1),
                (SELECT id FROM work_requests ORDER BY id DESC LIMIT 1)",
    )
    .fetch_one(&mut connection)
    .await?;
    let (first, last) = (first.as_u128(), last.as_u128());
    let step = (last - first) / u128::from(count);
    let mut places: Vec<_> = (0..u128::from(count)).map(|n| Uuid::from_u128(first + n * step)).collect();
    // As one who asks would: in no order.
    fastrand::Rng::with_seed(1).shuffle(&mut places);
    let mut ids = Vec::with_capacity(places.len());
    for place in places {
        let next = "SELECT id FROM work_requests WHERE id >= $1 ORDER BY id LIMIT 1";
        ids.push(sqlx::query_scalar(next).bind(place).fetch_one(&mut connection).await?);
    }
    Ok(ids)
}

async fn timed(api: &Client, path: &str) -> Result<(f64, Value)> {
    let begun = Instant::now();
    let answer = api.get_path(path).await?;
    Ok((millis(begun.elapsed()), answer))
}
