//! What jobs may run on this worker, whoever defines or triggers them.
//!
//! Decisions are made on rendered values, right before they are used, and without a look at anything but them
//! ([`Policy::url`], [`Policy::function`], [`Policy::variable`], [`Policy::ssh`]); for a program, what is judged is the file
//! that will be run ([`program`]). A section that the policy lacks leaves its matter open; in one that is there, what no
//! rule allows is refused.

mod account;
mod clue;
mod program;
mod words;

use std::path::Path;
use std::sync::Arc;

use reqwest::Url;
use reveille_shared::definition::policy::{
    CommandRule, Host, HostRule, Limits, Pattern, PolicyFile, Rule, Section, SshRule, read_policy,
};
use reveille_shared::definition::{CommandCall, Faults};

pub(crate) use self::account::Account;
pub(crate) use self::clue::Clue;
use self::program::Found;
use crate::guard::Confinement;
use crate::handlers::RunFailure;

/// What a worker allows. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Policy(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    /// None: everything is allowed, and programs run as this process does.
    file: Option<PolicyFile>,
    open: PolicyFile,
    account: Option<Account>,
}

/// Why there is no policy. The worker must not start then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file can't be read, or is wrong.
    #[error(transparent)]
    File(#[from] Faults),
    /// It asks for what this process can't do.
    #[error("{file}:{line}: {message}")]
    Here {
        /// The policy file.
        file: String,
        /// Where it asks for it.
        line: usize,
        /// What, and what to do.
        message: String,
    },
}

/// What a policy does not allow, and by which rule. It is no error type, so that it can turn into a failure that no retry
/// can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl Refused {
    /// Names the rule, and says what to change.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0
    }
}

impl From<Refused> for RunFailure {
    fn from(refused: Refused) -> Self {
        Self::fatal(refused.0).code("Refused")
    }
}

