//! Pass: schedules that are due → decisions in the ledger and work requests, each at its exact instant.
//!
//! One indexed query loads what is due within the look-ahead, whatever the number of schedules; the pass then
//! asks to be woken at the instant of the first of them. Due is by the wall clock and the waiting by the monotonic one,
//! looked at again at least each second, so that a clock step neither doubles nor loses a fire: what
//! is decided is behind the cursor, and what is not lies before it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::clock::Clock;
use reveille_shared::due::{Compiler, InvalidTiming};
use reveille_shared::periodic::Pass;
use reveille_shared::store::{
    Decision, FirePlan, FireVerdict, Generation, Planned, ScheduleKey, ScheduleRow, Store, StoreError,
};
use tokio::sync::watch;

use crate::handover::{self, Handover};
use crate::jobs::Jobs;
use crate::leader::Leadership;
use crate::plan;
use crate::probe::Skew;
use crate::status::Status;

/// How often to look at the clock at least: a step of it is noticed within this time.
pub const PERIOD: Duration = Duration::from_secs(1);
/// How far ahead schedules are loaded.
const LOOK_AHEAD: SignedDuration = SignedDuration::from_secs(4);
/// Loading begins when less than this is left of the look-ahead …
const REFILL: SignedDuration = SignedDuration::from_secs(1);
/// … but not while something is due within this time.
const QUIET: SignedDuration = SignedDuration::from_millis(250);
/// The most schedules loaded at once.
const MAX_LOADED: i64 = 20_000;
/// The most schedules decided in one transaction.
const MAX_PLANS: usize = 500;
/// No more plans are added to a transaction that has this many decisions or work requests.
const MAX_WORK: usize = 1_000;
/// The most transactions in one pass, so that stopping need not wait for a backlog.
const MAX_BATCHES: usize = 20;
/// Distinct cron texts that are kept compiled.
const COMPILED: usize = 10_000;

/// Decides due times while this process leads.
///
/// - Reads: schedules due within the look-ahead, their jobs, which definitions are in force.
/// - Writes: fires, cursors and work requests, in one transaction for each batch.
/// - Repeating is safe: a plan is recorded only if version, cursor and leadership are as they were when it was made.
/// - A crash here leaves nothing behind: what is not committed is due still.
pub struct Planner {
    store: Store,
    clock: Arc<dyn Clock>,
    leadership: Arc<Leadership>,
    skew: Arc<Skew>,
    /// Changes when definitions are put in force.
    definitions: watch::Receiver<u64>,
    compiler: Compiler,
    jobs: Jobs,
    ahead: Ahead,
    status: Arc<Status>,
    handover: Option<Handover>,
}

/// What is known to be due soon.
#[derive(Default)]
struct Ahead {
    /// By due time.
    rows: BTreeMap<(Timestamp, ScheduleKey), ScheduleRow>,
    /// Whatever is due up to here is in `rows`; `None`: load.
    until: Option<Timestamp>,
    /// There was more than could be loaded at once.
    cut: bool,
}

impl Ahead {
    fn first(&self) -> Option<Timestamp> {
        self.rows.first_key_value().map(|((due_at, _), _)| *due_at)
    }

    fn must_load(&self, now: Timestamp) -> bool {
        let Some(until) = self.until else { return true };
        if self.cut {
            return self.rows.is_empty();
        }
        let left = until.duration_since(now);
        // More than the look-ahead is left if the clock was put back. What is due soon comes before a load, as
        // nothing that is not loaded yet is due earlier.
        let quiet = self.first().is_none_or(|due_at| due_at.duration_since(now) > QUIET);
        left > LOOK_AHEAD || left < REFILL && quiet
    }

    fn put(&mut self, row: ScheduleRow) {
        if let Some(due_at) = row.next_due_at
            && self.until.is_some_and(|until| due_at <= until)
        {
            self.rows.insert((due_at, row.key()), row);
        }
    }

