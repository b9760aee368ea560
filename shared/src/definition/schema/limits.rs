//! How many runs of a job, which first, and which are the same.

use super::super::text::Text;
use super::{Choice, Object, PLAIN, Shape, key, required};

pub(super) static PRIORITY: Choice = Choice { words: &["high", "normal", "low"], later: &[] };

pub(super) const CONCURRENCY: Shape = Shape::Either {
    shapes: &[AT_ONE_TIME, Shape::Object(&CONCURRENCY_BY_KEY)],
    hint: "write a number, or { limit: 3, key: \"{{ input.region }}\" }",
};

const AT_ONE_TIME: Shape = Shape::Integer { min: 1, max: 100_000 };

static CONCURRENCY_BY_KEY: Object = Object {
    name: "concurrency",
    keys: &[required("limit", AT_ONE_TIME, "The most runs that may be under way at one time"), key("key", KEY, SHARED)],
    ..PLAIN
};

pub(super) const RATE: Shape = Shape::Either {
    shapes: &[Shape::Text(Text::Rate), Shape::Object(&RATE_BY_KEY)],
    hint: "write a rate like 100/m, or { limit: 100/m, key: \"{{ input.tenant }}\" }",
};

static RATE_BY_KEY: Object = Object {
    name: "rate",
    keys: &[
        required("limit", Shape::Text(Text::Rate), "The most starts in any span: 10/s, 100/m, 5/h, 1000/d or 20/30s"),
        key("key", KEY, SHARED),
    ],
    instead: &[("per", "write it after the slash of `limit`, like 100/m or 20/30s")],
    ..PLAIN
};

const KEY: Shape = Shape::Text(Text::Key);

const SHARED: &str =
    "Runs with the same text share the limit; may hold {{ templates }}. Default: all runs of the job do";

pub(super) static UNIQUE: Object = Object {
    name: "unique",
    keys: &[
        required("key", KEY, "Runs with the same text are the same; may hold {{ templates }}"),
        required(
            "while",
            Shape::Text(Text::UniqueSpan),
            "For how long: waiting (until it starts), running (until it ends), or a duration from its acceptance on",
        ),
    ],
    ..PLAIN
};
