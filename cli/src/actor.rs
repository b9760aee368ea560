//! Who does what is done, and why, for the history that people read later.

use serde_json::{Value, json};

/// Characters of a name at most: what the server keeps.
const MOST: usize = 100;

/// Whose name stands in the history.
#[derive(Debug, clap::Args)]
pub(crate) struct Actor {
    /// Who does this, for the history [default: USER@host]
    #[arg(long, env = "REVEILLE_ACTOR", value_name = "NAME", value_parser = name)]
    by: Option<String>,
}

/// Who does something, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct Note {
    /// Why, for those who find it so
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    actor: Actor,
}

impl Note {
    /// Who does it.
    pub(crate) fn name(&self) -> String {
        self.actor.name()
    }

    /// Why, if they say so.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The parameters of a request without a body that say so.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let reason = self.reason.iter().map(|reason| ("reason", reason.clone()));
        std::iter::once(("by", self.name())).chain(reason).collect()
    }

    /// The members of a request that say so.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"by": self.name()});
        if let Some(reason) = self.reason() {
            body["reason"] = reason.into();
        }
        body
    }
}

fn name(text: &str) -> Result<String, String> {
    let good = text.chars().count() <= MOST && !text.chars().any(char::is_control);
    good.then(|| text.trim().to_owned())
        .ok_or(format!("must have at most {MOST} characters, and no control characters"))
}

impl Actor {
    /// The name that was given, or that of the user and this machine.
    pub(crate) fn name(&self) -> String {
        match self.by.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => default(),
        }
    }
}

fn default() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let user = variable("USER")
        .or_else(|| variable("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let name = format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy());
    name.chars().filter(|c| !c.is_control()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!(name(" anna "), Ok("anna".to_owned()));
        assert_eq!(name(&"ü".repeat(MOST)), Ok("ü".repeat(MOST)));
        assert!(name(&"ü".repeat(MOST + 1)).is_err());
        assert!(name("a\nb").is_err());
    }

    #[test]
    fn who_says_nothing_is_known_by_user_and_machine() {
        let said = Actor { by: None }.name();
        assert!(said.contains('@') && said.chars().count() <= MOST, "{said}");
        assert_eq!(Actor { by: Some(String::new()) }.name(), said);
        assert_eq!(Actor { by: Some("anna".to_owned()) }.name(), "anna");
    }
}
