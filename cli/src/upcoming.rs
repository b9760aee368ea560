//! Due times of a schedule of a file: those that its days and its span of time leave over.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::Schedule;
use reveille_shared::due::{self, DueTimes};

/// Days in a row without a due time that is left over, after which nobody looks on: a hundred years.
const MOST_DAYS: usize = 36_525;

/// Due times to come, and how many in between are skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Upcoming {
    /// In their order.
    pub(crate) times: Vec<Timestamp>,
    /// How many due times between the first instant and the last of `times` the schedule's `except`, `only` and
    /// `starts_at` leave out.
    pub(crate) excluded: i64,
}

impl Upcoming {
    /// The first `count` due times after `from`.
    pub(crate) fn of(schedule: &Schedule, due: &DueTimes, from: Timestamp, count: usize) -> Self {
        let mut found = Self::default();
        let mut after = from;
        if let Some(starts) = schedule.starts_at.and_then(|at| at.checked_sub(SignedDuration::from_nanos(1)).ok())
            && starts > from
        {
            found.excluded += due.stretch(from, starts).map_or(0, |stretch| stretch.count);
            after = starts;
        }
        // What is excluded behind the last due time is not in between.
        let mut excluded = found.excluded;
        let mut days = 0;
        while found.times.len() < count && days < MOST_DAYS {
            let next = due.next_after(after).filter(|at| schedule.ends_at.is_none_or(|ends| *at <= ends));
            let Some(at) = next else { break };
            if due::exclusion(schedule, due.zone(), at).is_none() {
                found.times.push(at);
                found.excluded = excluded;
                (after, days) = (at, 0);
                continue;
            }
            // Whole days are excluded: the rest of this one too.
            let end = end_of_day(due, at).map_or(at, |end| schedule.ends_at.map_or(end, |ends| end.min(ends))).max(at);
            excluded += due.stretch(after, end).map_or(1, |stretch| stretch.count);
            (after, days) = (end, days + 1);
        }
        found
    }
}

/// The last instant of the local day that `at` is in.
fn end_of_day(due: &DueTimes, at: Timestamp) -> Option<Timestamp> {
    let tomorrow: Date = due.zone().to_datetime(at).date().tomorrow().ok()?;
    let midnight = due.zone().to_timestamp(tomorrow.at(0, 0, 0, 0)).ok()?;
    midnight.checked_sub(SignedDuration::from_nanos(1)).ok()
}

#[cfg(test)]
mod tests {
    use reveille_shared::definition::{Day, DayRule, Timing};

    use super::*;

    fn schedule(cron: &str) -> Schedule {
        Schedule {
            timezone: "Europe/Berlin".to_owned(),
            ..Schedule::new("default", "s", Timing::Cron(cron.to_owned()), "j")
        }
    }

    #[track_caller]
    fn upcoming(schedule: &Schedule, from: &str, count: usize) -> (Vec<String>, i64) {
        let due = DueTimes::of(schedule).unwrap();
        let Upcoming { times, excluded } = Upcoming::of(schedule, &due, from.parse().unwrap(), count);
        (times.iter().map(ToString::to_string).collect(), excluded)
    }

    #[test]
    fn excluded_days_are_passed_over_and_counted() {
        let except = vec![DayRule::Dates { from: "2026-12-24".parse().unwrap(), to: "2026-12-26".parse().unwrap() }];
        let daily = Schedule { except, ..schedule("0 2,14 * * *") };
        let (times, excluded) = upcoming(&daily, "2026-12-23T12:00:00Z", 2);
        assert_eq!((times, excluded), (vec!["2026-12-23T13:00:00Z".into(), "2026-12-27T01:00:00Z".into()], 6));
        // What is excluded behind the last one does not count.
        assert_eq!(upcoming(&daily, "2026-12-23T12:00:00Z", 1).1, 0);
    }

    #[test]
    fn a_rare_day_of_an_every_second_text_is_found_at_once() {
        let only = vec![DayRule::Dates { from: "2036-01-01".parse().unwrap(), to: "2036-01-01".parse().unwrap() }];
        let busy = Schedule { only, ..schedule("* * * * * *") };
        let (times, excluded) = upcoming(&busy, "2026-01-01T00:00:00Z", 1);
        assert_eq!(times, ["2035-12-31T23:00:00Z"]);
        assert_eq!(excluded, 3652 * 86_400 - 3601);
        assert_eq!(upcoming(&busy, "2036-01-02T00:00:00Z", 1), (vec![], 0));
    }

    #[test]
    fn weekdays_are_those_of_the_zone() {
        let only = vec![DayRule::Weekdays { from: Day::Mon, to: Day::Mon }];
        let (times, excluded) = upcoming(&Schedule { only, ..schedule("30 0 * * *") }, "2026-11-20T00:00:00Z", 2);
        assert_eq!(times, ["2026-11-22T23:30:00Z", "2026-11-29T23:30:00Z"]);
        assert_eq!(excluded, 8);
    }

    #[test]
    fn it_begins_and_ends_when_the_schedule_does() {
        let at = |text: &str| Some(text.parse().unwrap());
        let spanned = Schedule {
            starts_at: at("2026-01-03T01:00:00Z"),
            ends_at: at("2026-01-05T01:00:00Z"),
            ..schedule("0 2 * * *")
        };
        let (times, excluded) = upcoming(&spanned, "2026-01-01T00:00:00Z", 9);
        assert_eq!(times, ["2026-01-03T01:00:00Z", "2026-01-04T01:00:00Z", "2026-01-05T01:00:00Z"]);
        assert_eq!(excluded, 2);
        assert_eq!(upcoming(&spanned, "2026-01-05T01:00:00Z", 9), (vec![], 0));
    }
}