    /// The first row if it is due.
    fn take(&mut self, now: Timestamp) -> Option<ScheduleRow> {
        let first = self.rows.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What a pass of the planner did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanReport {
    /// Why nothing was planned, if so.
    pub idle: Option<Idle>,
    /// Due times that triggered.
    pub triggered: usize,
    /// Due times that were skipped.
    pub skipped: usize,
    /// Plans that came too late: the schedule had changed, or someone else had decided.
    pub outdated: usize,
    /// Schedules that are due within the look-ahead.
    pub ahead: usize,
}

/// Why a planner does not plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Another scheduler leads, or nobody knows who does.
    NotLeading,
    /// The machine's clock is not to be trusted.
    ClockDiffers,
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.idle {
            Some(Idle::NotLeading) => f.write_str("waits, as this scheduler does not lead"),
            Some(Idle::ClockDiffers) => f.write_str("waits, as this machine's clock is not to be trusted"),
            None => {
                write!(
                    f,
                    "{} due soon; {} triggered and {} skipped in the last round",
                    self.ahead, self.triggered, self.skipped
                )
            }
        }
    }
}

impl Planner {
    /// A planner that has not looked yet. `definitions` changes when definitions are put in force in this process.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        leadership: Arc<Leadership>,
        skew: Arc<Skew>,
        definitions: watch::Receiver<u64>,
        status: Arc<Status>,
    ) -> Self {
        Self {
            store,
            clock,
            leadership,
            skew,
            definitions,
            compiler: Compiler::new(COMPILED),
            jobs: Jobs::default(),
            ahead: Ahead::default(),
            status,
            handover: None,
        }
    }

    /// Hands triggers over to the dispatcher of this process, as long as it has room for them.
    #[must_use]
    pub fn handing_over(self, to: Handover) -> Self {
        Self { handover: Some(to), ..self }
    }

    async fn load(&mut self) -> Result<(), StoreError> {
        self.ahead.forget();
        let until = self.clock.now().saturating_add(LOOK_AHEAD).unwrap_or(Timestamp::MAX);
        // Again if definitions were put in force meanwhile, as schedules and jobs must be of one set.
        loop {
            let version = self.store.in_force().await?.map(|in_force| in_force.version);
            self.jobs.of_version(version);
            let rows = self.store.due_schedules(until, MAX_LOADED).await?;
            for row in &rows {
                self.jobs.load(&self.store, &row.schedule.namespace).await?;
            }
            if self.store.in_force().await?.map(|in_force| in_force.version) != version {
                continue;
            }
            self.ahead.cut = i64::try_from(rows.len()).is_ok_and(|len| len >= MAX_LOADED);
            let last = rows.last().and_then(|row| row.next_due_at);
            self.ahead.until = if self.ahead.cut { last } else { Some(until) };
            rows.into_iter().for_each(|row| self.ahead.put(row));
            return Ok(());
        }
    }

    /// Plans for some of the schedules that are due, with the rows that they were made from.
    fn decide(&mut self, now: Timestamp) -> (Vec<ScheduleRow>, Vec<FirePlan>) {
        let (mut rows, mut plans, mut work) = (Vec::new(), Vec::new(), 0);
        while plans.len() < MAX_PLANS && work < MAX_WORK {
            let Some(row) = self.ahead.take(now) else { break };
            match self.decide_one(&row, now) {
                Ok(Some(plan)) => {
                    work += plan.decisions.iter().map(weight).sum::<usize>();
                    rows.push(row);
                    plans.push(plan);
                }
                Ok(None) => {}
                // Definitions are checked before they are put in force, so a newer build must have done it.
                Err(error) => tracing::error!(schedule = ?row.key(), %error, "can't be planned by this build"),
            }
        }
        (rows, plans)
    }

    fn decide_one(&self, row: &ScheduleRow, now: Timestamp) -> Result<Option<FirePlan>, InvalidTiming> {
        let due = self.compiler.compile(&row.schedule)?;
        Ok(plan::decide(row, &due, now, |name| self.jobs.get(&row.schedule.namespace, name)))
    }

    /// Records plans. What is due again within the look-ahead goes straight back.
    async fn record(
        &mut self,
        generation: Generation,
        rows: Vec<ScheduleRow>,
        plans: Vec<FirePlan>,
        report: &mut PlanReport,
    ) -> Result<(), StoreError> {
        let moved: Vec<_> = plans.iter().map(|plan| (plan.next_cursor, plan.next_due_at)).collect();
        // Where the dispatcher of this process has room, triggers need not be found and marked by it first.
        let place = self.handover.as_ref().and_then(Handover::place);
        let (verdicts, sent) = self.store.record_and_send(generation, plans, &handover::admits(place.as_ref())).await?;
        handover::hand_over(place, sent);
        for ((row, (cursor, next_due_at)), verdict) in rows.into_iter().zip(moved).zip(verdicts) {
            match verdict {
                FireVerdict::Recorded { triggered, skipped } => {
                    report.triggered += triggered;
                    report.skipped += skipped;
                    metrics::counter!("reveille_fires_total", "outcome" => "triggered").increment(triggered as u64);
                    metrics::counter!("reveille_fires_total", "outcome" => "skipped").increment(skipped as u64);
                    self.status.tell_decision(self.clock.now());
                    let fired = row.fired + triggered as u64;
                    let row = ScheduleRow { cursor, next_due_at, fired, ..row };
                    let next_due_at = row.next_due_at.filter(|_| !row.is_exhausted());
                    self.ahead.put(ScheduleRow { next_due_at, ..row });
                }
                FireVerdict::Outdated => {
                    report.outdated += 1;
                    self.ahead.until = None;
                }
            }
        }
        Ok(())
    }

    async fn plan_what_is_due(&mut self, generation: Generation) -> Result<PlanReport, StoreError> {
        let mut report = PlanReport::default();
        for _ in 0..MAX_BATCHES {
            if self.ahead.must_load(self.clock.now()) {
                self.load().await?;
            }
            let (rows, plans) = self.decide(self.clock.now());
            if plans.is_empty() {
                break;
            }
            self.record(generation, rows, plans, &mut report).await?;
        }
        Ok(report)
    }

    /// How long until there is something to do.
    fn rest(&self) -> Duration {
        let now = self.clock.now();
        let refill = self.ahead.until.map(|until| until.saturating_sub(REFILL).unwrap_or(Timestamp::MIN));
        let next = self.ahead.first().into_iter().chain(refill.filter(|_| !self.ahead.cut)).min();
        next.map_or(Duration::ZERO, |at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

/// What a decision costs to make and to record.
fn weight(decision: &Decision) -> usize {
    match &decision.planned {
        Planned::Trigger(requests) => requests.len(),
        Planned::Skip(..) => 1 + usize::try_from(decision.count / 100).unwrap_or(MAX_WORK),
    }
}

#[async_trait]
impl Pass for Planner {
    const NAME: &'static str = "planner";
    type Report = PlanReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(PlanReport, Option<Duration>), StoreError> {
        let idle = |reason| (PlanReport { idle: Some(reason), ..PlanReport::default() }, None);
        let Some(generation) = self.leadership.current() else {
            self.ahead.forget();
            return Ok(idle(Idle::NotLeading));
        };
        if self.skew.bearable().is_err() {
            self.ahead.forget();
            return Ok(idle(Idle::ClockDiffers));
        }
        if self.definitions.has_changed().unwrap_or(false) {
            self.definitions.mark_unchanged();
            self.ahead.forget();
        }
        match self.plan_what_is_due(generation).await {
            Ok(mut report) => {
                report.ahead = self.ahead.rows.len();
                Ok((report, Some(self.rest())))
            }
            Err(StoreError::ClockAhead(by)) => {
                // Found before the probe looked again.
                self.skew.set(by);
                self.ahead.forget();
                Ok(idle(Idle::ClockDiffers))
            }
            Err(StoreError::Deposed) => {
                self.leadership.depose(generation);
                self.ahead.forget();
                Ok(idle(Idle::NotLeading))
            }
            Err(error) => {
                self.ahead.forget();
                Err(error)
            }
        }
    }
}
