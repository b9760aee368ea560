//! Who may do what: API keys, and what they let their holders do. No input and output here.
//!
//! - [`KeyText`]: what a holder has; the store keeps its hash only.
//! - [`Grant`]: a role, in some namespaces, on some jobs.
//! - [`Rule`]: what a request asks of a grant.

mod key_text;
mod rule;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{RULE, is_name};

pub use self::key_text::{KeyText, MalformedKey};
pub use self::rule::{Denied, Reach, Rule};

/// What a holder may do. A stronger role may do all that a weaker one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Starts and stops runs, pauses schedules, works.
    Operator,
    /// Changes definitions, webhooks and keys.
    Admin,
}

impl Role {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or("not one of viewer, operator, admin")
    }
}

/// Names in a list at most.
const MOST_NAMES: usize = 100;
/// What stands for all names in a list.
const ALL_NAMES: &str = "*";

/// Why a list is not one of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongNames {
    /// There are none, or too many.
    #[error("must be a list of 1 to {MOST_NAMES} names")]
    Count,
    /// Some are none.
    #[error("names have {RULE}")]
    Rule,
}

/// Some names of a kind, or all there are and will be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Option<BTreeSet<String>>", into = "Option<BTreeSet<String>>")]
pub enum Names {
    /// All.
    #[default]
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Names {
    /// These and no others.
    pub fn only<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::Only(names.into_iter().map(Into::into).collect())
    }

    /// Reads a list of names; where they may be all, `*` says so.
    ///
    /// # Errors
    /// [`WrongNames`].
    pub fn read<T: AsRef<str>>(names: &[T], may_be_all: bool) -> Result<Self, WrongNames> {
        if names.is_empty() || names.len() > MOST_NAMES {
            return Err(WrongNames::Count);
        }
        if may_be_all && names.iter().any(|name| name.as_ref() == ALL_NAMES) {
            return Ok(Self::All);
        }
        let are_names = names.iter().all(|name| is_name(name.as_ref()));
        if are_names { Ok(Self::only(names.iter().map(AsRef::as_ref))) } else { Err(WrongNames::Rule) }
    }

    /// Whether a name is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// Whether all of the others are among them.
    #[must_use]
    pub fn cover(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(names), Self::Only(others)) => others.is_subset(names),
        }
    }

    /// The names, unless they are all.
    #[must_use]
    pub const fn listed(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names),
        }
    }
}

impl From<Option<BTreeSet<String>>> for Names {
    fn from(names: Option<BTreeSet<String>>) -> Self {
        names.map_or(Self::All, Self::Only)
    }
}

impl From<Names> for Option<BTreeSet<String>> {
    fn from(names: Names) -> Self {
        match names {
            Names::All => None,
            Names::Only(names) => Some(names),
        }
    }
}

/// What the holder of a key may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What.
    pub role: Role,
    /// Where.
    pub namespaces: Names,
    /// Limited to these jobs and their runs. Whoever is limited to some can't see schedules, which may call others.
    pub jobs: Names,
}

impl Grant {
    /// Of whoever is not known: nothing of anybody's.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { role: Role::Viewer, namespaces: Names::Only(BTreeSet::new()), jobs: Names::Only(BTreeSet::new()) }
    }

    /// Everything, everywhere.
    #[must_use]
    pub const fn everything() -> Self {
        Self { role: Role::Admin, namespaces: Names::All, jobs: Names::All }
    }

    /// Whether nobody with this grant gains anything from the other one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.role >= other.role && self.namespaces.cover(&other.namespaces) && self.jobs.cover(&other.jobs)
    }
}

/// What `WWW-Authenticate` says to whoever shows no good key.
pub const CHALLENGE: &str = "Bearer realm=\"reveille\"";

/// Headers that hold nothing but a key; the first that is there counts.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "x-goog-api-key"];

/// The text that a request shows as its key: `headers` gives the values of a header. Other schemes of `Authorization` than
/// `Bearer` are other services' concern: some clients sign each request for whoever asks.
pub fn key_shown<'a, I: Iterator<Item = &'a [u8]>>(headers: impl Fn(&'static str) -> I) -> Option<&'a str> {
    if let Some(value) = KEY_HEADERS.into_iter().find_map(|name| headers(name).next()) {
        return Some(std::str::from_utf8(value).unwrap_or_default().trim());
    }
    let schemes = headers("authorization").filter_map(|value| std::str::from_utf8(value).ok()?.split_once(' '));
    schemes.into_iter().find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = Names> {
        let some = proptest::collection::btree_set("[ab]|c", 0..3).prop_map(Names::Only);
        prop_oneof![Just(Names::All), some]
    }

    fn grant() -> impl Strategy<Value = Grant> {
        let role = (0..3usize).prop_map(|at| Role::ALL[at]);
        (role, names(), names()).prop_map(|(role, namespaces, jobs)| Grant { role, namespaces, jobs })
    }

    #[test]
    fn lists_of_names_are_read_or_refused() {
        assert_eq!(Names::read(&["a", "b.c-d_9"], true), Ok(Names::only(["a", "b.c-d_9"])));
        assert_eq!(Names::read(&["a", "*"], true), Ok(Names::All));
        for wrong in ["*", "", "A", "-a", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(Names::read(&["a", wrong], false), Err(WrongNames::Rule), "{wrong}");
        }
        assert_eq!(Names::read::<&str>(&[], true), Err(WrongNames::Count));
        assert_eq!(Names::read(&["a"; 101], true), Err(WrongNames::Count));
    }

    #[test]
    fn a_key_is_found_where_clients_put_it() {
        let signature = ("authorization", "Signature version=\"1\",keyId=\"x\"");
        for (pairs, found) in [
            (&[("x-api-key", "a")][..], Some("a")),
            (&[("x-goog-api-key", " a ")], Some("a")),
            (&[("authorization", "Bearer a")], Some("a")),
            (&[("authorization", "bearer a")], Some("a")),
            (&[("x-api-key", "a"), ("authorization", "Bearer b")], Some("a")),
            (&[signature, ("x-api-key", "a")], Some("a")),
            (&[signature, ("authorization", "Bearer a")], Some("a")),
            (&[signature], None),
            (&[("authorization", "Basic YTpi")], None),
            (&[("authorization", "Bearer")], None),
            (&[("x-api-key", "")], Some("")),
            (&[], None),
        ] {
            let values = |name| pairs.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value.as_bytes());
            assert_eq!(key_shown(values), found, "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn whoever_covers_a_grant_may_do_all_that_it_lets(mine: Grant, other: Grant) {
            let lets = |grant: &Grant, role, place: &str, job: &str| {
                grant.role >= role && grant.namespaces.has(place) && grant.jobs.has(job)
            };
            let mut gains = false;
            for role in Role::ALL {
                for place in ["a", "b", "c", "unheard of"] {
                    for job in ["a", "b", "c", "unheard of"] {
                        gains |= lets(&other, role, place, job) && !lets(&mine, role, place, job);
                    }
                }
            }
            prop_assert!(!(mine.covers(&other) && gains), "{mine:?} {other:?}");
            prop_assert!(mine.covers(&mine) && Grant::everything().covers(&mine));
        }

        #[test]
        fn a_grant_survives_its_text(mine: Grant) {
            let text = serde_json::to_string(&mine).unwrap();
            prop_assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), mine);
        }
    }

    impl Arbitrary for Grant {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;

        fn arbitrary_with((): ()) -> Self::Strategy {
            grant().boxed()
        }
    }
}
