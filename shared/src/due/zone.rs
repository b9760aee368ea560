//! Local time → real time: the daylight-saving rule, and names of time zones.
//!
//! A zone is walked stretch by stretch, from one change of its offset to the next. Within a
//! stretch local and real time run in step, so that no case of the calendar needs a special word:
//! skipped hours, repeated hours and skipped days are all just stretches that do not join.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::InvalidTiming;
use super::pattern::Pattern;

/// No offset from UTC is larger (the largest is 25:59:59).
const LARGEST_OFFSET: i64 = 26 * 3600;

/// The first due second after `after`.
pub(super) fn next_after(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    if pattern.elapsed { first_showing(pattern, zone, after + 1) } else { first_passing(pattern, zone, after) }
}

/// Elapsed time: the first instant from `start` on at which the local clock shows a match.
fn first_showing(pattern: &Pattern, zone: &TimeZone, start: i64) -> Option<i64> {
    let mut now = start;
    loop {
        let offset = offset_at(zone, now)?;
        let due = pattern.first_from(now + offset);
        let change = next_change(zone, now);
        if let Some(due) = due
            && change.is_none_or(|change| due - offset < change)
        {
            return Some(due - offset);
        }
        now = change?;
        // Once the clock cannot be turned back as far as to `start` any more, it shows nothing that
        // matches until it comes near `due`: the changes between need no look.
        if now - start > 2 * LARGEST_OFFSET {
            now = now.max(due? - LARGEST_OFFSET);
        }
    }
}

/// Fixed times: a local time is due at the first instant at which the clock shows it or a later
/// one. So a skipped time is due right after the gap, and a repeated one only the first time.
fn first_passing(pattern: &Pattern, zone: &TimeZone, after: i64) -> Option<i64> {
    let due = pattern.first_from(latest_shown(zone, after)? + 1)?;
    let mut now = due - LARGEST_OFFSET;
    loop {
        let offset = offset_at(zone, now)?;
        match next_change(zone, now) {
            Some(change) if change <= due - offset => now = change,
            _ => return Some(now.max(due - offset)),
        }
    }
}

/// The latest local second that the clock has shown up to and including the instant `until`.
fn latest_shown(zone: &TimeZone, until: i64) -> Option<i64> {
    let mut latest = until + offset_at(zone, until)?;
    let mut now = until - 2 * LARGEST_OFFSET;
    while let Some(change) = next_change(zone, now).filter(|change| *change <= until) {
        latest = latest.max(change - 1 + offset_at(zone, now)?);
        now = change;
    }
    Some(latest)
}

fn offset_at(zone: &TimeZone, second: i64) -> Option<i64> {
    Some(zone.to_offset(instant(second)?).seconds().into())
}

fn next_change(zone: &TimeZone, second: i64) -> Option<i64> {
    zone.following(instant(second)?).next().map(|change| change.timestamp().as_second())
}

/// None beyond the end of time; what lies before its beginning becomes the beginning.
fn instant(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second.max(Timestamp::MIN.as_second())).ok()
}

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
