//! Local time → real time: what becomes of local times that the clock skips or shows twice.
//!
//! A zone is walked stretch by stretch, from one change of its offset to the next. Within a stretch local and real time
//! run in step, so that no case of the calendar needs a special word: skipped hours, repeated hours and skipped days are
//! all just stretches that do not join.
//!
//! Seconds are counted from 1970; local ones as if the local clock were UTC.

use std::ops::Range;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::definition::{Dst, Fold, Gap};

/// No offset from UTC is larger (the largest is 25:59:59).
pub(super) const LARGEST_OFFSET: i64 = 26 * 3600;
/// What the clock showed longer ago than this, it cannot show again.
pub(super) const REACH: i64 = 2 * LARGEST_OFFSET;

/// What becomes of local times that the clock skips or shows twice: declared, or else the text's own rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockRule {
    pub(super) gap: Gap,
    pub(super) fold: Fold,
}

impl ClockRule {
    /// A declared half overrides only itself.
    pub(super) fn new(follows_elapsed_time: bool, declared: Dst) -> Self {
        let (gap, fold) = if follows_elapsed_time { (Gap::Skip, Fold::Both) } else { (Gap::RunAfter, Fold::First) };
        Self { gap: declared.gap.unwrap_or(gap), fold: declared.fold.unwrap_or(fold) }
    }
}

/// A stretch of time in which a zone's offset is the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steady {
    /// Its first second: that of a change of the offset, or where the walk began.
    pub(super) begin: i64,
    /// The second of the next change; none when the offset stays.
    pub(super) end: Option<i64>,
    pub(super) offset: i64,
    /// What the local clock would have shown at `begin` without the change.
    pub(super) expected: i64,
    /// The latest local second that the clock has shown before `begin`.
    latest: i64,
}

impl Steady {
    /// The stretch that `instant` is in. None beyond the end of time.
    pub(super) fn at(zone: &TimeZone, instant: i64) -> Option<Self> {
        Self::walk(zone, instant).find(|steady| steady.reaches(instant))
    }

    /// The stretches from so early on that what the clock showed before has no say at `instant`.
    pub(super) fn walk(zone: &TimeZone, instant: i64) -> impl Iterator<Item = Self> {
        let begin = instant.saturating_sub(REACH);
        let first = offset_at(zone, begin).map(|offset| Self {
            begin,
            end: next_change(zone, begin),
            offset,
            expected: begin + offset,
            latest: begin + offset - 1,
        });
        std::iter::successors(first, move |before| {
            let begin = before.end?;
            let expected = begin + before.offset;
            Some(Self {
                begin,
                end: next_change(zone, begin),
                offset: offset_at(zone, begin)?,
                expected,
                latest: before.latest.max(expected - 1),
            })
        })
    }

    /// Whether it ends after `instant`.
    pub(super) fn reaches(&self, instant: i64) -> bool {
        self.end.is_none_or(|end| end > instant)
    }

    /// What the local clock shows at `begin`.
    pub(super) fn local_begin(&self) -> i64 {
        self.begin + self.offset
    }

    /// The local times that the change at `begin` skips and that are due right after it. A time that is skipped is due
    /// at the first instant from which on the clock shows no earlier one.
    pub(super) fn skipped(&self, zone: &TimeZone, rule: ClockRule) -> Range<i64> {
        let (mut from, mut to) = (self.expected, self.local_begin());
        if rule.gap == Gap::Skip || from >= to {
            return to..to;
        }
        // What another pass shows is that pass's.
        if rule.fold != Fold::Second {
            from = from.max(self.latest + 1);
        }
        if rule.fold != Fold::First {
            to = to.min(earliest_from(zone, Some(self.begin)));
        }
        from..to.max(from)
    }

    /// The local times that the clock shows in this stretch and that are due when it shows them.
    pub(super) fn shown(&self, zone: &TimeZone, rule: ClockRule) -> Range<i64> {
        let mut from = self.local_begin();
        let mut to = self.end.map_or(i64::MAX, |end| end + self.offset);
        match rule.fold {
            Fold::First => from = from.max(self.latest + 1),
            Fold::Second => to = to.min(earliest_from(zone, self.end)),
            Fold::Both => {}
        }
        from..to.max(from)
    }
}

/// The earliest local second that the clock shows from a change of its offset on.
fn earliest_from(zone: &TimeZone, change: Option<i64>) -> i64 {
    let Some(begin) = change else { return i64::MAX };
    let changes = std::iter::successors(change, |now| next_change(zone, *now).filter(|next| next - begin <= REACH));
    changes.filter_map(|now| Some(now + offset_at(zone, now)?)).min().unwrap_or(i64::MAX)
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
