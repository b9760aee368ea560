//! Rows of what workers in other languages tell.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, count, delivery::millis};
use crate::cloud_event::Named;
use crate::definition::RetryPolicy;
use crate::store::events_in::RefusedRecord;
use crate::store::external::ExternalRow;
use crate::store::{Result, StoreError};
use crate::work_request::WorkRequestId;

#[derive(FromRow)]
pub(crate) struct ExternalDbRow {
    work_request_id: Uuid,
    token: Uuid,
    namespace: String,
    worker: Uuid,
    attempt: i32,
    lease_ms: i64,
    retry: Json<RetryPolicy>,
    ended: Option<String>,
    words_at: Option<At>,
    words_id: Option<String>,
    output: Option<Json<Value>>,
    output_at: Option<At>,
    output_id: Option<String>,
    has_own: bool,
}

impl TryFrom<ExternalDbRow> for ExternalRow {
    type Error = StoreError;

    fn try_from(row: ExternalDbRow) -> Result<Self> {
        let output = row.output.zip(row.output_at).zip(row.output_id);
        Ok(Self {
            run: WorkRequestId(row.work_request_id),
            token: row.token,
            namespace: row.namespace,
            worker: row.worker,
            attempt: count("attempt", row.attempt)?,
            lease: millis("lease", row.lease_ms)?,
            retry: row.retry.0,
            ended: row.ended,
            words: row.words_at.map(|at| at.0).zip(row.words_id),
            output: output.map(|((output, at), id)| (output.0, at.0, id)),
            has_own: row.has_own,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct RefusedRow {
    seq: i64,
    via: String,
    code: String,
    message: String,
    source: Option<String>,
    id: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    namespace: Option<String>,
    first_at: At,
    last_at: At,
    count: i64,
}

impl TryFrom<RefusedRow> for RefusedRecord {
    type Error = StoreError;

    fn try_from(row: RefusedRow) -> Result<Self> {
        let RefusedRow { seq, via, code, message, source, id, kind, subject, namespace, first_at, last_at, count } =
            row;
        let of = Named { source, id, kind, subject, namespace };
        let (first_at, last_at) = (first_at.0, last_at.0);
        Ok(Self { seq, via, code, message, of, first_at, last_at, count })
    }
}
