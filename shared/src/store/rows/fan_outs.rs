//! Rows of runs with children.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, count, malformed, status_column};
use crate::fan_out::{Counts, Stop};
use crate::store::fan_outs::{FanOut, InputChunk, OpenFanOut, UnfinishedChild};
use crate::store::{Result, StoreError};
use crate::work_request::{Children, WorkRequestId};

#[derive(FromRow)]
pub(crate) struct FanOutRow {
    parent: Uuid,
    namespace: String,
    job: String,
    job_version: i64,
    policy: String,
    depth: i32,
    batch: Uuid,
    total: i32,
    born: i32,
    succeeded: i32,
    failed: i32,
    canceled: i32,
    first_failed: Option<Uuid>,
    stopped: Option<String>,
    ended_at: Option<At>,
}

fn stop(text: &str) -> Result<Stop> {
    let found = [Stop::Failed, Stop::Canceled].into_iter().find(|stop| stop.as_str() == text);
    found.ok_or_else(|| malformed("reason for no more children")(text))
}

fn children(value: i32) -> Result<u32> {
    count("number of children", value)
}

impl TryFrom<FanOutRow> for FanOut {
    type Error = StoreError;

    fn try_from(row: FanOutRow) -> Result<Self> {
        Ok(Self {
            parent: WorkRequestId(row.parent),
            namespace: row.namespace,
            job: row.job,
            job_version: row.job_version,
            policy: row.policy.parse().map_err(malformed("policy of failed children"))?,
            depth: row.depth,
            batch: row.batch,
            counts: Counts {
                total: children(row.total)?,
                born: children(row.born)?,
                succeeded: children(row.succeeded)?,
                failed: children(row.failed)?,
                canceled: children(row.canceled)?,
            },
            first_failed: row.first_failed.map(WorkRequestId),
            stopped: row.stopped.as_deref().map(stop).transpose()?,
            ended_at: row.ended_at.map(|at| at.0),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct OpenFanOutRow {
    #[sqlx(flatten)]
    fan_out: FanOutRow,
    status: String,
}

impl TryFrom<OpenFanOutRow> for OpenFanOut {
    type Error = StoreError;

    fn try_from(row: OpenFanOutRow) -> Result<Self> {
        Ok(Self { fan_out: row.fan_out.try_into()?, status: status_column(&row.status)? })
    }
}

/// What a work request's row tells of its children; nothing if it has none.
#[derive(FromRow)]
pub(crate) struct ChildrenColumns {
    children_total: Option<i32>,
    children_born: Option<i32>,
    children_succeeded: Option<i32>,
    children_failed: Option<i32>,
    children_canceled: Option<i32>,
    children_stopped: Option<String>,
    children_policy: Option<String>,
    children_job: Option<String>,
}

impl ChildrenColumns {
    pub(crate) fn children(self) -> Result<Option<Children>> {
        let (Some(total), Some(policy), Some(job)) = (self.children_total, self.children_policy, self.children_job)
        else {
            return Ok(None);
        };
        let number = |column: Option<i32>| children(column.unwrap_or(0));
        let counts = Counts {
            total: children(total)?,
            born: number(self.children_born)?,
            succeeded: number(self.children_succeeded)?,
            failed: number(self.children_failed)?,
            canceled: number(self.children_canceled)?,
        };
        let policy = policy.parse().map_err(malformed("policy of failed children"))?;
        Ok(Some(Children { job, counts, policy, is_stopped: self.children_stopped.is_some() }))
    }
}

#[derive(FromRow)]
pub(crate) struct ChunkRow {
    chunk: i32,
    inputs: Json<Vec<Value>>,
}

impl From<ChunkRow> for InputChunk {
    fn from(row: ChunkRow) -> Self {
        Self { number: row.chunk, inputs: row.inputs.0 }
    }
}

#[derive(FromRow)]
pub(crate) struct UnfinishedRow {
    id: Uuid,
    input: Json<Value>,
}

impl From<UnfinishedRow> for UnfinishedChild {
    fn from(row: UnfinishedRow) -> Self {
        Self { id: WorkRequestId(row.id), input: row.input.0 }
    }
}
