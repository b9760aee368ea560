//! Who asks for something, and why: of all that people do and change.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use utoipa::{IntoParams, ToSchema};

use crate::api::body::{BodyFields, FromBody, is_line};
use crate::api::error::{Fault, Problem};

const LONGEST_NAME: usize = 100;
const LONGEST_REASON: usize = 500;

/// Who asks, and why; both may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, ToSchema)]
pub(crate) struct Note {
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("maintenance of the billing database"))]
    pub(crate) reason: Option<String>,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    pub(crate) by: Option<String>,
}

/// Takes who asks.
pub(crate) fn by(body: &mut BodyFields) -> Option<String> {
    body.line("by", LONGEST_NAME)
}

/// Takes why.
pub(crate) fn reason(body: &mut BodyFields) -> Option<String> {
    body.line("reason", LONGEST_REASON)
}

impl FromBody for Note {
    fn read(body: &mut BodyFields) -> Self {
        Self { reason: reason(body), by: by(body) }
    }
}

/// The same from the parameters of a request that has no body. Others are passed over: clients of dialects have their own.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "declares the parameters to the OpenAPI document")]
pub(crate) struct NoteParameters {
    /// Why, in your words: one line.
    #[param(min_length = 1, max_length = 500)]
    reason: Option<String>,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[param(min_length = 1, max_length = 100)]
    by: Option<String>,
}

/// Who asks and why, by [`NoteParameters`].
#[derive(Debug)]
pub(crate) struct Noted(pub(crate) Note);

impl<S: Send + Sync> FromRequestParts<S> for Noted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let (mut note, mut faults) = (Note::default(), Vec::new());
        for (name, text) in pairs.map(|axum::extract::Query(pairs)| pairs).unwrap_or_default() {
            let (member, most) = match &*name {
                "by" => (&mut note.by, LONGEST_NAME),
                "reason" => (&mut note.reason, LONGEST_REASON),
                _ => continue,
            };
            if member.is_some() || !is_line(&text, most) {
                let message = format!("must be one line of 1 to {most} characters, given once");
                faults.push(Fault { field: name, message });
            } else {
                *member = Some(text);
            }
        }
        if faults.is_empty() { Ok(Self(note)) } else { Err(Problem::invalid(StatusCode::BAD_REQUEST, faults)) }
    }
}
