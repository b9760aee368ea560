//! What happens in each round: drawn from a seed, so that a drill can be repeated. Pure.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// Schedulers that are drilled.
pub(crate) const SCHEDULERS: usize = 3;
/// The farthest that a clock may be off while its scheduler plans on, with something to spare (see
/// `reveille_scheduler::probe::BEARABLE`).
const BEARABLE_MS: i64 = 1_500;
const HOUR_MS: i64 = 3_600_000;

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Who leads when the round begins.
    Leader,
    /// One of the others.
    Other(usize),
}

/// What happens to a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum What {
    /// kill -9, and a new start.
    Kill,
    /// SIGSTOP and SIGCONT.
    Freeze,
    /// The connections to the database end, and no new one is taken.
    CutDatabase,
    /// The same with the broker.
    CutBroker,
    /// The connections to the database stay, but no byte arrives.
    StallDatabase,
    /// The same with the broker.
    StallBroker,
    /// Its clock is off by little.
    Step,
    /// Its clock is an hour ahead.
    HourAhead,
    /// Its clock is an hour behind.
    HourBehind,
}

/// How often each happens, and how long it lasts at least and at most, in milliseconds.
const KINDS: [(What, u32, u64, u64); 9] = [
    (What::Kill, 6, 0, 6_000),
    (What::Freeze, 6, 1_000, 12_000),
    (What::CutDatabase, 3, 1_000, 9_000),
    (What::CutBroker, 2, 1_000, 9_000),
    (What::StallDatabase, 3, 1_000, 9_000),
    (What::StallBroker, 1, 1_000, 9_000),
    (What::Step, 3, 1_000, 6_000),
    (What::HourAhead, 1, 3_000, 8_000),
    (What::HourBehind, 1, 3_000, 8_000),
];

/// One thing that happens to one scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) whom: Whom,
    pub(crate) what: What,
    pub(crate) lasts: Duration,
    /// How far its clock is off meanwhile, in milliseconds.
    pub(crate) clock_ms: i64,
    /// How much longer its clock stays off.
    pub(crate) clock_outlasts: Duration,
}

/// What happens at the same time, to different schedulers. The first fault gives the round its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round(pub(crate) Vec<Fault>);

/// That many rounds of these kinds.
pub(crate) fn draw(seed: u64, rounds: usize, kinds: &[What]) -> Vec<Round> {
    let mut rng = Rng::with_seed(seed);
    (0..rounds).map(|_| round(&mut rng, kinds)).collect()
}

fn round(rng: &mut Rng, kinds: &[What]) -> Round {
    let whom = if rng.u32(0..3) < 2 { Whom::Leader } else { any_other(rng) };
    let mut faults = vec![fault(rng, whom, kinds)];
    // Every third time a second scheduler has trouble too, one is always well.
    if rng.u32(0..3) == 0 {
        let whom = match whom {
            Whom::Leader => any_other(rng),
            Whom::Other(_) => Whom::Leader,
        };
        faults.push(fault(rng, whom, kinds));
    }
    Round(faults)
}

fn any_other(rng: &mut Rng) -> Whom {
    Whom::Other(rng.usize(0..SCHEDULERS - 1))
}

fn fault(rng: &mut Rng, whom: Whom, kinds: &[What]) -> Fault {
    let allowed = || KINDS.iter().filter(|(what, ..)| kinds.contains(what));
    let mut luck = rng.u32(0..allowed().map(|(_, weight, ..)| weight).sum());
    let chosen = allowed().find(|(_, weight, ..)| {
        let hit = luck < *weight;
        luck = luck.saturating_sub(*weight);
        hit
    });
    // The sum of the weights is above any luck, so there is one.
    let (what, _, least, most) = *chosen.unwrap_or(&KINDS[0]);
    let lasts = Duration::from_millis(rng.u64(least..=most));
    // Kills, freezes and cuts happen under wrong clocks too.
    let clock_ms = match what {
        What::HourAhead => HOUR_MS,
        What::HourBehind => -HOUR_MS,
        What::Step => off_by_little(rng),
        _ if kinds.contains(&What::Step) && rng.u32(0..3) == 0 => off_by_little(rng),
        _ => 0,
    };
    let clock_outlasts = Duration::from_millis(if clock_ms == 0 { 0 } else { rng.u64(0..2_000) });
    Fault { whom, what, lasts, clock_ms, clock_outlasts }
}

fn off_by_little(rng: &mut Rng) -> i64 {
    rng.i64(300..=BEARABLE_MS) * if rng.bool() { 1 } else { -1 }
}

impl What {
    /// What it does, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Freeze => "freeze",
            Self::CutDatabase => "cut from the database",
            Self::CutBroker => "cut from the broker",
            Self::StallDatabase => "stall the database",
            Self::StallBroker => "stall the broker",
            Self::Step => "step the clock",
            Self::HourAhead => "clock an hour ahead",
            Self::HourBehind => "clock an hour behind",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whom {
            Whom::Leader => write!(f, "leader")?,
            Whom::Other(number) => write!(f, "other {number}")?,
        }
        write!(f, ": {}, {:.1} s", self.what.name(), self.lasts.as_secs_f64())?;
        if self.clock_ms == 0 {
            return Ok(());
        }
        write!(f, ", clock {:+} ms for {:.1} s more", self.clock_ms, self.clock_outlasts.as_secs_f64())
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_rounds() {
        let all = What::value_variants();
        assert_eq!(draw(7, 50, all), draw(7, 50, all));
        assert_ne!(draw(7, 50, all), draw(8, 50, all));
        assert_eq!(draw(7, 50, all)[..10], draw(7, 10, all)[..]);
    }

    #[test]
    fn every_kind_happens_to_leaders_and_others_and_one_scheduler_is_always_well() {
        let rounds = draw(1, 400, What::value_variants());
        for what in What::value_variants() {
            for leader in [true, false] {
                let hit = |fault: &Fault| fault.what == *what && (fault.whom == Whom::Leader) == leader;
                assert!(rounds.iter().any(|round| round.0.iter().any(hit)), "{what:?} {leader}");
            }
        }
        for Round(faults) in &rounds {
            assert!(faults.len() < SCHEDULERS);
            assert!(faults.windows(2).all(|pair| pair[0].whom != pair[1].whom), "{faults:?}");
        }
    }

    #[test]
    fn only_the_allowed_kinds_happen() {
        let rounds = draw(3, 50, &[What::Freeze]);
        assert!(rounds.iter().flat_map(|round| &round.0).all(|f| f.what == What::Freeze && f.clock_ms == 0));
    }
}
