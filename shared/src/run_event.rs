//! What a worker in another language tells of its run: a [`CloudEvent`] → a [`RunEvent`], or why it is none.
//!
//! The types are a contract, with their data in `docs/events.md`. Nothing here depends on the order in which events come:
//! each says all that it needs.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::cloud_event::{CloudEvent, Named, RefusedEvent};
use crate::duration::HumanDuration;
use crate::work_request::{MAX_OUTPUT, RunError, Stream, WorkRequestId};

/// What all types begin with.
const PREFIX: &str = "io.reveille.run.";
/// Longer lines are cut, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// The lines of one attempt that are kept: their numbers go from 1 to this.
pub const MAX_LINES: i32 = 10_000;
/// Longer texts of errors and progress are cut, in bytes.
const MAX_TEXT: usize = 4 * 1024;
/// The longest code of an error, in bytes.
const MAX_CODE: usize = 64;

/// Something that a worker tells of a run under its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    /// The tenant.
    pub namespace: String,
    /// The run.
    pub run: WorkRequestId,
    /// The lease.
    pub token: Uuid,
    /// Who tells.
    pub source: String,
    /// Tells the events of one source apart.
    pub id: String,
    /// When it happened, by the worker's clock.
    pub at: Timestamp,
    /// What.
    pub what: Told,
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It goes on.
    Heartbeat,
    /// How far it is.
    Progress {
        /// 0 to 100.
        percent: Option<f32>,
        /// A few words.
        message: Option<String>,
    },
    /// It has printed something.
    Log(Vec<Line>),
    /// What the run answers, if it ends well.
    Output(Value),
    /// It ended.
    End(RunEnd),
}

/// A line that a run has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Orders the lines of an attempt, from 1.
    pub seq: i32,
    /// Where.
    pub stream: Stream,
    /// Without its end.
    pub text: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// It took effect.
    Succeeded {
        /// What it answers; without it, what an output event says.
        output: Option<Value>,
    },
    /// It did not.
    Failed {
        /// Why.
        error: RunError,
        /// Whether another attempt may help.
        retryable: bool,
        /// The least time before that.
        not_before: Duration,
    },
    /// It was stopped, as someone had asked.
    Canceled,
    /// It was given up unfinished, for another worker to start anew.
    Released,
}

impl RunEnd {
    /// The word in the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Canceled => "canceled",
            Self::Released => "released",
        }
    }
}

impl TryFrom<CloudEvent> for RunEvent {
    type Error = RefusedEvent;

    fn try_from(event: CloudEvent) -> Result<Self, RefusedEvent> {
        let refuse = |code, message: &str| Err(event.refused(code, message));
        let Some(kind) = event.kind.strip_prefix(PREFIX) else {
            return refuse("UnknownType", "no type that is known here: see docs/events.md");
        };
        let Some(subject) = &event.subject else {
            return refuse("Malformed", "`subject` is missing: the work request's id");
        };
        let Ok(run) = subject.parse() else {
            return refuse("UnknownRun", "`subject` is not the id of a work request");
        };
        let Some(at) = event.time else {
            return refuse("Malformed", "`time` is missing: what came last is told by it");
        };
        let Some(token) = &event.token else {
            return refuse("Malformed", "`leasetoken` is missing: the token of the claim");
        };
        let Ok(token) = token.parse() else {
            return refuse("StaleToken", "`leasetoken` is not the token of a claim");
        };
        let what = match told(kind, event.data.as_ref()) {
            Ok(Some(what)) => what,
            Ok(None) => return refuse("UnknownType", "no type that is known here: see docs/events.md"),
            Err(message) => return Err(event.refused("InvalidData", message)),
        };
        let CloudEvent { source, id, namespace, .. } = event;
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        Ok(Self { namespace, run, token, source, id, at, what })
    }
}

impl RunEvent {
    /// Refuses it.
    pub fn refused(&self, code: &'static str, message: impl Into<String>) -> RefusedEvent {
        let named = Named {
            source: Some(self.source.clone()),
            id: Some(self.id.clone()),
            kind: Some(format!("{PREFIX}{}", self.what.word())),
            subject: Some(self.run.to_string()),
            namespace: Some(self.namespace.clone()),
        };
        RefusedEvent { code, message: message.into(), of: Box::new(named) }
    }
}

impl Told {
    const fn word(&self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Progress { .. } => "progress",
            Self::Log(_) => "log",
            Self::Output(_) => "output",
            Self::End(end) => end.as_str(),
        }
    }
}

