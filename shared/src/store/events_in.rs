//! What workers in other languages tell → states, histories, logs: in one transaction for a batch.
//!
//! What comes of the events of a lease does not depend on their order, nor on how often they come. Each counts once. A
//! percentage only rises; words and outputs are those of the event that happened last, lines have numbers, an attempt ends
//! once. So what is told under the lease that an event has ended is still taken, and completes the record. A lease that
//! was lost, or never was, tells nothing more: what comes under it is refused, and kept for people to see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::external::ExternalRow;
use super::reports::{Outcome, Report};
use super::texts::{json_without_nul, refusal_without_nul};
use super::transition::{Batch, Hints};
use super::{Result, Store, ids};
use crate::cloud_event::{Named, RefusedEvent};
use crate::crash::{self, Commit};
use crate::retry;
use crate::run_event::{Line, RunEnd, RunEvent, Told};
use crate::state::{Input, Status};
use crate::work_request::{LogLine, WorkRequestId};

/// How far a worker's clock may be ahead.
pub(crate) const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// How many refused events are kept.
const MOST_REFUSED: i64 = 10_000;

/// Something that came: an event of a run, or what is none.
pub type Incoming = std::result::Result<RunEvent, RefusedEvent>;

/// The way by which events came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The exchange.
    Broker,
    /// The API.
    Rest,
}

impl Via {
    /// The word in the store and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Rest => "rest",
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventVerdict {
    /// It is taken.
    Taken,
    /// It was taken before, or says what is known.
    Repeated,
    /// The end of an attempt whose lease was lost: kept as a late report, as evidence. It has changed nothing.
    Late(RefusedEvent),
    /// It is refused, and recorded as such.
    Refused(RefusedEvent),
}

impl EventVerdict {
    /// The word for metrics and answers.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Repeated => "repeated",
            Self::Late(_) => "late",
            Self::Refused(_) => "refused",
        }
    }
}

/// A refused event as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its place: the higher, the newer.
    pub seq: i64,
    /// How it came first.
    pub via: String,
    /// Why, for programs.
    pub code: String,
    /// Why, for people.
    pub message: String,
    /// What could be read of it.
    pub of: Named,
    /// When it came first.
    pub first_at: Timestamp,
    /// When it came last.
    pub last_at: Timestamp,
    /// How often it came.
    pub count: i64,
}

/// Names an event that was taken: its run, source and id.
pub(crate) type SeenKey = (Uuid, String, String);

fn key(event: &RunEvent) -> SeenKey {
    (event.run.0, event.source.clone(), event.id.clone())
}

impl Store {
    /// Takes events, one verdict for each in order. What is refused is recorded in the same transaction. `luck` is uniform
    /// in 0 ..= 1, for the delay of retries.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: take the same again, as the commit may have gone through.
    pub async fn take_events(&self, via: Via, came: Vec<Incoming>, luck: fn() -> f64) -> Result<Vec<EventVerdict>> {
        let mut tx = self.begin().await?;
        let keys: BTreeSet<SeenKey> = came.iter().flatten().map(key).collect();
        let keys: Vec<SeenKey> = keys.into_iter().collect();
        // Without locks: a storm of repetitions is to cost no more than this.
        let mut seen = if keys.is_empty() { HashSet::new() } else { tx.seen(&keys).await? };
        let fresh: Vec<SeenKey> = keys.into_iter().filter(|key| !seen.contains(key)).collect();
        let runs = ids(fresh.iter().map(|(run, ..)| WorkRequestId(*run)));
        let mut batch = Batch::lock_ids(&mut *tx, runs.iter().copied().map(WorkRequestId)).await?;
        let mut leases = HashMap::new();
        if !fresh.is_empty() {
            leases = tx.lock_external(&runs).await?.into_iter().map(|row| ((row.run, row.token), row)).collect();
            // Another process may have taken them while we waited for the locks.
            seen.extend(tx.seen(&fresh).await?);
        }
        let mut taking = Taking { batch: &mut batch, leases, seen, luck, changes: Changes::default() };
        let mut verdicts = Vec::with_capacity(came.len());
        for event in came {
            verdicts.push(match event {
                Ok(event) => match taking.take(event) {
                    Verdict::Known(verdict) => verdict,
                    Verdict::NoLease(event) => {
                        let namespace = match taking.batch.get(event.run) {
                            Some(row) => Some(row.namespace.clone()),
                            None => tx.namespace_of(event.run.0).await?,
                        };
                        EventVerdict::Refused(no_lease(&event, namespace.as_deref()))
                    }
                },
                Err(refused) => EventVerdict::Refused(refused),
            });
        }
        let Taking { leases, changes, .. } = taking;
        batch.save(&mut *tx).await?;
        for touched in &changes.touched {
            tx.save_external(&leases[touched]).await?;
        }
        for (run, (percent, message)) in &changes.words {
            tx.set_words(run.0, *percent, message.as_deref()).await?;
        }
        for (run, output) in &changes.outputs {
            tx.set_output(run.0, output).await?;
        }
        if !changes.lines.is_empty() {
            tx.append_logs(&changes.lines).await?;
        }
        if !changes.seen.is_empty() {
            tx.keep_seen(&changes.seen).await?;
        }
        for late in &changes.late {
            tx.keep_late(late).await?;
        }
        keep_refused(&mut *tx, via, &verdicts).await?;
        for worker in &changes.heard {
            tx.beat(*worker).await?;
        }
        crash::around(Commit::TakeEvents, tx.commit()).await?;
        changes.hints.give(self);
        Ok(verdicts)
    }

