//! Where Google's clients ask after long-running operations: under `/v1/operations`, and under `/v1/ANY/PARENT/operations`.
//! Each answer names an operation in the form in which it was asked for.

pub(crate) mod cancel;
mod filter;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod wait;

use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler as _;
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use reveille_shared::state::Status;

use super::ApiState;
use super::dialects::google::Operation;
use super::error::Problem;
use super::known::Known;
use super::verbs;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `operations`, or `ANY/PARENT/operations`.
    collection: String,
    /// The last segment, if it is not the collection itself: an id, and perhaps a verb.
    last: Option<String>,
}

impl Named {
    fn parse(path: &str) -> Option<Self> {
        let segments: Vec<_> = path.strip_prefix("/v1/")?.split('/').collect();
        let (collection, last) = match &segments[..] {
            [collection @ .., last] if collection.last() == Some(&"operations") => {
                (collection, Some((*last).to_owned()))
            }
            collection if collection.last() == Some(&"operations") => (collection, None),
            _ => return None,
        };
        let is_whole = collection.iter().all(|segment| !segment.is_empty());
        is_whole.then(|| Self { collection: collection.join("/"), last })
    }

    /// The id that a verb stands behind, or that stands alone.
    fn id(&self) -> &str {
        let last = self.last.as_deref().unwrap_or_default();
        last.rsplit_once(':').map_or(last, |(id, _)| id)
    }

    /// The name of an operation by which it can be asked for in the same way.
    fn name(&self, known: &Known) -> String {
        format!("{}/{}", self.collection, known.request.id)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let path = parts.uri.path();
        Self::parse(path).ok_or_else(|| Problem::not_found("what the path names", path))
    }
}

/// The operation that a run is, with its output if it has one.
async fn operation(state: &ApiState, named: &Named, known: &Known) -> Result<Operation, Problem> {
    let output = match known.request.status {
        Status::Succeeded => state.store.output(known.request.id).await?,
        _ => None,
    };
    Ok(Operation::new(named.name(known), known, output))
}

/// Hands on what is asked about operations of any parent: no route can say that one stands before them.
pub(crate) async fn of_any_parent(State(state): State<ApiState>, request: Request) -> Response {
    let Some(named) = Named::parse(request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
    let (pattern, response) = match (request.method(), &named.last) {
        (&Method::GET | &Method::HEAD, None) => {
            ("/v1/{parent}/operations", list::list_operations.call(request, state).await)
        }
        (_, None) => return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")]).into_response(),
        (&Method::GET | &Method::HEAD, Some(_)) => {
            ("/v1/{parent}/operations/{id}", get::get_operation.call(request, state).await)
        }
        (&Method::POST, Some(_)) => return post(State(state), named, request).await,
        (_, Some(last)) => {
            let allowed = if last.contains(':') { "POST" } else { "GET,HEAD" };
            return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, allowed)]).into_response();
        }
    };
    verbs::counted(pattern, response)
}

/// `POST /v1/operations/{id}:VERB`
pub(crate) async fn post(State(state): State<ApiState>, named: Named, request: Request) -> Response {
    verbs::of_operation(state, named.last.as_deref().unwrap_or_default(), request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_behind_any_parent() {
        for (path, collection, last) in [
            ("/v1/operations", "operations", None),
            ("/v1/operations/ID", "operations", Some("ID")),
            ("/v1/compartments/C/operations", "compartments/C/operations", None),
            ("/v1/compartments/C/operations/ID:cancel", "compartments/C/operations", Some("ID:cancel")),
            ("/v1/a/b/c/d/operations/ID", "a/b/c/d/operations", Some("ID")),
            ("/v1/a/operations/operations", "a/operations", Some("operations")),
        ] {
            let named = Named { collection: collection.into(), last: last.map(str::to_owned) };
            assert_eq!(Named::parse(path), Some(named), "{path}");
        }
        for path in ["/v1/nowhere", "/v2/operations", "/v1//operations", "/v1/operations/ID/more", "/operations", "/"] {
            assert_eq!(Named::parse(path), None, "{path}");
        }
    }
}
