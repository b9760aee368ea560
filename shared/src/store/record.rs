//! Recording fires: decisions, cursors and births in one transaction (I1), and what overlaps.
//!
//! Locks are taken in one order by all: the leader's row, schedules by name, runs by id. What the planner holds back because a run has
//! not ended is let go by whoever draws the consequences of that run's end (`follow`): both lock the same rows of
//! unended runs, and the planner marks them, so that no held fire is left behind.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::accept::{self, Admits, NewWorkRequest};
use super::database::{Tx, Which};
use super::dispatch::Outgoing;
use super::fires::{
    CLOCK_TOLERANCE, CursorMove, Fire, FireOutcome, FirePlan, FirePlans, FireVerdict, OverlapRule, Planned, SkipReason,
};
use super::leader::Generation;
use super::schedules::ScheduleKey;
use super::transition::Batch;
use super::{Result, Store, StoreError, unique};
use crate::crash::{self, Commit};
use crate::definition::Overlap;
use crate::state::{Hold, Input, Phase};
use crate::work_request::{Asker, Origin, WorkRequestId};

impl Store {
    /// Records decisions, moves cursors and gives birth to work requests, in one transaction (I1). One verdict for each
    /// plan in order.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] when `generation` no longer leads, [`StoreError::ClockAhead`] when a plan was made by a
    /// clock that is ahead: nothing was recorded. [`StoreError::Query`]: plan again from what the store says then.
    pub async fn record_fires(&self, generation: Generation, plans: FirePlans) -> Result<Vec<FireVerdict>> {
        Ok(self.record_and_send(generation, plans, &|_| false).await?.0)
    }

    /// The same, and marks as sent the triggers of births that go out at once on routes that admit them: they are answered, to be
    /// published after this returns, which saves the dispatcher finding and marking them.
    ///
    /// # Errors
    /// The same. What is lost with the process between the commit and the broker's confirm is sent again, see
    /// [`Store::resend_between`] and [`Store::resend_lost`].
    pub async fn record_and_send(
        &self,
        generation: Generation,
        plans: FirePlans,
        admits: &Admits<'_>,
    ) -> Result<(Vec<FireVerdict>, Vec<Outgoing>)> {
        let mut tx = self.begin().await?;
        if tx.leading().await? != generation {
            return Err(StoreError::Deposed);
        }
        // A clock that has jumped ahead since it was last compared must not decide what is not due yet.
        let ahead = plans.iter().map(|plan| plan.planned_at.duration_since(tx.now())).max().unwrap_or_default();
        if ahead > CLOCK_TOLERANCE {
            return Err(StoreError::ClockAhead(ahead));
        }
        // Moved first: whoever moves a cursor from where the plan saw it has the right to decide.
        let moves: Vec<CursorMove> = plans.iter().map(CursorMove::from).collect();
        let moved = tx.move_cursors(&moves).await?;
        let standing = |plan: &&FirePlan| moved.contains(&plan.key);
        let dues = plans.iter().filter(standing).flat_map(|p| p.decisions.iter().map(|d| (&p.key, d.due_at)));
        let decided = tx.decided(&dues.collect::<Vec<_>>()).await?;
        let mut room = Room::look(&mut *tx, plans.iter().filter(standing)).await?;

        let mut drafts = Vec::new();
        let mut counted = Vec::new();
        let mut verdicts = Vec::with_capacity(plans.len());
        for (index, plan) in plans.into_iter().enumerate() {
            if !moved.contains(&plan.key) {
                verdicts.push(FireVerdict::Outdated);
                continue;
            }
            verdicts.push(FireVerdict::Recorded { triggered: 0, skipped: 0 });
            let before = drafts.len();
            let fired = draft(plan, index, &decided, &mut room, tx.now(), &mut drafts);
            let triggered = drafts[before..].iter().any(|draft: &Draft| !draft.requests.is_empty());
            counted.extend(fired.filter(|_| triggered));
        }
        room.save(&mut *tx).await?;
        join(&mut *tx, &mut drafts).await?;
        tx.count_fired(&counted).await?;
        let Some(mut requests) = insert(&mut *tx, drafts, &mut verdicts).await? else {
            // Someone else has decided under a cursor that was put back since: nothing of this is recorded.
            return Ok((vec![FireVerdict::Outdated; verdicts.len()], Vec::new()));
        };
        accept::send_at_birth(&mut requests, admits);
        accept::insert(&mut *tx, &requests).await?;
        let now = tx.now();
        crash::around(Commit::Record, tx.commit()).await?;
        Ok((verdicts, self.after_births(&requests, now)))
    }
}

