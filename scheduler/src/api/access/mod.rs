//! Who calls, and what they may do. In reading order:
//!
//! - [`Access`]: whether callers need keys at all.
//! - [`rules`]: which role each request needs, and how far it reaches.
//! - [`admit`]: every request passes here; from then on it has a [`Caller`], and handlers take a [`Tenant`].

mod rules;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::access::{CHALLENGE, Grant, Names, key_shown};
use reveille_shared::store::{ApiKey, KeyRing, NoKey};
use reveille_shared::work_request::Asker;

pub(crate) use self::rules::{is_open, rule};
use super::ApiState;
use super::error::{Fault, Problem};
use super::extract::{NAMESPACE_HEADER, Name};
use super::note::Note;

/// The namespace of a caller who names none, and whose key is not for one only.
const DEFAULT_NAMESPACE: &str = "default";
/// Characters of who does something at most.
const LONGEST_ACTOR: usize = 200;

/// Whether callers need keys.
#[derive(Debug, Clone)]
pub enum Access {
    /// No: whoever reaches the listener, which is on loopback, may do everything.
    Open,
    /// Yes.
    Keys(Arc<KeyRing>),
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Their key, if they have shown one.
    key: Option<Arc<ApiKey>>,
    /// What they may do who have shown none.
    without: &'static Grant,
}

/// What whoever comes may do where nobody needs a key, and where all do.
static EVERYTHING: Grant = Grant::everything();
static NOTHING: Grant = Grant::nothing();

impl Caller {
    /// What they may do.
    pub(crate) fn grant(&self) -> &Grant {
        self.key.as_ref().map_or(self.without, |key| &key.grant)
    }

    /// What tells the caller from others.
    pub(crate) fn id(&self) -> &str {
        self.key().map_or("anyone", |key| &key.prefix)
    }

    /// Their key, if they have shown one.
    pub(crate) fn key(&self) -> Option<&ApiKey> {
        self.key.as_deref()
    }

    /// Who does something, for the records: the key's word counts, and what the caller says of itself stands before it.
    pub(crate) fn actor(&self, said: Option<&str>) -> String {
        let actor = match (self.key(), said) {
            (None, said) => said.unwrap_or("api").to_owned(),
            (Some(ApiKey { prefix, name, .. }), None) => format!("{name} (key {prefix})"),
            (Some(ApiKey { prefix, name, .. }), Some(said)) => format!("{said}, {name} (key {prefix})"),
        };
        actor.chars().take(LONGEST_ACTOR).collect()
    }

    /// Who asks for something of a run, and why, for its history.
    pub(crate) fn asker(&self, note: Note) -> Asker {
        Asker { by: self.actor(note.by.as_deref()), reason: note.reason }
    }

    /// Refuses callers whose keys are not for this namespace, whether it holds anything or not.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Result<(), Problem> {
        if self.grant().namespaces.has(namespace) {
            return Ok(());
        }
        Err(forbidden(format!("the key is not for namespace {namespace}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let admitted = parts.extensions.get::<Self>().cloned();
        admitted.ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "nobody was admitted"))
    }
}

/// Where a request acts: a namespace, and of its jobs those that the caller may see.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    /// The namespace.
    pub(crate) namespace: String,
    /// Its jobs that exist for the caller; so do their runs.
    pub(crate) jobs: Names,
}

impl Tenant {
    /// The namespace that a request with these headers is about: the one that it names, or the caller's only one.
    ///
    /// # Errors
    /// 400: what it names is no name. 403: the caller's key is not for it.
    pub(crate) fn named(caller: &Caller, headers: &HeaderMap) -> Result<String, Problem> {
        let namespace = match named(headers)? {
            Some(namespace) => namespace,
            None => match caller.grant().namespaces.listed() {
                Some(names) if names.len() == 1 => names.first().cloned().unwrap_or_default(),
                _ => DEFAULT_NAMESPACE.to_owned(),
            },
        };
        caller.in_namespace(&namespace)?;
        Ok(namespace)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let namespace = Self::named(&caller, &parts.headers)?;
        Ok(Self { namespace, jobs: caller.grant().jobs.clone() })
    }
}

/// The namespace that a request names.
fn named(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(NAMESPACE_HEADER).iter();
    let name = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().unwrap_or("\u{fffd}").parse::<Name>(),
        (Some(_), Some(_)) => Err("given more than once".to_owned()),
    };
    name.map(|Name(name)| Some(name)).map_err(|message| {
        let fault = Fault { field: "X-Reveille-Namespace".to_owned(), message };
        Problem::invalid(StatusCode::BAD_REQUEST, vec![fault])
    })
}

/// Lets a request through if its caller is known and may make it.
pub(crate) async fn admit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller_of(&state, &parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refused) => refused,
    }
}

async fn caller_of(state: &ApiState, request: &Parts) -> Result<Caller, Response> {
    let Access::Keys(ring) = &state.access else { return Ok(Caller { key: None, without: &EVERYTHING }) };
    let path = request.uri.path();
    let is_open = is_open(path);
    let shown = key_shown(|name| request.headers.get_all(name).iter().map(HeaderValue::as_bytes));
    if is_open && shown.is_none() {
        return Ok(Caller { key: None, without: &NOTHING });
    }
    let key = ring.find(&state.store, shown, state.clock.now()).await.map_err(|why| match why {
        NoKey::Store(error) => Problem::from(error).into_response(),
        why => unauthorized(why.to_string()),
    })?;
    if !is_open {
        let allowed = rule(&request.method, path).allows(&key.grant);
        allowed.map_err(|denied| forbidden(denied.to_string()).into_response())?;
    }
    Ok(Caller { key: Some(key), without: &NOTHING })
}

fn unauthorized(message: String) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    response
}

/// The caller is known, and may not.
pub(crate) fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_keys_the_callers_word_has_to_do() {
        let anyone = Caller { key: None, without: &EVERYTHING };
        assert_eq!([None, Some("anna")].map(|said| anyone.actor(said)), ["api", "anna"]);
    }
}
