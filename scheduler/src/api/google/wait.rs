//! `POST /v1/operations/{id}:wait`

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{Named, operation};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::dialects::google::Operation;
use crate::api::error::Problem;
use crate::api::known::Known;
use crate::api::polling::{LONGEST_WAIT, Seen};

/// How long to wait.
#[derive(Debug, ToSchema)]
#[schema(as = WaitOperationRequest)]
pub(crate) struct Wait {
    /// Seconds, like `10s` or `2.5s`; the most that is waited is `30s`, which is the default.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,9}([.][0-9]{1,9})?s$")]
    timeout: Duration,
}

impl FromBody for Wait {
    fn read(body: &mut BodyFields) -> Self {
        let given: Option<String> = body.parsed("timeout");
        let timeout = given.map_or(Some(LONGEST_WAIT), |text| seconds(&text));
        if timeout.is_none() {
            body.fault("timeout", "must be seconds like \"10s\" or \"2.5s\"");
        }
        Self { timeout: timeout.unwrap_or_default() }
    }
}

/// A `google.protobuf.Duration` that is not negative, as it is written in JSON.
fn seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_suffix('s')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let nanos = format!("{fraction:0<9}").parse().ok();
    (is_number(whole) && is_number(fraction)).then(|| Some(Duration::new(whole.parse().ok()?, nanos?)))?
}

/// Waits until a work request has ended, for Google's clients
///
/// Or for as long as the caller wants: then the answer is an operation that is not done.
#[utoipa::path(
    post, path = "/v1/operations/{id}:wait", tag = "google", operation_id = "waitOperation",
    params(("id" = String, Path, description = "The work request's id")),
    request_body(content = Option<Wait>, content_type = "application/json"),
    responses(
        (status = 200, body = Operation, description = "The operation as it is then"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn wait_operation(
    State(state): State<ApiState>,
    tenant: Tenant,
    named: Named,
    Body(body): Body<Wait>,
) -> Result<Json<Operation>, Problem> {
    let until = Instant::now() + body.timeout.min(LONGEST_WAIT);
    loop {
        let known = Known::load(&state, &tenant, named.id()).await?;
        let (id, status) = (known.request.id, known.request.status);
        let left = until.duration_since(Instant::now());
        let seen = Seen::Status(status);
        if status.is_terminal() || !state.polling.change(&state.store, id, seen, left).await? {
            let known = Known::load(&state, &tenant, named.id()).await?;
            return Ok(Json(operation(&state, &named, &known).await?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_seconds() {
        for (text, millis) in [("10s", 10_000), ("2.5s", 2_500), ("0s", 0), ("0.001s", 1), ("3.000000000s", 3_000)] {
            assert_eq!(seconds(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "10", "-1s", "1.s", ".5s", "1e3s", "1m", "1.0000000000s", "10 s", "1.-5s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
