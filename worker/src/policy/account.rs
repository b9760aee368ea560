//! Whose programs they are: a user and a group of this machine, from `/etc/passwd` and `/etc/group` or by number.

use std::fmt;
use std::path::Path;

use reveille_shared::definition::policy::PolicyFile;
use rustix::process::{getegid, geteuid};

use super::PolicyError;

/// Whose programs they are under a policy if the worker is root and the policy does not say.
const NOBODY: &str = "nobody";

/// A user and a group, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) home: String,
    name: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.user, self.group)
    }
}

/// Whose programs they are, if another user's than this process's.
pub(super) fn of(file: &PolicyFile) -> Result<Option<Account>, PolicyError> {
    let (own, own_group) = (geteuid(), getegid());
    let wrong = |line: usize, message: String| PolicyError::Here { file: file.name.clone(), line, message };
    let account = match &file.run_as {
        Some(rule) => {
            let (user, group) = &rule.value;
            let account =
                find(user, group.as_deref(), Path::new("/etc")).map_err(|message| wrong(rule.line, message))?;
            let is_own = (account.user, account.group) == (own.as_raw(), own_group.as_raw());
            if !is_own && !own.is_root() {
                let message = format!(
                    "only root can run programs as {account}, and this worker is user {}: start it as that user and \
                     remove `run_as`, or start it as root",
                    own.as_raw()
                );
                return Err(wrong(rule.line, message));
            }
            Some(account).filter(|_| !is_own)
        }
        None if own.is_root() => Some(find(NOBODY, None, Path::new("/etc")).map_err(|message| {
            wrong(1, format!("{message}; this worker is root: say in `run_as` whose programs they are"))
        })?),
        None => None,
    };
    let runs_as_root = account.as_ref().map_or(own.is_root(), |account| account.user == 0);
    if let Some(processes) = file.limits.processes.as_ref().filter(|_| runs_as_root) {
        let message =
            "`processes` does not bind root, as whom programs run: name another user in `run_as`, or remove it";
        return Err(wrong(processes.line, message.to_owned()));
    }
    Ok(account)
}

/// Looks a user up in the files of `folder`.
fn find(user: &str, group: Option<&str>, folder: &Path) -> Result<Account, String> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let users = read("passwd");
    let entry = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 6 && (fields[0] == user || fields[2] == user));
    let known = entry.as_deref().and_then(|fields| Some((fields[2].parse().ok()?, fields[3].parse().ok()?, fields[5])));
    let (number, own_group, home) = match (known, user.parse::<u32>()) {
        (Some((number, group, home)), _) => (number, Some(group), home),
        (None, Ok(number)) => (number, None, "/"),
        (None, Err(_)) => {
            return Err(format!("there is no user `{user}` in /etc/passwd: write another name, or a number"));
        }
    };
    let group = match group {
        Some(name) => named_group(name, &read("group")),
        None => own_group.ok_or_else(|| format!("the user {user} has no entry in /etc/passwd: write {user}:GROUP")),
    }?;
    if number == u32::MAX || group == u32::MAX {
        return Err(format!("{} is no number of a user or group", u32::MAX));
    }
    Ok(Account { user: number, group, home: home.to_owned(), name: user.to_owned() })
}

fn named_group(name: &str, groups: &str) -> Result<u32, String> {
    let entry = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let number = entry.as_deref().and_then(|fields| fields.get(2)).map_or(name, |number| *number);
    number.parse().map_err(|_| format!("there is no group `{name}` in /etc/group: write another name, or a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_by_name_and_number() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("passwd"),
            "root:x:0:0::/root:/bin/sh\nbackup:x:34:35:b:/var/backups:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("group"), "disk:x:6:\n").unwrap();
        let found = |user: &str, group: Option<&str>| {
            find(user, group, folder.path()).map(|account| (account.user, account.group, account.home))
        };
        assert_eq!(found("backup", None), Ok((34, 35, "/var/backups".into())));
        assert_eq!(found("34", Some("disk")), Ok((34, 6, "/var/backups".into())));
        assert_eq!(found("4711", Some("12")), Ok((4711, 12, "/".into())));
        for (user, group, part) in [
            ("bakcup", None, "no user `bakcup`"),
            ("4711", None, "4711:GROUP"),
            ("backup", Some("dsik"), "no group `dsik`"),
            ("4294967295", Some("0"), "no number"),
        ] {
            let message = found(user, group).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
    }
}
