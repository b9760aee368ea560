//! What goes wrong, and when: drawn from a seed, so that a drill can be repeated. Pure.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// Schedulers that are drilled; at most one of them is in trouble at a time.
pub(crate) const SCHEDULERS: usize = 2;
/// Workers that are drilled; at most two of them are in trouble at a time.
pub(crate) const WORKERS: usize = 3;
/// Workers that are not Reveille's, each with a scheduler of its own; at most one of them is in trouble at a time.
pub(crate) const EXTERNALS: usize = SCHEDULERS;

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Whom {
    Scheduler(usize),
    Worker(usize),
    /// A worker that is not Reveille's. Where others have the database it has the API.
    External(usize),
    Database,
    Broker,
    /// The network between all workers and the host of their `ssh` jobs.
    Host,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum What {
    /// kill -9 of a process, and a new start after a while.
    Kill,
    /// SIGTERM, and a new start once it has ended.
    Stop,
    /// SIGSTOP and SIGCONT of a process alone.
    Freeze,
    /// The same of a worker and all that it has started, as when a machine sleeps.
    FreezeAll,
    /// The connections of a process to the database end, and no new one is taken.
    CutDatabase,
    /// The same with the broker.
    CutBroker,
    /// The connections of a process to the database stay, but no byte arrives.
    StallDatabase,
    /// The same with the broker.
    StallBroker,
    /// Every byte between a process and the database arrives later.
    DelayDatabase,
    /// The same with the broker.
    DelayBroker,
    /// A process is started anew, and its log goes to a disk that is full.
    FullDisk,
    /// All of the database's processes are killed, and it is started again after a while.
    RestartDatabase,
    /// kill -9 of the broker, and a new start after a while.
    RestartBroker,
    /// The broker loses all triggers that wait.
    Purge,
    /// The connections of workers to the remote host end, and no new one is taken.
    CutHost,
    /// The same stay, but no byte arrives.
    StallHost,
}

/// Whom a kind of fault hits, how often, and how long it lasts at least and at most, in milliseconds.
struct Kind {
    what: What,
    workers: u32,
    schedulers: u32,
    externals: u32,
    services: u32,
    lasts: (u64, u64),
}

/// How often it hits workers, schedulers, external workers, and what all of them share.
const fn kind(what: What, [workers, schedulers, externals, services]: [u32; 4], lasts: (u64, u64)) -> Kind {
    Kind { what, workers, schedulers, externals, services, lasts }
}

const KINDS: [Kind; 16] = [
    kind(What::Kill, [12, 6, 4, 0], (10, 6_000)),
    kind(What::Stop, [2, 1, 1, 0], (10, 2_000)),
    kind(What::Freeze, [10, 5, 4, 0], (200, 30_000)),
    kind(What::FreezeAll, [4, 0, 0, 0], (200, 30_000)),
    kind(What::CutDatabase, [5, 3, 2, 0], (200, 20_000)),
    kind(What::CutBroker, [4, 2, 1, 0], (200, 20_000)),
    kind(What::StallDatabase, [5, 3, 2, 0], (200, 20_000)),
    kind(What::StallBroker, [3, 2, 1, 0], (200, 20_000)),
    kind(What::DelayDatabase, [2, 1, 1, 0], (1_000, 10_000)),
    kind(What::DelayBroker, [2, 1, 1, 0], (1_000, 10_000)),
    kind(What::FullDisk, [2, 1, 0, 0], (1_000, 10_000)),
    kind(What::RestartDatabase, [0, 0, 0, 3], (10, 5_000)),
    kind(What::RestartBroker, [0, 0, 0, 2], (10, 5_000)),
    kind(What::Purge, [0, 0, 0, 4], (0, 0)),
    kind(What::CutHost, [0, 0, 0, 3], (200, 20_000)),
    kind(What::StallHost, [0, 0, 0, 4], (200, 20_000)),
];

/// How long bytes are held back by a delay, in milliseconds.
const DELAYS: (u64, u64) = (2, 300);

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How long after the one before has begun.
    pub(crate) after: Duration,
    pub(crate) whom: Whom,
    pub(crate) what: What,
    pub(crate) lasts: Duration,
    /// For delays.
    pub(crate) delay: Duration,
}

/// What to draw.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) count: usize,
    pub(crate) kinds: &'a [What],
    /// From the beginning of one fault to the next one, on average.
    pub(crate) gap: Duration,
    /// No fault lasts longer.
    pub(crate) longest: Duration,
}

/// That many faults of these kinds.
pub(crate) fn draw(seed: u64, wanted: &Wanted<'_>) -> Vec<Fault> {
    let mut rng = Rng::with_seed(seed);
    (0..wanted.count).map(|_| fault(&mut rng, wanted)).collect()
}

