//! The keys of a job and of a file's defaults.

use super::super::scope::Scope;
use super::super::text::Text;
use super::fan_out::FAN_OUT;
use super::follow::FOLLOW;
use super::limits::{CONCURRENCY, PRIORITY, RATE, UNIQUE};
use super::ssh::SSH;
use super::verify::VERIFY;
use super::{Choice, DURATION, NAME, Object, PLAIN, Shape, key, required};

pub(super) static DEFAULTS: Object = Object {
    name: "defaults",
    keys: &[
        key("timeout", DURATION, "How long one attempt may take. Default: 10m"),
        key("retry", Shape::Object(&RETRY), "What follows a failed attempt"),
        key("queue", NAME, "The work queue whose workers run the jobs. Default: default"),
        key("priority", Shape::Choice(&PRIORITY), "Which runs go first when many wait. Default: normal"),
        key("concurrency", CONCURRENCY, "How many runs of each job may be under way at one time"),
        key("rate", RATE, "How many runs of each job may start within a time"),
        key("on_lost", Shape::Choice(&ON_LOST), "What follows when a worker dies in mid-run. Default: retry"),
    ],
    later: &["on_failure"],
    instead: &[
        ("unique", "write it in each job: what makes runs the same is another thing for each"),
        ("expires", "write it in each job"),
        ("verify", "write it in each job: what tells whether a run took effect is another thing for each"),
    ],
    ..PLAIN
};

pub(super) static JOB: Object = Object {
    name: "job",
    keys: &[
        key("description", Shape::Text(Text::Free), "One line for people"),
        key("queue", NAME, "The work queue whose workers may run it. Default: default"),
        key("http", Shape::Object(&HTTP), "Call an endpoint"),
        key("command", COMMAND_OR_ARGV, "Run a program: [program, argument, …]"),
        key("ssh", Shape::Object(&SSH), "Run a command on another host"),
        key("function", Shape::Text(Text::Function), "Call a Rust function registered in the worker"),
        key("external", Shape::Object(&EXTERNAL), "Leave it to a worker in any language that takes it from the queue"),
        key("timeout", DURATION, "How long one attempt may take, like 45m. Default: 10m"),
        key("retry", Shape::Object(&RETRY), "What follows a failed attempt"),
        key(
            "fan_out",
            Shape::Object(&FAN_OUT),
            "Call a job for each item of a list when a run has succeeded, and end with these runs",
        ),
        key("on_success", CALLS, "Jobs to call when a run has succeeded"),
        key("on_failure", CALLS, "Jobs to call when a run has failed, after its last attempt"),
        key("on_finish", CALLS, "Jobs to call when a run has ended in any way, canceled ones included"),
        key("on_lost", Shape::Choice(&ON_LOST), "What follows when a worker dies in mid-run. Default: retry"),
        key("verify", Shape::Object(&VERIFY), "Asked whether a lost run took effect, before on_lost is followed"),
        key("priority", Shape::Choice(&PRIORITY), "Which runs go first when many wait. Default: normal"),
        key("concurrency", CONCURRENCY, "How many runs may be under way at one time. Default: any number"),
        key("rate", RATE, "How many runs may start within a time, like 100/m. Default: any number"),
        key("unique", Shape::Object(&UNIQUE), "Which runs are the same: asking for another gives the one there is"),
        key("expires", DURATION, "A run that has not started within this time FAILS. Default: it waits"),
    ],
    one_of: &["http", "command", "ssh", "function", "external"],
    later: &["resource", "limits"],
    instead: &[
        ("cancel", "write it within `http`: what else runs is stopped by the worker"),
        ("follow", "write it within `http`"),
        ("one_way", "write it within `http`"),
    ],
};

const CALLS: Shape = Shape::Either { shapes: &[CALL, Shape::List { items: &CALL, least: 1 }], hint: HOW_TO_CALL };

const CALL: Shape = Shape::Either { shapes: &[NAME, Shape::Object(&CALL_WITH_INPUT)], hint: HOW_TO_CALL };

