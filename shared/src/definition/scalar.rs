//! What an unquoted YAML scalar means: the core schema of YAML 1.2, where readers agree about it.

use serde_json::{Map, Number, Value};

use super::node::{Kind, Node};

/// The meaning of an unquoted scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Number(Number),
    /// `yes`, `no`, `on`, `off`: text in YAML 1.2, boolean in older readers.
    YesNo,
    /// A number that readers take in different ways, or that JSON can't hold.
    Doubtful(&'static str),
    Text,
}

pub(super) fn meaning(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ if ["yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word)) => return Plain::YesNo,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        ".inf" | ".nan" => return Plain::Doubtful("JSON has no such number"),
        lower if is_radix(lower, "0x", 16) || is_radix(lower, "0o", 8) => {
            return Plain::Doubtful("write a number in decimal digits");
        }
        _ => {}
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Plain::Doubtful("a leading zero makes it octal for some readers: write a number without it");
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let number = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
        return number.map_or(Plain::Doubtful("the number does not fit into 64 bits"), Plain::Number);
    }
    if is_decimal(unsigned) {
        return match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Plain::Number(number),
            None => Plain::Doubtful("the number is too large"),
        };
    }
    Plain::Text
}

fn is_radix(text: &str, prefix: &str, radix: u32) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
}

/// `[0-9]*(\.[0-9]*)?([eE][-+]?[0-9]+)?` with a digit before the exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['-', '+']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    digits(whole) && digits(part) && digits(exponent) && !exponent.is_empty() && whole.len() + part.len() > 0
}

/// The JSON form of a node in which nothing is doubtful.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar { text, plain: false } => Value::String(text.to_string()),
        Kind::Scalar { text, plain: true } => match meaning(text) {
            Plain::Null => Value::Null,
            Plain::Bool(value) => Value::Bool(value),
            Plain::Number(number) => Value::Number(number),
            Plain::YesNo | Plain::Doubtful(_) | Plain::Text => Value::String(text.to_string()),
        },
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => Value::Object(
            entries.iter().map(|(key, value)| (key.text.to_string(), to_json(value))).collect::<Map<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema_without_surprises() {
        let number = |text: &str| Plain::Number(serde_json::from_str(text).unwrap());
        for (text, expected) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("nil", Plain::Text),
            ("true", Plain::Bool(true)),
            ("TRUE", Plain::Bool(true)),
            ("tRUE", Plain::Text),
            ("no", Plain::YesNo),
            ("ON", Plain::YesNo),
            ("0", number("0")),
            ("-7", number("-7")),
            ("+7", number("7")),
            ("18446744073709551615", number("18446744073709551615")),
            ("1e3", number("1000.0")),
            ("-1.5", number("-1.5")),
            (".5", number("0.5")),
            ("1.", number("1.0")),
            ("1.2.3", Plain::Text),
            ("1e", Plain::Text),
            (".", Plain::Text),
            ("-", Plain::Text),
            ("e3", Plain::Text),
            ("10m", Plain::Text),
            ("12:30", Plain::Text),
            ("2026-12-31", Plain::Text),
            ("0xzz", Plain::Text),
        ] {
            assert_eq!(meaning(text), expected, "{text:?}");
        }
        for text in ["0777", "00", "0x1F", "0o17", ".inf", "-.INF", ".nan", "99999999999999999999", "1e999"] {
            assert!(matches!(meaning(text), Plain::Doubtful(_)), "{text:?} is {:?}", meaning(text));
        }
    }
}
