//! Rows of what happens.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, EventRow, malformed};
use crate::store::feed::{FeedEntry, FeedPage};
use crate::store::{Result, StoreError};
use crate::work_request::{Happening, WorkRequestId};

#[derive(FromRow)]
pub(crate) struct FeedRow {
    floor: i64,
    number: Option<i64>,
    id: Option<Uuid>,
    seq: Option<i32>,
    namespace: Option<String>,
    job: Option<String>,
    schedule: Option<String>,
    parent: Option<Uuid>,
    at: Option<At>,
    what: Option<Json<Value>>,
    before: Option<Json<Value>>,
}

impl FeedRow {
    /// None if the run, or its entry, is not there any more.
    fn entry(self, number: i64) -> Result<Option<FeedEntry>> {
        let Self { id, seq, namespace, job, schedule, parent, at, what, before, .. } = self;
        let (Some(id), Some(seq), Some(namespace), Some(job)) = (id, seq, namespace, job) else { return Ok(None) };
        let (Some(at), Some(what)) = (at, what) else { return Ok(None) };
        let event: crate::work_request::HistoryEvent = EventRow { seq, at, what }.try_into()?;
        let before: Option<Happening> =
            before.map(|before| serde_json::from_value(before.0)).transpose().map_err(malformed("event"))?;
        let status = event.what.status().or_else(|| before?.status());
        let (id, parent) = (WorkRequestId(id), parent.map(WorkRequestId));
        Ok(Some(FeedEntry { number, id, namespace, job, schedule, parent, status, event }))
    }
}

/// There is always one row: the floor, even if there is no number.
impl TryFrom<Vec<FeedRow>> for FeedPage {
    type Error = StoreError;

    fn try_from(rows: Vec<FeedRow>) -> Result<Self> {
        let mut page = Self { floor: 0, entries: Vec::with_capacity(rows.len()) };
        for row in rows {
            page.floor = row.floor;
            if let Some(number) = row.number {
                page.entries.push((number, row.entry(number)?));
            }
        }
        Ok(page)
    }
}
