//! How long a lease lives without news of its worker, and the times that follow from that.

use std::time::Duration;

use reveille_shared::duration::HumanDuration;

/// A lease's time-to-live: a worker whose beat stands still for so long loses its runs to others. By then nothing of
/// them may be left here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl(Duration);

impl Ttl {
    pub(crate) const fn new(ttl: Duration) -> Self {
        Self(ttl)
    }

    /// How often a worker says that it lives.
    pub(crate) fn period(self) -> Duration {
        self.0 * 2 / 15
    }

    /// A beat that takes longer than this has failed.
    pub(crate) fn patience(self) -> Duration {
        self.0 / 4
    }

    /// A worker whose last good beat is older than this is not ready.
    pub(crate) fn fresh(self) -> Duration {
        self.0 * 2 / 3
    }

    /// How old the last good news may be before a worker asks around.
    pub(crate) fn worry(self) -> Duration {
        self.0 * 3 / 10
    }

    /// How often it looks at that, and asks.
    pub(crate) fn look(self) -> Duration {
        self.0 / 20
    }

    /// So long without a pulse, and the reconciler has had a gap: more than a quarter of the time-to-live, which it allows
    /// between two looks, and an eighth, which a pulse may take.
    pub(crate) fn quiet(self) -> Duration {
        self.0 * 2 / 5
    }

    /// How old the last good news may be before runs are stopped.
    pub(crate) fn stop(self) -> Duration {
        self.0 * 7 / 10
    }

    /// The same for programs whose worker says nothing at all. The rest of the time is for killing them.
    pub(crate) fn allowed(self) -> Duration {
        self.0 * 4 / 5
    }
}

/// Reads a time-to-live from the command line.
pub(crate) fn parse(text: &str) -> Result<HumanDuration, String> {
    let ttl: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    let bounds = HumanDuration::from_secs(3)..=HumanDuration::from_secs(600);
    if bounds.contains(&ttl) {
        Ok(ttl)
    } else {
        Err(format!("{ttl} is not within {} to {}", bounds.start(), bounds.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_end_before_the_lease_and_after_several_beats() {
        for secs in [3, 15, 600] {
            let (ttl, whole) = (Ttl::new(Duration::from_secs(secs)), Duration::from_secs(secs));
            assert!(
                ttl.allowed() < whole && ttl.fresh() < ttl.allowed() && ttl.patience() + ttl.period() < ttl.fresh()
            );
        }
        assert_eq!(Ttl::new(Duration::from_secs(15)).period(), Duration::from_secs(2));
    }

    #[test]
    fn the_time_to_live_has_bounds() {
        assert_eq!(parse("15s"), Ok(HumanDuration::from_secs(15)));
        assert_eq!(parse("1s").unwrap_err(), "1s is not within 3s to 10m");
        assert!(parse("11m").is_err() && parse("soon").unwrap_err().contains("not a duration"));
    }
}
