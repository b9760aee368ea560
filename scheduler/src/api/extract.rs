//! What handlers take from a request's head; `body` is next door. Whatever is wrong is answered as a problem that names every fault at once.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
pub(crate) use reveille_shared::name::{RULE, is_name};
use utoipa::IntoParams;

use super::ApiState;
use super::error::{Fault, Problem, printable};
use super::page::{DEFAULT_LIMIT, MAX_LIMIT};

/// What names of namespaces, jobs, schedules and queues look like; see also [`is_name`].
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";
/// The header that names the tenant.
pub(crate) const NAMESPACE_HEADER: &str = "x-reveille-namespace";

/// A name by the rule of [`is_name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text) { Ok(Self(text.to_owned())) } else { Err(format!("not a name: names have {RULE}")) }
    }
}

/// The one segment of the path that names something. Any text: what can't be a name does not exist.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        // The only thing that can be wrong with a text is that it isn't UTF-8, and nothing has such a name.
        path.map(|axum::extract::Path(text)| Self(text))
            .map_err(|_| Problem::not_found("what the path names", parts.uri.path()))
    }
}

/// The two segments of the path that name something in something else.
#[derive(Debug)]
pub(crate) struct TwoSegments(pub(crate) String, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for TwoSegments {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path((outer, inner))| Self(outer, inner))
            .map_err(|_| Problem::not_found("what the path names", parts.uri.path()))
    }
}

/// How absolute URLs in an answer begin: without a slash at the end.
#[derive(Debug)]
pub(crate) struct Base(pub(crate) String);

impl FromRequestParts<ApiState> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Self::Rejection> {
        // The guard has seen to it that there is one and that it is ours.
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str));
        Ok(Self(state.names.base(host.unwrap_or("localhost"))))
    }
}

/// What stands before the verb in a path like `/v1/schedules/nightly:pause`.
#[derive(Debug)]
pub(crate) struct BeforeVerb(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for BeforeVerb {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        Ok(Self(text.rsplit_once(':').map_or(text.clone(), |(name, _)| name.to_owned())))
    }
}

/// Something that is read from query parameters.
pub(crate) trait FromQuery: Sized {
    /// Takes its parameters; what is wrong is noted in `query`, and what is answered then is dropped.
    fn read(query: &mut QueryFields) -> Self;
}

/// The query parameters of a request.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: FromQuery> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let mut fields = QueryFields::default();
        match pairs {
            Ok(axum::extract::Query(pairs)) => fields.pairs = pairs,
            Err(_) => fields.fault("query", "not a list of name=value"),
        }
        let read = T::read(&mut fields);
        for (unknown, _) in std::mem::take(&mut fields.pairs) {
            fields.faults.push(Fault { field: unknown, message: "unknown parameter".to_owned() });
        }
        if fields.faults.is_empty() {
            Ok(Self(read))
        } else {
            Err(Problem::invalid(StatusCode::BAD_REQUEST, fields.faults))
        }
    }
}

/// Query parameters not yet taken, and what was wrong with those that were.
#[derive(Debug, Default)]
pub(crate) struct QueryFields {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl QueryFields {
    /// Notes what is wrong with a parameter.
    pub(crate) fn fault(&mut self, field: &str, message: impl Display) {
        self.faults.push(Fault { field: field.to_owned(), message: message.to_string() });
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        self.pairs.extract_if(.., |(field, _)| field == name).map(|(_, text)| text).collect()
    }

    /// Takes a parameter that may be given once.
    pub(crate) fn one<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let mut texts = self.texts(name);
        if texts.len() > 1 {
            self.fault(name, "given more than once");
        }
        let text = texts.pop()?;
        text.parse().map_err(|error| self.fault(name, format!("{} is {error}", printable(&text)))).ok()
    }

    /// Takes a parameter that may be given several times, or once as a list with commas.
    pub(crate) fn many<T: FromStr<Err: Display>>(&mut self, name: &str) -> Vec<T> {
        let texts = self.texts(name);
        let mut read = Vec::new();
        for text in texts.iter().flat_map(|text| text.split(',')) {
            match text.parse() {
                Ok(item) => read.push(item),
                Err(error) => self.fault(name, format!("{}: {error}", printable(text))),
            }
        }
        read
    }

    /// Takes a whole number between `min` and `max`.
    pub(crate) fn number(&mut self, name: &str, min: u16, max: u16, default: u16) -> u16 {
        let read: Option<Whole> = self.one(name);
        match read.map(|Whole(number)| number) {
            None => default,
            Some(number) if (i64::from(min)..=i64::from(max)).contains(&number) => u16::try_from(number).unwrap_or(max),
            Some(_) => {
                self.fault(name, format!("must be from {min} to {max}"));
                default
            }
        }
    }

    /// Takes an instant.
    pub(crate) fn instant(&mut self, name: &str) -> Option<jiff::Timestamp> {
        // Nothing that the store knows is older than the epoch, and databases differ in how far they go back.
        self.one::<Rfc3339>(name).map(|Rfc3339(at)| at.max(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Takes `limit` and `page`.
    pub(crate) fn paging(&mut self) -> (u16, Option<String>) {
        (self.number("limit", 1, MAX_LIMIT, DEFAULT_LIMIT), self.one("page"))
    }
}

/// The parameters of a list of names.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// Only names that hold this text.
    #[param(value_type = Option<String>, max_length = 64)]
    pub(crate) search: String,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    pub(crate) limit: u16,
    /// `nextPage` of the page before.
    pub(crate) page: Option<String>,
}

impl FromQuery for Search {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        let search = query.one::<String>("search").unwrap_or_default();
        if search.chars().count() > 64 || search.contains(char::is_control) {
            query.fault("search", "must have at most 64 characters, none of them a control character");
        }
        Self { search, limit, page }
    }
}

/// The parameters of a list without filters.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    pub(crate) limit: u16,
    /// `nextPage` of the page before.
    pub(crate) page: Option<String>,
}

impl FromQuery for Paging {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        Self { limit, page }
    }
}

struct Whole(i64);

impl FromStr for Whole {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err("not a whole number");
        }
        Ok(Self(text.parse().unwrap_or(i64::MAX)))
    }
}

struct Rfc3339(jiff::Timestamp);

impl FromStr for Rfc3339 {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "not an instant: write it like 2026-01-02T03:04:05Z (a + as %2B)")
    }
}
