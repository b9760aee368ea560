//! What someone asks who looks at runs: pages by many filters, and single ones, one request after the other.

use anyhow::{Context as _, Result};
use harness::client::Client;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use crate::sample::{Sample, millis};

/// Lists that are read from the newest run on, page behind page.
const PAGES: [(&str, &str); 6] = [
    ("pages of all", "limit=50"),
    ("pages of a job", "job=noop"),
    ("pages of what FAILED of a job", "job=noop&status=FAILED"),
    ("pages of what was CANCELED", "status=CANCELED"),
    ("pages of what has not ended", "status=IN_PROGRESS,ACCEPTED"),
    ("pages of a job that a schedule calls for now and then", "job=job-5&schedule=schedule-3"),
];
/// Lists that begin at any time of the history.
const BEFORE: [(&str, &str); 5] = [
    ("page of all, accepted before any time", "limit=50"),
    ("page of a job, accepted before any time", "job=noop"),
    ("page of a schedule, accepted before any time", "schedule=schedule-3"),
    ("page of what FAILED, accepted before any time", "status=FAILED"),
    ("page of what SUCCEEDED of a job, before any time", "job=job-5&status=SUCCEEDED"),
];

/// By name, in ms.
pub(crate) struct Reads(pub(crate) Vec<(&'static str, Sample)>);

impl Reads {
    pub(crate) async fn measure(api: &Client, database: &str, requests: u16) -> Result<Self> {
        let mut all = Vec::new();
        for (name, filter) in PAGES {
            let (mut page, mut pages): (Option<String>, _) = (None, Vec::new());
            for _ in 0..requests {
                let behind = page.map(|page| format!("&page={page}")).unwrap_or_default();
                let (took, list) = timed(api, &format!("/v1/workRequests?{filter}{behind}")).await?;
                // From the newest again, where there are not that many.
                page = list["nextPage"].as_str().map(str::to_owned);
                pages.push(took);
            }
            all.push((name, Sample::of(pages)?));
        }
        let runs = any(database, requests).await?;
        let (mut single, mut times) = (Vec::new(), Vec::new());
        for id in runs {
            let (took, run) = timed(api, &format!("/v1/workRequests/{id}")).await?;
            single.push(took);
            times.push(run["timeAccepted"].as_str().context("when it was accepted")?.to_owned());
        }
        all.push(("one work request of any time", Sample::of(single)?));
        for (name, filter) in BEFORE {
            let mut pages = Vec::new();
            for accepted in &times {
                let path = format!("/v1/workRequests?{filter}&acceptedBefore={accepted}");
                pages.push(timed(api, &path).await?.0);
            }
            all.push((name, Sample::of(pages)?));
        }
        Ok(Self(all))
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