    /// Up to `limit` refused events, the newest first; with `before`, those older than the one of this number.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn refused_events(&self, before: Option<i64>, limit: i64) -> Result<Vec<RefusedRecord>> {
        self.db.refused_events(before.unwrap_or(i64::MAX), limit).await
    }

    /// Forgets up to `limit` events that were taken, and all that were refused, before this instant. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_events(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_seen(before, limit).await? + tx.purge_refused(before, MOST_REFUSED).await?;
        crash::around(Commit::PurgeEvents, tx.commit()).await?;
        Ok(purged)
    }
}

fn no_lease(event: &RunEvent, namespace: Option<&str>) -> RefusedEvent {
    if namespace == Some(event.namespace.as_str()) {
        return event.refused("StaleToken", "no lease of the work request has or had this token");
    }
    let message = format!("there is no such work request in namespace {}", event.namespace);
    event.refused("UnknownRun", message)
}

/// Records what was refused; the same for the same reason is counted.
async fn keep_refused(tx: &mut dyn super::Tx, via: Via, verdicts: &[EventVerdict]) -> Result<()> {
    // In one order for all, so that two batches can't deadlock.
    let mut refused: BTreeMap<String, (RefusedEvent, i64)> = BTreeMap::new();
    for verdict in verdicts {
        if let EventVerdict::Refused(event) = verdict {
            let event = refusal_without_nul(event);
            refused.entry(fingerprint(&event)).or_insert((event, 0)).1 += 1;
        }
    }
    for (fingerprint, (event, count)) in &refused {
        tx.keep_refused(fingerprint, via.as_str(), event, *count).await?;
    }
    Ok(())
}

fn fingerprint(event: &RefusedEvent) -> String {
    let RefusedEvent { code, message, of } = event;
    let text = format!("{:?}", (code, message, of));
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// A batch of events that is being taken.
struct Taking<'a> {
    batch: &'a mut Batch,
    /// All leases of the runs.
    leases: HashMap<(WorkRequestId, Uuid), ExternalRow>,
    seen: HashSet<SeenKey>,
    luck: fn() -> f64,
    changes: Changes,
}

/// What a batch changes beside the states of runs.
#[derive(Default)]
struct Changes {
    touched: BTreeSet<(WorkRequestId, Uuid)>,
    words: BTreeMap<WorkRequestId, (f32, Option<String>)>,
    outputs: BTreeMap<WorkRequestId, Value>,
    lines: Vec<(WorkRequestId, LogLine)>,
    seen: Vec<SeenKey>,
    late: Vec<Report>,
    heard: BTreeSet<Uuid>,
    hints: Hints,
}

enum Verdict {
    Known(EventVerdict),
    /// No lease of the run has or had the token; whether there is such a run has to be looked up.
    NoLease(RunEvent),
}

