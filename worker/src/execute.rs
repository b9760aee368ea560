//! One attempt, from its lease to its report, as one straight pipeline.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use reveille_shared::crash::{self, Act};
use reveille_shared::definition::{FanOut, Job, OnLost};
use reveille_shared::store::{Claimed, Outcome, Report, Store};
use reveille_shared::telemetry::chain;
use reveille_shared::template::Engine;
use reveille_shared::work_request::Stream;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::children::Children;
use crate::handlers::template::context;
use crate::handlers::verify::Answer;
use crate::handlers::{Handlers, Left, Run, RunFailure};
use crate::handover::Handover;
use crate::outcome::{End, Policies, label, normalize};
use crate::report::{Reporter, Sink};
use crate::runs::{Handle, Stage, Why};

/// How much longer than its time-out an attempt may take whose lease only asks after what it has begun: that is for the
/// last question, and for telling the callee to stop.
const OVERTIME: Duration = Duration::from_secs(20);
/// How many job definitions are kept.
const CACHED: usize = 1024;

/// How long to wait before it is asked again whether a lost attempt took effect, doubled with each time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The longest such wait.
const ASK_AGAIN_LATEST: Duration = Duration::from_secs(300);
/// How often that is asked while nobody knows; then the job's `on_lost` decides.
const UNKNOWN_MOST: u32 = 5;

type JobKey = (String, String, i64);

/// Executes attempts.
pub(crate) struct Executor {
    pub(crate) store: Store,
    pub(crate) handlers: Handlers,
    pub(crate) reporter: Reporter,
    pub(crate) tracker: TaskTracker,
    /// Until when leases are known to be good.
    pub(crate) lease: watch::Receiver<Instant>,
    /// Versions never change, so what was read once is good forever.
    pub(crate) jobs: Mutex<HashMap<JobKey, Arc<Job>>>,
}

impl Executor {
    /// Starts an attempt in a task of its own.
    pub(crate) fn start(self: &Arc<Self>, claimed: Claimed, handle: Arc<Handle>, slot: OwnedSemaphorePermit) {
        handle.enter(Stage::Running);
        let executor = Arc::clone(self);
        self.tracker.spawn(async move { executor.attempt(claimed, handle, slot).await });
    }

    async fn attempt(&self, mut claimed: Claimed, handle: Arc<Handle>, slot: OwnedSemaphorePermit) {
        crash::at(Act::AttemptBegun);
        let started = Instant::now();
        metrics::gauge!("reveille_slots_busy").increment(1.0);
        let waited = claimed.claimed_at.duration_since(claimed.sent_at).as_secs_f64().max(0.0);
        metrics::histogram!("reveille_queue_wait_seconds").record(waited);

        let (id, token, failures) = (claimed.id, claimed.token, claimed.failures);
        let known = std::mem::take(&mut claimed.known);
        // Nothing of the attempt was before, and nothing is asked instead of it.
        let is_whole = claimed.operation.is_none() && !claimed.doubt;
        let handover = Handover::of(&claimed);
        let said = handover.as_ref().map_or(0, |handover| handover.lines);
        let sink = self.reporter.sink(id, token, claimed.attempt, said);
        let before = handover.as_ref().map_or(Duration::ZERO, |handover| handover.age(&claimed));
        let (name, attempt) = (claimed.job.clone(), claimed.attempt);
        let (mut end, policies) = match (self.job(&claimed, &handle).await, &handover) {
            // A process that was frozen here must not begin what another one may have by now.
            (Some(job), _) if !self.may_begin(&handle).await => (End::NotBegun, Policies::of(&job)),
            (Some(job), Err(failure)) => (End::Returned(Err(failure.clone())), Policies::of(&job)),
            (Some(job), Ok(handover)) => {
                let end = perform(&self.store, &self.handlers, &job, claimed, handover, &handle, sink.clone()).await;
                (end, Policies::of(&job))
            }
            (None, _) if handle.why().is_some() => (End::NotBegun, Policies::default()),
            // Without its definition a run can only fail for good.
            (None, _) => (End::Returned(Err(unknown_job(&claimed))), Policies::default()),
        };
        crash::at(Act::HandlerEnded);
        sink.close().await;

        if let (End::Parked { notes, .. }, Ok(handover)) = (&mut end, handover) {
            *notes = handover.with(sink.lines(), notes.take());
        } else {
            let took = before + started.elapsed();
            metrics::histogram!("reveille_run_duration_seconds", "job" => name.clone()).record(took);
        }
        metrics::gauge!("reveille_slots_busy").decrement(1.0);
        let outcome = normalize(end, handle.why(), &policies, failures, fastrand::f64());
        if let Outcome::Failed { error, retry: None } = &outcome {
            // What it says of itself may hold anything, and is kept where keys are needed to read it.
            tracing::warn!(work_request = %id, job = name, attempt, code = error.code, "a run has failed");
        }
        metrics::counter!("reveille_runs_total", "job" => name, "outcome" => label(&outcome)).increment(1);
        handle.enter(Stage::Reporting);
        let took = is_whole.then(|| started.elapsed());
        self.reporter.end(Report { id, token, outcome, took, known }).await;
        crash::at(Act::ReportQueued);
        // Given back only now: the reports that wait are bounded by the slots.
        drop(slot);
    }

