//! What handlers take from a request. Whatever is wrong is answered as a problem that names every fault at once.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body as RawBody;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::error::{Fault, Problem, printable};
use super::page::{DEFAULT_LIMIT, MAX_LIMIT};

/// The largest body of a request, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// What names of namespaces, jobs, schedules and queues look like; see also [`is_name`].
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";
/// The header that names the tenant.
pub(crate) const NAMESPACE_HEADER: &str = "x-reveille-namespace";

/// Whether `text` can be the name of something; the same rule as in definitions.
pub(crate) fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    starts_well && text.len() <= 64 && text.chars().all(allowed)
}

/// A name by the rule of [`is_name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not a name: names have 1 to 64 of a-z 0-9 - _ . with a letter or digit first";
        is_name(text).then(|| Self(text.to_owned())).ok_or(wrong)
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

/// The tenant that a request is about.
#[derive(Debug)]
pub(crate) struct Namespace(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Namespace {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = parts.headers.get_all(NAMESPACE_HEADER).iter();
        let name = match (given.next(), given.next()) {
            (None, _) => Ok(Name("default".to_owned())),
            (Some(value), None) => value.to_str().unwrap_or("\u{fffd}").parse::<Name>(),
            (Some(_), Some(_)) => Err("given more than once"),
        };
        name.map(|Name(name)| Self(name)).map_err(|message| {
            let fault = Fault { field: "X-Reveille-Namespace".to_owned(), message: message.to_owned() };
            Problem::invalid(StatusCode::BAD_REQUEST, vec![fault])
        })
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

/// Something that is read from a JSON object. No body at all is the empty object.
pub(crate) trait FromBody: Sized {
    /// Takes its members; what is wrong is noted in `body`, and what is answered then is dropped.
    fn read(body: &mut BodyFields) -> Self;
}

/// The JSON body of a request.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: FromBody> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body).await?;
        let mut fields = BodyFields::default();
        // Some clients name a type without sending a body, and none names one without a body to name.
        if !bytes.is_empty() {
            expect_json(&parts.headers)?;
            fields.members = object(&bytes)?;
        }
        let read = T::read(&mut fields);
        for (unknown, _) in std::mem::take(&mut fields.members) {
            fields.faults.push(Fault { field: unknown, message: "unknown member".to_owned() });
        }
        if fields.faults.is_empty() {
            Ok(Self(read))
        } else {
            Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, fields.faults))
        }
    }
}

/// Members of a body not yet taken, and what was wrong with those that were.
#[derive(Debug, Default)]
pub(crate) struct BodyFields {
    members: Map<String, Value>,
    faults: Vec<Fault>,
}

impl BodyFields {
    /// Notes what is wrong with a member.
    pub(crate) fn fault(&mut self, field: &str, message: impl Display) {
        self.faults.push(Fault { field: field.to_owned(), message: message.to_string() });
    }

    /// Takes an object whose JSON text has at most `max` bytes. `null` is the same as no such member.
    pub(crate) fn object(&mut self, name: &str, max: usize) -> Option<Value> {
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        let size = value.to_string().len();
        if !value.is_object() {
            self.fault(name, format!("must be an object, not {}", kind(&value)));
        } else if size > max {
            self.fault(name, format!("its JSON text has {size} bytes, the limit is {max}"));
        } else if holds_nul(&value) {
            self.fault(name, "must not hold the character U+0000");
        } else {
            return Some(value);
        }
        None
    }

    /// Takes a member that is written as a string. `null` is the same as no such member.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.members.remove(name)? {
            Value::Null => None,
            Value::String(text) => text.parse().map_err(|error| self.fault(name, error)).ok(),
            other => {
                self.fault(name, format!("must be a string, not {}", kind(&other)));
                None
            }
        }
    }
}

async fn read_body(headers: &HeaderMap, body: RawBody) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let message = format!("the body is too large: the limit is {MAX_BODY} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge", message)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "InvalidBody", "the body broke off before its end"))?;
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let given = essence.map_or("none".to_owned(), printable);
    let message = format!("a body must have the Content-Type application/json, not {given}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    let refuse = |message: String| Err(Problem::new(StatusCode::BAD_REQUEST, "InvalidJson", message));
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => refuse(format!("the body must be a JSON object, not {}", kind(&other))),
        Err(error) => refuse(format!("the body is not valid JSON: {error}")), // says line and column
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// PostgreSQL keeps no text with U+0000. The parser has limited the depth.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
