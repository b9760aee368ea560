//! PostgreSQL holds no NUL character, neither in text nor in JSON. It becomes U+FFFD on its way in, in both databases,
//! lest one such character fail a whole batch each time that it is tried.

use std::borrow::Cow;

use serde_json::Value;

use crate::cloud_event::{Named, RefusedEvent};
use crate::work_request::{Asker, RunError};

pub(crate) fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

pub(crate) fn asker_without_nul(asker: Asker) -> Asker {
    Asker { by: without_nul(asker.by), reason: asker.reason.map(without_nul) }
}

pub(crate) fn error_without_nul(error: RunError) -> RunError {
    RunError { code: without_nul(error.code), message: without_nul(error.message) }
}

pub(crate) fn refusal_without_nul(event: &RefusedEvent) -> RefusedEvent {
    let text = |text: &Option<String>| text.clone().map(without_nul);
    let Named { source, id, kind, subject, namespace } = &*event.of;
    let of = Named {
        source: text(source),
        id: text(id),
        kind: text(kind),
        subject: text(subject),
        namespace: text(namespace),
    };
    RefusedEvent { code: event.code, message: without_nul(event.message.clone()), of: Box::new(of) }
}

pub(crate) fn json_without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_nul(text)),
        Value::Array(items) => items.into_iter().map(json_without_nul).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (without_nul(name), json_without_nul(value))).collect()
        }
        other => other,
    }
}

/// The same for a borrowed value, which is copied only if it must change.
pub(crate) fn clean(value: &Value) -> Cow<'_, Value> {
    if has_nul(value) { Cow::Owned(json_without_nul(value.clone())) } else { Cow::Borrowed(value) }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}
