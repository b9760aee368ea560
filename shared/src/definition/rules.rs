//! Rules between the keys of one file, which the table of keys can't say.

mod follow;
mod schedule;

use std::collections::HashSet;

pub(super) use self::schedule::day_remark;
use super::build::RawRetry;
use super::check::Checker;
use super::node::{MOST_REMARKS, Node, short};
use super::outline::{CHAINS, called_job};
use super::source::{Remark, Source};
use crate::duration::HumanDuration;

/// How long the answer to `verify` may take, at most: until then nobody runs what was lost.
const LONGEST_ANSWER: HumanDuration = HumanDuration::from_secs(60);
/// How long a worker in another language may be silent, at least and at most.
const SILENCE: [HumanDuration; 2] = [HumanDuration::from_secs(10), HumanDuration::from_secs(3600)];

/// Remarks on what contradicts itself within one file.
pub(super) fn check(source: &Source, root: &Node) -> Vec<Remark> {
    let entries = |section: &str| root.get(section).map(Node::entries).unwrap_or_default();
    let mut remarks = Vec::new();
    let defaults = root.get("defaults").and_then(|defaults| defaults.get("retry"));
    let defaults_of = retry(defaults);
    remarks.extend(defaults.and_then(|node| retry_remark(node, RawRetry::default())));
    for (_, job) in entries("jobs") {
        remarks.extend(job.get("retry").and_then(|node| retry_remark(node, defaults_of)));
        remarks.extend(["command", "ssh"].iter().filter_map(|key| job.get(key).and_then(exit_code_remark)));
        remarks.extend(job.get("verify").and_then(answer_remark));
        remarks.extend(job.get("http").into_iter().flat_map(follow::remarks));
        remarks.extend(job.get("external").map(|external| external_remarks(job, external)).into_iter().flatten());
        for chain in CHAINS {
            remarks.extend(job.get(chain).into_iter().flat_map(|list| twice(list, &format!("`{chain}`"))));
        }
    }
    for (_, node) in entries("schedules") {
        if remarks.len() >= MOST_REMARKS {
            break;
        }
        schedule::check(&mut Checker { source, remarks: &mut remarks }, node);
        remarks.extend(node.get("trigger").into_iter().flat_map(|list| twice(list, "one fire")));
    }
    remarks
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

fn answer_remark(verify: &Node) -> Option<Remark> {
    let node = verify.get("timeout")?;
    let timeout = node.text()?.parse::<HumanDuration>().ok()?;
    if timeout <= LONGEST_ANSWER {
        return None;
    }
    let remark = Remark::new(node.span, format!("an answer that may take more than {LONGEST_ANSWER}"));
    Some(remark.hint(format!("write {LONGEST_ANSWER} or less: what was lost waits for it")))
}

fn external_remarks(job: &Node, external: &Node) -> Vec<Remark> {
    let lease = external.get("lease").and_then(|node| Some((node.span, node.text()?.parse::<HumanDuration>().ok()?)));
    let [least, most] = SILENCE;
    let lease = lease.filter(|(_, lease)| !(least..=most).contains(lease)).map(|(span, lease)| {
        let remark = Remark::new(span, format!("its worker may be silent for {lease}"));
        remark.hint(format!("write a time from {least} to {most}; how long a run may take is `timeout`"))
    });
    let verify = job.get("verify").map(|node| {
        let remark =
            Remark::new(node.span, "an external job has no `verify`: nobody but its worker runs anything for it");
        remark.hint("remove it; the answer to the next claim says `doubt`, and that worker can look for itself")
    });
    lease.into_iter().chain(verify).collect()
}

/// Remarks on jobs that a list names a second time.
fn twice(list: &Node, by: &str) -> Vec<Remark> {
    let mut seen = HashSet::new();
    let again = list.one_or_many().iter().filter_map(called_job).filter(|(job, _)| !seen.insert(*job));
    let remark =
        |(job, span)| Remark::new(span, format!("`{}` is called twice by {by}", short(job))).hint("remove one of them");
    again.map(remark).take(MOST_REMARKS).collect()
}
