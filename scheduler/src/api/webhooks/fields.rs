//! What callers say about webhooks.

use reveille_shared::state::Status;
use serde_json::Value;

use crate::api::body::{BodyFields, is_line, kind};
use crate::api::error::printable;
use crate::api::extract::{RULE, is_name};
use crate::webhooks::targets::LONGEST_URL;

/// Names in one filter at most.
const MOST_NAMES: usize = 100;
/// Characters of a description at most.
const LONGEST_DESCRIPTION: usize = 200;

/// Told unless something else is asked for: how runs end.
pub(super) const ENDS: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Canceled];

/// Takes a member, if it is there; `Some(None)` is `null`.
fn take<T>(
    body: &mut BodyFields,
    name: &str,
    read: impl FnOnce(&mut BodyFields, Value) -> Option<T>,
) -> Option<Option<T>> {
    match body.take(name)? {
        Value::Null => Some(None),
        value => Some(read(body, value)),
    }
}

/// Takes the URL. Which addresses are allowed is judged by whoever knows.
pub(super) fn url(body: &mut BodyFields) -> Option<String> {
    let given = take(body, "url", |body, value| match value {
        Value::String(text) if text.chars().count() <= LONGEST_URL => Some(text),
        Value::String(_) => {
            body.fault("url", format!("must have at most {LONGEST_URL} characters"));
            None
        }
        other => {
            body.fault("url", format!("must be a string, not {}", kind(&other)));
            None
        }
    });
    if given == Some(None) {
        body.missing("url");
    }
    given.flatten()
}

/// Takes the description.
pub(super) fn description(body: &mut BodyFields) -> Option<Option<String>> {
    take(body, "description", |body, value| match value {
        Value::String(text) if is_line(&text, LONGEST_DESCRIPTION) => Some(text),
        _ => {
            body.fault("description", format!("must be one line of 1 to {LONGEST_DESCRIPTION} characters"));
            None
        }
    })
}

/// Takes names of jobs or schedules; none at all is no restriction.
pub(super) fn names(body: &mut BodyFields, name: &str) -> Option<Vec<String>> {
    let given =
        take(body, name, |body, value| list(body, name, value, 0, |text| is_name(text).then(|| text.to_owned())));
    given.map(Option::unwrap_or_default)
}

/// Takes statuses; none are those that end a run.
pub(super) fn statuses(body: &mut BodyFields) -> Option<Vec<Status>> {
    let given = take(body, "statuses", |body, value| list(body, "statuses", value, 1, |text| text.parse().ok()));
    given.map(|given| given.unwrap_or_else(|| ENDS.to_vec()))
}

fn list<T: PartialEq>(
    body: &mut BodyFields,
    name: &str,
    value: Value,
    least: usize,
    read: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = value else {
        body.fault(name, format!("must be an array, not {}", kind(&value)));
        return None;
    };
    if !(least..=MOST_NAMES).contains(&items.len()) {
        body.fault(name, format!("must have {least} to {MOST_NAMES} items, not {}", items.len()));
        return None;
    }
    let mut all = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        match item.as_str().map(|text| (text, read(text))) {
            Some((_, Some(one))) if !all.contains(&one) => all.push(one),
            Some((text, Some(_))) => {
                body.fault(&format!("{name}[{at}]"), format!("{} is there twice", printable(text)))
            }
            Some((text, None)) => body.fault(&format!("{name}[{at}]"), unreadable(name, text)),
            None => body.fault(&format!("{name}[{at}]"), format!("must be a string, not {}", kind(item))),
        }
    }
    (all.len() == items.len()).then_some(all)
}

fn unreadable(name: &str, text: &str) -> String {
    let text = printable(text);
    match name {
        "statuses" => format!("{text} is none of {}", Status::ALL.map(Status::as_str).join(", ")),
        _ => format!("{text} is not a name: names have {RULE}"),
    }
}

/// Takes whether it is enabled; `null` is the same as no such member.
pub(super) fn enabled(body: &mut BodyFields) -> Option<bool> {
    let given = take(body, "enabled", |body, value| {
        if !value.is_boolean() {
            body.fault("enabled", format!("must be true or false, not {}", kind(&value)));
        }
        value.as_bool()
    });
    given.flatten()
}