impl Taking<'_> {
    fn take(&mut self, event: RunEvent) -> Verdict {
        let refused = |code, message: &str| Verdict::Known(EventVerdict::Refused(event.refused(code, message)));
        let key = key(&event);
        if self.seen.contains(&key) {
            return Verdict::Known(EventVerdict::Repeated);
        }
        let Some(lease) = self.leases.get(&(event.run, event.token)).filter(|row| row.namespace == event.namespace)
        else {
            return Verdict::NoLease(event);
        };
        if event.at > self.batch.now.saturating_add(TOLERANCE).unwrap_or(Timestamp::MAX) {
            return refused("FutureTime", "`time` is more than 5 minutes ahead of the database's clock");
        }
        let held = self.batch.get(event.run).and_then(super::transition::Locked::lease);
        let is_held = held.is_some_and(|held| held.token == event.token);
        let ended = lease.ended.clone();
        match (&event.what, is_held, ended) {
            (Told::End(end), true, _) => {
                if let Err((code, message)) = self.end(&event, end) {
                    return refused(code, message);
                }
            }
            // The first answer stands.
            (Told::End(end), false, Some(known)) if end.as_str() == known => {
                return Verdict::Known(EventVerdict::Repeated);
            }
            (Told::End(_), false, Some(_)) => {
                return refused("AlreadyEnded", "the attempt has ended in another way under this token");
            }
            (Told::End(end), false, None) => {
                let outcome = late(end);
                self.changes.late.push(Report::new(event.run, event.token, outcome));
                let message = "the lease was lost; the report is kept as evidence and has changed nothing";
                return Verdict::Known(EventVerdict::Late(event.refused("StaleToken", message)));
            }
            (_, false, None) => return refused("StaleToken", "the lease was lost"),
            (Told::Heartbeat, ..) => {}
            (Told::Progress { percent, message }, ..) => self.words(&event, *percent, message.as_deref()),
            (Told::Log(lines), ..) => self.lines(&event, lines),
            (Told::Output(output), ..) => self.output(&event, output),
        }
        self.hear(&event);
        self.seen.insert(key.clone());
        self.changes.seen.push(key);
        Verdict::Known(EventVerdict::Taken)
    }

    /// The row of an event's lease, to be changed.
    fn lease(&mut self, event: &RunEvent) -> Option<&mut ExternalRow> {
        let key = (event.run, event.token);
        self.changes.touched.insert(key);
        self.leases.get_mut(&key)
    }

    /// Every event is a sign of life, while the lease lasts.
    fn hear(&mut self, event: &RunEvent) {
        let Some(lease) = self.leases.get(&(event.run, event.token)) else { return };
        let until = lease.silent_until(self.batch.now);
        self.changes.heard.insert(lease.worker);
        // Refused where it has just ended, or is good for that long.
        let _ = self.batch.apply(event.run, &Input::Extend { token: event.token, until });
    }

    fn end(&mut self, event: &RunEvent, end: &RunEnd) -> std::result::Result<(), (&'static str, &'static str)> {
        let (token, luck) = (event.token, self.luck);
        let (failures, status) =
            self.batch.get(event.run).map_or((0, Status::Failed), |row| (row.run.failures, row.run.status));
        let Some(lease) = self.lease(event) else { return Err(("StaleToken", "the lease was lost")) };
        let mut answer = None;
        let input = match end {
            RunEnd::Succeeded { output } => {
                lease.has_own = output.is_some();
                let told = lease.output.as_ref().map(|(output, ..)| output);
                answer = Some(json_without_nul(output.as_ref().or(told).cloned().unwrap_or(Value::Null)));
                Input::Succeed { token, verified: false }
            }
            RunEnd::Failed { error, retryable, not_before } => {
                let retry = retry::delay_after(&lease.retry, failures + 1, luck(), *retryable, *not_before);
                Input::Fail { token, error: error.clone(), retry }
            }
            RunEnd::Canceled if status != Status::Canceling => {
                return Err(("NotCanceling", "nobody has asked for the run to stop: report it as released or failed"));
            }
            RunEnd::Canceled => Input::Stopped { token },
            RunEnd::Released => Input::Release { token, doubt: false },
        };
        lease.ended = Some(end.as_str().to_owned());
        match self.batch.apply(event.run, &input) {
            Ok(row) => {
                row.output = answer;
                self.changes.hints.after(row);
                Ok(())
            }
            // The row is locked and the lease was held.
            Err(_) => Err(("StaleToken", "the lease was lost")),
        }
    }

    fn words(&mut self, event: &RunEvent, percent: Option<f32>, message: Option<&str>) {
        let mine = (event.at, format!("{} {}", event.source, event.id));
        let of_run = self.leases.values().filter(|row| row.run == event.run);
        let is_last = of_run.filter_map(|row| row.words.as_ref()).all(|words| *words < mine);
        let message = message.filter(|_| is_last).map(str::to_owned);
        if message.is_some()
            && let Some(lease) = self.lease(event)
        {
            lease.words = Some(mine);
        }
        let words = self.changes.words.entry(event.run).or_insert((0.0, None));
        words.0 = words.0.max(percent.unwrap_or(0.0));
        words.1 = message.or(words.1.take());
    }

    fn lines(&mut self, event: &RunEvent, lines: &[Line]) {
        let Some(attempt) = self.leases.get(&(event.run, event.token)).map(|lease| lease.attempt) else { return };
        let line = |Line { seq, stream, text }: &Line| {
            let line = LogLine { attempt, seq: *seq, at: event.at, stream: *stream, text: text.clone() };
            (event.run, line)
        };
        self.changes.lines.extend(lines.iter().map(line));
    }

    fn output(&mut self, event: &RunEvent, output: &Value) {
        let mine = (event.at, format!("{} {}", event.source, event.id));
        let Some(lease) = self.lease(event) else { return };
        if lease.output.as_ref().is_some_and(|(_, at, id)| (*at, id.as_str()) > (mine.0, mine.1.as_str())) {
            return;
        }
        let output = json_without_nul(output.clone());
        let completes = lease.ended.as_deref() == Some("succeeded") && !lease.has_own;
        lease.output = Some((output.clone(), mine.0, mine.1));
        if completes {
            self.changes.outputs.insert(event.run, output);
        }
    }
}

/// The end of an attempt as late reports tell it.
fn late(end: &RunEnd) -> Outcome {
    match end {
        RunEnd::Succeeded { output } => {
            Outcome::Succeeded { output: output.clone().map_or(Value::Null, json_without_nul) }
        }
        RunEnd::Failed { error, .. } => Outcome::Failed { error: error.clone(), retry: None },
        RunEnd::Canceled => Outcome::Stopped,
        RunEnd::Released => Outcome::Released { doubt: false },
    }
}