/// An entry of the ledger to be, with its births.
struct Draft {
    plan: usize,
    fire: Fire,
    requests: Vec<NewWorkRequest>,
}

/// What becomes of a plan's decisions. Answers how many of the schedule's due times have triggered, if that is counted.
fn draft(
    plan: FirePlan,
    index: usize,
    decided: &HashSet<(ScheduleKey, Timestamp)>,
    room: &mut Room,
    now: Timestamp,
    drafts: &mut Vec<Draft>,
) -> Option<(ScheduleKey, u64, bool)> {
    let mut fired = plan.fired;
    let before = drafts.len();
    let last_trigger = plan.decisions.iter().rposition(|d| matches!(d.planned, Planned::Trigger(_)));
    for (place, decision) in plan.decisions.into_iter().enumerate() {
        // Decided before, under a cursor that has been put back since.
        if !decided.is_empty() && decided.contains(&(plan.key.clone(), decision.due_at)) {
            continue;
        }
        let (outcome, requests) = match (decision.planned, fired) {
            (Planned::Skip(reason, detail), _) => (FireOutcome::Skipped(reason, detail), Vec::new()),
            (Planned::Trigger(_), Some((count, max))) if count >= max => {
                let why = format!("all {max} of its max_fires have triggered");
                (FireOutcome::Skipped(SkipReason::AfterEnd, why), Vec::new())
            }
            (Planned::Trigger(requests), _) => {
                let last = last_trigger == Some(place);
                match room.admit(&plan.key, plan.overlap, decision.due_at, requests, last) {
                    Ok(requests) => {
                        fired = fired.map(|(count, max)| (count + 1, max));
                        (FireOutcome::Triggered(requests.iter().map(|request| request.id).collect()), requests)
                    }
                    Err((reason, detail)) => (FireOutcome::Skipped(reason, detail), Vec::new()),
                }
            }
        };
        let fire = Fire {
            key: plan.key.clone(),
            origin: Origin::Schedule,
            due_at: decision.due_at,
            last_due_at: decision.last_due_at,
            count: decision.count,
            outcome,
            version: plan.version,
            decided_at: now,
        };
        drafts.push(Draft { plan: index, fire, requests });
    }
    room.born(&plan.key, &mut drafts[before..]);
    fired.map(|(count, max)| (plan.key, count, count >= max))
}

/// Lets runs that are the same as others be stood for by them.
async fn join(tx: &mut dyn Tx, drafts: &mut [Draft]) -> Result<()> {
    let is_unique = |draft: &Draft| draft.requests.iter().any(|request| request.unique.is_some());
    if !drafts.iter().any(is_unique) {
        return Ok(());
    }
    let mut requests: Vec<_> = drafts.iter_mut().flat_map(|draft| std::mem::take(&mut draft.requests)).collect();
    let joined = unique::join(tx, &mut requests).await?;
    let mut left: HashMap<_, _> = requests.into_iter().map(|request| (request.id, request)).collect();
    for draft in drafts {
        if let FireOutcome::Triggered(ids) = &draft.fire.outcome {
            draft.requests = ids.iter().filter_map(|id| left.remove(id)).collect();
        }
        draft.fire.outcome.join(&joined);
    }
    Ok(())
}