impl Policy {
    /// Reads a policy for this process.
    ///
    /// # Errors
    /// Everything that is wrong with the file; or what it asks for and this process can't do.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, PolicyError> {
        Self::of(read_policy(file.as_ref())?)
    }

    fn of(mut file: PolicyFile) -> Result<Self, PolicyError> {
        let account = account::of(&file)?;
        if let Some(commands) = &mut file.commands {
            commands.rules.iter_mut().for_each(|rule| rule.value.program = program::real(&rule.value.program));
        }
        Ok(Self(Arc::new(Rules { file: Some(file), open: PolicyFile::default(), account })))
    }

    fn file(&self) -> &PolicyFile {
        self.0.file.as_ref().unwrap_or(&self.0.open)
    }

    /// The program to run for a call with these arguments: as it is written if any may be run. `path` is the worker's own.
    pub(crate) fn program(
        &self,
        call: &CommandCall,
        arguments: &[String],
        path: Option<&str>,
    ) -> Result<String, RunFailure> {
        let written = call.argv.first().map_or("", String::as_str);
        let Some(commands) = &self.file().commands else { return Ok(written.to_owned()) };
        let found = program::find(written, call.working_dir.as_deref(), path)?;
        let variables: Vec<&str> = call.env.keys().map(String::as_str).collect();
        self.command(commands, &found, arguments, &variables)?;
        Ok(found.path)
    }

    fn command(
        &self,
        commands: &Section<CommandRule>,
        found: &Found,
        arguments: &[String],
        variables: &[&str],
    ) -> Result<(), Refused> {
        let file = &self.file().name;
        let mut nearest = None;
        for rule in commands.rules.iter().filter(|rule| found.fits(&rule.value.program)) {
            let line = rule.line;
            let unfit = arguments_that_fit(&rule.value, arguments);
            let unset = variables.iter().find(|name| !rule.value.variables.iter().any(|own| own.matches(name)));
            let refused = match (unfit, unset) {
                (Ok(()), None) => return Ok(()),
                (Err(which), _) => format!(
                    "this worker's policy allows `{}` with other arguments: {which} ({file}:{line}); change the job, or \
                     `arguments` there",
                    rule.text
                ),
                (Ok(()), Some(name)) => format!(
                    "this worker's policy does not let jobs set the variable {name} for `{}` ({file}:{line}); take it out \
                     of the job, or list it in `variables` there",
                    rule.text
                ),
            };
            nearest.get_or_insert(Refused(refused));
        }
        Err(nearest.unwrap_or_else(|| self.not_allowed("commands", commands, &format!("`{}`", found.path))))
    }

    /// Whether an HTTP call may go to this URL. What is not `shown` may hold a secret.
    pub(crate) fn url(&self, url: &Url, is_shown: bool) -> Result<(), Refused> {
        let Some(hosts) = &self.file().hosts else { return Ok(()) };
        let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let target = Host::new(host);
        let allows = |rule: &Rule<HostRule>| rule.value.matches(url.scheme(), &target, port);
        if hosts.rules.iter().any(allows) {
            return Ok(());
        }
        let what = if is_shown { format!("`{}://{host}:{port}`", url.scheme()) } else { "the URL's host".to_owned() };
        Err(self.not_allowed("hosts", hosts, &what))
    }

    /// Whether a command may be run over SSH as this user of this host.
    ///
    /// # Errors
    /// No rule allows it.
    pub fn ssh(&self, user: &str, host: &str, port: u16) -> Result<(), Refused> {
        let Some(ssh) = &self.file().ssh else { return Ok(()) };
        let target = Host::new(host);
        if ssh.rules.iter().any(|rule: &Rule<SshRule>| rule.value.matches(user, &target, port)) {
            return Ok(());
        }
        Err(self.not_allowed("ssh", ssh, &format!("`{user}@{host}:{port}`")))
    }

    /// Whether a Rust function may be called.
    pub(crate) fn function(&self, name: &str) -> Result<(), Refused> {
        let Some(functions) = &self.file().functions else { return Ok(()) };
        if functions.rules.iter().any(|rule| rule.value.matches(name)) {
            return Ok(());
        }
        Err(self.not_allowed("functions", functions, &format!("`{name}`")))
    }

    /// Whether a job may read a variable of this process. The worker's own settings must be named in full.
    pub(crate) fn variable(&self, name: &str) -> Result<(), Refused> {
        let Some(environment) = &self.file().environment else { return Ok(()) };
        let is_own = name.starts_with("REVEILLE_");
        let allows = |pattern: &Pattern| pattern.matches(name) && (!is_own || pattern.is_literal());
        if environment.rules.iter().any(|rule| allows(&rule.value)) {
            return Ok(());
        }
        Err(self.not_allowed("environment", environment, &format!("`{name}`")))
    }

    /// What runs of programs may use up.
    pub(crate) fn limits(&self) -> &Limits {
        &self.file().limits
    }

    /// Whose programs they are, if not this process's user's.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.0.account.as_ref()
    }

    /// What a guard does to a program before it begins.
    pub(crate) fn confinement(&self) -> Confinement {
        let limits = self.limits();
        Confinement {
            cpu: limits.cpu.as_ref().map(|rule| rule.value.as_millis().div_ceil(1000)),
            memory: limits.memory.as_ref().map(|rule| rule.value.bytes()),
            open_files: limits.open_files.as_ref().map(|rule| rule.value),
            processes: limits.processes.as_ref().map(|rule| rule.value),
            file_size: limits.file_size.as_ref().map(|rule| rule.value.bytes()),
            account: self.account().map(|account| (account.user, account.group)),
        }
    }

    /// `limits.memory: 64MiB of the worker's policy (policy.yaml:9)`: the limit that a clue speaks of, if it is set.
    pub(crate) fn limit(&self, clue: Clue) -> Option<String> {
        let limits = self.limits();
        let (name, text, line) = match clue {
            Clue::Cpu => limits.cpu.as_ref().map(|rule| ("cpu", &rule.text, rule.line)),
            Clue::Memory => limits.memory.as_ref().map(|rule| ("memory", &rule.text, rule.line)),
            Clue::OpenFiles => limits.open_files.as_ref().map(|rule| ("open_files", &rule.text, rule.line)),
            Clue::Processes => limits.processes.as_ref().map(|rule| ("processes", &rule.text, rule.line)),
            Clue::FileSize => limits.file_size.as_ref().map(|rule| ("file_size", &rule.text, rule.line)),
        }?;
        Some(format!("`limits.{name}: {text}` of the worker's policy ({}:{line})", self.file().name))
    }

    fn not_allowed<T>(&self, name: &str, section: &Section<T>, what: &str) -> Refused {
        let (file, line) = (&self.file().name, section.line);
        let rules = words::list(section.rules.iter().map(|rule| rule.text.as_str()));
        Refused(format!(
            "this worker's policy allows {name} [{rules}]; {what} is none of them ({file}:{line}); change the job, or add it \
             there and start the worker anew"
        ))
    }
}

/// Whether arguments are what a rule expects; else, what is wrong with which of them. Their texts are not shown, as they may
/// be of a run's input.
fn arguments_that_fit(rule: &CommandRule, arguments: &[String]) -> Result<(), String> {
    let Some(patterns) = &rule.arguments else { return Ok(()) };
    let (patterns, rest) = match patterns.split_last() {
        Some((last, before)) if last.is_anything() => (before, true),
        _ => (&patterns[..], false),
    };
    for (index, pattern) in patterns.iter().enumerate() {
        match arguments.get(index) {
            None => return Err(format!("argument {} must be `{}`, and there is none", index + 1, pattern.text())),
            Some(argument) if admits(pattern, argument) => {}
            Some(_) => return Err(format!("argument {} does not fit `{}`", index + 1, pattern.text())),
        }
    }
    if arguments.len() > patterns.len() && !rest {
        return Err(format!("it has {} of them, and {} are expected", arguments.len(), patterns.len()));
    }
    Ok(())
}

/// Whether an argument fits. A wildcard never brings in what leads out of a folder, nor an option where none is written;
/// only `**` alone stands for everything.
fn admits(pattern: &Pattern, argument: &str) -> bool {
    if pattern.is_anything() {
        return true;
    }
    let leads_out = argument.contains("..") && !pattern.is_literal();
    let is_option = argument.starts_with('-') && pattern.begins_wild();
    !leads_out && !is_option && pattern.matches(argument)
}

#[cfg(test)]
pub(crate) mod tests;
