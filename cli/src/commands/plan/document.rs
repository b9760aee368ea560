//! A plan as the server makes it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::output::printable;

/// Characters of a value that are shown: the rest is in the JSON document.
const MOST_SHOWN: usize = 300;

/// What would change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// What the definitions in force are called; none when none are.
    #[serde(default)]
    pub(crate) in_force_version: Option<i64>,
    /// Whether anything would.
    pub(crate) changes: bool,
    pub(crate) jobs: Difference,
    pub(crate) schedules: Difference,
    #[serde(default)]
    pub(crate) fire_times: Vec<FireTimes>,
    #[serde(default)]
    pub(crate) collisions: Vec<Collision>,
    #[serde(default)]
    pub(crate) clock_changes: Vec<ClockChange>,
    #[serde(default)]
    pub(crate) overruns: Vec<Overrun>,
    #[serde(default)]
    pub(crate) not_in_files: Kept,
    /// There was too much to look at all fire times, collisions, clock changes and overruns.
    #[serde(default)]
    pub(crate) cut: bool,
}

/// What would become of the jobs, or of the schedules.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Difference {
    #[serde(default)]
    pub(crate) added: Vec<Name>,
    #[serde(default)]
    pub(crate) changed: Vec<Changed>,
    #[serde(default)]
    pub(crate) removed: Vec<Name>,
}

/// A definition that would be another one.
#[derive(Debug, Deserialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    pub(crate) name: Full,
    #[serde(default)]
    pub(crate) changes: Vec<Change>,
}

/// A name after its namespace: `billing/nightly`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Name(String);

/// A name in its namespace.
#[derive(Debug, Deserialize)]
pub(crate) struct Full {
    pub(crate) namespace: String,
    #[serde(alias = "schedule")]
    pub(crate) name: String,
}

/// A member that is another one.
#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) member: String,
    #[serde(default)]
    pub(crate) from: Value,
    #[serde(default)]
    pub(crate) to: Value,
}

/// How the next fires of a schedule shift.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FireTimes {
    #[serde(flatten)]
    pub(crate) schedule: Full,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) same: u64,
    #[serde(default)]
    pub(crate) first_difference: Option<Timestamp>,
    #[serde(default)]
    pub(crate) removed: Vec<Timestamp>,
    #[serde(default)]
    pub(crate) added: Vec<Timestamp>,
    #[serde(default)]
    pub(crate) note: Option<String>,
}

/// Many schedules that are due at one second.
#[derive(Debug, Deserialize)]
pub(crate) struct Collision {
    pub(crate) at: Timestamp,
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) schedules: Vec<Name>,
}

/// What a change of clocks does to a schedule.
#[derive(Debug, Deserialize)]
pub(crate) struct ClockChange {
    #[serde(flatten)]
    pub(crate) schedule: Full,
    pub(crate) at: Timestamp,
    #[serde(default)]
    pub(crate) explanation: String,
}

/// A schedule that is due again before a run of its job has usually ended.
#[derive(Debug, Deserialize)]
pub(crate) struct Overrun {
    #[serde(flatten)]
    pub(crate) schedule: Full,
    #[serde(default)]
    pub(crate) explanation: String,
}

/// What is in force and stays, although the files do not define it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Kept {
    #[serde(default)]
    pub(crate) jobs: Vec<Name>,
    #[serde(default)]
    pub(crate) schedules: Vec<Name>,
}

impl Name {
    /// Printable, without the namespace that is everybody's.
    pub(crate) fn text(&self) -> String {
        printable(self.0.strip_prefix("default/").unwrap_or(&self.0))
    }
}

impl Full {
    /// The same.
    pub(crate) fn text(&self) -> String {
        Name(format!("{}/{}", self.namespace, self.name)).text()
    }
}

impl Change {
    /// Member, old and new, printable.
    pub(crate) fn words(&self) -> String {
        printable(&format!("{}: {} → {}", self.member, value(&self.from), value(&self.to)))
    }
}

fn value(value: &Value) -> String {
    if value.is_null() {
        return "not set".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_says_old_and_new() {
        let change = |from: Value, to: Value| Change { member: "input".to_owned(), from, to }.words();
        assert_eq!(change(json!("a\u{1b}"), json!(null)), "input: \"a\\u001b\" → not set");
        assert_eq!(change(json!({"a": [1]}), json!(2)), r#"input: {"a":[1]} → 2"#);
        assert!(change(json!("x".repeat(1000)), json!(1)).ends_with("x… → 1"));
    }

    #[test]
    fn names_of_the_default_namespace_are_short() {
        let names: Vec<Name> = serde_json::from_value(json!(["default/b", "billing/c"])).unwrap();
        assert_eq!(names.iter().map(Name::text).collect::<Vec<_>>(), ["b", "billing/c"]);
    }
}