/// What data of a kind says; nothing if there is no such kind.
fn told(kind: &str, data: Option<&Value>) -> Result<Option<Told>, String> {
    let members = || match data {
        None => Ok(Map::new()),
        Some(Value::Object(members)) => Ok(members.clone()),
        Some(_) => Err("the data must be a JSON object".to_owned()),
    };
    Ok(Some(match kind {
        "heartbeat" => Told::Heartbeat,
        "progress" => progress(&members()?)?,
        "log" => Told::Log(lines(&members()?)?),
        "output" => {
            let output = data.cloned().unwrap_or(Value::Null);
            too_large(&output).map_or(Ok(Told::Output(output)), |error| Err(error.message))?
        }
        "succeeded" => {
            let output = members()?.remove("output");
            // As it is with every job: it took effect, and failed for the size of its answer; a retry would not help.
            match output.as_ref().and_then(too_large) {
                Some(error) => Told::End(RunEnd::Failed { error, retryable: false, not_before: Duration::ZERO }),
                None => Told::End(RunEnd::Succeeded { output }),
            }
        }
        "failed" => failed(&members()?)?,
        "canceled" => Told::End(RunEnd::Canceled),
        "released" => Told::End(RunEnd::Released),
        _ => return Ok(None),
    }))
}

fn too_large(output: &Value) -> Option<RunError> {
    let size = output.to_string().len();
    let message = || format!("the output has {size} bytes of JSON; {MAX_OUTPUT} are kept at most");
    (size > MAX_OUTPUT).then(|| RunError::new("OutputTooLarge", message()))
}

fn progress(data: &Map<String, Value>) -> Result<Told, String> {
    let percent = match data.get("percent").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let percent = value.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
            #[allow(clippy::cast_possible_truncation, reason = "a percentage")]
            Some(percent.ok_or("`percent` must be a number from 0 to 100")? as f32)
        }
    };
    Ok(Told::Progress { percent, message: text(data, "message", MAX_TEXT)? })
}

fn lines(data: &Map<String, Value>) -> Result<Vec<Line>, String> {
    let Some(lines) = data.get("lines") else { return Ok(vec![line(data)?]) };
    let lines = lines.as_array().ok_or("`lines` must be a list of objects with `seq` and `text`")?;
    let object = |line: &Value| line.as_object().cloned().ok_or("a line must be an object with `seq` and `text`");
    lines.iter().map(|value| line(&object(value)?)).collect()
}

fn line(data: &Map<String, Value>) -> Result<Line, String> {
    let seq = data.get("seq").and_then(Value::as_i64).and_then(|seq| i32::try_from(seq).ok());
    let seq = seq.filter(|seq| (1..=MAX_LINES).contains(seq));
    let seq = seq
        .ok_or_else(|| format!("`seq` of a line must be a number from 1 to {MAX_LINES}; further ones are not kept"))?;
    let stream = match data.get("stream").map(|stream| stream.as_str().unwrap_or_default()) {
        None | Some("stdout") => Stream::Stdout,
        Some("stderr") => Stream::Stderr,
        Some(_) => return Err("`stream` must be stdout or stderr".to_owned()),
    };
    let text = text(data, "text", MAX_LINE)?.ok_or("`text` of a line is missing")?;
    Ok(Line { seq, stream, text })
}

fn failed(data: &Map<String, Value>) -> Result<Told, String> {
    let code = text(data, "code", MAX_CODE)?.unwrap_or_else(|| "Failed".to_owned());
    let message = text(data, "message", MAX_TEXT)?.unwrap_or_else(|| "the worker gives no reason".to_owned());
    let retryable = match data.get("retryable") {
        None | Some(Value::Null) => true,
        Some(value) => value.as_bool().ok_or("`retryable` must be true or false")?,
    };
    let not_before = match text(data, "notBefore", MAX_TEXT)? {
        None => Duration::ZERO,
        Some(text) => text.parse::<HumanDuration>().map_err(|error| format!("`notBefore`: {error}"))?.get(),
    };
    Ok(Told::End(RunEnd::Failed { error: RunError { code, message }, retryable, not_before }))
}

