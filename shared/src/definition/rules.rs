//! What the table of keys can't say: rules between keys, and between files.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::build::{DEFAULT_NAMESPACE, DEFAULT_TIMEZONE, RawRetry};
use super::check::Checker;
use super::nearest::did_you_mean;
use super::node::{Key, Kind, MOST_REMARKS, Node, short};
use super::scalar::{Plain, meaning};
use super::schedule::{Dst, Timing};
use super::source::{Remark, Source, Span};
use super::text::{Complaint, Text};
use crate::due::{DueTimes, InvalidTiming};
use crate::duration::HumanDuration;

/// No more "did you mean" for jobs.
const MOST_HINTS: usize = 50;

/// One file on its way to definitions.
#[derive(Debug)]
pub(super) struct File {
    pub(super) source: Source,
    pub(super) root: Option<Node>,
    pub(super) remarks: Vec<Remark>,
}

impl File {
    fn namespace(&self) -> &str {
        self.root.as_ref().and_then(|root| root.get("namespace")?.text()).unwrap_or(DEFAULT_NAMESPACE)
    }

    fn entries(&self, section: &str) -> &[(Key, Node)] {
        self.root.as_ref().and_then(|root| root.get(section)).map(Node::entries).unwrap_or_default()
    }

    /// Remarks on what contradicts itself within this file.
    pub(super) fn check_rules(&mut self) {
        let mut remarks = Vec::new();
        let defaults = self.root.as_ref().and_then(|root| root.get("defaults")?.get("retry"));
        let defaults_of = retry(defaults);
        remarks.extend(defaults.and_then(|node| retry_remark(node, RawRetry::default())));
        for (_, job) in self.entries("jobs") {
            remarks.extend(job.get("retry").and_then(|node| retry_remark(node, defaults_of)));
            remarks.extend(job.get("command").and_then(exit_code_remark));
        }
        let mut checker = Checker { source: &self.source, remarks: &mut remarks };
        for (_, schedule) in self.entries("schedules") {
            timing_rules(&mut checker, schedule);
        }
        self.remarks.append(&mut remarks);
    }
}

/// The durations of a `retry` map that can be read.
fn retry(node: Option<&Node>) -> RawRetry {
    let duration = |key| node.and_then(|node| node.get(key)?.text()?.parse::<HumanDuration>().ok());
    RawRetry { initial: duration("initial"), max: duration("max"), ..RawRetry::default() }
}

fn retry_remark(node: &Node, defaults: RawRetry) -> Option<Remark> {
    let policy = retry(Some(node)).or(defaults);
    if policy.initial <= policy.max {
        return None;
    }
    let at = node.get("initial").or_else(|| node.get("max"))?;
    let message = format!("the first delay may be {}, but no delay more than {}", policy.initial, policy.max);
    Some(Remark::new(at.span, message).hint("raise `max` or lower `initial`"))
}

fn exit_code_remark(command: &Node) -> Option<Remark> {
    let codes = |key| command.get(key).map(Node::one_or_many).unwrap_or_default();
    let mut success = codes("success").iter().filter_map(Node::text);
    let twice =
        codes("no_retry").iter().find(|code| code.text().is_some_and(|code| success.any(|other| other == code)))?;
    Some(Remark::new(twice.span, "this exit code already means success").hint("leave it in one of the two lists"))
}

