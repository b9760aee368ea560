//! What a program may use up and whose it is: from the worker over the guard to the program's own process, as one
//! argument.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Who does not end at SIGXCPU is killed so many seconds of processor time later.
const LAST_SECONDS: u64 = 5;

/// What is done to a program before it begins. All numbers are of each of its processes, but that of processes, which is of
/// the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    /// Seconds on a processor.
    pub(crate) cpu: Option<u64>,
    /// Bytes of address space.
    pub(crate) memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) processes: Option<u64>,
    /// Bytes.
    pub(crate) file_size: Option<u64>,
    /// User and group.
    pub(crate) account: Option<(u32, u32)>,
}

impl Confinement {
    /// Whether nothing is to be done.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn encode(&self) -> String {
        let text = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let [user, group] =
            self.account.map_or([None, None], |(user, group)| [Some(u64::from(user)), Some(u64::from(group))]);
        [self.cpu, self.memory, self.open_files, self.processes, self.file_size, user, group].map(text).join(",")
    }

    /// `None` for what no worker writes.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let number = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        let numbers: Vec<Option<u64>> = text.split(',').map(number).collect::<Option<_>>()?;
        let [cpu, memory, open_files, processes, file_size, user, group] = numbers.try_into().ok()?;
        let account = match (user, group) {
            (Some(user), Some(group)) => Some((u32::try_from(user).ok()?, u32::try_from(group).ok()?)),
            (None, None) => None,
            _ => return None,
        };
        Some(Self { cpu, memory, open_files, processes, file_size, account })
    }

    /// Binds this process, and what it becomes. What binds it more tightly already stays.
    pub(super) fn bind(&self) -> rustix::io::Result<()> {
        let bounds = [
            (Resource::As, self.memory, self.memory),
            (Resource::Nofile, self.open_files, self.open_files),
            (Resource::Nproc, self.processes, self.processes),
            (Resource::Fsize, self.file_size, self.file_size),
            (Resource::Cpu, self.cpu, self.cpu.map(|seconds| seconds.saturating_add(LAST_SECONDS))),
        ];
        for (resource, current, maximum) in bounds.into_iter().filter(|(_, current, _)| current.is_some()) {
            let now = getrlimit(resource);
            let tighter = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
            let maximum = tighter(maximum, now.maximum);
            setrlimit(resource, Rlimit { current: tighter(current, maximum), maximum })?;
        }
        Ok(())
    }

    /// Makes a command another user's: without further groups, without a way to become someone else by a file's mark, and
    /// able to open its own output once more.
    pub(super) fn give_away(&self, command: &mut Command, output: [&dyn AsFd; 2]) -> std::io::Result<()> {
        let Some((user, group)) = self.account else { return Ok(()) };
        for pipe in output {
            std::os::unix::fs::fchown(pipe.as_fd(), Some(user), Some(group))?;
        }
        rustix::thread::set_no_new_privs(true)?;
        // As root, and without naming groups, this also gives up all others.
        command.uid(user).gid(group);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let all = Confinement {
            cpu: Some(1),
            memory: Some(u64::MAX),
            open_files: Some(3),
            processes: None,
            file_size: Some(5),
            account: Some((65_534, 0)),
        };
        for confinement in [all, Confinement::default(), Confinement { account: None, ..all }] {
            assert_eq!(Confinement::decode(&confinement.encode()), Some(confinement));
        }
        assert!(Confinement::default().is_none() && !all.is_none());
        for text in ["", "1", "1,2,3,4,5,6,", "1,2,3,4,5,6,7,8", ",,,,,x,y", ",,,,,4294967296,1"] {
            assert_eq!(Confinement::decode(text), None, "{text}");
        }
    }
}
