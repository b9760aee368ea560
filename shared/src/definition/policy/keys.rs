//! The keys of a policy file.

use super::super::schema::{Object, PLAIN, Shape, key, required};
use super::super::text::Text;

const TEXT: Shape = Shape::Text(Text::Free);
const TEXTS: Shape = Shape::List { items: &TEXT, least: 0 };
const SIZE: Shape = Shape::Text(Text::Size);

/// Far fewer files and nothing can be loaded; more than the most is what Linux allows nobody.
const OPEN_FILES: Shape = Shape::Integer { min: 16, max: 1 << 20 };
const PROCESSES: Shape = Shape::Integer { min: 1, max: 1 << 22 };

pub(super) static POLICY: Object = Object {
    name: "policy",
    keys: &[
        required("version", Shape::Integer { min: 1, max: 1 }, "The version of this format: 1"),
        key("commands", Shape::List { items: &COMMAND, least: 0 }, "Programs that jobs may run"),
        key("hosts", TEXTS, "Where HTTP calls may go: [scheme://]host[:port]"),
        key("ssh", TEXTS, "Where commands may be run over SSH: user@host[:port]"),
        key("functions", TEXTS, "Rust functions that jobs may call"),
        key("environment", TEXTS, "Variables of the worker that jobs may read by ${env:NAME}"),
        key("limits", Shape::Object(&LIMITS), "What one program may use up"),
        key("run_as", TEXT, "Whose programs they are: user or user:group"),
    ],
    instead: &[
        ("env", "write `environment`"),
        ("command", "write `commands`, a list"),
        ("user", "write `run_as: user` or `run_as: user:group`"),
    ],
    ..PLAIN
};

const COMMAND: Shape = Shape::Either {
    shapes: &[TEXT, Shape::Object(&COMMAND_WITH_ARGUMENTS)],
    hint: "write a path or name like /usr/bin/rsync, or { program: …, arguments: […] }",
};

static COMMAND_WITH_ARGUMENTS: Object = Object {
    name: "command",
    keys: &[
        required("program", TEXT, "Its path, or the name by which the worker finds it"),
        key("arguments", TEXTS, "A pattern for each argument; `**` at the end stands for all further ones"),
        key("variables", TEXTS, "Variables that jobs may set for it"),
    ],
    instead: &[("args", "write `arguments`"), ("env", "write `variables`")],
    ..PLAIN
};

static LIMITS: Object = Object {
    name: "limits",
    keys: &[
        key("cpu", Shape::Text(Text::Duration), "Processor time of each process"),
        key("memory", SIZE, "Address space of each process"),
        key("open_files", OPEN_FILES, "Open files of each process"),
        key("processes", PROCESSES, "Processes and threads of the user"),
        key("file_size", SIZE, "The length of each file that is written"),
        key("output", SIZE, "How much is kept of what an attempt prints"),
    ],
    ..PLAIN
};
