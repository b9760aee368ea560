//! The keys of a schedule file: the one table that the checker walks and the JSON Schema is made from.

mod fan_out;
mod follow;
mod job;
mod limits;
mod schedule;
mod ssh;
mod verify;

use self::job::{DEFAULTS, JOB};
use self::schedule::{CALENDAR, SCHEDULE};
use super::scope::Scope;
use super::text::Text;

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    Text(Text),
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    Choice(&'static Choice),
    Object(&'static Object),
    /// A map with free keys; nothing at all counts as an empty one.
    Map {
        keys: Text,
        values: &'static Shape,
    },
    List {
        items: &'static Shape,
        least: usize,
    },
    /// Either of two shapes of different kinds; `hint` tells which.
    Either {
        shapes: &'static [Shape; 2],
        hint: &'static str,
    },
    /// Any JSON, with templates in its texts; `references` if `${env:NAME}` is resolved in it.
    Json {
        references: bool,
        templates: Scope,
    },
    /// Any JSON object, with templates in its texts.
    JsonObject {
        templates: Scope,
    },
}

/// One of a few words.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) words: &'static [&'static str],
    /// Words that mean something in a later version.
    pub(super) later: &'static [&'static str],
}

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Object {
    /// For people, and the name of its JSON Schema.
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
    /// Keys of which exactly one must be there, unless this is empty.
    pub(super) one_of: &'static [&'static str],
    /// Keys that mean something in a later version.
    pub(super) later: &'static [&'static str],
    /// Keys that are often expected, and what to write instead.
    pub(super) instead: &'static [(&'static str, &'static str)],
}

/// A key that may stand in an object.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

impl Object {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

pub(super) const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, required: false }
}

pub(super) const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, required: true }
}

const DURATION: Shape = Shape::Text(Text::Duration);
const NAME: Shape = Shape::Text(Text::Name);

pub(super) const PLAIN: Object = Object { name: "", keys: &[], one_of: &[], later: &[], instead: &[] };

/// One file.
pub(super) static FILE: Object = Object {
    name: "file",
    keys: &[
        required("version", Shape::Integer { min: 1, max: 1 }, "The version of this format: 1"),
        key(
            "revision",
            Shape::Integer { min: 0, max: i64::MAX },
            "Raise it with each change; an older one never replaces a newer one",
        ),
        key("namespace", NAME, "The tenant of everything in this file. Default: default"),
        key("defaults", Shape::Object(&DEFAULTS), "What the jobs of this file have unless they say otherwise"),
        key("jobs", Shape::Map { keys: Text::Name, values: &Shape::Object(&JOB) }, "What runs, by name"),
        key("schedules", Shape::Map { keys: Text::Name, values: &Shape::Object(&SCHEDULE) }, "When it runs, by name"),
        key(
            "calendars",
            Shape::Map { keys: Text::CalendarName, values: &CALENDAR },
            "Days that the schedules of the namespace name in except and only, by name",
        ),
    ],
    later: &["webhooks", "notifications", "resources"],
    ..PLAIN
};
