//! CloudEvents 1.0 in their three shapes → one, or why it is none.
//!
//! Structured and batched: all of an event is JSON. Binary: the attributes are headers, the data is the body. What a
//! refusal tells of an event is what could be read of it, never its data or its token.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The media type of an event that is one JSON object.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of several in a JSON array.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// The most events of one message.
pub const MAX_BATCH: usize = 1_000;
/// The longest `id`, `source` or other attribute, in characters.
const MAX_ATTRIBUTE: usize = 256;

/// The extension attribute that holds the lease's token. What is in it is never shown.
pub const TOKEN: &str = "leasetoken";
/// The extension attribute that names the tenant; without it, it is `default`.
pub const NAMESPACE: &str = "namespace";

/// An event as CloudEvents define it, with what Reveille reads of its attributes.
#[derive(Clone, PartialEq)]
pub struct CloudEvent {
    /// Who tells.
    pub source: String,
    /// Tells the events of one source apart.
    pub id: String,
    /// What is told.
    pub kind: String,
    /// Of what.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// [`TOKEN`].
    pub token: Option<String>,
    /// [`NAMESPACE`].
    pub namespace: Option<String>,
    /// The data, as JSON.
    pub data: Option<Value>,
}

/// Why something that came is not taken, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// A stable word for programs.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// What could be read of it.
    pub of: Box<Named>,
}

/// What an event says of itself, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Its `source`.
    pub source: Option<String>,
    /// Its `id`.
    pub id: Option<String>,
    /// Its `type`.
    pub kind: Option<String>,
    /// Its `subject`.
    pub subject: Option<String>,
    /// The tenant that it names.
    pub namespace: Option<String>,
}

impl RefusedEvent {
    /// Of something of which nothing is known.
    pub fn of_nothing(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), of: Box::default() }
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::of_nothing("Malformed", message)
    }

    /// A message that is too long to be looked at.
    #[must_use]
    pub fn too_large(bytes: usize) -> Self {
        Self::of_nothing("TooLarge", format!("the message has {bytes} bytes; the limit is {MAX_MESSAGE}"))
    }
}

impl CloudEvent {
    /// Refuses this event.
    pub fn refused(&self, code: &'static str, message: impl Into<String>) -> RefusedEvent {
        let named = Named {
            source: Some(self.source.clone()),
            id: Some(self.id.clone()),
            kind: Some(self.kind.clone()),
            subject: self.subject.clone(),
            namespace: self.namespace.clone(),
        };
        RefusedEvent { code, message: message.into(), of: Box::new(named) }
    }
}

impl std::fmt::Debug for CloudEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, id, kind, subject, .. } = self;
        write!(f, "CloudEvent({kind} {id:?} of {source:?} on {subject:?})")
    }
}

/// What a message holds; `attributes` are those of binary mode, without a protocol's prefix. The flag tells a batch, in
/// which each event has a verdict of its own, from a message that is one event.
#[derive(Debug)]
pub enum Message {
    /// One.
    Single(Result<CloudEvent, RefusedEvent>),
    /// Any number.
    Batch(Vec<Result<CloudEvent, RefusedEvent>>),
}

impl Message {
    /// Reads a message of any shape.
    pub fn read(content_type: Option<&str>, attributes: impl Iterator<Item = (String, String)>, body: &[u8]) -> Self {
        if body.len() > MAX_MESSAGE {
            return Self::Single(Err(RefusedEvent::too_large(body.len())));
        }
        let essence = content_type.and_then(|text| text.split(';').next()).map(|text| text.trim().to_ascii_lowercase());
        match essence.as_deref() {
            Some(STRUCTURED) => Self::Single(json(body).and_then(structured)),
            Some(BATCH) => match json(body) {
                Ok(Value::Array(items)) if items.len() <= MAX_BATCH => {
                    Self::Batch(items.into_iter().map(structured).collect())
                }
                Ok(Value::Array(items)) => {
                    let message = format!("a batch of {} events; {MAX_BATCH} are taken at most", items.len());
                    Self::Single(Err(RefusedEvent::of_nothing("TooLarge", message)))
                }
                Ok(_) => Self::Single(Err(RefusedEvent::malformed("a batch must be a JSON array"))),
                Err(refused) => Self::Single(Err(refused)),
            },
            other => Self::Single(binary(other, attributes, body)),
        }
    }