const HOW_TO_CALL: &str = "write the name of a job or { job: name, input: {…} }, or a list of them";

static CALL_WITH_INPUT: Object = Object {
    name: "call",
    keys: &[
        required("job", NAME, "The job to call"),
        key(
            "input",
            Shape::JsonObject { templates: Scope::Chain },
            "Given to its run; may hold {{ templates }}. Default: the ended run's input, with its output added",
        ),
    ],
    ..PLAIN
};

static HTTP: Object = Object {
    name: "http",
    keys: &[
        key("method", Shape::Choice(&METHOD), "Default: POST"),
        required("url", Shape::Text(Text::Url), "An absolute URL; may hold {{ templates }} and ${env:NAME}"),
        key("headers", HEADERS, "Request headers; ${env:NAME} is resolved on the worker and never stored"),
        key("body", Shape::Json { references: true, templates: Scope::Run }, "Sent as JSON unless it is a text"),
        key(
            "success",
            Shape::List { items: &Shape::Integer { min: 100, max: 599 }, least: 1 },
            "Status codes that mean success. Default: any 2xx",
        ),
        key("cancel", Shape::Object(&CANCEL), "Called when the run is canceled while the endpoint is at work"),
        key("follow", FOLLOW, "Ask after what the call has begun until that has ended. Default: false"),
        key("one_way", Shape::Boolean, "Only the status of the answer counts; its body is not read. Default: false"),
    ],
    instead: &[
        ("verify", "write it in the job, beside `http`"),
        ("poll", "write it within `follow`: follow: { poll: { min: 1s, max: 1m } }"),
    ],
    ..PLAIN
};

pub(super) const HEADERS: Shape = Shape::Map { keys: Text::HeaderName, values: &Shape::Text(Text::Header) };

static CANCEL: Object = Object {
    name: "cancel",
    keys: &[
        key("method", Shape::Choice(&METHOD), "Default: POST"),
        required("url", Shape::Text(Text::Url), "An absolute URL; may hold {{ templates }} and ${env:NAME}"),
        key("headers", HEADERS, "Request headers; ${env:NAME} is resolved on the worker and never stored"),
    ],
    ..PLAIN
};

const COMMAND_OR_ARGV: Shape = Shape::Either {
    shapes: &[ARGV, Shape::Object(&COMMAND)],
    hint: "write a list; to use a shell say so: [sh, -c, \"…\"]",
};

pub(super) const ARGV: Shape = Shape::List { items: &Shape::Text(Text::Argument), least: 1 };

pub(super) const ENVIRONMENT: Shape = Shape::Map { keys: Text::VariableName, values: &Shape::Text(Text::Environment) };

pub(super) const EXIT_CODES: Shape = Shape::List { items: &Shape::Integer { min: 0, max: 255 }, least: 1 };

static COMMAND: Object = Object {
    name: "command",
    keys: &[
        required("argv", ARGV, "Program and arguments; arguments may hold {{ templates }}"),
        key(
            "env",
            ENVIRONMENT,
            "Added to the worker's small environment; ${env:NAME} is resolved on the worker and never stored",
        ),
        key("working_dir", Shape::Text(Text::Folder), "The folder to run in"),
        key("success", EXIT_CODES, "Exit codes that mean success. Default: 0"),
        key("no_retry", EXIT_CODES, "Exit codes after which a retry is pointless"),
    ],
    later: &["user", "group", "limits", "stdin"],
    ..PLAIN
};

static EXTERNAL: Object = Object {
    name: "external",
    keys: &[key("lease", DURATION, "How long its worker may be silent, 10s to 1h. Default: 60s")],
    instead: &[
        ("queue", "write it in the job, beside `external`"),
        ("timeout", "write it in the job, beside `external`"),
    ],
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

static ON_LOST: Choice = Choice { words: &["retry", "fail"], later: &[] };
static BACKOFF: Choice = Choice { words: &["exponential", "constant"], later: &["linear", "fibonacci"] };
static METHOD: Choice = Choice { words: &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], later: &[] };
