//! Rules between the keys of one schedule.

use jiff::Timestamp;

use super::super::build::DEFAULT_TIMEZONE;
use super::super::check::Checker;
use super::super::days::{self, WHOLE_WEEK};
use super::super::node::{Key, Node};
use super::super::schedule::{DayRule, Dst, Timing};
use super::super::source::{Remark, Span};
use super::super::text::{Complaint, Text};
use crate::due::{self, DueTimes, InvalidTiming};
use crate::duration::HumanDuration;

/// The longest jitter: later, a trigger would have little to do with its due time.
const LONGEST_JITTER: HumanDuration = HumanDuration::from_secs(3600);

/// Remarks on what contradicts itself within one schedule.
pub(super) fn check(checker: &mut Checker<'_>, schedule: &Node) {
    effects(checker, schedule);
    timing(checker, schedule);
    bounds(checker, schedule);
    jitter(checker, schedule);
    excluded_days(checker, schedule);
}

fn entry<'a>(schedule: &'a Node, name: &str) -> Option<&'a (Key, Node)> {
    schedule.entries().iter().find(|(key, _)| &*key.text == name)
}

/// A value and its text, if that can be read.
fn value<'a, T>(schedule: &'a Node, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<(&'a Node, T)> {
    let node = schedule.get(name)?;
    Some((node, read(node.text()?)?))
}

fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn interval(text: &str) -> Option<HumanDuration> {
    text.parse().ok().filter(|interval| *interval > HumanDuration::ZERO)
}

/// Keys that change nothing beside those that are there.
fn effects(checker: &mut Checker<'_>, schedule: &Node) {
    let has = |name: &str| schedule.get(name).is_some();
    let mut needless = |key: &Key, when: &str| {
        let remark = Remark::new(key.span, format!("`{}` has no effect {when}", key.text));
        checker.remarks.push(remark.hint("remove it"));
    };
    let timed_otherwise = !has("cron") && (has("every") || has("at"));
    if let Some((key, _)) = entry(schedule, "timezone").filter(|(_, zone)| zone.text().is_some())
        && timed_otherwise
        && !has("except")
        && !has("only")
    {
        needless(key, "without `cron`, `except` or `only`");
    }
    if let Some((key, _)) = entry(schedule, "dst")
        && timed_otherwise
    {
        needless(key, "without `cron`");
    }
    if let Some((key, _)) = entry(schedule, "max_fires")
        && has("at")
    {
        needless(key, "with `at`, which is due once");
    }
    let mut of_policy = |map: &str, key: &str, default: &str, useful: &[&str], useless: &[&str], when: &str| {
        let map = schedule.get(map);
        let policy = map.and_then(|map| map.get("policy")).map_or(Some(default), Node::text);
        let policy = policy.filter(|policy| useless.contains(policy) && !useful.contains(policy));
        if let (Some((key, _)), Some(_)) = (map.and_then(|map| entry(map, key)), policy) {
            needless(key, when);
        }
    };
    let overlap = ["skip", "allow", "queue_one", "cancel_running"];
    of_policy("overlap", "max", "skip", &["queue_all"], &overlap, "without `policy: queue_all`");
    of_policy("overlap", "count_manual", "skip", &[], &["allow"], "with `policy: allow`");
    of_policy("catch_up", "max", "latest", &["all"], &["none", "latest"], "without `policy: all`");
}

/// Whether the timing can be used at all.
fn timing(checker: &mut Checker<'_>, schedule: &Node) {
    let timing = value(schedule, "cron", |text| Some(Timing::Cron(text.to_owned())))
        .or_else(|| value(schedule, "every", |text| interval(text).map(Timing::Every)))
        .or_else(|| value(schedule, "at", |text| instant(text).map(Timing::At)));
    let zone = schedule.get("timezone").and_then(Node::text).unwrap_or(DEFAULT_TIMEZONE);
    let (Some((node, timing)), Ok(())) = (timing, Text::Timezone.check(zone)) else { return };
    let text = node.text().unwrap_or_default();
    if text.is_empty() {
        return;
    }
    if let Err(InvalidTiming { message, field: range }) = DueTimes::new(&timing, zone, dst(schedule)) {
        let hint = match timing {
            Timing::Cron(_) => {
                "write 5 fields: minute, hour, day, month, weekday; 6 with seconds first, 7 with the year last; or @daily and kin"
            }
            _ => "write 1s or more",
        };
        checker.complain(node.span, text, Complaint { range, message, hint: hint.to_owned() });
    }
}

