//! What differs between two definitions of one name.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// A text in a message is cut to this many characters.
const SHOWN: usize = 60;

/// A member that has another value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangedMember {
    /// Its name in the stored form.
    pub member: String,
    /// What it was; none if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it is; none if it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl fmt::Display for ChangedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| match value {
            None => "none".to_owned(),
            Some(value) => short(&value.to_string()),
        };
        write!(f, "{} {} \u{2192} {}", self.member, shown(&self.from), shown(&self.to))
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// The members of the stored form that differ, by name.
#[must_use]
pub fn changed_members<T: Serialize>(old: &T, new: &T) -> Vec<ChangedMember> {
    let members = |value: &T| match serde_json::to_value(value) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let (mut old, mut new) = (members(old), members(new));
    let mut names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|member| ChangedMember { from: old.remove(&member), to: new.remove(&member), member })
        .filter(|changed| changed.from != changed.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{Overlap, Schedule, Timing};

    #[test]
    fn tells_what_differs_and_nothing_else() {
        let old = Schedule::new("default", "s", Timing::Cron("0 2 * * *".into()), "j");
        let new = Schedule { overlap: Overlap::Allow, timing: Timing::Every("30s".parse().unwrap()), ..old.clone() };
        let told: Vec<_> = changed_members(&old, &new).iter().map(ToString::to_string).collect();
        let expected = ["cron \"0 2 * * *\" → none", "every none → \"30s\"", "overlap \"skip\" → \"allow\""];
        assert_eq!(told, expected);
        assert_eq!(changed_members(&old, &old), []);
    }
}
