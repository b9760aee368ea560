//! Pass: what waits for the end of a run → chained runs, held fires, backfills, and runs that end with their children.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::clock::Clock;
use reveille_shared::due::Compiler;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{Backfill, EndedRun, FollowUp, Store, StoreError};
use tokio::time::Instant;

use crate::children::{Children, ChildrenReport};
use crate::handover::{self, Handover};
use crate::jobs::{Jobs, Versions};
use crate::plan;

/// How often to look if no hint comes.
pub const PERIOD: Duration = Duration::from_secs(1);
/// How often to look for held fires that nothing holds any more.
const STRANDED: Duration = Duration::from_secs(10);
/// Transactions in a row; then children and backfills get their turn.
const ROUNDS: usize = 10;
/// Distinct cron texts of backfills that are kept compiled.
const COMPILED: usize = 100;

/// What a pass of the follow-ups did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FollowUpReport {
    /// Ends of runs that were followed up.
    pub ended: usize,
    /// Chained runs that were born.
    pub chained: usize,
    /// Held runs that were let go.
    pub admitted: usize,
    /// Schedules that were paused after failures.
    pub paused: usize,
    /// Fires of backfills.
    pub backfilled: usize,
    /// What was done about runs with children.
    pub children: ChildrenReport,
}

impl fmt::Display for FollowUpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ended, chained, admitted, paused: _, backfilled, children } = self;
        write!(
            f,
            "{ended} ends followed up, {chained} runs chained, {admitted} let go, {backfilled} backfilled, {} children born \
             in the last round",
            children.born
        )
    }
}

/// Draws the consequences of ended runs, and goes on with backfills. Needs no leadership: whoever deletes a follow-up, or
/// moves a backfill's cursor, has the right to act on it.
///
/// - Reads: follow-ups with their runs, the jobs that ran and those in force, backfills that run.
/// - Writes: what `children` says; in one transaction for each batch the end of the follow-ups and what they call for; of a backfill its cursor
///   and the fires up to it.
/// - Repeating is safe: a follow-up is deleted once, and a cursor is compared before it is moved.
/// - A crash here leaves nothing behind: what is not committed is found again.
pub struct FollowUps {
    store: Store,
    clock: Arc<dyn Clock>,
    handover: Option<Handover>,
    jobs: Jobs,
    versions: Versions,
    children: Children,
    compiler: Compiler,
    look_for_stranded: Instant,
}

impl FollowUps {
    /// A pass that has not looked yet. Runs that go out at once are handed over to the dispatcher of the same process, if there
    /// is one.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, handover: Option<Handover>) -> Self {
        Self {
            children: Children::new(store.clone(), Arc::clone(&clock), handover.clone()),
            store,
            clock,
            handover,
            jobs: Jobs::default(),
            versions: Versions::default(),
            compiler: Compiler::new(COMPILED),
            look_for_stranded: Instant::now(),
        }
    }

    /// Answers whether there are more.
    async fn follow_up(&mut self, report: &mut FollowUpReport) -> Result<bool, StoreError> {
        let batch = 2 * self.store.kind().births();
        for _ in 0..ROUNDS {
            let ended = self.store.ended_runs(i64::try_from(batch).unwrap_or(i64::MAX)).await?;
            if ended.is_empty() {
                return Ok(false);
            }
            let more = ended.len() >= batch;
            self.refresh().await?;
            let mut follow_ups = Vec::with_capacity(ended.len());
            for run in ended {
                follow_ups.push(self.chain(run).await?);
            }
            let has_births = follow_ups.iter().any(|follow_up| !follow_up.births.is_empty());
            let place = self.handover.as_ref().filter(|_| has_births).and_then(Handover::place);
            let done = self.store.follow(follow_ups, &handover::admits(place.as_ref())).await?;
            handover::hand_over(place, done.sent);
            for key in &done.paused {
                tracing::warn!(schedule = %key, "paused, as too many runs in a row have failed");
            }
            report.ended += done.ended;
            report.chained += done.chained;
            report.admitted += done.admitted;
            report.paused += done.paused.len();
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs that one that has ended calls for.
    async fn chain(&mut self, run: EndedRun) -> Result<FollowUp, StoreError> {
        let job = self.versions.get(&self.store, &run.namespace, &run.job, run.job_version).await?;
        let Some(job) = job.filter(|job| job.item.is_chained()) else {
            return Ok(FollowUp { run, births: Vec::new() });
        };
        self.jobs.load(&self.store, &run.namespace).await?;
        let (births, missing) =
            plan::chained(&run, &job.item, self.clock.now(), |name| self.jobs.get(&run.namespace, name));
        for name in missing {
            metrics::counter!("reveille_chains_broken_total").increment(1);
            tracing::warn!(work_request = %run.id, job = name, "a job that the end of a run calls is not in force any more");
        }
        Ok(FollowUp { run, births })
    }

    async fn backfill(&mut self, report: &mut FollowUpReport) -> Result<(), StoreError> {
        for backfill in self.store.running_backfills().await? {
            self.refresh().await?;
            report.backfilled += self.advance(backfill).await?;
        }
        Ok(())
    }

    /// Makes the fires of a backfill that there is room for.
    async fn advance(&mut self, backfill: Backfill) -> Result<usize, StoreError> {
        let key = backfill.asked.key.clone();
        self.jobs.load(&self.store, &key.namespace).await?;
        let due = match self.compiler.compile(&backfill.asked.schedule) {
            Ok(due) => due,
            Err(source) => return Err(StoreError::Timing { schedule: key.to_string(), source }),
        };
        let now = self.store.now().await?;
        let step = plan::backfill_step(&backfill, &due, now, |name| self.jobs.get(&key.namespace, name));
        let Some(step) = step else { return Ok(0) };
        let (fires, id, done) = (step.fires.len(), step.id.clone(), step.done);
        let made = if self.store.advance_backfill(step).await? { fires } else { 0 };
        if done {
            tracing::info!(schedule = %key, backfill = id, "backfill is done");
        }
        Ok(made)
    }

    async fn refresh(&mut self) -> Result<(), StoreError> {
        let version = self.store.in_force().await?.map(|in_force| in_force.version);
        self.jobs.of_version(version);
        Ok(())
    }
}

#[async_trait]
impl Pass for FollowUps {
    const NAME: &'static str = "follow-ups";
    type Report = FollowUpReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(FollowUpReport, Option<Duration>), StoreError> {
        let mut report = FollowUpReport::default();
        let more_ended = self.follow_up(&mut report).await?;
        report.children = self.children.look_after(&mut self.versions).await?;
        self.backfill(&mut report).await?;
        if Instant::now() >= self.look_for_stranded {
            let stranded = self.store.admit_stranded().await?;
            report.admitted += stranded;
            self.look_for_stranded = Instant::now() + STRANDED;
        }
        for (what, count) in [
            ("chained", report.chained),
            ("admitted", report.admitted),
            ("paused", report.paused),
            ("backfilled", report.backfilled),
            ("born", report.children.born),
        ] {
            metrics::counter!("reveille_follow_ups_total", "what" => what).increment(count as u64);
        }
        let again = (report.backfilled > 0 || more_ended || report.children.more).then_some(Duration::ZERO);
        Ok((report, again))
    }
}
