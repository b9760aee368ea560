//! Who descends from a process, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A living process (not one that has ended and waits to be reaped).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relative {
    /// Its process id.
    pub pid: Pid,
    /// Its program's short name.
    pub name: String,
}

/// All living descendants of `ancestor`, parents before children.
#[must_use]
pub fn descendants(ancestor: Pid) -> Vec<Relative> {
    let mut children: HashMap<Pid, Vec<Entry>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // A process that ends while we look is not there any more.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((parent, entry)) = parse_stat(&stat) {
            children.entry(parent).or_default().push(entry);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for Entry { pid, name, living } in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            if living {
                found.push(Relative { pid, name });
            }
        }
    }
    found
}

/// Ends `ancestor` and every descendant with SIGKILL, also those that left its process group. The ancestor
/// is stopped first, so that it starts no new ones meanwhile. Returns when all have ended; what the kernel
/// doesn't let go for ten seconds is left to it.
pub fn kill_tree(ancestor: Pid) {
    // A signal fails only if its process is already gone.
    let _ = kill_process(ancestor, Signal::STOP);
    let family = descendants(ancestor);
    let _ = kill_process(ancestor, Signal::KILL);
    for relative in &family {
        let _ = kill_process(relative.pid, Signal::KILL);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline && (is_living(ancestor) || family.iter().any(|relative| is_living(relative.pid))) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the process exists and hasn't ended.
#[must_use]
pub fn is_living(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.ok().and_then(|stat| parse_stat(&stat)).is_some_and(|(_, entry)| entry.living)
}

struct Entry {
    pid: Pid,
    name: String,
    living: bool,
}

/// `42 (name) S 7 …`: process, name (may hold spaces and brackets), state, parent.
/// A process without a parent is of no interest.
fn parse_stat(stat: &str) -> Option<(Pid, Entry)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut rest = rest.split(' ');
    let living = !matches!(rest.next()?, "Z" | "X");
    let parent = Pid::from_raw(rest.next()?.parse().ok()?)?;
    Some((parent, Entry { pid: Pid::from_raw(pid.parse().ok()?)?, name: name.to_owned(), living }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_with_brackets() {
        let (parent, entry) = parse_stat("42 (a) b) c) Z 7 42 42 0").unwrap();
        assert_eq!(parent.as_raw_nonzero().get(), 7);
        assert_eq!((entry.pid.as_raw_nonzero().get(), entry.name.as_str(), entry.living), (42, "a) b) c", false));
    }

    #[test]
    fn a_process_without_a_parent_is_nobodys_child() {
        assert!(parse_stat("1 (init) S 0 1 1 0").is_none());
    }
}