    /// Waits until the lease is known to be good; false if the run is told to stop before.
    async fn may_begin(&self, handle: &Handle) -> bool {
        let mut lease = self.lease.clone();
        while Instant::now() >= *lease.borrow_and_update() {
            tokio::select! {
                () = handle.stop.cancelled() => return false,
                Ok(()) = lease.changed() => {}
            }
        }
        true
    }

    /// The definition to run; waits for the store unless the run is told to stop. `None` if there is none.
    async fn job(&self, claimed: &Claimed, handle: &Handle) -> Option<Arc<Job>> {
        let key = (claimed.namespace.clone(), claimed.job.clone(), claimed.job_version);
        if let Some(job) = self.cached().get(&key) {
            return Some(Arc::clone(job));
        }
        loop {
            match self.store.job_version(&key.0, &key.1, key.2).await {
                Ok(job) => {
                    let job = Arc::new(job?);
                    let mut cached = self.cached();
                    if cached.len() >= CACHED {
                        cached.clear();
                    }
                    cached.insert(key, Arc::clone(&job));
                    return Some(job);
                }
                Err(error) => tracing::debug!(error = chain(&error), job = key.1, "can't read a job; trying again"),
            }
            tokio::select! {
                () = sleep(Duration::from_millis(500)) => {}
                () = handle.stop.cancelled() => return None,
            }
        }
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, HashMap<JobKey, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the handler under its time-out and its token, and catches its panics.
async fn perform(
    store: &Store,
    handlers: &Handlers,
    job: &Job,
    claimed: Claimed,
    handover: &Handover,
    handle: &Arc<Handle>,
    sink: Sink,
) -> End {
    let goes_on = handover.notes.is_some();
    let timeout = job.timeout.get().saturating_sub(handover.age(&claimed));
    let patience = if goes_on { timeout + OVERTIME } else { timeout };
    let now = std::time::Instant::now();
    if claimed.canceling {
        handle.stop(Why::Asked);
    }
    let (schedule, scheduled_for) = match claimed.fire {
        Some(fire) => (Some(fire.schedule), fire.due_at),
        None => (None, claimed.accepted_at),
    };
    let family = job.fan_out.as_ref().map(|fan_out| {
        sink.leave_percent_to_children();
        let children = Children::new(store.clone(), claimed.token, fan_out.max, handle.stop.clone());
        (fan_out, Arc::new(children))
    });
    let handed_over = family.as_ref().filter(|(fan_out, _)| fan_out.from.is_none());
    let run = Run {
        id: claimed.id,
        attempt: claimed.attempt,
        namespace: claimed.namespace,
        job: claimed.job,
        schedule,
        scheduled_for,
        accepted_at: claimed.accepted_at,
        input: claimed.input,
        stop: handle.stop.clone(),
        deadline: now.checked_add(timeout).unwrap_or(now),
        sink,
        handle: Arc::clone(handle),
        children: handed_over.map(|(_, children)| Arc::clone(children)),
    };
    let known = job.fan_out.as_ref().and_then(|fan_out| fan_out.from.as_ref()).map(|_| context(&run));
    // What is asked or begun from here on would be broken off at once.
    let is_ending = || handle.why() >= Some(Why::Drained);
    let work = async {
        let mut answered = None;
        if claimed.doubt
            && let Some(verify) = &job.verify
        {
            let answer = handlers.verify(verify, &run).await;
            if is_ending() && !matches!(answer, Answer::TookEffect(_)) {
                return End::NotBegun;
            }
            run.log(Stream::System, &format!("asked whether the lost attempt took effect: {}", words(&answer))).await;
            answered = instead(answer, job, claimed.questions, claimed.failures);
        }
        let end = match answered {
            Some(end) => end,
            None if is_ending() => End::NotBegun,
            None => match handlers.call(job, run, handover.notes.clone()).await {
                Left::Ended(result) => End::Returned(result),
                Left::Untouched => End::NotBegun,
                Left::Parked { after, notes } => End::Parked { after, notes },
            },
        };
        match family {
            Some((fan_out, children)) => split(end, fan_out, &children, known).await,
            None => end,
        }
    };
    tokio::select! {
        biased;
        end = AssertUnwindSafe(work).catch_unwind() => end.unwrap_or_else(|panic| End::Panicked(panic_text(&*panic))),
        () = handle.out_of_patience(patience) => End::Dropped,
    }
}

/// If the handler has succeeded: keeps the inputs of the children that it calls for. `known` is what templates of the run
/// know, where one gives the inputs.
async fn split(end: End, fan_out: &FanOut, children: &Children, known: Option<Value>) -> End {
    let (output, is_verified) = match end {
        End::Returned(Ok(output)) => (output, false),
        End::Verified(output) => (output, true),
        other => return other,
    };
    let kept = async {
        match (known, &fan_out.from) {
            (Some(known), Some(from)) => {
                for input in listed(from, known, &output)? {
                    children.add(input).await?;
                }
            }
            _ if is_verified => {
                let told = "a lost attempt took effect, and which children it has called for is not known";
                return Err(RunFailure::fatal(told).code("Lost"));
            }
            _ => {}
        }
        children.finish().await
    };
    match kept.await {
        Err(failure) => End::Returned(Err(failure)),
        Ok(0) if is_verified => End::Verified(output),
        Ok(0) => End::Returned(Ok(output)),
        Ok(count) => End::Split(output, Box::new(fan_out.clone()), count),
    }
}

/// The list that a template gives.
fn listed(from: &str, mut known: Value, output: &Value) -> Result<Vec<Value>, RunFailure> {
    known["output"] = output.clone();
    match Engine::new(&known).render_json(&Value::String(from.to_owned())) {
        Ok(Value::Array(items)) => Ok(items),
        Ok(_) => Err(RunFailure::fatal("fan_out.from gives no list").code("NoList")),
        Err(error) => {
            Err(RunFailure::fatal(format!("fan_out.from can't be rendered: {}", error.reason)).code("Template"))
        }
    }
}

fn words(answer: &Answer) -> &str {
    match answer {
        Answer::TookEffect(_) => "it did",
        Answer::DidNot => "it did not",
        Answer::StillRunning => "it is still running",
        Answer::Unknown(why) => why,
        Answer::Refused(failure) => &failure.message,
    }
}

/// What happens instead of another attempt, if not that, after so many questions in vain.
fn instead(answer: Answer, job: &Job, in_vain: u32, failures: u32) -> Option<End> {
    let after = ASK_AGAIN.saturating_mul(1 << in_vain.min(10)).min(ASK_AGAIN_LATEST);
    let is_granted = job.on_lost == OnLost::Retry && failures < job.retry.max_attempts;
    let failed = |message: String| Some(End::Returned(Err(RunFailure::fatal(message).code("Lost"))));
    match answer {
        Answer::TookEffect(found) => Some(End::Verified(found)),
        Answer::Refused(failure) => Some(End::Returned(Err(failure))),
        Answer::StillRunning => Some(End::Deferred { after, reason: "the lost attempt is still running".into() }),
        Answer::Unknown(reason) if in_vain + 1 < UNKNOWN_MOST => Some(End::Deferred { after, reason }),
        _ if is_granted => None,
        Answer::DidNot => failed("an attempt was lost and did not take effect; no other one is granted".into()),
        Answer::Unknown(why) => failed(format!("whether a lost attempt took effect is not known: {why}")),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("no text"))
}

fn unknown_job(claimed: &Claimed) -> RunFailure {
    RunFailure::fatal(format!("version {} of the job is not known", claimed.job_version)).code("UnknownJob")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outcome::tests::ended;

    #[test]
    fn an_answer_about_a_lost_attempt_decides_what_happens_instead_of_another() {
        use reveille_shared::definition::Handler;
        let job = |on_lost| Job { on_lost, ..Job::new("default", "j", Handler::Function("f".into())) };
        let (retry, fail) = (job(OnLost::Retry), job(OnLost::Fail));
        let unknown = || Answer::Unknown("no answer".into());
        let lost = |end| match end {
            Some(End::Returned(Err(failure))) => (failure.code == "Lost" && !failure.retryable).then_some(()),
            _ => None,
        };
        let after = |end| match end {
            Some(End::Deferred { after, .. }) => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(instead(Answer::TookEffect(json!(1)), &fail, 0, 1), Some(End::Verified(_))));
        assert!(instead(Answer::DidNot, &retry, 0, 1).is_none(), "it is run again");
        lost(instead(Answer::DidNot, &fail, 0, 1)).unwrap();
        lost(instead(Answer::DidNot, &retry, 0, 3)).unwrap();
        let waits: Vec<_> = (0..8).map(|in_vain| after(instead(Answer::StillRunning, &retry, in_vain, 1))).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(after(instead(unknown(), &fail, 3, 1)), 40);
        lost(instead(unknown(), &fail, 4, 1)).unwrap();
        assert!(instead(unknown(), &retry, 4, 1).is_none(), "on_lost decides in the end");
        assert_eq!(ended(End::Verified(json!(1)), None, 1), Outcome::Verified { output: json!(1) });
        let deferred = || End::Deferred { after: Duration::from_secs(5), reason: "x".into() };
        let again = Outcome::Deferred { after: Duration::from_secs(5), reason: "x".into() };
        assert_eq!(ended(deferred(), None, 1), again);
        assert_eq!(ended(deferred(), Some(Why::LeaseLost), 1), again);
        assert_eq!(ended(deferred(), Some(Why::Asked), 1), Outcome::Stopped);
        assert_eq!(ended(deferred(), Some(Why::Drained), 1), Outcome::Released { doubt: false });
        let verified = Outcome::Verified { output: json!(1) };
        assert_eq!(ended(End::Verified(json!(1)), Some(Why::LeaseLost), 1), verified);
    }
}
