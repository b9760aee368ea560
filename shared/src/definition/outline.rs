//! What the rules between files need to know of one file: which names stand where. Small, as it is kept for each file
//! of a folder while the trees are not.

use std::sync::Arc;

use jiff::civil::Date;

use super::build::{DEFAULT_NAMESPACE, DEFAULT_TIMEZONE};
use super::days;
use super::node::{Key, Kind, Node};
use super::scalar::{Plain, meaning};
use super::schedule::DayRule;
use super::sharing::Queues;
use super::source::Span;
use super::text::Text;
use crate::due;

/// The names of one file.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) namespace: Box<str>,
    /// All names, one after the other.
    letters: String,
    pub(super) jobs: Box<[Name]>,
    pub(super) schedules: Box<[Name]>,
    /// The jobs that schedules call.
    pub(super) triggers: Box<[Name]>,
    /// Jobs, and the jobs that their runs or the ends of these call.
    pub(super) calls: Box<[(Name, Name)]>,
    pub(super) calendars: Box<[(Name, Arc<[DayRule]>)]>,
    /// The calendars that schedules name.
    pub(super) days: Box<[Name]>,
    /// Schedules that are due once and name calendars.
    pub(super) once: Box<[Once]>,
    pub(super) queues: Queues,
}

/// A name, and where it stands in its file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Name {
    start: u32,
    end: u32,
    from: u32,
    to: u32,
}

/// A schedule that is due on one day, unless its calendars rule that out.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) at: Span,
    pub(super) day: Date,
    pub(super) except: Vec<DayRule>,
    pub(super) only: Vec<DayRule>,
}

impl Name {
    pub(super) fn span(self) -> Span {
        Span { start: self.from as usize, end: self.to as usize }
    }
}

impl Outline {
    pub(super) fn of(root: &Node) -> Self {
        let mut letters = String::new();
        let section = |name: &str| root.get(name).map(Node::entries).unwrap_or_default();
        let mut keys = |name: &str| section(name).iter().map(|(key, _)| letters.name(&key.text, key.span)).collect();
        let (jobs, schedules): (Box<[Name]>, Box<[Name]>) = (keys("jobs"), keys("schedules"));
        let mut calls = Vec::new();
        for ((_, job), caller) in section("jobs").iter().zip(&jobs) {
            for list in CHAINS.iter().filter_map(|chain| job.get(chain)) {
                calls.extend(distinct_jobs(list.one_or_many()).map(|(job, span)| (*caller, letters.name(job, span))));
            }
            let child = job.get("fan_out").and_then(called_job);
            calls.extend(child.map(|(job, span)| (*caller, letters.name(job, span))));
        }
        let mut triggers = Vec::new();
        let mut named = Vec::new();
        let mut once = Vec::new();
        for (_, schedule) in section("schedules") {
            let calls = schedule.get("trigger").map(Node::one_or_many).unwrap_or_default();
            triggers.extend(distinct_jobs(calls).map(|(job, span)| letters.name(job, span)));
            for (calendar, span) in ["except", "only"].into_iter().flat_map(|key| calendars_in(schedule, key)) {
                named.push(letters.name(calendar, span));
            }
            once.extend(due_once(schedule));
        }
        let calendar = |(key, days): &(Key, Node)| {
            let days = days.one_or_many().iter().filter_map(|day| days::read_of_calendar(day.text()?).ok());
            (letters.name(&key.text, key.span), days.collect())
        };
        let calendars = section("calendars").iter().map(calendar).collect();
        let queues = Queues::of(root, &jobs, &mut letters);
        letters.shrink_to_fit();
        let namespace = root.get("namespace").and_then(Node::text).unwrap_or(DEFAULT_NAMESPACE).into();
        let (triggers, calls, days, once) = (triggers.into(), calls.into(), named.into(), once.into());
        Self { namespace, letters, jobs, schedules, triggers, calls, calendars, days, once, queues }
    }

    /// All the jobs that something calls.
    pub(super) fn called(&self) -> impl Iterator<Item = Name> {
        self.triggers.iter().copied().chain(self.calls.iter().map(|(_, called)| *called))
    }

    pub(super) fn text(&self, name: Name) -> &str {
        self.letters.get(name.start as usize..name.end as usize).unwrap_or_default()
    }
}

/// Keeps the letters of names.
pub(super) trait Letters {
    fn name(&mut self, text: &str, span: Span) -> Name;
}

impl Letters for String {
    fn name(&mut self, text: &str, span: Span) -> Name {
        // No file is so long that these would not fit.
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let start = self.len();
        self.push_str(text);
        Name { start: short(start), end: short(self.len()), from: short(span.start), to: short(span.end) }
    }
}

/// The keys of a job that call others.
pub(super) const CHAINS: [&str; 3] = ["on_success", "on_failure", "on_finish"];

/// The name of the job that an item of a list calls, if it can be one, and where it stands.
pub(super) fn called_job(node: &Node) -> Option<(&str, Span)> {
    match &node.kind {
        Kind::Map(_) => plain_name(node.get("job")?),
        _ => plain_name(node),
    }
}

fn plain_name(node: &Node) -> Option<(&str, Span)> {
    match &node.kind {
        Kind::Scalar { text, plain } if !plain || matches!(meaning(text), Plain::Text | Plain::YesNo) => {
            Text::Name.check(text).is_ok().then_some((text, node.span))
        }
        _ => None,
    }
}

/// The jobs of a list, each once.
fn distinct_jobs(calls: &[Node]) -> impl Iterator<Item = (&str, Span)> {
    let mut seen = std::collections::HashSet::new();
    calls.iter().filter_map(called_job).filter(move |(job, _)| seen.insert(*job))
}

fn calendars_in<'a>(schedule: &'a Node, key: &str) -> impl Iterator<Item = (&'a str, Span)> {
    let days = schedule.get(key).map(Node::one_or_many).unwrap_or_default();
    days.iter().filter_map(|node| {
        let (name, span) = plain_name(node)?;
        matches!(days::read(name), Ok(DayRule::Calendar { .. })).then_some((name, span))
    })
}

fn due_once(schedule: &Node) -> Option<Once> {
    let rules = |key: &str| -> Vec<DayRule> {
        let days = schedule.get(key).map(Node::one_or_many).unwrap_or_default();
        days.iter().filter_map(|day| days::read(day.text()?).ok()).collect()
    };
    let at = schedule.get("at")?;
    let (except, only) = (rules("except"), rules("only"));
    if !except.iter().chain(&only).any(|rule| matches!(rule, DayRule::Calendar { .. })) {
        return None;
    }
    let zone = schedule.get("timezone").and_then(Node::text).unwrap_or(DEFAULT_TIMEZONE);
    let instant = at.text()?.parse::<jiff::Timestamp>().ok()?;
    Some(Once { at: at.span, day: instant.to_zoned(due::timezone(zone).ok()?).date(), except, only })
}