    /// All events, whatever the shape.
    #[must_use]
    pub fn into_events(self) -> Vec<Result<CloudEvent, RefusedEvent>> {
        match self {
            Self::Single(event) => vec![event],
            Self::Batch(events) => events,
        }
    }
}

fn json(body: &[u8]) -> Result<Value, RefusedEvent> {
    // The parser says where, and quotes nothing.
    crate::json::read(body).map_err(|error| RefusedEvent::malformed(format!("not valid JSON: {error}")))
}

fn structured(value: Value) -> Result<CloudEvent, RefusedEvent> {
    let Value::Object(mut members) = value else {
        return Err(RefusedEvent::malformed("an event must be a JSON object"));
    };
    let encoded = members.remove("data_base64").is_some();
    let data = members.remove("data");
    let event = Attributes::of(members.into_iter().map(|(name, value)| (name, text(value)))).event()?;
    if encoded {
        return Err(event.refused("Malformed", "`data_base64` is not read: write the data as JSON in `data`"));
    }
    Ok(CloudEvent { data: data.filter(|data| !data.is_null()), ..event })
}

/// An attribute's text; nothing if it has none.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn binary(
    essence: Option<&str>,
    attributes: impl Iterator<Item = (String, String)>,
    body: &[u8],
) -> Result<CloudEvent, RefusedEvent> {
    let attributes = Attributes::of(attributes.map(|(name, text)| (name, Some(text))));
    if attributes.is_empty() {
        let message = format!(
            "no CloudEvent: it has neither the Content-Type {STRUCTURED} or {BATCH} nor an event's attributes as headers"
        );
        return Err(RefusedEvent::malformed(message));
    }
    let event = attributes.event()?;
    if body.is_empty() {
        return Ok(event);
    }
    let is_json = essence.is_none_or(|essence| essence == "application/json" || essence.ends_with("+json"));
    if !is_json {
        return Err(event.refused("Malformed", "the data must be JSON, with the Content-Type application/json"));
    }
    match json(body) {
        Ok(data) => Ok(CloudEvent { data: Some(data).filter(|data| !data.is_null()), ..event }),
        Err(refused) => Err(event.refused("Malformed", format!("the data is {}", refused.message))),
    }
}

/// The context attributes of one event; `None` is one that has no text.
struct Attributes(Map<String, Value>);

