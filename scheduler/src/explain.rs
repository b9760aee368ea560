//! Why did it run, why did it not, why twice? The answer for one instant of one schedule, in words for the person who is
//! woken by it.
//!
//! Pure: what was read of the ledger, the history and the schedule → verdict and words.

mod then;
mod words;

use jiff::Timestamp;
use reveille_shared::due::DueTimes;
use reveille_shared::store::{CLOCK_TOLERANCE, Fire, FireOutcome, Generation, ScheduleRow};
use reveille_shared::work_request::{Origin, WorkRequest};
use serde::Serialize;

pub use self::then::Then;
pub use self::words::decision;
use self::words::{exact, run, sentence, span};
use crate::plan;

/// The most due times that are visited on the way to the next ones that are not excluded.
const MOST_VISITED: usize = 10_000;
/// So long after a due time nobody need wonder that it is not decided.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// What became, or will become, of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It called for work requests.
    Triggered,
    /// It called for nothing, and the ledger has the reason.
    Skipped,
    /// It was due, and nothing is recorded, or not yet.
    Undecided,
    /// It is to come and will call for work requests.
    WillTrigger,
    /// It is to come and will call for nothing, as things stand.
    WillBeSkipped,
    /// It is no due time.
    NotDue,
}

/// What is known about an instant of a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The schedule as it is in force.
    pub row: &'a ScheduleRow,
    /// Its due times.
    pub due: &'a DueTimes,
    /// What was in force at the instant.
    pub then: &'a Then,
    /// What the ledger has on the instant.
    pub fires: &'a [Fire],
    /// The work requests that those have called for.
    pub runs: &'a [WorkRequest],
    /// A job that the schedule calls and that is not in force.
    pub missing_job: Option<&'a str>,
    /// Who leads.
    pub leader: Option<Generation>,
    /// The present.
    pub now: Timestamp,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation<'a> {
    /// In a word.
    pub verdict: Verdict,
    /// In plain words.
    pub text: String,
    /// The schedule's own decision.
    pub fire: Option<&'a Fire>,
    /// What was recorded beside it, by hand and by backfills.
    pub also_fired: Vec<&'a Fire>,
    /// The next instants after it at which the schedule is due and not excluded, up to three; a pause is not counted.
    pub next_due: Vec<Timestamp>,
    /// The due time before it.
    pub last_due: Option<Timestamp>,
}

/// Explains what became, or will become, of an instant.
#[must_use]
pub fn explain<'a>(facts: &Facts<'a>, at: Timestamp) -> Explanation<'a> {
    let (own, also_fired): (Vec<&Fire>, Vec<&Fire>) =
        facts.fires.iter().partition(|fire| fire.origin == Origin::Schedule);
    let own = own.into_iter().find(|fire| facts.is_about(fire, at));
    let (next_due, last_due) = (facts.next_due(at), facts.last_due(at));
    let (verdict, mut text) = match own {
        Some(fire) => facts.decided(fire),
        None => facts.undecided(at, last_due, next_due.first().copied()),
    };
    for fire in &also_fired {
        text += &format!(" Beside that: {}", decision(fire));
        text += &facts.runs_of(fire);
    }
    Explanation { verdict, text, fire: own, also_fired, next_due, last_due }
}

