//! A policy's tree → its rules, with the texts that are none remarked on.

use super::super::check::Checker;
use super::super::node::{Key, Node, short};
use super::super::source::{Remark, Source, Span};
use super::super::text::{Complaint, Text, complaint};
use super::keys::POLICY;
use super::{CommandRule, HostRule, Limits, Pattern, PolicyFile, Rule, Section, Size, SshRule, read_size};
use crate::duration::HumanDuration;

/// With less address space no program can be loaded.
const LEAST_MEMORY: Size = Size::kib(16 << 10);
/// What is kept of an attempt's output in any case, and at most.
const OUTPUT: [Size; 2] = [Size::kib(1), Size::kib(1024)];
/// The longest time that a system counts down on a processor.
const LONGEST_CPU: HumanDuration = HumanDuration::from_secs(365 * 86_400);

/// Checks a policy and reads it as far as it can be read. It counts only if there are no remarks.
pub(super) fn build(source: &Source, entries: &[(Key, Node)], owner: &Key, remarks: &mut Vec<Remark>) -> PolicyFile {
    let mut checker = Checker { source, remarks };
    checker.object(&POLICY, entries, owner);
    Builder { checker, entries }.policy()
}

struct Builder<'a> {
    checker: Checker<'a>,
    entries: &'a [(Key, Node)],
}

impl<'a> Builder<'a> {
    fn policy(mut self) -> PolicyFile {
        PolicyFile {
            name: self.checker.source.name.clone(),
            commands: self.section("commands", Self::command),
            hosts: self.section("hosts", |builder, node| builder.leaf(node, HostRule::read)),
            ssh: self.section("ssh", |builder, node| builder.leaf(node, SshRule::read)),
            functions: self.section("functions", |builder, node| builder.leaf(node, function)),
            environment: self.section("environment", |builder, node| builder.leaf(node, variable)),
            limits: self.limits(),
            run_as: self.find("run_as").and_then(|(_, node)| self.leaf(node, account)),
        }
    }

    fn find(&self, name: &str) -> Option<&'a (Key, Node)> {
        self.entries.iter().find(|(key, _)| &*key.text == name)
    }

    fn line(&self, span: Span) -> usize {
        self.checker.source.place(span.start).0
    }

    fn section<T>(&mut self, name: &str, rule: impl Fn(&mut Self, &Node) -> Option<Rule<T>>) -> Option<Section<T>> {
        let (key, node) = self.find(name)?;
        let line = self.line(key.span);
        Some(Section { line, rules: node.one_or_many().iter().filter_map(|node| rule(self, node)).collect() })
    }

    /// Reads a text; if it is none, that has been remarked on.
    fn leaf<T>(&mut self, node: &Node, read: impl Fn(&str) -> Result<T, Complaint>) -> Option<Rule<T>> {
        let text = node.text()?;
        match read(text) {
            Ok(value) => Some(Rule { value, text: text.to_owned(), line: self.line(node.span) }),
            Err(complaint) => {
                // A number where a text should be is remarked on already.
                if !self.checker.remarks.iter().any(|remark| remark.span == node.span) {
                    self.checker.complain(node.span, text, complaint);
                }
                None
            }
        }
    }

    fn command(&mut self, node: &Node) -> Option<Rule<CommandRule>> {
        let whole = node.text().is_some();
        let named = if whole { node } else { node.get("program")? };
        let Rule { value: program, text, line } = self.leaf(named, program)?;
        let mut patterns = |name: &str, read: fn(&str) -> Result<Pattern, Complaint>| {
            let list = node.get(name)?.one_or_many().iter();
            Some(list.filter_map(|node| Some(self.leaf(node, read)?.value)).collect::<Vec<_>>())
        };
        let arguments = patterns("arguments", argument);
        let variables = patterns("variables", variable).unwrap_or_default();
        Some(Rule { value: CommandRule { program, arguments, variables }, text, line })
    }

    fn limits(&mut self) -> Limits {
        let Some((_, node)) = self.find("limits") else {
            return Limits::default();
        };
        let mut sizes = |name: &str, least: Size, most: Size| {
            let within = |text: &str| read_size(text).and_then(|size| within(size, least, most));
            node.get(name).and_then(|node| self.leaf(node, within))
        };
        let all = Size::kib(u64::MAX >> 10);
        let memory = sizes("memory", LEAST_MEMORY, all);
        let file_size = sizes("file_size", Size::kib(1), all);
        let output = sizes("output", OUTPUT[0], OUTPUT[1]);
        let count =
            |text: &str| text.parse::<u64>().map_err(|_| complaint("not a whole number", "write a whole number"));
        Limits {
            cpu: node.get("cpu").and_then(|node| self.leaf(node, cpu)),
            memory,
            open_files: node.get("open_files").and_then(|node| self.leaf(node, count)),
            processes: node.get("processes").and_then(|node| self.leaf(node, count)),
            file_size,
            output,
        }
    }
}

fn within(size: Size, least: Size, most: Size) -> Result<Size, Complaint> {
    if size < least {
        return Err(complaint(format!("{size} is too little"), format!("write {least} or more")));
    }
    if size > most {
        return Err(complaint(format!("{size} is more than there is anyhow"), format!("write {most} or less")));
    }
    Ok(size)
}

fn cpu(text: &str) -> Result<HumanDuration, Complaint> {
    Text::Duration.check(text)?;
    let time = text.parse().unwrap_or_default();
    if time < HumanDuration::from_secs(1) || time > LONGEST_CPU {
        return Err(complaint(format!("{time} can't be counted down"), format!("write 1s to {LONGEST_CPU}")));
    }
    Ok(time)
}

/// A path from the root, or a name.
fn program(text: &str) -> Result<Pattern, Complaint> {
    plain(text)?;
    let is_path = text.starts_with('/');
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if is_path && text[1..].split('/').any(is_odd) || !is_path && (text.contains('/') || is_odd(text)) {
        let hint = "write a path from the root without . and .., like /usr/bin/rsync, or a name like backup-*";
        return Err(complaint(format!("`{}` is neither a path nor a name", short(text)), hint));
    }
    Ok(Pattern::new(text, Some('/')))
}

fn argument(text: &str) -> Result<Pattern, Complaint> {
    if !text.is_empty() {
        plain(text)?;
    }
    Ok(Pattern::new(text, Some('/')))
}

fn function(text: &str) -> Result<Pattern, Complaint> {
    plain(text)?;
    Ok(Pattern::new(text, None))
}

fn variable(text: &str) -> Result<Pattern, Complaint> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_*?".contains(&byte)) {
        return Ok(Pattern::new(text, None));
    }
    Err(complaint(format!("`{}` is not the name of a variable", short(text)), "write it like TOKEN or BILLING_*"))
}

fn account(text: &str) -> Result<(String, Option<String>), Complaint> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-$".contains(&byte))
    };
    if is_name(user) && group.is_none_or(is_name) {
        return Ok((user.to_owned(), group.map(str::to_owned)));
    }
    Err(complaint(format!("`{}` is no user", short(text)), "write user or user:group, by names or numbers"))
}

/// Patterns hold neither templates nor references: they would be compared as they are written.
fn plain(text: &str) -> Result<(), Complaint> {
    if text.is_empty() {
        return Err(complaint("an empty pattern", "write what it shall stand for; * stands for anything"));
    }
    match ["${env:", "{{"].iter().find_map(|opening| Some((text.find(opening)?, opening.len()))) {
        None => Ok(()),
        Some((start, length)) => Err(Complaint {
            range: Some(start..start + length),
            ..complaint("a policy is not rendered", "write the value itself, or a wildcard")
        }),
    }
}