/// What is declared for changes of the clock, as far as it can be read.
fn dst(schedule: &Node) -> Dst {
    let word = |key| {
        let word = schedule.get("dst").and_then(|dst| dst.get(key)?.text());
        word.map(|word| serde_json::Value::String(word.to_owned()))
    };
    Dst {
        gap: word("gap").and_then(|word| serde_json::from_value(word).ok()),
        fold: word("fold").and_then(|word| serde_json::from_value(word).ok()),
    }
}

/// Whether it can be due between its start and its end.
fn bounds(checker: &mut Checker<'_>, schedule: &Node) {
    let (start, end) = (value(schedule, "starts_at", instant), value(schedule, "ends_at", instant));
    if let (Some((_, start)), Some((node, end))) = (&start, &end)
        && end <= start
    {
        let remark = Remark::new(node.span, "`ends_at` is not after `starts_at`");
        checker.remarks.push(remark.hint("write a later time, or exchange the two"));
        return;
    }
    let Some((node, at)) = value(schedule, "at", instant) else { return };
    for (outside, message) in [
        (start.is_some_and(|(_, start)| at < start), "this time is before `starts_at`"),
        (end.is_some_and(|(_, end)| at > end), "this time is after `ends_at`"),
    ] {
        if outside {
            let hint = "write a time within the bounds, or remove them";
            checker.remarks.push(Remark::new(node.span, message).hint(hint));
        }
    }
}

fn jitter(checker: &mut Checker<'_>, schedule: &Node) {
    let Some((node, jitter)) = value(schedule, "jitter", interval) else { return };
    if jitter > LONGEST_JITTER {
        let remark = Remark::new(node.span, format!("a jitter of more than {LONGEST_JITTER}"));
        checker.remarks.push(remark.hint(format!("write {LONGEST_JITTER} or less")));
    } else if let Some((_, every)) = value(schedule, "every", interval)
        && jitter >= every
    {
        let remark = Remark::new(node.span, format!("a jitter that is not shorter than the interval of {every}"));
        checker.remarks.push(remark.hint(format!("write less than {every}")));
    }
}

/// Whether `except` and `only` leave a day. What days the calendars hold that they name is not known here.
fn excluded_days(checker: &mut Checker<'_>, schedule: &Node) {
    let rules = |name: &str| -> Vec<DayRule> {
        let list = schedule.get(name).map(Node::one_or_many).unwrap_or_default();
        list.iter().filter_map(|day| days::read(day.text()?).ok()).collect()
    };
    let (except, only) = (rules("except"), rules("only"));
    let named = |rule: &DayRule| matches!(rule, DayRule::Calendar { .. });
    let unknown = only.is_empty() || only.iter().any(named);
    let allowed =
        if unknown { WHOLE_WEEK } else { only.iter().fold(0, |set, rule| set | days::weekdays_touched(rule)) };
    let covered = except.iter().fold(0, |set, rule| set | days::weekdays_covered(rule));
    if let (Some((key, _)), 0) = (entry(schedule, "except"), allowed & !covered) {
        let what = if unknown { "`except` leaves no day" } else { "`except` leaves no day of `only`" };
        checker.remarks.push(Remark::new(key.span, what).hint("remove a weekday from it"));
        return;
    }
    let Some((node, at)) = value(schedule, "at", instant) else { return };
    let zone = schedule.get("timezone").and_then(Node::text).unwrap_or(DEFAULT_TIMEZONE);
    let Ok(zone) = due::timezone(zone) else { return };
    let day = at.to_zoned(zone).date();
    if let Some(remark) = day_remark(node.span, day, &except, if unknown { &[] } else { &only }) {
        checker.remarks.push(remark);
    }
}

/// What is wrong with a schedule that is due once, on this day.
pub(in super::super) fn day_remark(
    at: Span,
    day: jiff::civil::Date,
    except: &[DayRule],
    only: &[DayRule],
) -> Option<Remark> {
    let held = |rules: &[DayRule]| rules.iter().any(|rule| days::contains(rule, day));
    let key = if held(except) {
        "except"
    } else if !only.is_empty() && !held(only) {
        "only"
    } else {
        return None;
    };
    let remark = Remark::new(at, format!("this time is on {day}, a day that `{key}` rules out"));
    Some(remark.hint(format!("write another time, or remove `{key}`")))
}
