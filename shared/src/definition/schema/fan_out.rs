//! What a job's runs call for when their handler has succeeded.

use super::super::text::Text;
use super::{Choice, NAME, Object, PLAIN, Shape, key, required};
use crate::fan_out::MAX_CHILDREN;

pub(super) static FAN_OUT: Object = Object {
    name: "fan_out",
    keys: &[
        required("job", NAME, "What the children run"),
        key(
            "from",
            Shape::Text(Text::Inputs),
            "Gives the list of their inputs, like \"{{ output.images }}\". Default: the handler hands them over",
        ),
        key("fail", FAIL, "What failed children mean: fast, at_end, or { tolerate: 5% }. Default: at_end"),
        key("max", MOST, "The most children; more fail the run. Default: 100000"),
    ],
    ..PLAIN
};

const MOST: Shape = Shape::Integer { min: 1, max: MAX_CHILDREN as i64 };

const FAIL: Shape = Shape::Either {
    shapes: &[Shape::Choice(&POLICY), Shape::Object(&TOLERATE)],
    hint: "write fast, at_end, or { tolerate: 5% }",
};

static POLICY: Choice = Choice { words: &["fast", "at_end"], later: &[] };

static TOLERATE: Object = Object {
    name: "tolerate",
    keys: &[required(
        "tolerate",
        Shape::Either {
            shapes: &[Shape::Integer { min: 0, max: MAX_CHILDREN as i64 }, Shape::Text(Text::Share)],
            hint: "write a number of children, or a share like 5%",
        },
        "How many children may fail: a number, or a share like 5%, rounded down",
    )],
    ..PLAIN
};
