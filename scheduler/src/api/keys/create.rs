//! `POST /v1/keys`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use reveille_shared::access::{Grant, KeyText, Names, Role, WrongNames};
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::NewKey;
use serde_json::Value;
use utoipa::ToSchema;

use super::fresh;
use super::view::{Revealed, View};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant, forbidden};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::{Fault, Problem};
use crate::api::note;

/// What a key is for.
#[derive(Debug, ToSchema)]
#[schema(as = KeyRequest, rename_all = "camelCase")]
pub(crate) struct Ask {
    /// Who or what holds it, for people.
    #[schema(min_length = 1, max_length = 100, examples("ci of the billing team"))]
    name: String,
    /// `viewer` reads; `operator` starts and stops runs too; `admin` changes definitions, webhooks and keys too.
    #[schema(value_type = String, pattern = "^(viewer|operator|admin)$")]
    role: Option<Role>,
    /// The namespaces that it is for, or `["*"]` for all; default is the namespace of the request.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 100)]
    namespaces: Option<Names>,
    /// Limits it to these jobs and their runs.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 100)]
    jobs: Option<Names>,
    /// How long it is good, like `90d`; default is for ever. Not together with `expiresAt`.
    #[schema(value_type = Option<String>, pattern = "^(?=.)([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$")]
    expires_in: Option<HumanDuration>,
    /// From when on it is good for nothing.
    #[schema(value_type = Option<crate::api::time::Instant>)]
    expires_at: Option<Timestamp>,
    /// Who asks; default is `api`.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Ask {
    fn read(body: &mut BodyFields) -> Self {
        let read = Self {
            name: body.line("name", 100).unwrap_or_default(),
            role: body.parsed("role"),
            namespaces: names(body, "namespaces", true),
            jobs: names(body, "jobs", false),
            expires_in: body.parsed("expiresIn"),
            expires_at: body.maybe_instant("expiresAt"),
            by: note::by(body),
            reason: note::reason(body),
        };
        if read.name.is_empty() {
            body.missing("name");
        }
        if read.role.is_none() {
            body.missing("role");
        }
        if read.expires_in.is_some() && read.expires_at.is_some() {
            body.fault("expiresIn", "does not go together with expiresAt");
        }
        read
    }
}

fn names(body: &mut BodyFields, field: &str, may_be_all: bool) -> Option<Names> {
    let read = match body.take(field)? {
        Value::Null => return None,
        Value::Array(items) => {
            // What is no text is no name.
            let texts: Vec<_> = items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
            Names::read(&texts, may_be_all)
        }
        _ => Err(WrongNames::Count),
    };
    read.map_err(|wrong| body.fault(field, wrong)).ok()
}

/// Makes a key
///
/// Nobody can give away more than they have: the role, the namespaces and the jobs must be within those of the caller's key.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "createKey",
    request_body(content = Ask, content_type = "application/json"),
    responses(
        (status = 201, body = Revealed, description = "The key, with its text this once"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn create_key(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Body(ask): Body<Ask>,
) -> Result<Response, Problem> {
    let now = state.clock.now();
    let grant = Grant {
        role: ask.role.unwrap_or(Role::Viewer),
        namespaces: ask.namespaces.unwrap_or_else(|| Names::only([tenant.namespace])),
        jobs: ask.jobs.unwrap_or_default(),
    };
    if !caller.grant().covers(&grant) {
        return Err(forbidden(
            "a key can't give away more than it has: the role, namespaces and jobs must be within its own",
        ));
    }
    let expires_at = match ask.expires_in {
        None => ask.expires_at,
        Some(time) => now.checked_add(time.signed()).ok(),
    };
    if expires_at.is_some_and(|at| at <= now) {
        let message = "is not in the future".to_owned();
        let fault = Fault { field: "expiresAt".to_owned(), message };
        return Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![fault]));
    }
    let text = fresh(KeyText::generate())?;
    let new = NewKey { text: text.clone(), name: ask.name, grant, expires_at };
    let by = caller.actor(ask.by.as_deref());
    let key = state.store.create_key(new, (&by, ask.reason.as_deref())).await?;
    let view = View::new(key, now);
    Ok((StatusCode::CREATED, Json(Revealed { key: text.reveal(), view })).into_response())
}
