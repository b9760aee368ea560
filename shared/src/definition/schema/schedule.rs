//! The keys of a schedule, and of calendars.

use super::super::scope::Scope;
use super::super::text::Text;
use super::{Choice, DURATION, NAME, Object, PLAIN, Shape, key, required};

const TIMESTAMP: Shape = Shape::Text(Text::Timestamp);

/// Days without the names of calendars.
pub(super) const CALENDAR: Shape = Shape::List { items: &Shape::Text(Text::Day), least: 1 };

const DAYS: Shape = Shape::List { items: &Shape::Text(Text::DayOrCalendar), least: 1 };

pub(super) static SCHEDULE: Object = Object {
    name: "schedule",
    keys: &[
        key("description", Shape::Text(Text::Free), "One line for people"),
        key("cron", Shape::Text(Text::Cron), "5 fields, 6 with seconds first, 7 with the year last, or @daily and kin"),
        key("every", DURATION, "A fixed interval, counted from 1970-01-01T00:00Z"),
        key("at", TIMESTAMP, "Once, at a time with an offset"),
        key(
            "timezone",
            Shape::Text(Text::Timezone),
            "IANA name of the zone in which cron, except and only are read. Default: UTC",
        ),
        key("dst", Shape::Object(&DST), "What becomes of cron times when clocks are changed"),
        required(
            "trigger",
            Shape::Either {
                shapes: &[NAME, Shape::List { items: &NAME, least: 1 }],
                hint: "write the name of a job, or a list of names",
            },
            "The job or jobs to call, in order, waiting for none",
        ),
        key("input", Shape::JsonObject { templates: Scope::Fire }, "Given to each run; may hold {{ templates }}"),
        key(
            "overlap",
            Shape::Either {
                shapes: &[Shape::Choice(&OVERLAP_POLICY), Shape::Object(&OVERLAP)],
                hint: "write a policy (skip, allow, queue_one, queue_all or cancel_running), or { policy: queue_all, max: 20 }",
            },
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
        key("jitter", DURATION, "Triggers go out up to this long after the due time; at most 1h. Default: at once"),
        key("starts_at", TIMESTAMP, "Due times before this time are skipped"),
        key("ends_at", TIMESTAMP, "It is not due after this time"),
        key(
            "max_fires",
            Shape::Integer { min: 1, max: i64::MAX },
            "It is not due any more once so many of its due times have triggered",
        ),
        key(
            "except",
            DAYS,
            "Due times on these days are skipped: 2026-12-24, 2026-12-24/2026-12-26, SAT, MON-FRI, or names of calendars",
        ),
        key("only", DAYS, "Due times on other days than these are skipped"),
        key(
            "pause_after_failures",
            Shape::Integer { min: 1, max: 1_000_000 },
            "Pause the schedule when so many of its runs in a row have failed",
        ),
    ],
    one_of: &["cron", "every", "at"],
    later: &["unique", "expires", "priority", "paused", "on_success", "on_failure", "on_finish"],
    instead: &[
        ("calendar", "did you mean `except` or `only`? both take names of calendars"),
        ("calendars", "write the names in `except` or `only`; calendars are defined at the top of a file"),
    ],
};

static DST: Object = Object {
    name: "dst",
    keys: &[
        key("gap", Shape::Choice(&GAP), "For local times that the clock skips"),
        key("fold", Shape::Choice(&FOLD), "For local times that the clock shows twice"),
    ],
    ..PLAIN
};

static OVERLAP: Object = Object {
    name: "overlap",
    keys: &[
        key("policy", Shape::Choice(&OVERLAP_POLICY), "What happens to the fire. Default: skip"),
        key("max", Shape::Integer { min: 1, max: 10_000 }, "With queue_all, the most fires that wait. Default: 100"),
        key("count_manual", Shape::Boolean, "Whether runs by hand count as runs of an earlier fire. Default: false"),
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
        key(
            "max",
            Shape::Integer { min: 1, max: 1_000_000 },
            "With all, the most that are made up for: the latest ones. Default: 100",
        ),
    ],
    ..PLAIN
};

static OVERLAP_POLICY: Choice =
    Choice { words: &["skip", "allow", "queue_one", "queue_all", "cancel_running"], later: &[] };
static CATCH_UP_POLICY: Choice = Choice { words: &["none", "latest", "all"], later: &[] };
static GAP: Choice = Choice { words: &["run_after", "skip"], later: &[] };
static FOLD: Choice = Choice { words: &["first", "second", "both"], later: &[] };
