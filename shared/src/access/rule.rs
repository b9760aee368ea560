//! What a request asks of a key: how strong it is, and how far it reaches.

use super::{Grant, Names, Role};

/// What a request asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The weakest role that will do.
    pub role: Role,
    /// How far the request reaches.
    pub reach: Reach,
}

/// How far a request reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Jobs, and runs of these, of one namespace.
    Jobs,
    /// Everything in one namespace, or in those that the body names, which the handler looks at.
    Namespace,
    /// All namespaces.
    Everywhere,
}

/// A key is good, and not for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its role is too weak.
    #[error("the key's role is {has}: this needs {needs}")]
    Role {
        /// The one that it has.
        has: Role,
        /// The weakest that will do.
        needs: Role,
    },
    /// It is for jobs, and this is about more.
    #[error("the key is limited to some jobs: it reaches these and their runs only")]
    SomeJobs,
    /// It is for namespaces, and this is about all.
    #[error("this concerns all namespaces, and the key is for some only")]
    SomeNamespaces,
}

impl Rule {
    /// What is about all namespaces at once, such as metrics, and may be read by whoever reads there.
    pub const READ_EVERYWHERE: Self = Self { role: Role::Viewer, reach: Reach::Everywhere };

    /// Whether a key that grants this will do.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(self, grant: &Grant) -> Result<(), Denied> {
        if grant.role < self.role {
            return Err(Denied::Role { has: grant.role, needs: self.role });
        }
        match self.reach {
            Reach::Jobs => Ok(()),
            _ if grant.jobs != Names::All => Err(Denied::SomeJobs),
            Reach::Everywhere if grant.namespaces != Names::All => Err(Denied::SomeNamespaces),
            Reach::Namespace | Reach::Everywhere => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reaches_as_far_as_it_says() {
        let everything = Grant::everything();
        let tenant = Grant { namespaces: Names::only(["a"]), ..everything.clone() };
        let jobs = Grant { jobs: Names::only(["a"]), ..everything.clone() };
        let reaches = |grant| {
            let rules =
                [Reach::Jobs, Reach::Namespace, Reach::Everywhere].map(|reach| Rule { role: Role::Admin, reach });
            rules.map(|rule| rule.allows(grant).is_ok())
        };
        assert_eq!(reaches(&everything), [true, true, true]);
        assert_eq!(reaches(&tenant), [true, true, false]);
        assert_eq!(reaches(&jobs), [true, false, false]);
    }

    #[test]
    fn a_weaker_role_will_not_do() {
        let viewer = Grant { role: Role::Viewer, ..Grant::everything() };
        assert_eq!(Rule::READ_EVERYWHERE.allows(&viewer), Ok(()));
        let denied = Denied::Role { has: Role::Viewer, needs: Role::Operator };
        assert_eq!(Rule { role: Role::Operator, reach: Reach::Jobs }.allows(&viewer), Err(denied));
    }
}
