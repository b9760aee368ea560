//! `google.longrunning.Operation` in JSON. Its readers refuse members that they don't know, so that all else is metadata.

use reveille_shared::work_request::RunError;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::api::known::Known;
use crate::api::time::Instant;

/// A type that every reader of protobuf knows.
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
/// Values within values in a Struct: readers of protobuf give up at about three times as many.
const DEEPEST: usize = 25;

/// A run as Google's clients read it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GoogleOperation)]
pub(crate) struct Operation {
    /// By which it is found again: `operations/ID`, with a parent before it if it was asked for so.
    name: String,
    /// The run: `id`, `job`, `status`, `percentComplete` and so on.
    metadata: AnyStruct,
    /// It has ended.
    done: bool,
    /// Why it FAILED or was CANCELED.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Status>,
    /// Its output; one that is no object is the member `output` of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<AnyStruct>,
}

/// A page of operations.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GoogleOperations)]
pub(crate) struct Operations {
    /// The operations.
    pub(crate) operations: Vec<Operation>,
    /// Send it as `pageToken` for what follows; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_page_token: Option<String>,
}

/// A `google.protobuf.Struct` in a `google.protobuf.Any`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GoogleStruct)]
struct AnyStruct {
    /// Its type.
    #[serde(rename = "@type")]
    r#type: &'static str,
    /// Its members.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    value: Map<String, Value>,
}

/// A `google.rpc.Status`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GoogleStatus)]
struct Status {
    /// A `google.rpc.Code`: 1 if it was CANCELED.
    #[schema(minimum = 1, maximum = 16)]
    code: i32,
    /// For people.
    message: String,
    /// A `google.rpc.ErrorInfo` with the run's own code as its reason.
    #[schema(value_type = Vec<std::collections::HashMap<String, Value>>)]
    details: Vec<Value>,
}

impl Operation {
    /// A run by the `name` by which it was asked for. `output` is what it has answered, if it SUCCEEDED.
    pub(crate) fn new(name: String, known: &Known, output: Option<Value>) -> Self {
        let error = known.failure();
        let done = known.request.status.is_terminal();
        let response = (done && error.is_none()).then(|| AnyStruct::new(response(output)));
        Self { name, metadata: AnyStruct::new(metadata(known)), done, error: error.map(Status::from), response }
    }
}

impl AnyStruct {
    fn new(value: Map<String, Value>) -> Self {
        Self { r#type: STRUCT, value }
    }
}

fn metadata(Known { request, .. }: &Known) -> Map<String, Value> {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| members.extend(value.map(|value| (name.to_owned(), value)));
    put("id", Some(request.id.to_string().into()));
    put("namespace", Some(request.namespace.clone().into()));
    put("job", Some(request.job.clone().into()));
    put("status", Some(request.status.as_str().into()));
    put("percentComplete", Some(request.percent.into()));
    put("message", request.message.clone().map(Value::from));
    put("attempt", Some(request.attempt.into()));
    let time = |at| Value::from(Instant(at).to_string());
    put("timeAccepted", Some(time(request.accepted_at)));
    put("timeStarted", request.started_at.map(time));
    put("timeFinished", request.finished_at.map(time));
    members
}

fn response(output: Option<Value>) -> Map<String, Value> {
    match output {
        None | Some(Value::Null) => Map::new(),
        Some(deep) if depth(&deep) > DEEPEST => [("json".to_owned(), deep.to_string().into())].into_iter().collect(),
        Some(Value::Object(members)) => members,
        Some(other) => [("output".to_owned(), other)].into_iter().collect(),
    }
}

/// Values within values. The parser has limited it.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl From<RunError> for Status {
    fn from(error: RunError) -> Self {
        let reason = reason(&error.code);
        let details = vec![json!({"@type": ERROR_INFO, "reason": reason, "domain": "reveille"})];
        Self { code: rpc_code(&error.code), message: error.message, details }
    }
}

/// The nearest `google.rpc.Code` of a run's code.
fn rpc_code(code: &str) -> i32 {
    match code {
        "Canceled" => 1,
        "Template" => 3,
        "Timeout" | "Expired" => 4,
        "UnknownJob" => 5,
        "Refused" => 7,
        "LimitExceeded" | "OutputTooLarge" | "TooManyChildren" | "TooDeep" => 8,
        "Panic" => 13,
        "Lost" | "Undeliverable" => 14,
        "InputsLost" => 15,
        _ => 2,
    }
}

/// `ExitCode` → `EXIT_CODE`: a reason has 3 to 63 of `A-Z`, `0-9` and `_`, a letter first.
fn reason(code: &str) -> String {
    let mut reason = String::new();
    let mut before = '_';
    for c in code.chars().take(30) {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            reason.push('_');
        }
        reason.push(if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        before = c;
    }
    let reason = reason.trim_matches('_');
    let is_good = reason.len() >= 3 && reason.starts_with(|c: char| c.is_ascii_uppercase());
    if is_good { reason.to_owned() } else { "FAILED".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_code_becomes_a_reason() {
        for (code, expected) in [
            ("ExitCode", "EXIT_CODE"),
            ("HttpStatus", "HTTP_STATUS"),
            ("Lost", "LOST"),
            ("disk-full 2", "DISK_FULL_2"),
            ("E2BIG", "E2_BIG"),
            ("", "FAILED"),
            ("42", "FAILED"),
            ("\u{e9}", "FAILED"),
        ] {
            assert_eq!(reason(code), expected, "{code:?}");
        }
        assert!(reason(&"aB".repeat(99)).len() <= 63);
    }

    #[test]
    fn an_output_becomes_an_object_that_readers_can_read() {
        let members = |output| Value::Object(response(output));
        assert_eq!(members(None), json!({}));
        assert_eq!(members(Some(json!({"a": [1]}))), json!({"a": [1]}));
        assert_eq!(members(Some(json!([1]))), json!({"output": [1]}));
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(members(Some(nested(DEEPEST))), nested(DEEPEST));
        let deep = nested(DEEPEST + 1);
        assert_eq!(members(Some(deep.clone())), json!({"json": deep.to_string()}));
    }
}