impl Attributes {
    fn of(pairs: impl Iterator<Item = (String, Option<String>)>) -> Self {
        Self(pairs.map(|(name, text)| (name, text.map_or(Value::Null, Value::String))).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn event(self) -> Result<CloudEvent, RefusedEvent> {
        let Self(members) = self;
        let get = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let short = |name: &str| get(name).map(|text| text.chars().take(MAX_ATTRIBUTE).collect::<String>());
        let known = |code, message: String| {
            let (source, id, kind) = (short("source"), short("id"), short("type"));
            let named = Named { source, id, kind, subject: short("subject"), namespace: short(NAMESPACE) };
            RefusedEvent { code, message, of: Box::new(named) }
        };
        match get("specversion") {
            Some("1.0") => {}
            Some(_) => return Err(known("Malformed", "only CloudEvents of `specversion` 1.0 are read".into())),
            None => return Err(known("Malformed", "no CloudEvent: `specversion` is missing".into())),
        }
        let missing: Vec<_> = ["id", "source", "type"].into_iter().filter(|name| get(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(known("Malformed", format!("missing or no text: {}", missing.join(", "))));
        }
        let named = ["id", "source", "type", "subject", NAMESPACE, TOKEN];
        if let Some(name) = named.into_iter().find(|name| get(name).is_some_and(|text| !is_plain(text))) {
            let message = format!("`{name}` must be one line of at most {MAX_ATTRIBUTE} characters");
            return Err(known("Malformed", message));
        }
        let time = match get("time").map(str::parse::<Timestamp>) {
            Some(Err(_)) => {
                return Err(known("Malformed", "`time` must be an instant like 2026-01-02T03:04:05Z".into()));
            }
            Some(Ok(time)) => Some(crate::clock::whole_micros(time.max(Timestamp::UNIX_EPOCH))),
            None => None,
        };
        let own = |name: &str| get(name).map(str::to_owned);
        Ok(CloudEvent {
            source: own("source").unwrap_or_default(),
            id: own("id").unwrap_or_default(),
            kind: own("type").unwrap_or_default(),
            subject: own("subject"),
            time,
            token: own(TOKEN),
            namespace: own(NAMESPACE),
            data: None,
        })
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().count() <= MAX_ATTRIBUTE && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> Value {
        json!({
            "specversion": "1.0", "id": "7", "source": "/thumbs/1", "type": "t", "subject": "s",
            "time": "2026-01-02T03:04:05.1234567Z", "leasetoken": "hunter2", "namespace": "n", "other": 5,
            "data": {"a": [1]},
        })
    }

    fn single(message: Message) -> Result<CloudEvent, RefusedEvent> {
        match message {
            Message::Single(event) => event,
            Message::Batch(events) => panic!("{events:?}"),
        }
    }

    fn read(content_type: &str, body: &str) -> Message {
        Message::read(Some(content_type), std::iter::empty(), body.as_bytes())
    }

    #[test]
    fn all_shapes_give_the_same_event() {
        let text = whole().to_string();
        let one = single(read("application/cloudevents+json; charset=utf-8", &text)).unwrap();
        assert_eq!(one.data, Some(json!({"a": [1]})));
        assert_eq!(one.time.unwrap().to_string(), "2026-01-02T03:04:05.123456Z", "as precise as databases are");
        let Message::Batch(batch) = read(BATCH, &format!("[{text}, 5]")) else { panic!() };
        assert_eq!(batch[0].as_ref(), Ok(&one));
        assert_eq!(batch[1].as_ref().unwrap_err().code, "Malformed");
        let attributes = whole();
        let attributes = attributes.as_object().unwrap().iter().filter(|(name, _)| *name != "data");
        let attributes = attributes.map(|(name, value)| (name.clone(), value.as_str().unwrap_or("5").to_owned()));
        let two = single(Message::read(Some("application/json"), attributes, br#"{"a":[1]}"#));
        assert_eq!(two, Ok(one));
    }

    #[test]
    fn what_is_no_event_is_refused_with_what_is_known_of_it() {
        let refused = |event: Value| single(read(STRUCTURED, &event.to_string())).unwrap_err();
        let known = |refused: &RefusedEvent| {
            (refused.of.id.is_some(), refused.of.source.is_some(), refused.of.subject.is_some())
        };
        let changed = |name: &str, value: Value| {
            let mut event = whole();
            event[name] = value;
            event
        };
        for (event, said) in [
            (changed("specversion", json!("0.3")), "specversion"),
            (changed("time", json!("yesterday")), "`time`"),
            (changed("type", json!({})), "type"),
            (changed("data_base64", json!("AAAA")), "data_base64"),
            (changed("type", json!("a\nb")), "`type`"),
            (changed("leasetoken", json!("x".repeat(257))), "`leasetoken`"),
        ] {
            let refused = refused(event);
            assert!(refused.message.contains(said), "{refused:?}");
            assert_eq!((refused.code, known(&refused)), ("Malformed", (true, true, true)));
            assert!(!format!("{refused:?}").contains("hunter2"));
        }
        assert_eq!(known(&refused(json!([]))), (false, false, false));
        for (content_type, body) in
            [(STRUCTURED, "{"), (BATCH, "{}"), ("text/plain", "hello"), ("application/json", "{}")]
        {
            assert_eq!(single(read(content_type, body)).unwrap_err().code, "Malformed", "{content_type} {body}");
        }
        let none = std::iter::empty();
        assert_eq!(single(Message::read(None, none, &vec![b' '; MAX_MESSAGE + 1])).unwrap_err().code, "TooLarge");
        let many = format!("[{}]", vec!["1"; MAX_BATCH + 1].join(","));
        assert_eq!(single(read(BATCH, &many)).unwrap_err().code, "TooLarge");
    }

    #[test]
    fn a_token_is_not_in_what_is_printed_of_an_event() {
        let event = single(read(STRUCTURED, &whole().to_string())).unwrap();
        assert_eq!(event.token.as_deref(), Some("hunter2"));
        assert!(!format!("{event:?}").contains("hunter2"));
    }
}
