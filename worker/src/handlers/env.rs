//! `${env:NAME}`: variables of the worker's environment, put into a job's texts at the last moment.
//!
//! Values never reach the store, a log or an error text; only names do.

use std::fmt;
use std::sync::Arc;

use super::{Run, RunFailure};
use crate::policy::Policy;

/// Linux takes no longer text in an environment.
pub(super) const MAX_VARIABLE: usize = 128 * 1024 - 64;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where variables are looked up.
#[derive(Clone)]
pub(crate) struct Variables {
    lookup: Arc<Lookup>,
    policy: Policy,
}

impl Variables {
    /// The environment of this process.
    pub(crate) fn of_process(policy: Policy) -> Self {
        Self { lookup: Arc::new(|name| std::env::var(name).ok()), policy }
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let map: std::collections::HashMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { lookup: Arc::new(move |name| map.get(name).cloned()), policy: Policy::default() }
    }

    #[cfg(test)]
    pub(crate) fn under(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// What `${env:NAME}` in a job's text stands for; `field` is that text's.
    ///
    /// # Errors
    /// A failure that no retry can mend: the policy does not let jobs read it, or it is not there.
    pub(crate) fn referred(&self, field: &str, name: &str) -> Result<String, RunFailure> {
        self.policy.variable(name)?;
        self.get(name).ok_or_else(|| {
            RunFailure::fatal(format!("{field} needs the variable {name}, which this worker does not have"))
                .code("MissingEnvironment")
        })
    }

    /// The value, if the variable is set to Unicode text.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

/// What every program is told of its run.
///
/// # Errors
/// A failure that no retry can mend: the input is too large.
pub(super) fn of_run(run: &Run) -> Result<impl Iterator<Item = (String, String)> + use<>, RunFailure> {
    let input = run.input.to_string();
    if input.len() > MAX_VARIABLE {
        let told = format!("an input of {} bytes is too large for a program's environment", input.len());
        return Err(RunFailure::fatal(told).code("InputTooLarge"));
    }
    let own = [
        ("REVEILLE_WORK_REQUEST_ID", run.id.to_string()),
        ("REVEILLE_ATTEMPT", run.attempt.to_string()),
        ("REVEILLE_JOB", run.job.clone()),
        ("REVEILLE_NAMESPACE", run.namespace.clone()),
        ("REVEILLE_SCHEDULED_FOR", run.scheduled_for.to_string()),
        ("REVEILLE_INPUT", input),
    ];
    Ok(own.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

/// A text cut at its references: literal text and names in turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

const OPENING: &str = "${env:";

/// Cuts `text` at each `${env:NAME}`.
///
/// # Errors
/// A failure that no retry can mend, when a reference has no end or no proper name.
pub(crate) fn pieces<'a>(field: &str, text: &'a str) -> Result<Vec<Piece<'a>>, RunFailure> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPENING) {
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let reference = &rest[start + OPENING.len()..];
        let name = reference.find('}').map(|end| &reference[..end]).filter(|name| is_name(name)).ok_or_else(|| {
            RunFailure::fatal(format!("{field} has a malformed reference: write ${{env:NAME}}")).code("Template")
        })?;
        pieces.push(Piece::Variable(name));
        rest = &reference[name.len() + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_references() {
        assert_eq!(
            pieces("url", "a${env:B}${env:C_1}d").unwrap(),
            [Piece::Text("a"), Piece::Variable("B"), Piece::Variable("C_1"), Piece::Text("d")]
        );
        assert_eq!(pieces("url", "$env:{x}").unwrap(), [Piece::Text("$env:{x}")]);
        assert_eq!(pieces("url", "").unwrap(), []);
    }

    #[test]
    fn refuses_malformed_references_and_names_the_field() {
        for text in ["${env:", "${env:}", "${env:A B}", "${env:1A}", "x${env:A"] {
            let failure = pieces("headers.X", text).unwrap_err();
            assert!(!failure.retryable && failure.message.starts_with("headers.X"), "{text}: {failure:?}");
        }
    }
}
