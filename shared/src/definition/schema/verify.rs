//! Who is asked whether a lost run took effect.

use super::super::text::Text;
use super::job::{ARGV, ENVIRONMENT, HEADERS};
use super::{DURATION, Object, PLAIN, Shape, key, required};

pub(super) static VERIFY: Object = Object {
    name: "verify",
    keys: &[
        key("http", Shape::Object(&VERIFY_HTTP), "Ask an endpoint, by GET"),
        key(
            "command",
            Shape::Either {
                shapes: &[ARGV, Shape::Object(&VERIFY_COMMAND)],
                hint: "write a list; to use a shell say so: [sh, -c, \"…\"]",
            },
            "Ask a program: exit code 0 it took effect, 1 it did not, 2 it is still running, any other not known",
        ),
        key("timeout", DURATION, "How long the answer may take, at most 60s. Default: 10s"),
    ],
    one_of: &["http", "command"],
    ..PLAIN
};

static VERIFY_HTTP: Object = Object {
    name: "verify.http",
    keys: &[
        required("url", Shape::Text(Text::Url), "An absolute URL; may hold {{ templates }} and ${env:NAME}"),
        key("headers", HEADERS, "Request headers; ${env:NAME} is resolved on the worker and never stored"),
        required("succeeded", CONDITION, "True: it took effect. Knows status, body and what templates of a run know"),
        key("failed", CONDITION, "True: it did not, and may be run again"),
        key("running", CONDITION, "True: it is still running"),
    ],
    instead: &[
        ("method", "remove it: it is asked by GET, as asking must change nothing"),
        ("body", "remove it: it is asked by GET, as asking must change nothing"),
        ("timeout", "write it beside `http`"),
    ],
    ..PLAIN
};

const CONDITION: Shape = Shape::Text(Text::Condition);

static VERIFY_COMMAND: Object = Object {
    name: "verify.command",
    keys: &[
        required("argv", ARGV, "Program and arguments; arguments may hold {{ templates }}"),
        key("env", ENVIRONMENT, "Added to the worker's small environment; ${env:NAME} is resolved on the worker"),
        key("working_dir", Shape::Text(Text::Folder), "The folder to run in"),
    ],
    instead: &[("success", FIXED_CODES), ("no_retry", FIXED_CODES), ("timeout", "write it beside `command`")],
    ..PLAIN
};

const FIXED_CODES: &str =
    "remove it: exit code 0 says that it took effect, 1 that it did not, 2 that it is still running";