fn timing_rules(checker: &mut Checker<'_>, schedule: &Node) {
    let entry = |name: &str| schedule.entries().iter().find(|(key, _)| &*key.text == name);
    let zone = entry("timezone").filter(|(_, zone)| zone.text().is_some());
    if let (Some((key, _)), None, Some(_)) = (zone, entry("cron"), entry("every").or_else(|| entry("at"))) {
        let remark = Remark::new(key.span, "`timezone` has no effect without `cron`");
        checker.remarks.push(remark.hint("remove it"));
    }
    let timing = |name: &str, read: fn(&str) -> Option<Timing>| {
        entry(name).and_then(|(_, node)| Some((node, node.text()?, read(node.text()?)?)))
    };
    let timing = timing("cron", |text| Some(Timing::Cron(text.to_owned())))
        .or_else(|| {
            timing("every", |text| text.parse().ok().filter(|every| *every > HumanDuration::ZERO).map(Timing::Every))
        })
        .or_else(|| timing("at", |text| text.parse().ok().map(Timing::At)));
    let zone = zone.and_then(|(_, zone)| zone.text()).unwrap_or(DEFAULT_TIMEZONE);
    let (Some((node, text, timing)), Ok(())) = (timing, Text::Timezone.check(zone)) else { return };
    if text.is_empty() {
        return;
    }
    if let Err(InvalidTiming { message, field: range }) = DueTimes::new(&timing, zone, Dst::default()) {
        let hint = match timing {
            Timing::Cron(_) => {
                "write 5 fields: minute, hour, day, month, weekday; 6 with seconds first, 7 with the year last; or @daily and kin"
            }
            _ => "write 1s or more",
        };
        checker.complain(node.span, text, Complaint { range, message, hint: hint.to_owned() });
    }
}

/// The name of a job in a `trigger`, if it can be one.
fn called_job(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, plain } if !plain || matches!(meaning(text), Plain::Text | Plain::YesNo) => {
            Text::Name.check(text).is_ok().then_some(text)
        }
        _ => None,
    }
}

/// Remarks on names that two files define, and on jobs that none defines.
pub(super) fn check_across(files: &mut [File], complete: bool) {
    let mut remarks: Vec<(usize, Remark)> = Vec::new();
    for section in ["jobs", "schedules"] {
        let mut first: HashMap<(&str, &str), (&Source, Span)> = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            for (key, _) in file.entries(section) {
                let name = (file.namespace(), &*key.text);
                if remarks.len() >= MOST_REMARKS {
                    break;
                }
                if let Some((source, span)) = first.get(&name) {
                    let place = source.named_place(*span);
                    let kind = section.trim_end_matches('s');
                    let message =
                        format!("the {kind} `{}` of namespace `{}` is already there", short(name.1), short(name.0));
                    let hint = format!("it is first defined at {place}: rename or remove one of them");
                    remarks.push((index, Remark::new(key.span, message).hint(hint)));
                } else {
                    first.insert(name, (&file.source, key.span));
                }
            }
        }
    }
    let mut jobs: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for file in files.iter() {
        jobs.entry(file.namespace()).or_default().extend(file.entries("jobs").iter().map(|(key, _)| &*key.text));
    }
    // A file that can't be read may define any job.
    let all_readable = complete && files.iter().all(|file| file.root.is_some());
    for (index, file) in files.iter().enumerate() {
        let known = &jobs[file.namespace()];
        for (_, schedule) in file.entries("schedules") {
            let called = schedule.get("trigger").map(Node::one_or_many).unwrap_or_default();
            let mut seen = HashSet::new();
            for node in called {
                let Some(job) = called_job(node) else { continue };
                if remarks.len() >= MOST_REMARKS {
                    break;
                }
                if !seen.insert(job) {
                    let remark = Remark::new(node.span, format!("`{}` is called twice by one fire", short(job)));
                    remarks.push((index, remark.hint("remove one of them")));
                } else if all_readable && !known.contains(job) {
                    let message = format!("there is no job `{job}` in namespace `{}`", short(file.namespace()));
                    let otherwise = if known.is_empty() {
                        "define it under `jobs:`".to_owned()
                    } else {
                        let some: Vec<_> = known.iter().take(10).map(|job| short(job)).collect();
                        format!("define it under `jobs:`; known are {}", some.join(", "))
                    };
                    // The comparison with all jobs is dear, and nobody reads that many hints.
                    let near = known.iter().copied().filter(|_| remarks.len() < MOST_HINTS);
                    let hint = did_you_mean(job, near, &otherwise);
                    remarks.push((index, Remark::new(node.span, message).hint(hint)));
                }
            }
        }
    }
    for (index, remark) in remarks {
        files[index].remarks.push(remark);
    }
}