fn fault(rng: &mut Rng, wanted: &Wanted<'_>) -> Fault {
    let allowed = || KINDS.iter().filter(|kind| wanted.kinds.contains(&kind.what));
    let weight = |kind: &Kind| kind.workers + kind.schedulers + kind.externals + kind.services;
    let mut luck = rng.u32(0..allowed().map(weight).sum());
    let chosen = allowed().find(|kind| {
        let hit = luck < weight(kind);
        if !hit {
            luck -= weight(kind);
        }
        hit
    });
    // The sum of the weights is above any luck, so there is one; what is left of the luck says whom it hits.
    let Kind { what, workers, schedulers, externals, lasts: (least, most), .. } = chosen.unwrap_or(&KINDS[0]);
    let whom = if luck < *workers {
        Whom::Worker(rng.usize(0..WORKERS))
    } else if luck < workers + schedulers {
        Whom::Scheduler(rng.usize(0..SCHEDULERS))
    } else if luck < workers + schedulers + externals {
        Whom::External(rng.usize(0..EXTERNALS))
    } else {
        match what {
            What::RestartDatabase => Whom::Database,
            What::CutHost | What::StallHost => Whom::Host,
            _ => Whom::Broker,
        }
    };
    let lasts = log_uniform(rng, *least, *most).min(wanted.longest);
    let gap = u64::try_from(wanted.gap.as_millis()).unwrap_or(u64::MAX / 2);
    let after = Duration::from_millis(rng.u64(0..=gap.saturating_mul(2)));
    Fault { after, whom, what: *what, lasts, delay: log_uniform(rng, DELAYS.0, DELAYS.1) }
}

/// Short ones as often as long ones, in every order of magnitude.
fn log_uniform(rng: &mut Rng, least: u64, most: u64) -> Duration {
    if most == 0 {
        return Duration::ZERO;
    }
    let ratio = Duration::from_millis(most).as_secs_f64() / Duration::from_millis(least).as_secs_f64();
    Duration::from_millis(least).mul_f64(ratio.powf(rng.f64()))
}

impl What {
    /// What it does, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGTERM",
            Self::Freeze => "freeze",
            Self::FreezeAll => "freeze with its children",
            Self::CutDatabase => "cut from the database",
            Self::CutBroker => "cut from the broker",
            Self::StallDatabase => "stall the database",
            Self::StallBroker => "stall the broker",
            Self::DelayDatabase => "delay the database",
            Self::DelayBroker => "delay the broker",
            Self::FullDisk => "full disk for the log",
            Self::RestartDatabase => "restart the database",
            Self::RestartBroker => "restart the broker",
            Self::Purge => "purge the queue",
            Self::CutHost => "cut from the remote host",
            Self::StallHost => "stall the remote host",
        }
    }
}

impl Whom {
    /// Its name in logs and in the store.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Scheduler(index) => format!("scheduler-{index}"),
            Self::Worker(index) => format!("worker-{index}"),
            Self::External(index) => format!("external-{index}"),
            Self::Database => "database".to_owned(),
            Self::Broker => "broker".to_owned(),
            Self::Host => "remote host".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {:.1} s", self.whom.name(), self.what.name(), self.lasts.as_secs_f64())?;
        if matches!(self.what, What::DelayDatabase | What::DelayBroker) {
            write!(f, " by {} ms", self.delay.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn wanted(count: usize, kinds: &[What]) -> Wanted<'_> {
        Wanted { count, kinds, gap: Duration::from_secs(2), longest: Duration::from_secs(10) }
    }

    #[test]
    fn a_seed_always_gives_the_same_faults() {
        let all = What::value_variants();
        assert_eq!(draw(7, &wanted(50, all)), draw(7, &wanted(50, all)));
        assert_ne!(draw(7, &wanted(50, all)), draw(8, &wanted(50, all)));
        assert_eq!(draw(7, &wanted(50, all))[..10], draw(7, &wanted(10, all))[..]);
    }

    #[test]
    fn every_kind_hits_whom_it_can() {
        let faults = draw(1, &wanted(3_000, What::value_variants()));
        for Kind { what, workers, schedulers, externals, services, lasts } in &KINDS {
            let hit = |is: fn(Whom) -> bool| faults.iter().any(|fault| fault.what == *what && is(fault.whom));
            assert_eq!(hit(|whom| matches!(whom, Whom::Worker(_))), *workers > 0, "{what:?}");
            assert_eq!(hit(|whom| matches!(whom, Whom::Scheduler(_))), *schedulers > 0, "{what:?}");
            assert_eq!(hit(|whom| matches!(whom, Whom::External(_))), *externals > 0, "{what:?}");
            let is_shared = hit(|whom| matches!(whom, Whom::Database | Whom::Broker | Whom::Host));
            assert_eq!(is_shared, *services > 0, "{what:?}");
            let longest = Duration::from_millis(lasts.1).min(Duration::from_secs(10));
            assert!(faults.iter().filter(|fault| fault.what == *what).all(|fault| fault.lasts <= longest), "{what:?}");
        }
        for index in 0..WORKERS {
            assert!(faults.iter().any(|fault| fault.whom == Whom::Worker(index)));
        }
        for index in 0..EXTERNALS {
            assert!(faults.iter().any(|fault| fault.whom == Whom::External(index)));
        }
    }

    #[test]
    fn only_the_wanted_kinds_happen() {
        let faults = draw(3, &wanted(50, &[What::Purge]));
        assert!(faults.iter().all(|fault| fault.what == What::Purge && fault.whom == Whom::Broker));
    }
}
