//! What is known of a run. The native view and every dialect are made from this, and none of them knows the store.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::{Cancellation, ListFilter, SortBy, Wait};
use reveille_shared::work_request::{RunError, WorkRequest, WorkRequestId};
use uuid::Uuid;

use super::ApiState;
use super::access::{Caller, Tenant};
use super::error::Problem;
use super::note::Note;
use super::page::{List, Page};
use super::polling::poll_after;
use super::work_requests::find;

/// A run as it was found at an instant.
#[derive(Debug)]
pub(crate) struct Known {
    /// The run.
    pub(crate) request: WorkRequest,
    /// What is known of the limit that holds it, if one does.
    pub(crate) wait: Option<Wait>,
    /// How many runs of its namespace go out before it, if it is due and there is no room for it yet.
    pub(crate) ahead: Option<i64>,
    /// Whole seconds until it is worth while to look again; none when it has ended, and of those in a list.
    pub(crate) poll_after: Option<u32>,
    /// The instant.
    pub(crate) now: Timestamp,
}

impl Known {
    /// The run that a path names.
    ///
    /// # Errors
    /// 404: there is none of this id in the namespace.
    pub(crate) async fn load(state: &ApiState, tenant: &Tenant, id: &str) -> Result<Self, Problem> {
        let request = find(state, tenant, id).await?;
        let now = state.clock.now();
        if request.status.is_terminal() {
            return Ok(Self { request, wait: None, ahead: None, poll_after: None, now });
        }
        let wait = state.store.wait_of(&request).await?;
        let ahead = state.store.ahead_of(&request, now).await?;
        let usual = state.polling.usual_duration(&state.store, &request.namespace, &request.job).await?;
        let poll_after = poll_after(&request, wait.as_ref(), usual, now);
        Ok(Self { request, wait, ahead, poll_after: Some(poll_after), now })
    }

    /// A page of runs, by a token and the name of the parameter that it came in.
    ///
    /// # Errors
    /// 400: the token is not of a page of this list.
    pub(crate) async fn list(
        state: &ApiState,
        tenant: &Tenant,
        mut filter: ListFilter,
        limit: u16,
        (parameter, page): (&str, Option<&str>),
    ) -> Result<Page<Self>, Problem> {
        filter.jobs = tenant.jobs.clone();
        let list = List::of(&("workRequests", &filter));
        filter.after = list.place_of(parameter, page, |bytes| Uuid::from_slice(bytes).ok().map(WorkRequestId))?;
        let has_no_index = filter.order.by != SortBy::Accepted || filter.resource.is_some();
        let _alone = if has_no_index { Some(state.whole.lock().await) } else { None };
        let found = state.store.work_requests(&filter, i64::from(limit) + 1).await?;
        let now = state.clock.now();
        let page = Page::cut(found, limit, &list, |last| last.id.0.as_bytes().to_vec());
        Ok(page.map(|request| Self { request, wait: None, ahead: None, poll_after: None, now }))
    }

    /// Cancels a run, if that is what can be done.
    ///
    /// # Errors
    /// 404: there is none of this id in the namespace. 409: it has ended.
    pub(crate) async fn cancel(
        state: &ApiState,
        tenant: &Tenant,
        caller: &Caller,
        id: &str,
        note: Note,
    ) -> Result<Self, Problem> {
        let known = find(state, tenant, id).await?;
        match state.store.cancel(&tenant.namespace, known.id, caller.asker(note)).await? {
            Cancellation::Canceled | Cancellation::Canceling => Self::load(state, tenant, id).await,
            Cancellation::Ended => {
                // Not `IncorrectState`: clients would take that for something that passes, and try again for minutes.
                Err(Problem::new(StatusCode::CONFLICT, "Conflict", format!("work request {} has ended", known.id)))
            }
            Cancellation::Unknown => Err(Problem::not_found("work request", id)),
        }
    }

    /// Why it has ended without success, if it has: neither the code nor the message is empty.
    pub(crate) fn failure(&self) -> Option<RunError> {
        let (code, message) = match self.request.status {
            Status::Failed => ("Failed", "the work request failed"),
            Status::Canceled => return Some(RunError::new("Canceled", "the work request was canceled")),
            _ => return None,
        };
        let error = self.request.error.as_ref();
        let or = |text: Option<&String>, default: &str| {
            text.filter(|text| !text.trim().is_empty()).map_or(default.to_owned(), Clone::clone)
        };
        Some(RunError::new(or(error.map(|error| &error.code), code), or(error.map(|error| &error.message), message)))
    }

    /// When to look again.
    pub(crate) fn retry_after(&self) -> Option<(HeaderName, HeaderValue)> {
        self.poll_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)))
    }
}
