//! The keys of a schedule file: the one table that the checker walks and the JSON Schema is made from.

use super::text::Text;

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    Text(Text),
    Integer {
        min: i64,
        max: i64,
    },
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
    /// Any JSON; `references` if `${env:NAME}` is resolved in it.
    Json {
        references: bool,
    },
    /// Any JSON object.
    JsonObject,
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
    /// Keys that join `one_of` in a later version.
    pub(super) later_one_of: &'static [&'static str],
    /// Keys that mean something in a later version.
    pub(super) later: &'static [&'static str],
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

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, required: false }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, about, shape, required: true }
}

const DURATION: Shape = Shape::Text(Text::Duration);
const NAME: Shape = Shape::Text(Text::Name);

const PLAIN: Object = Object { name: "", keys: &[], one_of: &[], later_one_of: &[], later: &[] };

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
    ],
    later: &["calendars", "webhooks", "notifications", "resources"],
    ..PLAIN
};

static DEFAULTS: Object = Object {
    name: "defaults",
    keys: &[
        key("timeout", DURATION, "How long one attempt may take. Default: 10m"),
        key("retry", Shape::Object(&RETRY), "What follows a failed attempt"),
        key("queue", NAME, "The work queue whose workers run the jobs. Default: default"),
    ],
    later: &["concurrency", "rate", "priority", "on_failure", "on_lost"],
    ..PLAIN
};

static JOB: Object = Object {
    name: "job",
    keys: &[
        key("description", Shape::Text(Text::Free), "One line for people"),
        key("queue", NAME, "The work queue whose workers may run it. Default: default"),
        key("http", Shape::Object(&HTTP), "Call an endpoint"),
        key("command", COMMAND_OR_ARGV, "Run a program: [program, argument, …]"),
        key("function", Shape::Text(Text::Function), "Call a Rust function registered in the worker"),
        key("timeout", DURATION, "How long one attempt may take, like 45m. Default: 10m"),
        key("retry", Shape::Object(&RETRY), "What follows a failed attempt"),
        key("on_lost", Shape::Choice(&ON_LOST), "What follows when a worker dies in mid-run. Default: retry"),
    ],
    one_of: &["http", "command", "function"],
    later_one_of: &["ssh", "external"],
    later: &[
        "on_success",
        "on_failure",
        "on_finish",
        "concurrency",
        "rate",
        "unique",
        "expires",
        "priority",
        "verify",
        "resource",
        "limits",
    ],
};

static HTTP: Object = Object {
    name: "http",
    keys: &[
        key("method", Shape::Choice(&METHOD), "Default: POST"),
        required("url", Shape::Text(Text::Url), "An absolute URL; may hold {{ templates }} and ${env:NAME}"),
        key(
            "headers",
            Shape::Map { keys: Text::HeaderName, values: &Shape::Text(Text::Header) },
            "Request headers; ${env:NAME} is resolved on the worker and never stored",
        ),
        key("body", Shape::Json { references: true }, "Sent as JSON unless it is a text"),
        key(
            "success",
            Shape::List { items: &Shape::Integer { min: 100, max: 599 }, least: 1 },
            "Status codes that mean success. Default: any 2xx",
        ),
    ],
    later: &["follow", "one_way", "cancel", "verify", "poll"],
    ..PLAIN
};

const COMMAND_OR_ARGV: Shape = Shape::Either {
    shapes: &[ARGV, Shape::Object(&COMMAND)],
    hint: "write a list; to use a shell say so: [sh, -c, \"…\"]",
};

const ARGV: Shape = Shape::List { items: &Shape::Text(Text::Argument), least: 1 };

const EXIT_CODES: Shape = Shape::List { items: &Shape::Integer { min: 0, max: 255 }, least: 1 };

static COMMAND: Object = Object {
    name: "command",
    keys: &[
        required("argv", ARGV, "Program and arguments; arguments may hold {{ templates }}"),
        key(
            "env",
            Shape::Map { keys: Text::VariableName, values: &Shape::Text(Text::Environment) },
            "Added to the worker's small environment; ${env:NAME} is resolved on the worker and never stored",
        ),
        key("working_dir", Shape::Text(Text::Argument), "The folder to run in"),
        key("success", EXIT_CODES, "Exit codes that mean success. Default: 0"),
        key("no_retry", EXIT_CODES, "Exit codes after which a retry is pointless"),
    ],
    later: &["user", "group", "limits", "stdin"],
    ..PLAIN
};

static RETRY: Object = Object {
    name: "retry",
    keys: &[
        key("max_attempts", Shape::Integer { min: 1, max: 1_000 }, "Attempts in all, the first included. Default: 3"),
        key("initial", DURATION, "Upper bound of the first delay. Default: 5s"),
        key("max", DURATION, "Upper bound of any delay. Default: 5m"),
        key("backoff", Shape::Choice(&BACKOFF), "How the delay grows. Default: exponential"),
    ],
    later: &["jitter", "multiplier", "max_elapsed"],
    ..PLAIN
};

static SCHEDULE: Object = Object {
    name: "schedule",
    keys: &[
        key("description", Shape::Text(Text::Free), "One line for people"),
        key("cron", Shape::Text(Text::Cron), "5 fields, 6 with seconds first, 7 with the year last, or @daily and kin"),
        key("every", DURATION, "A fixed interval, counted from 1970-01-01T00:00Z"),
        key("at", Shape::Text(Text::Timestamp), "Once, at a time with an offset"),
        key("timezone", Shape::Text(Text::Timezone), "IANA name of the zone in which cron is read. Default: UTC"),
        required(
            "trigger",
            Shape::Either {
                shapes: &[NAME, Shape::List { items: &NAME, least: 1 }],
                hint: "write the name of a job, or a list of names",
            },
            "The job or jobs to call, in order, waiting for none",
        ),
        key("input", Shape::JsonObject, "Given to each run"),
        key(
            "overlap",
            Shape::Choice(&OVERLAP),
            "What happens to a fire while runs of an earlier one go on. Default: skip",
        ),
        key(
            "catch_up",
            Shape::Either {
                shapes: &[Shape::Choice(&CATCH_UP_POLICY), Shape::Object(&CATCH_UP)],
                hint: "write a policy (none, latest or all), or { policy: latest, window: 6h }",
            },
            "What happens to due times that were missed. Default: latest, within 1h",
        ),
    ],
    one_of: &["cron", "every", "at"],
    later: &[
        "jitter",
        "except",
        "only",
        "calendar",
        "calendars",
        "starts_at",
        "ends_at",
        "max_fires",
        "pause_after_failures",
        "dst",
        "unique",
        "expires",
        "priority",
        "paused",
        "on_success",
        "on_failure",
        "on_finish",
    ],
    ..PLAIN
};

static CATCH_UP: Object = Object {
    name: "catch_up",
    keys: &[
        key(
            "policy",
            Shape::Choice(&CATCH_UP_POLICY),
            "Which of the missed due times are made up for. Default: latest",
        ),
        key("window", DURATION, "How late a missed due time may be to be made up for. Default: 1h"),
    ],
    later: &["max"],
    ..PLAIN
};

static ON_LOST: Choice = Choice { words: &["retry", "fail"], later: &["verify"] };
static BACKOFF: Choice = Choice { words: &["exponential", "constant"], later: &["linear", "fibonacci"] };
static OVERLAP: Choice = Choice { words: &["skip", "allow"], later: &["queue_one", "queue_all", "cancel_running"] };
static CATCH_UP_POLICY: Choice = Choice { words: &["none", "latest", "all"], later: &[] };
static METHOD: Choice = Choice { words: &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], later: &[] };
