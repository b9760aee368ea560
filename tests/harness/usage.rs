//! What a process uses, read from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Pid;

/// Linux counts processor time in these ticks, whatever the kernel's own are.
const TICKS_PER_SECOND: u32 = 100;

/// What a process has used or uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time since it started, of all its threads.
    pub cpu: Duration,
    /// Memory that it has in use, in bytes.
    pub resident: u64,
    /// The most that it ever had.
    pub peak: u64,
}

impl Usage {
    /// Of a living process.
    ///
    /// # Errors
    /// It is gone.
    pub fn of(pid: Pid) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let cpu = cpu(&stat).context("no processor time in stat")?;
        let memory = |name| memory(&status, name).with_context(|| format!("no {name} in status"));
        Ok(Self { cpu, resident: memory("VmRSS:")?, peak: memory("VmHWM:")? })
    }

    /// Percent of one core since `earlier`, a while ago.
    #[must_use]
    pub fn cpu_percent(&self, earlier: &Self, a_while: Duration) -> f64 {
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64() * 100.0 / a_while.as_secs_f64()
    }
}

/// `42 (name) S 7 …`: user and system time are the 14th and 15th fields; the name may hold spaces and brackets.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut times = rest.split(' ').skip(11);
    let ticks: u32 = times.next()?.parse::<u32>().ok()? + times.next()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

fn memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn reads_a_name_with_brackets() {
        let stat = "42 (a) b) c) S 7 42 42 0 -1 4194304 100 0 0 0 123 77 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn this_process_uses_something() {
        let before = Usage::of(getpid()).unwrap();
        let ballast = vec![1_u8; 20 << 20];
        let after = Usage::of(getpid()).unwrap();
        assert!(after.resident > before.resident + (10 << 20), "{before:?} {after:?} {}", ballast.len());
        assert!(after.peak >= after.resident && after.cpu >= before.cpu);
    }
}