/// A text of at most so many bytes; a longer one is cut.
fn text(data: &Map<String, Value>, name: &str, most: usize) -> Result<Option<String>, String> {
    match data.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text[..text.floor_char_boundary(most)].replace('\0', "\u{fffd}"))),
        Some(_) => Err(format!("`{name}` must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> CloudEvent {
        CloudEvent {
            source: "/w".into(),
            id: "1".into(),
            kind: format!("{PREFIX}{kind}"),
            subject: Some(Uuid::from_u128(1).to_string()),
            time: Some(Timestamp::UNIX_EPOCH),
            token: Some(Uuid::from_u128(2).to_string()),
            namespace: None,
            data: Some(data).filter(|data| !data.is_null()),
        }
    }

    fn read(kind: &str, data: Value) -> Told {
        RunEvent::try_from(event(kind, data)).unwrap().what
    }

    #[test]
    fn each_type_says_what_it_says() {
        assert_eq!(read("heartbeat", Value::Null), Told::Heartbeat);
        let progress = |percent, message: Option<&str>| Told::Progress { percent, message: message.map(str::to_owned) };
        assert_eq!(read("progress", json!({"percent": 40, "message": "m"})), progress(Some(40.0), Some("m")));
        assert_eq!(read("progress", Value::Null), progress(None, None));
        let line = |seq, stream, text: &str| Line { seq, stream, text: text.into() };
        assert_eq!(read("log", json!({"seq": 1, "text": "a"})), Told::Log(vec![line(1, Stream::Stdout, "a")]));
        let many = json!({"lines": [{"seq": 2, "text": "a\0", "stream": "stderr"}]});
        assert_eq!(read("log", many), Told::Log(vec![line(2, Stream::Stderr, "a\u{fffd}")]));
        assert_eq!(read("output", json!([1])), Told::Output(json!([1])));
        assert_eq!(read("succeeded", Value::Null), Told::End(RunEnd::Succeeded { output: None }));
        let output = Some(Value::Null);
        assert_eq!(read("succeeded", json!({"output": null})), Told::End(RunEnd::Succeeded { output }));
        assert_eq!(read("canceled", Value::Null), Told::End(RunEnd::Canceled));
        assert_eq!(read("released", json!({"why": "ignored"})), Told::End(RunEnd::Released));
        let failed = |code: &str, message: &str, retryable, secs| {
            let error = RunError::new(code, message);
            Told::End(RunEnd::Failed { error, retryable, not_before: Duration::from_secs(secs) })
        };
        assert_eq!(read("failed", Value::Null), failed("Failed", "the worker gives no reason", true, 0));
        let data = json!({"code": "C", "message": "m", "retryable": false, "notBefore": "1m"});
        assert_eq!(read("failed", data), failed("C", "m", false, 60));
        let Told::End(RunEnd::Failed { error, retryable: false, .. }) =
            read("succeeded", json!({"output": "x".repeat(MAX_OUTPUT)}))
        else {
            panic!("too large")
        };
        assert_eq!(error.code, "OutputTooLarge");
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_reason() {
        for (kind, data) in [
            ("progress", json!({"percent": 101})),
            ("progress", json!({"percent": "40"})),
            ("progress", json!([])),
            ("log", json!({"seq": 0, "text": "a"})),
            ("log", json!({"seq": MAX_LINES + 1, "text": "a"})),
            ("log", json!({"lines": [5]})),
            ("log", json!({"seq": 1})),
            ("log", json!({"seq": 1, "text": "a", "stream": "stdin"})),
            ("output", json!("x".repeat(MAX_OUTPUT))),
            ("failed", json!({"retryable": "no"})),
            ("failed", json!({"notBefore": "soon"})),
        ] {
            let refused = RunEvent::try_from(event(kind, data)).unwrap_err();
            assert_eq!((refused.code, refused.of.id.as_deref()), ("InvalidData", Some("1")), "{refused:?}");
        }
        let without = |change: fn(&mut CloudEvent)| {
            let mut event = event("heartbeat", Value::Null);
            change(&mut event);
            RunEvent::try_from(event).unwrap_err().code
        };
        assert_eq!(without(|event| event.kind = "io.reveille.run.paused".into()), "UnknownType");
        assert_eq!(without(|event| event.kind = "com.example.heartbeat".into()), "UnknownType");
        assert_eq!(without(|event| event.subject = None), "Malformed");
        assert_eq!(without(|event| event.subject = Some("x".into())), "UnknownRun");
        assert_eq!(without(|event| event.time = None), "Malformed");
        assert_eq!(without(|event| event.token = None), "Malformed");
        assert_eq!(without(|event| event.token = Some("hunter2".into())), "StaleToken");
    }
}