impl Facts<'_> {
    /// Whether an entry of the ledger decides this very instant, and not only due times around it.
    fn is_about(&self, fire: &Fire, at: Timestamp) -> bool {
        if at == fire.due_at || at == fire.last_due_at {
            return true;
        }
        let due = match self.then {
            Then::Other { version, due, .. } if *version == fire.version => due,
            _ => self.due,
        };
        due.why_not(at).is_none()
    }

    fn decided(&self, fire: &Fire) -> (Verdict, String) {
        let verdict = match fire.outcome {
            FireOutcome::Triggered(_) => Verdict::Triggered,
            FireOutcome::Skipped(..) => Verdict::Skipped,
        };
        let mut text = decision(fire);
        // What is skipped for the same reason joins the entry of what was skipped before it.
        let has_grown = fire.count > 1 && fire.last_due_at.duration_since(fire.decided_at) > CLOCK_TOLERANCE;
        let decided = if has_grown { "The first of them was decided at" } else { "It was decided at" };
        text += &format!(" {decided} {} by version {} of the schedule.", exact(fire.decided_at), fire.version);
        text += &self.runs_of(fire);
        (verdict, text)
    }

    /// How the work requests of a fire are.
    fn runs_of(&self, fire: &Fire) -> String {
        let FireOutcome::Triggered(ids) = &fire.outcome else { return String::new() };
        let known = ids.iter().filter_map(|id| self.runs.iter().find(|run| run.id == *id));
        known.map(|known| format!(" {}", run(known, self.now))).collect()
    }

    fn undecided(&self, at: Timestamp, last_due: Option<Timestamp>, next_due: Option<Timestamp>) -> (Verdict, String) {
        if let Some(text) = self.then.not_in_force(&self.row.schedule.name) {
            return (Verdict::NotDue, text);
        }
        let (due, by_version) = match self.then {
            Then::Other { version, due, .. } => (due, format!(" By version {version}, which was in force then")),
            _ => (self.due, String::new()),
        };
        if let Some(why) = due.why_not(at) {
            let lead = if by_version.is_empty() { " It".to_owned() } else { format!("{by_version}, it") };
            let is = if at <= self.now { "was" } else { "is" };
            let mut text = format!("{}{lead} {is} not due then: {why}.", self.place(at));
            text += &last_due.map(|last| format!(" The due time before is {}", exact(last))).unwrap_or_default();
            text += &match (last_due, next_due) {
                (Some(_), Some(next)) => format!(", the next one {}.", exact(next)),
                (Some(_), None) => ".".to_owned(),
                (None, Some(next)) => format!(" The next due time is {}.", exact(next)),
                (None, None) => String::new(),
            };
            return (Verdict::NotDue, text);
        }
        let (verdict, text) = if at <= self.now { self.past(at) } else { self.future(at) };
        (verdict, format!("{} {}", self.place(at), sentence(&text)))
    }

    /// The instant, by the local clock where that is another one.
    fn place(&self, at: Timestamp) -> String {
        let zone = self.due.zone();
        match zone.iana_name() {
            Some(name) if name != "UTC" => {
                let local = zone.to_datetime(at).strftime("%A, %-d %B %Y, %H:%M:%S");
                format!("{} is {local} in {name}.", exact(at))
            }
            _ => format!("{} is a {}.", exact(at), zone.to_datetime(at).strftime("%A")),
        }
    }

    /// A due time that is over and has no entry in the ledger.
    fn past(&self, at: Timestamp) -> (Verdict, String) {
        let ScheduleRow { schedule, cursor, pause, .. } = self.row;
        if let Some(over) = self.over(at) {
            return (Verdict::NotDue, over);
        }
        if at <= *cursor {
            let text = "it was due then, and the ledger has no entry for it: either nothing was recorded yet at that time, \
                or the entry has been deleted since";
            return (Verdict::Undecided, text.to_owned());
        }
        let age = span(self.now.duration_since(at));
        let why = if let Some(pause) = pause {
            format!("the schedule is {pause}. When it is resumed, this due time is recorded as skipped")
        } else if let Some(starts_at) = schedule.starts_at.filter(|starts_at| at < *starts_at) {
            format!(
                "it lies before starts_at {}, and is recorded as skipped with the first one after that",
                exact(starts_at)
            )
        } else {
            let mut why = match self.leader {
                _ if self.now.duration_since(at) <= SOON => "it is being decided".to_owned(),
                None => {
                    "no scheduler leads now, and nothing is decided before one does: see that a scheduler with the \
                    role plan runs and reaches the database"
                        .to_owned()
                }
                Some(Generation(leader)) => format!(
                    "the scheduler that leads, as generation {leader}, has not decided it: it is behind, or does not trust \
                     its clock. /readyz of that scheduler says which"
                ),
            };
            if let Some(rule) = self.due.exclusion(schedule, at) {
                why += &format!(". It will be recorded as skipped: {rule}");
            }
            why
        };
        (Verdict::Undecided, format!("it has been due for {age} and is not decided yet: {why}"))
    }

    /// A due time to come.
    fn future(&self, at: Timestamp) -> (Verdict, String) {
        let schedule = &self.row.schedule;
        if let Some(over) = self.over(at) {
            return (Verdict::NotDue, over);
        }
        let skipped = |why: String| (Verdict::WillBeSkipped, format!("it will be skipped: {why}"));
        if let Some(starts_at) = schedule.starts_at.filter(|starts_at| at < *starts_at) {
            return skipped(format!("it lies before starts_at {}", exact(starts_at)));
        }
        if let Some(rule) = self.due.exclusion(schedule, at) {
            return skipped(rule);
        }
        if let Some(pause) = &self.row.pause {
            return skipped(format!("the schedule is {pause}. It will trigger if the schedule is resumed before"));
        }
        if let Some(job) = self.missing_job {
            return skipped(format!("job {job}, which the schedule calls, is not in force"));
        }
        let jobs = schedule.trigger.join(", ");
        let mut text = format!("it will trigger {jobs} in {}", span(at.duration_since(self.now)));
        let jitter = plan::jitter(schedule, at);
        if !jitter.is_zero() {
            text += &format!(", and the trigger goes out {} later (jitter {})", span(jitter), schedule.jitter);
        }
        text += words::overlap(schedule);
        if let (Some(max), Some(ahead)) = (schedule.max_fires, self.ahead(at)) {
            text += &format!(
                ". It will be number {} of max_fires {max}, if none before it is skipped",
                self.row.fired + ahead
            );
        }
        (Verdict::WillTrigger, text)
    }

    /// Why a due time is none any more, if so.
    fn over(&self, at: Timestamp) -> Option<String> {
        let schedule = &self.row.schedule;
        if let Some(ends_at) = schedule.ends_at.filter(|ends_at| at > *ends_at) {
            return Some(format!("it is not due any more: that lies after ends_at {}", exact(ends_at)));
        }
        let max = schedule.max_fires?;
        if self.row.is_exhausted() && at > self.row.cursor {
            return Some(format!("it is not due any more: {}", self.row.exhausted()));
        }
        let ahead = self.ahead(at)?;
        (self.row.fired.saturating_add(ahead) > max).then(|| {
            format!(
                "it will not be due any more: max_fires is {max}, {} have triggered, and {} due times come before it",
                self.row.fired,
                ahead.saturating_sub(1)
            )
        })
    }

    /// How many due times are not decided up to this one, itself included.
    fn ahead(&self, at: Timestamp) -> Option<u64> {
        let stretch = self.due.stretch(self.row.cursor, at)?;
        u64::try_from(stretch.count).ok()
    }

    fn next_due(&self, at: Timestamp) -> Vec<Timestamp> {
        let schedule = &self.row.schedule;
        let from = schedule.starts_at.map_or(at, |starts_at| at.max(reveille_shared::store::just_before(starts_at)));
        if self.row.is_exhausted() {
            return Vec::new();
        }
        self.due
            .between(from, schedule.ends_at.unwrap_or(Timestamp::MAX))
            .take(MOST_VISITED)
            .filter(|due_at| self.due.exclusion(schedule, *due_at).is_none())
            .take(3)
            .collect()
    }

    fn last_due(&self, at: Timestamp) -> Option<Timestamp> {
        let until = reveille_shared::store::just_before(at);
        [2, 750, 40_000].into_iter().find_map(|days| {
            let from = at.saturating_sub(jiff::SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN);
            Some(self.due.stretch(from, until)?.last)
        })
    }
}

#[cfg(test)]
mod tests;
