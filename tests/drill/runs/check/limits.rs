//! Whether no more runs were under way, or were sent within a time, than their jobs allow. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use uuid::Uuid;

use super::alone::excuse;
use crate::jobs::{JOBS, Job};
use crate::ledger::What;
use crate::records::Story;
use crate::sends::Send;
use crate::trouble::Suffered;

/// From when to when, in Unix microseconds.
type Span = (i64, i64);

/// The most that were seen of what is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peak {
    what: String,
    pub(crate) seen: usize,
    pub(crate) most: usize,
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, seen, most } = self;
        write!(f, "{what}: {seen} of at most {most}")
    }
}

/// How near each limit was reached.
pub(super) fn peaks(stories: &[Story], sends: &[Send], suffered: &[Suffered]) -> Vec<Peak> {
    JOBS.iter().flat_map(|job| at_once(job, stories, suffered).into_iter().chain(within(job, stories, sends))).collect()
}

/// Of what handlers wrote themselves, and of the leases in the histories, which must not overlap any more than they do.
fn at_once(job: &Job, stories: &[Story], suffered: &[Suffered]) -> Vec<Peak> {
    let Some(limit) = job.at_once else { return Vec::new() };
    let mut groups: BTreeMap<&str, (Vec<Span>, Vec<Span>)> = BTreeMap::new();
    for story in stories.iter().filter(|story| story.job == job.name) {
        let tenant = story.tenant.as_deref().filter(|_| limit.each_tenant).unwrap_or("all");
        let (leases, works) = groups.entry(tenant).or_default();
        for attempt in
            story.history.iter().filter(|event| event.kind() == "started").filter_map(|event| event.attempt())
        {
            let Some(lease) = lease(story, attempt) else { continue };
            leases.push(lease);
            works.extend(work(story, attempt, lease, suffered));
        }
    }
    let peak = |what, spans| Peak { what, seen: most_at_once(spans), most: limit.most };
    let peaks = groups.into_iter().flat_map(|(tenant, (leases, works))| {
        let of = format!("{} of {tenant}", job.name);
        [peak(format!("{of}, leases at one time"), leases), peak(format!("{of}, at work at one time"), works)]
    });
    peaks.collect()
}

/// From when to when an attempt had its lease.
fn lease(story: &Story, attempt: u32) -> Option<Span> {
    let mut of_attempt = story.history.iter().filter(|event| event.attempt() == Some(attempt));
    let from_us = of_attempt.find(|event| event.kind() == "started")?.at_us;
    Some((from_us, of_attempt.next().map_or(i64::MAX, |end| end.at_us)))
}

/// From when to when it worked, by its own account. What goes on for the moment that a thaw allows had its slot for as
/// long as its lease.
fn work(story: &Story, attempt: u32, lease: Span, suffered: &[Suffered]) -> Option<Span> {
    let of_attempt = || story.ledger.iter().filter(|entry| entry.attempt == attempt);
    let from_us = of_attempt().find(|entry| entry.what == What::Start)?.at_us;
    let to_us = of_attempt().next_back()?.at_us;
    let late: Vec<i64> = of_attempt().map(|entry| entry.at_us).filter(|at_us| *at_us > lease.1).collect();
    let is_excused = !late.is_empty() && excuse(story, attempt, lease.1, &late, suffered).is_some();
    Some((from_us, if is_excused { lease.1.max(from_us) } else { to_us }))
}

/// What ends at an instant makes room for what begins at it.
fn most_at_once(spans: Vec<Span>) -> usize {
    let mut moves: Vec<(i64, i8)> =
        spans.into_iter().flat_map(|(from_us, to_us)| [(from_us, 1), (to_us, -1)]).collect();
    moves.sort_unstable();
    let mut now = 0_isize;
    let counts = moves.into_iter().map(|(_, step)| {
        now += isize::from(step);
        now
    });
    counts.max().and_then(|most| usize::try_from(most).ok()).unwrap_or_default()
}

/// Of what was sent; two that are a whole span apart are not within it.
fn within(job: &Job, stories: &[Story], sends: &[Send]) -> Option<Peak> {
    let rate = job.rate?;
    let jobs: HashMap<Uuid, &str> = stories.iter().map(|story| (story.id, story.job.as_str())).collect();
    let sent: Vec<&Send> = sends.iter().filter(|send| jobs.get(&send.id) == Some(&job.name)).collect();
    let span = |first: usize| {
        let within = |send: &&&Send| send.at_us - sent[first].at_us < rate.seconds * 1_000_000;
        sent[first..].iter().take_while(within).map(|send| (send.at_us, send.id)).collect::<Vec<_>>()
    };
    let seen = (0..sent.len()).map(span).max_by_key(Vec::len).unwrap_or_default();
    let what = format!("{}, sent within {} s", job.name, rate.seconds);
    let what = if seen.len() > rate.most { format!("{what}, {seen:?}") } else { what };
    Some(Peak { what, seen: seen.len(), most: rate.most })
}

