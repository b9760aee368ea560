//! A cron text in a time zone → its due seconds.

use std::ops::Range;

use jiff::tz::TimeZone;

use super::pattern::Pattern;
use super::walk::{ClockRule, LARGEST_OFFSET, Steady};

/// A cron text, compiled for one time zone.
#[derive(Debug)]
pub(super) struct Cron {
    /// As it is written.
    pub(super) text: Box<str>,
    pub(super) pattern: Pattern,
    pub(super) rule: ClockRule,
}

impl Cron {
    /// The first due second after `after`.
    pub(super) fn next_after(&self, zone: &TimeZone, after: i64) -> Option<i64> {
        let mut from = after + 1;
        loop {
            let steady = Steady::at(zone, from)?;
            if let Some(due) = self.first_in(zone, &steady, from) {
                return Some(due);
            }
            from = steady.end?;
            // Until the clock comes near the next match it shows and skips none: the changes between need no look.
            let next = self.pattern.first_from(from - LARGEST_OFFSET)?;
            from = from.max(next - LARGEST_OFFSET);
        }
    }

    /// The first due second after `after` and up to `until`, the last one, and how many there are.
    pub(super) fn stretch(&self, zone: &TimeZone, after: i64, until: i64) -> Option<(i64, i64, i64)> {
        let first = self.next_after(zone, after).filter(|first| *first <= until)?;
        let (mut last, mut count) = (first, 0);
        let steadies = Steady::walk(zone, first).skip_while(|steady| !steady.reaches(first));
        for steady in steadies.take_while(|steady| steady.begin <= until) {
            let mut from = first.max(steady.begin);
            if from == steady.begin && self.first_match(steady.skipped(zone, self.rule)).is_some() {
                (last, count) = (from, count + 1);
                from += 1;
            }
            let shown = steady.shown(zone, self.rule);
            let local = shown.start.max(from + steady.offset)..shown.end.min(until + 1 + steady.offset);
            let more = self.pattern.count(local.clone());
            if more > 0 {
                last = self.pattern.last_before(local.end)? - steady.offset;
                count += more;
            }
        }
        Some((first, last, count))
    }

    /// The first due second of a stretch at or after `from`.
    fn first_in(&self, zone: &TimeZone, steady: &Steady, from: i64) -> Option<i64> {
        if steady.begin >= from && self.first_match(steady.skipped(zone, self.rule)).is_some() {
            return Some(steady.begin);
        }
        let mut shown = steady.shown(zone, self.rule);
        shown.start = shown.start.max(from + steady.offset);
        Some(self.first_match(shown)? - steady.offset)
    }

    /// The first local second of a range that matches.
    pub(super) fn first_match(&self, local: Range<i64>) -> Option<i64> {
        if local.is_empty() { None } else { self.pattern.first_from(local.start).filter(|found| *found < local.end) }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::definition::{Dst, Fold, Gap};
    use crate::due::parse::parse;

    /// The due times of a text on 10 April 2026, with the offset in hours behind each.
    fn on_the_night(text: &str, zone: &TimeZone, gap: Gap, fold: Fold) -> String {
        let cron = Cron {
            text: text.into(),
            pattern: parse(text).unwrap(),
            rule: ClockRule::new(false, Dst { gap: Some(gap), fold: Some(fold) }),
        };
        let instant = |day| date(2026, 4, day).in_tz("UTC").unwrap().timestamp().as_second();
        let dues = std::iter::successors(Some(instant(10) - 1), |due| cron.next_after(zone, *due)).skip(1);
        let shown = dues.take_while(|due| *due < instant(11)).map(|due| {
            let due = jiff::Timestamp::from_second(due).unwrap().to_zoned(zone.clone());
            format!("{}{:+}", due.strftime("%H:%M"), due.offset().seconds() / 3600)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// No real zone has changed twice within days since 1970. Here what one change skips the other one shows.
    #[test]
    fn two_changes_within_an_hour() {
        use {Fold::*, Gap::*};
        // 02:00 becomes 03:00, and half an hour later 03:30 becomes 02:30.
        let gap_then_fold = TimeZone::posix("STD0DST-1,J100/2,J100/3:30").unwrap();
        let due = |gap, fold| on_the_night("15,45 2,3 * * *", &gap_then_fold, gap, fold);
        assert_eq!(due(RunAfter, First), "03:00+1 03:15+1 03:45+0");
        assert_eq!(due(RunAfter, Second), "03:00+1 02:45+0 03:15+0 03:45+0");
        assert_eq!(due(RunAfter, Both), "03:00+1 03:15+1 02:45+0 03:15+0 03:45+0");
        assert_eq!(due(Skip, First), "03:15+1 03:45+0");
        assert_eq!(due(Skip, Second), "02:45+0 03:15+0 03:45+0");
        assert_eq!(due(Skip, Both), "03:15+1 02:45+0 03:15+0 03:45+0");
        let skipped_then_shown = |fold| on_the_night("45 2 * * *", &gap_then_fold, RunAfter, fold);
        assert_eq!([First, Second, Both].map(skipped_then_shown), ["03:00+1", "02:45+0", "02:45+0"]);

        // 03:00 becomes 02:00, and half an hour later 02:30 becomes 03:30.
        let fold_then_gap = TimeZone::posix("STD0DST-1,J100/2:30,J100/3").unwrap();
        let shown_then_skipped = |fold| on_the_night("45 2 * * *", &fold_then_gap, RunAfter, fold);
        assert_eq!([First, Second, Both].map(shown_then_skipped), ["02:45+1", "03:30+1", "02:45+1"]);
    }
}
