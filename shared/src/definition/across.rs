//! Rules between files: names that two of them define, and names that none does.

use std::collections::HashMap;

use super::calendars::Calendars;
use super::cycles;
use super::nearest::did_you_mean;
use super::node::{MOST_REMARKS, short};
use super::outline::{Name, Once, Outline};
use super::rules::day_remark;
use super::schedule::DayRule;
use super::sharing;
use super::source::{Remark, Span};

/// After so many comparisons of names there is no more "did you mean": they are dear, and nobody reads that many hints.
const MOST_COMPARISONS: usize = 200_000;

/// What is wrong between files: for each fault the number of the file that it is in.
pub(super) type Findings = Vec<(usize, Remark)>;

/// A name within its namespace.
type Full<'a> = (&'a str, &'a str);

/// The outlines of a folder's files; none for a file that can't be read.
pub(super) struct Across<'a> {
    outlines: Vec<Option<&'a Outline>>,
    /// Whether all files are there, so that a name that none of these defines doesn't exist.
    complete: bool,
    /// Whether jobs may be defined elsewhere all the same.
    partial: bool,
    jobs: HashMap<Full<'a>, (usize, Name)>,
    pub(super) calendars: Calendars<'a>,
}

impl<'a> Across<'a> {
    /// Remarks on what is defined twice. `place` tells where a span of a file is, for people.
    pub(super) fn new(
        outlines: Vec<Option<&'a Outline>>,
        complete: bool,
        partial: bool,
        findings: &mut Findings,
        place: &dyn Fn(usize, Span) -> String,
    ) -> Self {
        let complete = complete && outlines.iter().all(Option::is_some);
        let calendars = Calendars::of(outlines.iter().copied().flatten());
        let mut across = Self { outlines, complete, partial, jobs: HashMap::new(), calendars };
        let mut unique = |kind: &str, names: &dyn Fn(&'a Outline) -> Vec<Name>| {
            let mut first: HashMap<Full<'a>, (usize, Name)> = HashMap::new();
            for (file, outline) in across.files() {
                for name in names(outline) {
                    let full = (&*outline.namespace, outline.text(name));
                    let known = first.entry(full).or_insert((file, name));
                    if known.0 == file && known.1.span() == name.span() {
                        continue;
                    }
                    if findings.len() >= MOST_REMARKS {
                        break;
                    }
                    let message =
                        format!("the {kind} `{}` of namespace `{}` is already there", short(full.1), short(full.0));
                    let hint = format!(
                        "it is first defined at {}: rename or remove one of them",
                        place(known.0, known.1.span())
                    );
                    findings.push((file, Remark::new(name.span(), message).hint(hint)));
                }
            }
            first
        };
        let jobs = unique("job", &|outline| outline.jobs.to_vec());
        unique("schedule", &|outline| outline.schedules.to_vec());
        unique("calendar", &|outline| outline.calendars.iter().map(|(name, _)| *name).collect());
        across.jobs = jobs;
        across
    }

    fn files(&self) -> impl Iterator<Item = (usize, &'a Outline)> + Clone + use<'a, '_> {
        self.outlines.iter().enumerate().filter_map(|(file, outline)| Some((file, (*outline)?)))
    }

    /// Remarks on names that nothing has. Calendars must be there also where jobs need not: they are in force only as
    /// part of the schedules that name them, so that nothing else could tell their days.
    pub(super) fn check_names(&self, findings: &mut Findings) {
        if !self.complete {
            return;
        }
        let mut jobs = Hints::new("job", "jobs", self.jobs.keys().copied());
        let mut calendars = Hints::new("calendar", "calendars", self.calendars.names());
        for (file, outline) in self.files() {
            let namespace = &*outline.namespace;
            let known_job = |job: &Name| self.partial || self.jobs.contains_key(&(namespace, outline.text(*job)));
            let unknown_jobs = outline.called().filter(|job| !known_job(job));
            findings.extend(unknown_jobs.take(MOST_REMARKS).map(|name| (file, jobs.unknown(outline, name))));
            let unknown_calendars =
                outline.days.iter().filter(|name| !self.calendars.contains(namespace, outline.text(**name)));
            findings.extend(unknown_calendars.take(MOST_REMARKS).map(|name| (file, calendars.unknown(outline, *name))));
            findings.extend(outline.once.iter().filter_map(|once| Some((file, self.check_once(outline, once)?))));
            if findings.len() >= MOST_REMARKS {
                return;
            }
        }
    }

    /// Remarks on jobs that call each other without end.
    pub(super) fn check_chains(&self, findings: &mut Findings, place: &dyn Fn(usize, Span) -> String) {
        cycles::check(self.files(), findings, place);
    }

    /// Remarks on external jobs whose queue is not theirs alone.
    pub(super) fn check_queues(&self, findings: &mut Findings, place: &dyn Fn(usize, Span) -> String) {
        sharing::check(self.files(), findings, place);
    }

    fn check_once(&self, outline: &Outline, once: &Once) -> Option<Remark> {
        let full = |rules: &[DayRule]| -> Option<Vec<DayRule>> {
            let mut rules = rules.to_vec();
            self.calendars.fill(&outline.namespace, &mut rules).then_some(rules)
        };
        day_remark(once.at, once.day, &full(&once.except)?, &full(&once.only)?)
    }
}

/// What is told of names that are not known.
struct Hints<'a> {
    kind: &'static str,
    section: &'static str,
    /// All that are known, by namespace and in order; made when the first is asked for.
    known: HashMap<&'a str, Vec<&'a str>>,
    all: Vec<Full<'a>>,
    /// How many comparisons may still be made.
    left: usize,
}

impl<'a> Hints<'a> {
    fn new(kind: &'static str, section: &'static str, all: impl Iterator<Item = Full<'a>>) -> Self {
        Self { kind, section, known: HashMap::new(), all: all.collect(), left: MOST_COMPARISONS }
    }

    fn unknown(&mut self, outline: &'a Outline, name: Name) -> Remark {
        let (namespace, word) = (&*outline.namespace, outline.text(name));
        let all = &self.all;
        let known = self.known.entry(namespace).or_insert_with(|| {
            let mut known: Vec<_> = all.iter().filter(|(of, _)| *of == namespace).map(|(_, name)| *name).collect();
            known.sort_unstable();
            known
        });
        let some: Vec<_> = known.iter().take(10).map(|known| short(known)).collect();
        let otherwise = match some.as_slice() {
            [] => format!("define it under `{}:`", self.section),
            some => format!("define it under `{}:`; known are {}", self.section, some.join(", ")),
        };
        let compared = if known.len() <= self.left { known.as_slice() } else { &[] };
        self.left -= compared.len();
        let days = if self.kind == "calendar" { WEEKDAYS.as_slice() } else { &[] };
        let hint = did_you_mean(word, compared.iter().chain(days).copied(), &otherwise);
        let message = format!("there is no {} `{}` in namespace `{}`", self.kind, short(word), short(namespace));
        Remark::new(name.span(), message).hint(hint)
    }
}

const WEEKDAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