/// Writes the ledger. A skip that goes on where the last entry has ended, for the same reason, makes that one longer.
/// Answers the births; none if a due time is in the ledger already.
async fn insert(
    tx: &mut dyn Tx,
    drafts: Vec<Draft>,
    verdicts: &mut [FireVerdict],
) -> Result<Option<Vec<NewWorkRequest>>> {
    let mut requests = Vec::new();
    let (mut stretches, mut fires): (Vec<Fire>, Vec<Fire>) = (Vec::new(), Vec::new());
    let mut first_of = HashSet::new();
    for draft in drafts {
        let FireVerdict::Recorded { triggered, skipped } = &mut verdicts[draft.plan] else { continue };
        let is_first = first_of.insert(draft.plan);
        match draft.fire.outcome {
            FireOutcome::Triggered(_) => *triggered += 1,
            FireOutcome::Skipped(..) => *skipped += usize::try_from(draft.fire.count).unwrap_or(0),
        }
        match draft.fire.outcome {
            FireOutcome::Skipped(..) if is_first => stretches.push(draft.fire),
            _ => fires.push(draft.fire),
        }
        requests.extend(draft.requests);
    }
    if !stretches.is_empty() {
        let extended = tx.extend_fires(&stretches).await?;
        let rest = stretches.into_iter().filter(|fire| !extended.contains(&(fire.key.clone(), fire.due_at)));
        fires.extend(rest);
    }
    let inserted = tx.insert_fires(&fires).await?;
    Ok((inserted == fires.len()).then_some(requests))
}

/// The unended runs of fires, as one transaction sees and changes them.
struct Room {
    /// Of schedules that skip: one unended run, where there is one.
    running: HashMap<ScheduleKey, WorkRequestId>,
    /// Of schedules that let fires wait: all unended runs, locked.
    locked: Batch,
    unended: HashMap<ScheduleKey, Unended>,
}

/// The unended runs of one schedule's fires.
#[derive(Debug, Default)]
struct Unended {
    /// Not held: they run, or will without further ado.
    active: Vec<WorkRequestId>,
    /// Held, by due time.
    held: BTreeMap<Timestamp, Vec<WorkRequestId>>,
    /// Born by this transaction, and something waits for their end.
    awaited: HashSet<WorkRequestId>,
}

impl Room {
    async fn look<'a>(tx: &mut dyn Tx, plans: impl Iterator<Item = &'a FirePlan>) -> Result<Self> {
        let (mut skip, mut hold, mut rules) = (Vec::new(), Vec::new(), HashMap::new());
        for plan in plans.filter(|plan| plan.decisions.iter().any(|d| matches!(d.planned, Planned::Trigger(_)))) {
            match plan.overlap.policy {
                Overlap::Allow => {}
                Overlap::Skip => skip.push((plan.key.clone(), plan.overlap.count_manual)),
                Overlap::QueueOne | Overlap::QueueAll | Overlap::CancelRunning => {
                    hold.push(plan.key.clone());
                    rules.insert(plan.key.clone(), plan.overlap);
                }
            }
        }
        let running = if skip.is_empty() { HashMap::new() } else { tx.running(&skip).await? };
        let locked = Batch::lock(tx, Which::OfSchedules(&hold)).await?;
        let mut unended: HashMap<ScheduleKey, Unended> = HashMap::new();
        for id in locked.names() {
            let Some(row) = locked.get(id) else { continue };
            let Some((key, fire)) = row.schedule_key().zip(row.fire.as_ref()) else { continue };
            if !rules.get(&key).is_some_and(|rule| rule.counts(&fire.origin)) {
                continue;
            }
            let unended = unended.entry(key).or_default();
            match row.run.phase {
                Phase::Held { hold: Hold::Overlap, .. } => unended.held.entry(fire.due_at).or_default().push(id),
                _ => unended.active.push(id),
            }
        }
        Ok(Self { running, locked, unended })
    }

    /// Lets a fire in, at once or held, or says why not. `last`: no later due time of the plan triggers.
    fn admit(
        &mut self,
        key: &ScheduleKey,
        rule: OverlapRule,
        due_at: Timestamp,
        mut requests: Vec<NewWorkRequest>,
        last: bool,
    ) -> std::result::Result<Vec<NewWorkRequest>, (SkipReason, String)> {
        match rule.policy {
            Overlap::Allow => return Ok(requests),
            Overlap::Skip => {
                if let Some(by) = self.running.get(key) {
                    return Err((SkipReason::Overlap, format!("work request {by} had not ended")));
                }
                if let Some(first) = requests.first() {
                    self.running.insert(key.clone(), first.id);
                }
                return Ok(requests);
            }
            Overlap::CancelRunning if !last => {
                return Err((SkipReason::Overlap, "a later due time, decided at the same time, took its place".into()));
            }
            Overlap::CancelRunning => self.cancel(key, due_at),
            Overlap::QueueOne | Overlap::QueueAll => {}
        }
        let unended = self.unended.entry(key.clone()).or_default();
        let ids = requests.iter().map(|request| request.id);
        let Some(by) = unended.active.first().copied().or_else(|| unended.held.values().flatten().next().copied())
        else {
            unended.active.extend(ids);
            return Ok(requests);
        };
        let most = if rule.policy == Overlap::QueueAll { rule.queue_max as usize } else { 1 };
        if unended.held.len() >= most {
            let waiting = unended.held.values().flatten().next().copied().unwrap_or(by);
            return Err(match rule.policy {
                Overlap::QueueAll => (SkipReason::Cap, format!("{most} fires were waiting, and that is the most")),
                _ => (SkipReason::Overlap, format!("work request {waiting} was waiting already")),
            });
        }
        unended.held.insert(due_at, ids.collect());
        unended.awaited.extend(unended.active.iter().chain(unended.held.values().flatten()));
        for id in unended.active.iter().chain(unended.held.values().flatten()) {
            self.locked.follow(*id);
        }
        let reason = format!("until work request {by} and all other runs of earlier fires have ended");
        requests.iter_mut().for_each(|request| request.held = Some(reason.clone()));
        Ok(requests)
    }

    /// Cancels what is not ended, for the fire of `due_at`.
    fn cancel(&mut self, key: &ScheduleKey, due_at: Timestamp) {
        let Some(unended) = self.unended.get_mut(key) else { return };
        let by = Asker::from(format!("overlap: cancel_running, for the fire of {due_at:.0}"));
        let mut left = Vec::new();
        for id in unended.active.iter().chain(unended.held.values().flatten()) {
            match self.locked.apply(*id, &Input::Cancel { by: by.clone() }) {
                Ok(row) if row.is_done() => {}
                // A worker has been asked to stop it, now or before.
                _ => left.push(*id),
            }
        }
        *unended = Unended { active: left, ..Unended::default() };
    }

    /// Marks those births of a plan that later ones of it wait for.
    fn born(&self, key: &ScheduleKey, drafts: &mut [Draft]) {
        let Some(unended) = self.unended.get(key).filter(|unended| !unended.awaited.is_empty()) else { return };
        for request in drafts.iter_mut().flat_map(|draft| draft.requests.iter_mut()) {
            request.follow |= unended.awaited.contains(&request.id);
        }
    }

    async fn save(&self, tx: &mut dyn Tx) -> Result<()> {
        self.locked.save(tx).await
    }
}