/// Attempts of jobs with a rate whose trigger was not seen to be sent before them.
pub(super) fn uncounted(stories: &[Story], sends: &[Send]) -> Vec<String> {
    let mut sent: HashMap<Uuid, Vec<i64>> = HashMap::new();
    for send in sends {
        sent.entry(send.id).or_default().push(send.at_us);
    }
    let rated = |story: &&Story| JOBS.iter().any(|job| job.rate.is_some() && job.name == story.job);
    let mut faults = Vec::new();
    for story in stories.iter().filter(rated) {
        let sent = sent.get(&story.id).map(Vec::as_slice).unwrap_or_default();
        let started = story.history.iter().filter(|event| event.kind() == "started");
        for (index, started) in started.enumerate() {
            if sent.get(index).is_none_or(|at_us| *at_us > started.at_us) {
                faults.push(format!("{} of {}: start {} was not counted", story.id, story.job, index + 1));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::samples::{entry, froze, story};
    use super::*;
    use crate::faults::What as Trouble;

    fn seen(stories: &[Story], sends: &[Send], suffered: &[Suffered]) -> Vec<(String, usize)> {
        peaks(stories, sends, suffered).into_iter().map(|peak| (peak.what, peak.seen)).collect()
    }

    /// The leases and the work of a tenant.
    fn of(tenant: &str, stories: &[Story], suffered: &[Suffered]) -> [usize; 2] {
        let seen = seen(stories, &[], suffered);
        let all: Vec<usize> = seen.iter().filter(|(what, _)| what.contains(tenant)).map(|(_, seen)| *seen).collect();
        all.try_into().unwrap()
    }

    /// The sample run, so many seconds later.
    fn later(tenant: &str, seconds: i64) -> Story {
        let mut story = Story { tenant: Some(tenant.to_owned()), ..story("one-of-each") };
        story.history.iter_mut().for_each(|event| event.at_us += seconds * 1_000_000);
        story.ledger.iter_mut().for_each(|entry| entry.at_us += seconds * 1_000_000);
        story
    }

    #[test]
    fn those_at_one_time_are_counted_for_each_key() {
        // Leases from 1 s to 5 s and from 6 s to 8 s, work from 1 s to 2 s and from 6 s to 7 s.
        assert_eq!(of("of a", &[later("a", 0)], &[]), [1, 1]);
        assert_eq!(of("of a", &[later("a", 0), later("a", 7)], &[]), [1, 1], "one ends as the other begins");
        assert_eq!(of("of a", &[later("a", 0), later("a", 3)], &[]), [2, 1]);
        assert_eq!(of("of a", &[later("a", 0), later("a", 0)], &[]), [2, 2]);
        assert_eq!(of("of a", &[later("a", 0), later("b", 0)], &[]), [1, 1]);
    }

    #[test]
    fn who_works_on_without_a_lease_counts_unless_a_thaw_excuses_it() {
        let mut lost = later("a", 0);
        lost.ledger.insert(2, entry(5_500_000, 1, What::Tick));
        let mut other = later("a", 0);
        other.history.drain(2..);
        other.history.iter_mut().for_each(|event| event.at_us += 4_100_000);
        other.ledger = vec![entry(5_200_000, 1, What::Start), entry(5_400_000, 1, What::Done)];
        other.history.push(super::super::samples::event(3, 6, serde_json::json!({"type": "succeeded", "attempt": 1})));
        let stories = [lost, other];
        assert_eq!(of("of a", &stories, &[]), [1, 2]);
        assert_eq!(of("of a", &stories, &[froze(Trouble::Freeze, 2, 5)]), [1, 1]);
    }

    #[test]
    fn those_within_a_time_are_counted() {
        let stories = [story("rare")];
        let id = stories[0].id;
        let sends = |at: &[i64]| at.iter().map(|at_us| Send { id, at_us: *at_us }).collect::<Vec<_>>();
        let most = |at: &[i64]| seen(&stories, &sends(at), &[])[0].1;
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[0, 1, 4_000_000, 4_000_001]), 2);
        assert_eq!(most(&[0, 1, 3_999_999]), 3);
    }

    #[test]
    fn a_start_without_a_trigger_is_found() {
        let id = Uuid::from_u128(1);
        let sends = [Send { id, at_us: 500_000 }, Send { id, at_us: 5_500_000 }];
        assert_eq!(uncounted(&[story("rare")], &sends), Vec::<String>::new());
        assert_eq!(uncounted(&[story("rare")], &sends[..1]).len(), 1);
        assert_eq!(uncounted(&[story("rare")], &[sends[0], Send { id, at_us: 6_500_000 }]).len(), 1);
        assert_eq!(uncounted(&[story("short")], &[]), Vec::<String>::new());
    }
}
