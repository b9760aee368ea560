//! Names of time zones.

use jiff::tz::TimeZone;

use super::InvalidTiming;

/// The time zone of an IANA name.
///
/// # Errors
///
/// When there is no such zone; the message suggests the nearest name.
pub fn timezone(name: &str) -> Result<TimeZone, InvalidTiming> {
    if !is_local(name)
        && let Ok(zone) = TimeZone::get(name)
    {
        return Ok(zone);
    }
    let mut message =
        format!("unknown time zone {}: give an IANA name such as UTC or Europe/Berlin", super::quoted(name));
    if let Some(nearest) = nearest_timezone(name) {
        message += &format!("; did you mean {nearest}?");
    }
    Err(InvalidTiming { message, field: None })
}

/// Names that the system's folder holds, but that mean another zone on each machine or none.
fn is_local(name: &str) -> bool {
    ["localtime", "posixrules", "Factory", "Etc/Unknown"].iter().any(|local| local.eq_ignore_ascii_case(name))
}

/// The known time zone whose name is nearest to `name`, for "did you mean": a few letters apart,
/// or in a city of that name. None when nothing is near.
#[must_use]
pub fn nearest_timezone(name: &str) -> Option<String> {
    // Longer than any zone's name with room for errors: not worth a look.
    if name.is_empty() || name.len() > 60 {
        return None;
    }
    let wanted = name.trim().to_ascii_lowercase().replace(' ', "_");
    let tolerated = 1 + wanted.chars().count() / 6;
    jiff::tz::db()
        .available()
        .filter_map(|known| {
            let known = known.as_str();
            if is_local(known) {
                return None;
            }
            let lower = known.to_ascii_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let apart = distance(&wanted, &lower).min(1 + distance(&wanted, city));
            (apart <= tolerated).then(|| (apart, known.to_owned()))
        })
        .min()
        .map(|(_, known)| known)
}

/// How many letters have to be put in, taken out or replaced to turn one text into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
