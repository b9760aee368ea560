//! A worker's policy: YAML → what jobs may run there, or every fault at once.
//!
//! It goes the way of schedule files, by a table of keys of its own ([`keys`]). Its texts are patterns, which are read
//! here so that a wrong one is told with its place; the worker decides by them.

mod build;
mod host;
mod keys;
mod pattern;
mod size;

use std::path::Path;

use super::fault::Faults;
use super::files::read_text;
use super::node::{Key, Kind, parse};
use super::source::{Remark, Source, Span};
pub use host::{Host, HostRule, SshRule};
pub use pattern::Pattern;
pub use size::Size;
pub(super) use size::read as read_size;

use crate::duration::HumanDuration;

/// What a policy file says. A section that is not there leaves its matter open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFile {
    /// The file, as it was named.
    pub name: String,
    /// Programs that may be run.
    pub commands: Option<Section<CommandRule>>,
    /// Where HTTP calls may go.
    pub hosts: Option<Section<HostRule>>,
    /// Where commands may be run over SSH.
    pub ssh: Option<Section<SshRule>>,
    /// Rust functions that may be called.
    pub functions: Option<Section<Pattern>>,
    /// Variables of the worker that jobs may read by `${env:NAME}`.
    pub environment: Option<Section<Pattern>>,
    /// What one run of a program may use up.
    pub limits: Limits,
    /// Whose programs they are: `user` or `user:group`, names or numbers.
    pub run_as: Option<Rule<(String, Option<String>)>>,
}

/// A list of rules: what none of them allows is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<T> {
    /// Where it begins, from 1.
    pub line: usize,
    /// Its rules, in the order of the file.
    pub rules: Vec<Rule<T>>,
}

/// One entry, as it is meant and as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<T> {
    /// What it means.
    pub value: T,
    /// What is written.
    pub text: String,
    /// Where, from 1.
    pub line: usize,
}

/// A program that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRule {
    /// Its path, or the name by which it is found.
    pub program: Pattern,
    /// One for each argument, the last one for all further ones if it is `**`; any arguments if there is no list.
    pub arguments: Option<Vec<Pattern>>,
    /// Variables that jobs may set for it.
    pub variables: Vec<Pattern>,
}

/// What a process of a run may use up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Time on a processor.
    pub cpu: Option<Rule<HumanDuration>>,
    /// Address space.
    pub memory: Option<Rule<Size>>,
    /// Files that are open at one time.
    pub open_files: Option<Rule<u64>>,
    /// Processes and threads of the user.
    pub processes: Option<Rule<u64>>,
    /// The length of a file that it writes.
    pub file_size: Option<Rule<Size>>,
    /// How much is kept of what one attempt prints.
    pub output: Option<Rule<Size>>,
}

/// Reads a policy.
///
/// # Errors
/// Everything that is wrong with the file. An empty one is wrong: it would allow everything.
pub fn read_policy(file: &Path) -> Result<PolicyFile, Faults> {
    let mut faults = Faults::default();
    let name = file.display().to_string();
    let text = read_text(file, &name, &mut faults);
    faults.into_result()?;
    read_policy_text(&name, &text.unwrap_or_default())
}

/// Reads the text of a policy; `name` is shown in faults and refusals.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_policy_text(name: &str, text: &str) -> Result<PolicyFile, Faults> {
    let mut source = Source::new(name, text);
    let tree = parse(&mut source);
    let mut remarks = tree.remarks;
    let mut policy = PolicyFile::default();
    match tree.root {
        Some(root) => match &root.kind {
            Kind::Map(entries) => {
                let first = Key { text: "policy".into(), span: Span { start: root.span.start, end: root.span.start } };
                policy = build::build(&source, entries, &first, &mut remarks);
            }
            _ => remarks.push(nothing_in_it(root.span)),
        },
        None if remarks.is_empty() => remarks.push(nothing_in_it(Span::default())),
        None => {}
    }
    remarks.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
    remarks.dedup();
    let mut faults = Faults::default();
    remarks.into_iter().for_each(|remark| faults.push(|| source.fault(remark)));
    faults.into_result().map(|()| policy)
}

fn nothing_in_it(span: Span) -> Remark {
    Remark::new(span, "no policy here").hint("begin with the line `version: 1`, then `commands:`, `hosts:` and others")
}

#[cfg(test)]
mod tests;
