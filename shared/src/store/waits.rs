//! For what a run waits that is held by a limit, and for about how long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Result, Store};
use crate::state::{Hold, Phase};
use crate::work_request::WorkRequest;

/// Ended runs of the job that tell how long one usually takes.
const SAMPLE: i64 = 20;
/// … of so many: of a job that hardly ever succeeds nothing is usual, and it must not take long to find that out.
const AMONG: i64 = 1_000;

/// A run that was due so long ago waits for room in its queue.
const PROMPT: SignedDuration = SignedDuration::from_secs(1);
/// So many runs that go out before another one are counted, and no more.
pub const MOST_AHEAD: i64 = 1_000;

/// What holds a run back.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// The limit.
    pub key: String,
    /// How many it allows.
    pub most: i64,
    /// How many have a slot, or have started within its time.
    pub taken: i64,
    /// Runs that are held by it and go first.
    pub ahead: i64,
    /// In about how long it goes on, as far as can be told.
    pub estimate: Option<SignedDuration>,
}

/// How long a run that has succeeded took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Took {
    /// From its start to its end, all attempts and what came between them.
    pub(crate) whole: Duration,
    /// The attempt that was told last, by its worker's own measure.
    pub(crate) attempt: Option<Duration>,
}

/// How long an attempt of a job usually takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsualAttempt {
    /// The mean of the last ones.
    pub duration: Duration,
    /// All of them were measured by their workers: these are Reveille's own, and none of them is from before builds did so.
    pub is_told: bool,
}

/// What the store says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WaitFacts {
    pub(crate) key: String,
    pub(crate) most: i64,
    pub(crate) per: Option<SignedDuration>,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) taken: i64,
    pub(crate) ahead: i64,
    /// When those that have a slot have started, if they have.
    pub(crate) started: Vec<Timestamp>,
}

impl Store {
    /// What holds a run back, if a limit does.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn wait_of(&self, run: &WorkRequest) -> Result<Option<Wait>> {
        let Phase::Held { hold: hold @ (Hold::Concurrency | Hold::Rate), .. } = run.phase else { return Ok(None) };
        let Some(facts) = self.db.wait_facts(run, hold).await? else { return Ok(None) };
        let usual = self.usual_duration(&run.namespace, &run.job).await?;
        let now = self.db.now().await?;
        let estimate = estimate(&facts, usual, now);
        let WaitFacts { key, most, taken, ahead, .. } = facts;
        Ok(Some(Wait { key, most, taken, ahead, estimate }))
    }

    /// How many runs of its namespace go out before a run that is due and waits for room in its queue, up to [`MOST_AHEAD`];
    /// those of other namespaces go out in turns with it. None if it does not, or has not been due for long at `now`, which need not
    /// be exact.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn ahead_of(&self, run: &WorkRequest, now: Timestamp) -> Result<Option<i64>> {
        let Phase::Due { at } = run.phase else { return Ok(None) };
        if now.duration_since(at) < PROMPT {
            return Ok(None);
        }
        Ok(Some(self.db.ahead_in_lane(run.id, MOST_AHEAD).await?))
    }

    /// How long a run of a job usually takes, from its start to its end, by the last ones that succeeded; none if none has.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn usual_duration(&self, namespace: &str, job: &str) -> Result<Option<Duration>> {
        Ok(mean(self.took(namespace, job).await?.iter().map(|took| took.whole)))
    }

    /// How long an attempt of a job usually takes, likewise: by its worker's own measure where there is one, which knows nothing
    /// of how long start and end waited for their commits.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn usual_attempt(&self, namespace: &str, job: &str) -> Result<Option<UsualAttempt>> {
        let took = self.took(namespace, job).await?;
        let is_told = took.iter().all(|took| took.attempt.is_some());
        let duration = mean(took.iter().map(|took| took.attempt.unwrap_or(took.whole)));
        Ok(duration.map(|duration| UsualAttempt { duration, is_told }))
    }

    async fn took(&self, namespace: &str, job: &str) -> Result<Vec<Took>> {
        self.db.durations(namespace, job, SAMPLE, AMONG, self.db.now().await?).await
    }
}

fn mean(durations: impl ExactSizeIterator<Item = Duration>) -> Option<Duration> {
    let count = u32::try_from(durations.len()).ok().filter(|count| *count > 0)?;
    Some(durations.fold(Duration::ZERO, Duration::saturating_add) / count)
}

/// When the run's turn comes: of a rate, when so many starts more may be; of slots, when so many of those under way have
/// ended, if each takes as long as the last ones did.
fn estimate(facts: &WaitFacts, usual: Option<Duration>, now: Timestamp) -> Option<SignedDuration> {
    if let Some(per) = facts.per {
        let rounds = i32::try_from(facts.ahead / facts.most.max(1)).unwrap_or(i32::MAX);
        let first = facts.wake_at?.duration_since(now).max(SignedDuration::ZERO);
        return Some(first.saturating_add(per.saturating_mul(rounds)));
    }
    let usual = SignedDuration::try_from(usual?).ok()?;
    let mut left: Vec<_> = facts.started.iter().map(|start| usual.saturating_sub(now.duration_since(*start))).collect();
    // Those that are sent and have not started have all of it before them.
    let most = usize::try_from(facts.most).unwrap_or(1).max(1);
    left.resize(left.len().max(most.min(usize::try_from(facts.taken).unwrap_or(0))), usual);
    left.sort_unstable();
    let ahead = usize::try_from(facts.ahead).unwrap_or(usize::MAX);
    let slot = left.get(ahead % left.len().max(1)).copied().unwrap_or(SignedDuration::ZERO);
    let rounds = i32::try_from(ahead / left.len().max(1)).unwrap_or(i32::MAX);
    Some(slot.max(SignedDuration::ZERO).saturating_add(usual.saturating_mul(rounds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_slot_comes_free_when_those_under_way_have_taken_as_long_as_usual() {
        let facts = |ahead| WaitFacts {
            key: "k".into(),
            most: 3,
            per: None,
            wake_at: None,
            taken: 3,
            ahead,
            started: vec![at(0), at(30)],
        };
        let estimate = |facts: &WaitFacts, now| estimate(facts, Some(Duration::from_secs(60)), now);
        // At 40: the first has 20 s left, the second 50 s, and the one that has not started 60 s.
        let estimates: Vec<_> = (0..5).map(|ahead| estimate(&facts(ahead), at(40)).unwrap().as_secs()).collect();
        assert_eq!(estimates, [20, 50, 60, 80, 110]);
        assert_eq!(estimate(&facts(0), at(1000)), Some(secs(0)), "overdue: at any moment");
        assert_eq!(super::estimate(&facts(0), None, at(40)), None, "nobody knows");
    }

    #[test]
    fn a_rate_lets_as_many_go_in_each_span_as_it_allows() {
        let facts = |ahead| WaitFacts {
            key: "k".into(),
            most: 2,
            per: Some(secs(60)),
            wake_at: Some(at(50)),
            taken: 2,
            ahead,
            started: vec![],
        };
        let estimate = |facts: &WaitFacts, now| estimate(facts, None, now);
        let estimates: Vec<_> = (0..5).map(|ahead| estimate(&facts(ahead), at(40)).unwrap().as_secs()).collect();
        assert_eq!(estimates, [10, 10, 70, 70, 130]);
    }
}
