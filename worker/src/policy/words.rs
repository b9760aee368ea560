//! A policy in words, for the worker's start and for refusals.

use reveille_shared::definition::policy::{CommandRule, Pattern, Rule, Section};

use super::Policy;

/// How many rules a refusal repeats.
const SHOWN: usize = 8;

/// Programs that run whatever their arguments say.
const INTERPRETERS: [&str; 30] = [
    "ash",
    "awk",
    "bash",
    "busybox",
    "chroot",
    "csh",
    "dash",
    "doas",
    "docker",
    "env",
    "find",
    "fish",
    "ksh",
    "lua",
    "make",
    "nice",
    "node",
    "nohup",
    "perl",
    "php",
    "python",
    "python3",
    "ruby",
    "setsid",
    "sh",
    "sudo",
    "systemd-run",
    "timeout",
    "xargs",
    "zsh",
];

/// The first of some texts.
pub(super) fn list<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = texts.len().saturating_sub(SHOWN);
    let mut list: Vec<&str> = texts.take(SHOWN).collect();
    let rest = format!("and {more} more");
    if more > 0 {
        list.push(&rest);
    }
    list.join(", ")
}

impl Policy {
    /// One line that says what is in force.
    #[must_use]
    pub fn summary(&self) -> String {
        let Some(file) = &self.0.file else { return "none: jobs may run, call and read anything here".to_owned() };
        let sections = [
            ("commands", count(file.commands.as_ref())),
            ("hosts", count(file.hosts.as_ref())),
            ("ssh", count(file.ssh.as_ref())),
            ("functions", count(file.functions.as_ref())),
            ("environment", count(file.environment.as_ref())),
        ];
        let mut parts: Vec<String> = sections.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        let limits = &file.limits;
        let texts = [
            ("cpu", limits.cpu.as_ref().map(|rule| &rule.text)),
            ("memory", limits.memory.as_ref().map(|rule| &rule.text)),
            ("open_files", limits.open_files.as_ref().map(|rule| &rule.text)),
            ("processes", limits.processes.as_ref().map(|rule| &rule.text)),
            ("file_size", limits.file_size.as_ref().map(|rule| &rule.text)),
            ("output", limits.output.as_ref().map(|rule| &rule.text)),
        ];
        parts.extend(texts.into_iter().filter_map(|(name, text)| Some(format!("{name} {}", text?))));
        if let Some(account) = self.account() {
            parts.push(format!("programs run as {account}"));
        }
        format!("{}: {}", file.name, parts.join(", "))
    }

    /// Says in the log what may be less strict than it should be.
    pub fn warn(&self) {
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let is_root = rustix::process::geteuid().is_root();
        let Some(file) = &self.0.file else {
            let who = if is_root { ", as root" } else { "" };
            return vec![format!(
                "no policy: jobs may run any program{who}, call any host and read any variable of this worker; write one \
                 and name it with --policy FILE"
            )];
        };
        let mut warnings = Vec::new();
        if is_root && self.account().is_none() {
            warnings.push(format!("programs run as root, as `run_as` in {} says", file.name));
        }
        for rule in file.commands.iter().flat_map(|commands| &commands.rules) {
            if let Some(name) = interpreter(rule) {
                warnings.push(format!(
                    "{}:{} allows `{name}` with any arguments, and so every program: list `arguments` there",
                    file.name, rule.line
                ));
            }
        }
        warnings
    }
}

/// The interpreter that a rule allows without looking at its arguments.
fn interpreter(rule: &Rule<CommandRule>) -> Option<&'static str> {
    let is_open =
        rule.value.arguments.as_ref().is_none_or(|patterns| patterns.first().is_some_and(Pattern::is_anything));
    let name = rule.text.rsplit('/').next().unwrap_or_default();
    let pattern = Pattern::new(name, None);
    INTERPRETERS.into_iter().find(|name| is_open && pattern.matches(name))
}

fn count<T>(section: Option<&Section<T>>) -> String {
    match section.map(|section| section.rules.len()) {
        None => "any".to_owned(),
        Some(0) => "none".to_owned(),
        Some(1) => "by 1 rule".to_owned(),
        Some(count) => format!("by {count} rules"),
    }
}
