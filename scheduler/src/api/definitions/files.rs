//! Files of definitions in a request, and what is wrong with them.

use axum::http::StatusCode;
use reveille_shared::definition::{Fault, MOST_BYTES, MOST_BYTES_IN_ALL};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::body::{BodyFields, kind};
use crate::api::error::Problem;
use crate::definition_plan::Unsound;

/// The largest body: all files that a folder may hold, and what their JSON form adds.
pub(crate) const MOST_BODY: usize = MOST_BYTES_IN_ALL;
/// Characters of a file's name.
const MOST_NAME: usize = 1_000;

/// Names and texts.
pub(crate) type Texts = Vec<(String, String)>;

/// A file of definitions.
#[derive(ToSchema)]
#[schema(as = DefinitionFile)]
#[allow(dead_code, reason = "declares the shape to the OpenAPI document")]
pub(crate) struct File {
    /// What faults call it.
    #[schema(min_length = 1, max_length = 1000, examples("billing.yaml"))]
    name: String,
    /// Its YAML text, of at most 1 MiB.
    #[schema(examples(
        "version: 1\njobs:\n  hello: { command: [echo, hello] }\nschedules:\n  often: { every: 30s, trigger: hello }\n"
    ))]
    text: String,
}

/// Takes `files`.
pub(crate) fn take(body: &mut BodyFields) -> Texts {
    let items = match body.take("files") {
        Some(Value::Array(items)) if !items.is_empty() => items,
        Some(Value::Array(_)) | None | Some(Value::Null) => {
            body.fault("files", "must hold at least one {\"name\", \"text\"}");
            return Vec::new();
        }
        Some(other) => {
            body.fault("files", format!("must be an array, not {}", kind(&other)));
            return Vec::new();
        }
    };
    let mut files = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        match file(item) {
            Ok(file) => files.push(file),
            Err(message) => body.fault(&format!("files[{index}]"), message),
        }
    }
    files
}

fn file(item: Value) -> Result<(String, String), String> {
    let Value::Object(mut members) = item else {
        return Err(format!("must be an object with name and text, not {}", kind(&item)));
    };
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name} must be a string, not {}", kind(&other))),
        None => Err(format!("lacks {name}")),
    };
    let (name, text) = (text("name")?, text("text")?);
    if let Some(unknown) = members.keys().next() {
        return Err(format!("unknown member {unknown}"));
    }
    if name.is_empty() || name.chars().count() > MOST_NAME || name.contains(char::is_control) {
        return Err(format!("name must have 1 to {MOST_NAME} characters, none of them a control character"));
    }
    if text.len() > MOST_BYTES {
        return Err(format!("text has {} bytes, and the most is {MOST_BYTES}: split the file", text.len()));
    }
    Ok((name, text))
}

/// Something that is wrong with the definitions in files.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DefinitionFault)]
pub(crate) struct FaultView {
    /// The file; of a fault of the whole, the job or schedule.
    #[schema(examples("billing.yaml"))]
    file: String,
    /// Counted from 1; absent if the whole file is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    line: Option<usize>,
    /// Counted from 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    column: Option<usize>,
    /// What is wrong.
    #[schema(examples("unknown key `crno`"))]
    message: String,
    /// What was expected, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// All of it for a terminal, with the line itself.
    text: String,
}

impl From<&Fault> for FaultView {
    fn from(fault: &Fault) -> Self {
        Self {
            file: fault.file.clone(),
            line: fault.line,
            column: fault.column,
            message: fault.message.clone(),
            hint: fault.hint.clone(),
            text: fault.to_string(),
        }
    }
}

impl From<&Unsound> for FaultView {
    fn from(unsound: &Unsound) -> Self {
        Self {
            file: unsound.at.clone(),
            line: None,
            column: None,
            message: unsound.message.clone(),
            hint: Some(unsound.hint.clone()),
            text: unsound.to_string(),
        }
    }
}

/// The definitions have so many faults, of which these are told.
pub(crate) fn faulty(count: usize, faults: Vec<FaultView>) -> Problem {
    let first = faults.first().map(|fault| {
        let line = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}: {}", fault.file, fault.message)
    });
    let message = match (count, first) {
        (1, Some(first)) => first,
        (_, first) => format!("{count} faults; the first is {}", first.unwrap_or_default()),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "FaultyDefinitions", message).with_member("faults", json!(faults))
}
