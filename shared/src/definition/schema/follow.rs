//! How what a call has begun is asked after.

use super::super::text::Text;
use super::{Choice, DURATION, Object, PLAIN, Shape, key};

pub(super) const FOLLOW: Shape = Shape::Either {
    shapes: &[Shape::Boolean, Shape::Object(&FOLLOW_MAP)],
    hint: "write true, or a map like { poll: { min: 1s, max: 1m } }",
};

static FOLLOW_MAP: Object = Object {
    name: "follow",
    keys: &[
        key(
            "url",
            Shape::Text(Text::OperationUrl),
            "Where to ask, if the answer's headers do not say so. Knows status, body and headers of the answer that began it",
        ),
        key("succeeded", CONDITION, "True: it has succeeded. Knows status, body and what templates of a run know"),
        key("failed", CONDITION, "True: it has failed"),
        key("running", CONDITION, "True: it goes on. Default: whatever answer is neither of the others"),
        key("percent", Shape::Text(Text::Figure), "How far it is, from 0 to 100, like \"body.progress\""),
        key("poll", Shape::Object(&POLL), "How long to wait between two questions"),
        key("cancel", Shape::Choice(&CANCEL), "delete: to cancel it, delete the URL at which it is asked after"),
    ],
    instead: &[
        ("timeout", "write it in the job, beside `http`: it is that of the whole attempt"),
        ("headers", "remove it: it is asked with the headers of the call, if it is at the same origin"),
        ("method", "remove it: it is asked by GET, as asking must change nothing"),
    ],
    ..PLAIN
};

static POLL: Object = Object {
    name: "poll",
    keys: &[
        key("min", DURATION, "The shortest time between two questions, at least 100ms. Default: 1s"),
        key("max", DURATION, "The longest, even if the callee asks for more. Default: 1m"),
    ],
    ..PLAIN
};

const CONDITION: Shape = Shape::Text(Text::Condition);
static CANCEL: Choice = Choice { words: &["delete"], later: &[] };
