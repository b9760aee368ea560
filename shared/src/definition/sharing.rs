//! Queues of external jobs: no other kind of job may share one, as whoever takes a trigger must be able to run it.

use std::collections::HashMap;
use std::path::Path;

use super::across::Findings;
use super::fault::Faults;
use super::file::File;
use super::files;
use super::node::{MOST_REMARKS, Node, short};
use super::outline::{Letters, Name, Outline};
use super::source::{Remark, Span};
use super::text::Text;

/// The queue of a job that does not say.
const DEFAULT_QUEUE: &str = "default";
/// What other jobs are made of.
const OTHERS: [&str; 4] = ["http", "command", "ssh", "function"];

/// Which queues the jobs of one file use.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Each external job's queue, and the job.
    external: Box<[(Name, Name)]>,
    /// Each queue that other jobs use, and the first of them.
    others: Box<[(Name, Name)]>,
}

impl Queues {
    /// Of the jobs of a file, whose names are known already.
    pub(super) fn of(root: &Node, jobs: &[Name], letters: &mut String) -> Self {
        let defaults = root.get("defaults").and_then(|defaults| plain_queue(defaults.get("queue")?));
        let default = defaults.map_or(DEFAULT_QUEUE, |(queue, _)| queue);
        let nodes = root.get("jobs").map(Node::entries).unwrap_or_default();
        let (mut external, mut others) = (Vec::new(), HashMap::new());
        for ((key, job), name) in nodes.iter().zip(jobs) {
            let (queue, span) = job.get("queue").and_then(plain_queue).unwrap_or((default, key.span));
            if job.get("external").is_some() {
                external.push((letters.name(queue, span), *name));
            } else if OTHERS.iter().any(|kind| job.get(kind).is_some()) && !others.contains_key(queue) {
                others.insert(queue, (letters.name(queue, span), *name));
            }
        }
        Self { external: external.into(), others: others.into_values().collect() }
    }
}

/// A job that only a worker in another language runs, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalJob {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub job: String,
    /// `file:line:column`.
    pub place: String,
}

/// The external jobs of a file or folder, as far as its files can be read.
#[must_use]
pub fn external_jobs(path: &Path) -> Vec<ExternalJob> {
    let mut jobs = Vec::new();
    files::read(path, &mut Faults::default(), |_, name, text| {
        let file = File::read(name, text);
        let Some(outline) = file.outline() else { return };
        jobs.extend(outline.queues.external.iter().map(|(_, job)| ExternalJob {
            namespace: outline.namespace.to_string(),
            job: outline.text(*job).to_owned(),
            place: file.source().named_place(job.span()),
        }));
    });
    jobs
}

fn plain_queue(node: &Node) -> Option<(&str, Span)> {
    let text = node.text()?;
    Text::Name.check(text).is_ok().then_some((text, node.span))
}

/// Remarks on each external job whose queue a job of another kind uses too, in whatever namespace: queues have none.
pub(super) fn check<'a>(
    files: impl Iterator<Item = (usize, &'a Outline)> + Clone,
    findings: &mut Findings,
    place: &dyn Fn(usize, Span) -> String,
) {
    if files.clone().all(|(_, outline)| outline.queues.external.is_empty()) {
        return;
    }
    let mut others: HashMap<&str, (usize, &Outline, Name)> = HashMap::new();
    for (file, outline) in files.clone() {
        for (queue, job) in &outline.queues.others {
            others.entry(outline.text(*queue)).or_insert((file, outline, *job));
        }
    }
    for (file, outline) in files {
        for (queue, job) in &outline.queues.external {
            let Some((where_, whose, other)) = others.get(outline.text(*queue)) else { continue };
            if findings.len() >= MOST_REMARKS {
                return;
            }
            let (job, queue_name) = (short(outline.text(*job)), short(outline.text(*queue)));
            let other_name = short(whose.text(*other));
            let message =
                format!("the external job `{job}` shares the queue `{queue_name}` with `{other_name}`, which is none");
            let hint = format!(
                "give `{job}` a queue of its own: whoever takes a trigger of `{other_name}` ({}) must be able to run it",
                place(*where_, other.span())
            );
            findings.push((file, Remark::new(queue.span(), message).hint(hint)));
        }
    }
}
