//! Who calls, and what they may do. In reading order:
//!
//! - [`Access`]: whether callers need keys at all; [`ring`]: the keys that are known, without asking the store each time.
//! - [`rules`]: which role each request needs, and how far it reaches.
//! - [`admit`]: every request passes here; from then on it has a [`Caller`], and handlers take a [`Tenant`].

pub(crate) mod ring;
mod rules;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::access::{Grant, KeyText, Names};

use self::ring::{Found, KeyRing};
use self::rules::Rule;
pub(crate) use self::rules::{OPEN, rule};
use super::ApiState;
use super::error::{Fault, Problem};
use super::extract::{NAMESPACE_HEADER, Name};

/// Headers that hold nothing but a key, the first of which that is there counts.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "x-goog-api-key"];
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
    /// The prefix and the name of their key, if they need one.
    key: Option<(String, String)>,
    /// What they may do.
    pub(crate) grant: Arc<Grant>,
}

impl Caller {
    fn anyone() -> Self {
        Self { key: None, grant: Arc::new(Grant::everything()) }
    }

    /// What tells the caller from others.
    pub(crate) fn id(&self) -> &str {
        self.key.as_ref().map_or("anyone", |(prefix, _)| prefix)
    }

    /// The key, if they need one.
    pub(crate) fn key(&self) -> Option<(&str, &str)> {
        self.key.as_ref().map(|(prefix, name)| (prefix.as_str(), name.as_str()))
    }

    /// Who does something, for the records: the key's word counts, and what the caller says of itself stands before it.
    pub(crate) fn actor(&self, said: Option<&str>) -> String {
        let actor = match (&self.key, said) {
            (None, said) => said.unwrap_or("api").to_owned(),
            (Some((prefix, name)), None) => format!("{name} (key {prefix})"),
            (Some((prefix, name)), Some(said)) => format!("{said}, {name} (key {prefix})"),
        };
        actor.chars().take(LONGEST_ACTOR).collect()
    }

    /// Refuses callers whose keys are not for this namespace, whether it holds anything or not.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Result<(), Problem> {
        if self.grant.namespaces.has(namespace) {
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

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let namespace = match named(&parts.headers)? {
            Some(namespace) => namespace,
            None => match caller.grant.namespaces.listed() {
                Some(names) if names.len() == 1 => names.first().cloned().unwrap_or_default(),
                _ => DEFAULT_NAMESPACE.to_owned(),
            },
        };
        caller.in_namespace(&namespace)?;
        Ok(Self { namespace, jobs: caller.grant.jobs.clone() })
    }
}

/// The namespace that a request names.
fn named(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(NAMESPACE_HEADER).iter();
    let name = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().unwrap_or("\u{fffd}").parse::<Name>(),
        (Some(_), Some(_)) => Err("given more than once"),
    };
    name.map(|Name(name)| Some(name)).map_err(|message| {
        let fault = Fault { field: "X-Reveille-Namespace".to_owned(), message: message.to_owned() };
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
    let Access::Keys(ring) = &state.access else { return Ok(Caller::anyone()) };
    let path = request.uri.path();
    let is_open = OPEN.contains(&path) || path.starts_with("/ui/") || path.starts_with("/errors/");
    let Some(text) = key_of(&request.headers) else {
        if is_open {
            // Whoever is not known may see nothing of anybody's.
            let grant = Grant { namespaces: Names::Only(BTreeSet::new()), ..Grant::everything() };
            return Ok(Caller { key: None, grant: Arc::new(grant) });
        }
        let how = "send a key as X-API-Key, x-goog-api-key or Authorization: Bearer; see `reveille keys`";
        return Err(unauthorized(format!("the request has no key: {how}")));
    };
    let text = text.parse::<KeyText>().map_err(|malformed| unauthorized(malformed.to_string()))?;
    let found = ring
        .find(&state.store, &text, state.clock.now())
        .await
        .map_err(|error| Problem::from(error).into_response())?;
    let caller = match found {
        Found::Good(caller) => caller,
        Found::Unknown => return Err(unauthorized("the key is not known".to_owned())),
        Found::Ended(how) => return Err(unauthorized(format!("key {} {how}", text.prefix()))),
    };
    if !is_open {
        let Rule { role, reach } = rule(&request.method, path);
        if caller.grant.role < role {
            return Err(
                forbidden(format!("the key's role is {}: this needs {role}", caller.grant.role)).into_response()
            );
        }
        reach.within(&caller.grant).map_err(|problem| problem.into_response())?;
    }
    Ok(caller)
}

/// The text of the key that a request shows. Other schemes of `Authorization` are other services' concern: some clients
/// sign each request for whoever asks.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let mut alone = KEY_HEADERS.iter().filter_map(|name| headers.get(*name));
    if let Some(value) = alone.next() {
        return Some(value.to_str().unwrap_or("\u{fffd}").trim());
    }
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok()?.split_once(' '));
    bearer.into_iter().find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim())
}

fn unauthorized(message: String) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reveille\""));
    response
}

/// The caller is known, and may not.
pub(crate) fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_key_is_found_where_clients_put_it() {
        let signature = ("authorization", "Signature version=\"1\",keyId=\"x\"");
        for (pairs, found) in [
            (&[("x-api-key", "a")][..], Some("a")),
            (&[("x-goog-api-key", " a ")], Some("a")),
            (&[("authorization", "Bearer a")], Some("a")),
            (&[("authorization", "bearer a")], Some("a")),
            (&[("x-api-key", "a"), ("authorization", "Bearer b")], Some("a")),
            (&[signature, ("x-api-key", "a")], Some("a")),
            (&[signature], None),
            (&[("authorization", "Basic YTpi")], None),
            (&[("authorization", "Bearer")], None),
            (&[], None),
        ] {
            assert_eq!(key_of(&headers(pairs)), found, "{pairs:?}");
        }
    }

    #[test]
    fn what_the_caller_says_of_itself_stands_before_its_key() {
        let keyed = Caller { key: Some(("abc".into(), "ci".into())), grant: Arc::new(Grant::everything()) };
        assert_eq!(keyed.actor(None), "ci (key abc)");
        assert_eq!(keyed.actor(Some("anna@host")), "anna@host, ci (key abc)");
        assert_eq!(Caller::anyone().actor(None), "api");
        assert_eq!(Caller::anyone().actor(Some("anna")), "anna");
    }
}
