//! What handlers take from a request's body: a JSON object. Whatever is wrong is answered as a problem that names every
//! fault at once.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body as RawBody;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use reveille_shared::json::{self, whole};
use serde_json::{Map, Value};

use super::error::{Fault, Problem, printable};

/// The largest body of a request, in bytes, unless its reader says otherwise.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// Something that is read from a JSON object. No body at all, and `null`, are the empty object.
pub(crate) trait FromBody: Sized {
    /// The largest body, in bytes.
    const MOST_BYTES: usize = MAX_BODY;

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
        let bytes = read_body(&parts.headers, body, T::MOST_BYTES).await?;
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

    /// Notes that a member is missing, unless something else is wrong with it.
    pub(crate) fn missing(&mut self, name: &str) {
        if !self.faults.iter().any(|fault| fault.field == name) {
            self.fault(name, "is missing");
        }
    }

    /// Takes the token of a lease, or notes that it is missing. What is wrong with it is told without it.
    pub(crate) fn token(&mut self) -> Option<uuid::Uuid> {
        let read = self.members.remove("token").as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok());
        if read.is_none() {
            self.fault("token", "must be a UUID");
        }
        read
    }

    /// Whether it has a member, and not as `null`, that nobody has taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a member as it is.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    /// Takes one line of text with at most `max` characters. `null` is the same as no such member.
    pub(crate) fn line(&mut self, name: &str, max: usize) -> Option<String> {
        let text: String = self.parsed(name)?;
        if !is_line(&text, max) {
            self.fault(name, format!("must be one line of 1 to {max} characters"));
            return None;
        }
        Some(text)
    }

    /// Takes an instant, or notes that it is missing.
    pub(crate) fn instant(&mut self, name: &str) -> Option<jiff::Timestamp> {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.members.remove(name);
            self.fault(name, "is missing: an instant like \"2026-01-02T03:04:05Z\"");
        }
        self.maybe_instant(name)
    }

    /// Takes an instant. `null` is the same as no such member.
    pub(crate) fn maybe_instant(&mut self, name: &str) -> Option<jiff::Timestamp> {
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        let read = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if read.is_none() {
            self.fault(name, "must be an instant like \"2026-01-02T03:04:05Z\"");
        }
        // Nothing that the store knows is older than the epoch, and databases differ in how far they go back.
        read.map(|at| at.max(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Takes a whole number between `min` and `max`. `null` is the same as no such member.
    pub(crate) fn number(&mut self, name: &str, min: u32, max: u32) -> Option<u32> {
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        let read = value.as_number().and_then(whole).and_then(|number| u32::try_from(number).ok());
        let read = read.filter(|number| (min..=max).contains(number));
        if read.is_none() {
            self.fault(name, format!("must be a whole number from {min} to {max}"));
        }
        read
    }

    /// Takes `true` or `false`; no such member is `false`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.members.remove(name) {
            Some(Value::Bool(flag)) => flag,
            None | Some(Value::Null) => false,
            Some(other) => {
                self.fault(name, format!("must be true or false, not {}", kind(&other)));
                false
            }
        }
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

/// Whether a text is one line of 1 to `max` characters.
pub(crate) fn is_line(text: &str, max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= max && !text.contains(char::is_control)
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read_body(headers: &HeaderMap, body: RawBody, most: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let message = format!("the body is too large: the limit is {most} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge", message)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "InvalidBody", "the body broke off before its end"))?;
        if bytes.len() + chunk.len() > most {
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
    match json::read(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => refuse(format!("the body must be a JSON object, not {}", kind(&other))),
        Err(error) => refuse(format!("the body is not valid JSON: {error}")), // says line and column
    }
}

pub(crate) fn kind(value: &Value) -> &'static str {
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
pub(crate) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