/// Lets go the earliest held fire of each of these schedules that nothing holds any more; the flag says whether runs by
/// hand count. Answers how many runs.
pub(crate) async fn admit_held(tx: &mut dyn Tx, keys: &HashMap<ScheduleKey, bool>) -> Result<usize> {
    // Asked first: a schedule may have thousands of unended runs and hold nothing.
    let names = tx.holding(&keys.keys().cloned().collect::<Vec<_>>()).await?;
    let mut batch = Batch::lock(tx, Which::OfSchedules(&names)).await?;
    let mut held: HashMap<ScheduleKey, BTreeMap<Timestamp, Vec<WorkRequestId>>> = HashMap::new();
    let mut active = HashSet::new();
    for id in batch.names() {
        let Some(row) = batch.get(id) else { continue };
        let Some((key, fire)) = row.schedule_key().zip(row.fire.as_ref()) else { continue };
        match (row.run.phase, &fire.origin) {
            (Phase::Held { hold: Hold::Overlap, .. }, _) => {
                held.entry(key).or_default().entry(fire.due_at).or_default().push(id)
            }
            (_, Origin::Schedule) => drop(active.insert(key)),
            (_, Origin::Manual) if keys.get(&key) == Some(&true) => drop(active.insert(key)),
            _ => {}
        }
    }
    let mut admitted = 0;
    for (_, mut fires) in held.into_iter().filter(|(key, _)| !active.contains(key)) {
        for id in fires.pop_first().into_iter().flat_map(|(_, ids)| ids) {
            admitted += usize::from(batch.apply(id, &Input::Admit).is_ok());
        }
    }
    batch.save(tx).await?;
    Ok(admitted)
}
