//! Texts of a job's limits: how often it may start, for how long a run stands for its equals, and what tells runs
//! apart.

use super::model::UniqueSpan;
use super::node::short;
use super::text::{Complaint, complaint, no_references};
use crate::duration::HumanDuration;

/// The most starts within the span of a rate.
const MOST_STARTS: u32 = 10_000;
/// The span of a rate, at least: a shorter one says nothing that the machine would not say by itself.
const SHORTEST_SPAN: HumanDuration = HumanDuration::from_secs(1);
/// The span of a rate, at most: the starts within it are remembered.
const LONGEST_SPAN: HumanDuration = HumanDuration::from_secs(86_400);
/// For how long a run stands for its equals, at most.
const LONGEST_WINDOW: HumanDuration = HumanDuration::from_secs(7 * 86_400);
/// Characters of a key as it is written.
pub(super) const LONGEST_KEY: usize = 200;

/// `100/m` or `20/30s`: how many starts, and within what span.
pub(super) fn rate(text: &str) -> Result<(u32, HumanDuration), Complaint> {
    let wrong =
        || complaint(format!("`{}` is not a rate", short(text)), "write it like 10/s, 100/m, 5/h, 1000/d or 20/30s");
    let (count, span) = text.split_once('/').ok_or_else(wrong)?;
    let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let per = match span {
        "s" | "m" | "h" | "d" => format!("1{span}").parse(),
        _ => span.parse::<HumanDuration>(),
    };
    let (true, Ok(per)) = (digits, per) else { return Err(wrong()) };
    let limit = count.parse().ok().filter(|limit| (1..=MOST_STARTS).contains(limit));
    let Some(limit) = limit else {
        let out_of_range = complaint(
            format!("a rate of {} starts", short(count)),
            format!("write a whole number from 1 to {MOST_STARTS} before the slash"),
        );
        return Err(Complaint { range: Some(0..count.len()), ..out_of_range });
    };
    if !(SHORTEST_SPAN..=LONGEST_SPAN).contains(&per) {
        let out_of_range =
            complaint(format!("a rate per {per}"), format!("write {SHORTEST_SPAN} to {LONGEST_SPAN} after the slash"));
        return Err(Complaint { range: Some(count.len() + 1..text.len()), ..out_of_range });
    }
    Ok((limit, per))
}

/// `waiting`, `running`, or a duration.
pub(super) fn unique_span(text: &str) -> Result<UniqueSpan, Complaint> {
    let hint = "write waiting (until it starts), running (until it ends), or a duration like 10m";
    match (text, text.parse::<HumanDuration>()) {
        ("waiting", _) => Ok(UniqueSpan::Waiting),
        ("running", _) => Ok(UniqueSpan::Running),
        (_, Ok(HumanDuration::ZERO)) => Err(complaint("a duration of zero", hint)),
        (_, Ok(window)) if window <= LONGEST_WINDOW => Ok(UniqueSpan::Window(window)),
        (_, Ok(_)) => {
            Err(complaint(format!("a time of more than {LONGEST_WINDOW}"), format!("write {LONGEST_WINDOW} or less")))
        }
        (_, Err(_)) => Err(complaint(format!("`{}` is no time for which a run is unique", short(text)), hint)),
    }
}

/// What tells runs apart, as it is written.
pub(super) fn key(text: &str) -> Result<(), Complaint> {
    let length = text.chars().count();
    if length == 0 {
        let hint =
            "write what tells runs apart, like \"{{ input.region }}\"; a text without templates is one key for all";
        return Err(complaint("an empty key", hint));
    }
    if length > LONGEST_KEY {
        return Err(complaint(format!("a key of more than {LONGEST_KEY} characters"), "shorten it"));
    }
    no_references(text).map_err(|found| Complaint {
        hint: "a key is made and kept by the scheduler, which resolves none: use {{ templates }}".to_owned(),
        ..found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, limit, per) in [
            ("1/s", 1, "1s"),
            ("100/m", 100, "1m"),
            ("5/h", 5, "1h"),
            ("10000/d", 10_000, "1d"),
            ("20/30s", 20, "30s"),
            ("7/1h30m", 7, "1h30m"),
            ("1/24h", 1, "1d"),
        ] {
            assert_eq!(rate(text), Ok((limit, per.parse().unwrap())), "{text}");
        }
        for text in ["", "/", "5", "5/", "/m", "-5/m", "+5/m", "5 / m", "1.5/m", "5/x", "5/M", "5/w", "5/m/s", "５/m"]
        {
            assert_eq!(rate(text).unwrap_err().message, format!("`{text}` is not a rate"));
        }
        for (text, range) in [
            ("0/m", 0..1),
            ("10001/m", 0..5),
            ("99999999999/m", 0..11),
            ("5/999ms", 2..7),
            ("5/0s", 2..4),
            ("5/25h", 2..5),
        ] {
            assert_eq!(rate(text).unwrap_err().range, Some(range), "{text}");
        }
    }

    #[test]
    fn spans() {
        let window = |text: &str| UniqueSpan::Window(text.parse().unwrap());
        for (text, span) in [
            ("waiting", UniqueSpan::Waiting),
            ("running", UniqueSpan::Running),
            ("10m", window("10m")),
            ("7d", window("7d")),
        ] {
            assert_eq!(unique_span(text), Ok(span));
        }
        for text in ["", "Running", "window", "10", "0s", "7d1ms", "ever"] {
            assert!(unique_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys() {
        for text in ["x", "{{ input.a }}/{{ job }}", &"ä".repeat(LONGEST_KEY)] {
            assert_eq!(key(text), Ok(()));
        }
        assert!(key("").is_err() && key(&"ä".repeat(LONGEST_KEY + 1)).is_err());
        assert_eq!(key("a ${env:B}").unwrap_err().range, Some(2..8));
    }
}
