//! What runs have to say → store, in batches: lines, progress, and how attempts ended.
//!
//! One channel keeps the order of each run, so that its lines are there before its end is. While one batch
//! is being committed the next one gathers: group commit without a timer. Nothing is lost while the
//! store is down, apart from lines beyond the channel's bound, which are counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::clock::Clock;
use reveille_shared::crash::{self, Act};
use reveille_shared::definition::policy::Size;
use reveille_shared::state::Refusal;
use reveille_shared::store::{Progress, Report, Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::{LogLine, Stream, WorkRequestId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use crate::runs::Runs;

/// How much text of one attempt is kept, unless a policy says less. A line counts as at least [`LEAST_LINE`].
const MAX_LOG: Size = Size::kib(1024);
const LEAST_LINE: usize = 32;
/// Longer lines are cut.
pub(crate) const MAX_LINE: usize = 8 * 1024;
/// How many notes wait for the store at most; with the longest lines, 32 MiB.
const WAITING: usize = 4096;
/// How many notes go into one batch.
const BATCH: usize = 512;
/// How long lines and progress wait for company; ends of attempts don't.
const LINGER: Duration = Duration::from_millis(20);
/// How long a line waits for room before it is dropped: a slow store must not stop a program that prints.
const ROOM: Duration = Duration::from_secs(1);

/// One thing to tell the store.
#[derive(Debug)]
pub(crate) enum Note {
    Line(WorkRequestId, LogLine),
    Progress(Progress),
    End(Report),
}

/// The way to the store. Cheap to clone; the reporter ends when the last one is gone.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    notes: mpsc::Sender<Note>,
    clock: Arc<dyn Clock>,
    kept: Size,
}

impl Reporter {
    /// A reporter that keeps so much of what an attempt prints, and what [`run`] is to work off.
    pub(crate) fn new(clock: Arc<dyn Clock>, kept: Option<Size>) -> (Self, mpsc::Receiver<Note>) {
        let (notes, receiver) = mpsc::channel(WAITING);
        (Self { notes, clock, kept: kept.unwrap_or(MAX_LOG) }, receiver)
    }

    /// Hands over the end of an attempt. Waits for room, so that a worker has at most as many ends as slots
    /// waiting beside the channel.
    pub(crate) async fn end(&self, report: Report) {
        // The receiver is gone only when the process stops hard; then the lease's loss ends the attempt.
        let _gone = self.notes.send(Note::End(report)).await.is_err();
    }

    /// Hands over the end of an attempt if there is room for it now.
    pub(crate) fn try_end(&self, report: Report) {
        let _full = self.notes.try_send(Note::End(report)).is_err();
    }

    /// The sink of one attempt that has said so many lines under earlier leases.
    pub(crate) fn sink(&self, id: WorkRequestId, token: Uuid, attempt: u32, lines: i32) -> Sink {
        let printed = Mutex::new(Printed { seq: lines, ..Printed::default() });
        Sink(Arc::new(Attempt {
            id,
            token,
            attempt,
            reporter: self.clone(),
            printed,
            congested: AtomicBool::new(false),
            has_children: AtomicBool::new(false),
        }))
    }
}

/// Takes what one attempt prints and says about its progress.
#[derive(Debug, Clone)]
pub(crate) struct Sink(Arc<Attempt>);

#[derive(Debug)]
struct Attempt {
    id: WorkRequestId,
    token: Uuid,
    attempt: u32,
    reporter: Reporter,
    printed: Mutex<Printed>,
    /// The last line found no room in time: don't wait for the next ones.
    congested: AtomicBool,
    /// How far the run is, is how far its children are, and nothing else.
    has_children: AtomicBool,
}

#[derive(Debug, Default)]
struct Printed {
    seq: i32,
    bytes: usize,
    dropped_lines: u64,
    dropped_bytes: u64,
}

impl Printed {
    fn drop_line(&mut self, length: usize) {
        self.dropped_lines += 1;
        self.dropped_bytes += length as u64;
    }

    fn next(&mut self) -> i32 {
        self.seq = self.seq.saturating_add(1);
        self.seq
    }
}

impl Sink {
    pub(crate) fn progress(&self, percent: f32, message: Option<&str>) {
        if percent.is_nan() {
            return;
        }
        let percent = if self.0.has_children.load(Ordering::Relaxed) { 0.0 } else { percent };
        let message = message.map(|text| printable(cut(text, 1024)));
        let progress = Progress { id: self.0.id, token: self.0.token, percent: percent.clamp(0.0, 100.0), message };
        // Only the latest counts, and there will be a later one.
        let _full = self.0.reporter.notes.try_send(Note::Progress(progress)).is_err();
    }

    /// From now on only words are told about the progress: the percentage is that of the run's children.
    pub(crate) fn leave_percent_to_children(&self) {
        self.0.has_children.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn log(&self, stream: Stream, text: &str) {
        for line in text.lines() {
            let line = cut(line, MAX_LINE);
            let seq = {
                let mut printed = self.printed();
                let bytes = printed.bytes + line.len().max(LEAST_LINE);
                if bytes > self.room() {
                    printed.drop_line(line.len());
                    continue;
                }
                printed.bytes = bytes;
                printed.next()
            };
            self.send(seq, stream, line).await;
            crash::at(Act::LineSaid);
        }
    }

    /// How many lines the attempt has said so far, those of earlier leases included.
    pub(crate) fn lines(&self) -> i32 {
        self.printed().seq
    }

    /// Whether no further line is kept.
    pub(crate) fn is_full(&self) -> bool {
        self.printed().bytes + LEAST_LINE > self.room()
    }

    fn room(&self) -> usize {
        usize::try_from(self.0.reporter.kept.bytes()).unwrap_or(usize::MAX)
    }

    /// Counts lines that were not even looked at, and their bytes.
    pub(crate) fn skip(&self, (lines, bytes): (u64, u64)) {
        let mut printed = self.printed();
        printed.dropped_lines += lines;
        printed.dropped_bytes += bytes;
    }

    /// The worker's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.reporter.clock.now()
    }

    /// Says, if so, that lines were dropped. To be called at the end of the attempt.
    pub(crate) async fn close(&self) {
        let (seq, lines, bytes) = {
            let mut printed = self.printed();
            if printed.dropped_lines == 0 {
                return;
            }
            (printed.next(), printed.dropped_lines, printed.dropped_bytes)
        };
        let remark =
            format!("{lines} lines ({bytes} bytes) were dropped: of one attempt {} is kept", self.0.reporter.kept);
        self.send(seq, Stream::System, &remark).await;
    }

    async fn send(&self, seq: i32, stream: Stream, text: &str) {
        let Attempt { id, attempt, reporter, congested, .. } = &*self.0;
        let line = LogLine { attempt: *attempt, seq, at: reporter.clock.now(), stream, text: printable(text) };
        let sent = match reporter.notes.try_send(Note::Line(*id, line)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(note)) if !congested.load(Ordering::Relaxed) => {
                matches!(timeout(ROOM, reporter.notes.send(note)).await, Ok(Ok(())))
            }
            Err(_) => false,
        };
        congested.store(!sent, Ordering::Relaxed);
        if !sent {
            self.printed().drop_line(text.len());
        }
    }

    fn printed(&self) -> std::sync::MutexGuard<'_, Printed> {
        self.0.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest beginning of `text` of at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// PostgreSQL keeps no NUL in a text.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Tells the store until the last [`Reporter`] is gone and all is told.
pub(crate) async fn run(mut notes: mpsc::Receiver<Note>, store: Store, runs: Arc<Runs>) {
    let mut batch = Vec::with_capacity(BATCH);
    while notes.recv_many(&mut batch, BATCH).await > 0 {
        let deadline = Instant::now() + LINGER;
        while batch.len() < BATCH && !batch.iter().any(|note| matches!(note, Note::End(_))) {
            match timeout_at(deadline, notes.recv_many(&mut batch, BATCH)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        tell(&store, &runs, batch.drain(..)).await;
    }
}

async fn tell(store: &Store, runs: &Runs, batch: impl Iterator<Item = Note>) {
    let mut lines = Vec::new();
    let mut progress: Vec<Progress> = Vec::new();
    let mut ends = Vec::new();
    for note in batch {
        match note {
            Note::Line(id, line) => lines.push((id, line)),
            Note::Progress(latest) => match progress.iter_mut().find(|earlier| earlier.token == latest.token) {
                Some(earlier) => *earlier = latest,
                None => progress.push(latest),
            },
            Note::End(report) => ends.push(report),
        }
    }
    let mut trouble = Trouble::default();
    if !lines.is_empty() {
        while let Err(error) = store.append_logs(&lines).await {
            trouble.wait(&error).await;
        }
    }
    if !progress.is_empty() {
        while let Err(error) = store.progress(&progress).await {
            trouble.wait(&error).await;
        }
    }
    if !ends.is_empty() {
        let verdicts = loop {
            match store.report(ends.clone()).await {
                Ok(verdicts) => break verdicts,
                Err(error) => trouble.wait(&error).await,
            }
        };
        for (end, verdict) in ends.iter().zip(verdicts) {
            match verdict {
                Ok(()) | Err(Refusal::Repeated) => {}
                Err(refusal) => {
                    metrics::counter!("reveille_reports_refused_total").increment(1);
                    tracing::warn!(work_request = %end.id, %refusal, "the lease was lost before the attempt's end was reported");
                }
            }
        }
        runs.remove(ends.iter().map(|end| end.token));
    }
    trouble.is_over();
}

/// A store that fails is asked until it answers, at growing intervals. Texts and JSON are made storable before they come
/// here, so what fails is the store, not what it is told.
#[derive(Default)]
struct Trouble {
    pause: Option<Duration>,
}

impl Trouble {
    async fn wait(&mut self, error: &StoreError) {
        if self.pause.is_none() {
            tracing::warn!(error = chain(error), "can't report what runs say; trying again");
        }
        let pause = self.pause.unwrap_or(Duration::from_millis(50));
        sleep(pause).await;
        self.pause = Some((pause * 2).min(Duration::from_secs(2)));
    }

    fn is_over(&self) {
        if self.pause.is_some() {
            tracing::info!("what runs say could be reported");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use reveille_shared::clock::SystemClock;
    use serde_json::Value;

    use super::*;
    use crate::handlers::Run;
    use crate::runs::Handle;

    /// A first attempt of job `test`, and what it says.
    pub(crate) fn run_with(input: Value) -> (Run, mpsc::Receiver<Note>) {
        let (reporter, notes) = Reporter::new(Arc::new(SystemClock), None);
        let scheduled_for = "2026-01-02T03:04:05Z".parse().unwrap();
        let id = WorkRequestId::new(scheduled_for);
        let handle = Arc::new(Handle::new(id));
        let run = Run {
            id,
            attempt: 1,
            namespace: "default".into(),
            job: "test".into(),
            schedule: None,
            scheduled_for,
            accepted_at: scheduled_for + jiff::SignedDuration::from_secs(1),
            input,
            stop: handle.stop.clone(),
            deadline: std::time::Instant::now() + Duration::from_secs(60),
            sink: reporter.sink(id, Uuid::nil(), 1, 0),
            handle,
            children: None,
        };
        (run, notes)
    }

    /// All lines said so far.
    pub(crate) fn lines(notes: &mut mpsc::Receiver<Note>) -> Vec<LogLine> {
        let mut lines = Vec::new();
        while let Ok(note) = notes.try_recv() {
            if let Note::Line(_, line) = note {
                lines.push(line);
            }
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_cut_numbered_and_capped() {
        let (run, mut notes) = run_with(Value::Null);
        run.log(Stream::Stdout, &"ä".repeat(MAX_LINE)).await;
        run.log(Stream::Stderr, "two\nthr\0ee").await;
        let got = lines(&mut notes);
        assert_eq!(got.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((got[0].text.len(), got[2].text.as_str()), (MAX_LINE, "thr\u{fffd}ee"));

        let line = "x".repeat(MAX_LINE);
        let mut kept = 0;
        for _ in 0..200 {
            run.log(Stream::Stdout, &line).await;
            kept += lines(&mut notes).len();
        }
        assert_eq!(kept, 1024 * 1024 / MAX_LINE - 2);
        run.sink.close().await;
        let last = lines(&mut notes).pop().unwrap();
        assert_eq!(last.stream, Stream::System);
        assert_eq!(last.text, format!("74 lines ({} bytes) were dropped: of one attempt 1MiB is kept", 74 * MAX_LINE));
    }

    #[tokio::test]
    async fn a_policy_may_have_less_kept() {
        let (reporter, mut notes) = Reporter::new(Arc::new(SystemClock), Some(Size::kib(1)));
        let sink = reporter.sink(WorkRequestId::new(Timestamp::UNIX_EPOCH), Uuid::nil(), 1, 0);
        for _ in 0..40 {
            sink.log(Stream::Stdout, "x").await;
        }
        sink.close().await;
        let kept = lines(&mut notes);
        assert_eq!(kept.len(), 1024 / LEAST_LINE + 1);
        assert_eq!(kept[kept.len() - 1].text, "8 lines (8 bytes) were dropped: of one attempt 1KiB is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_channel_delays_a_printer_once_and_then_drops() {
        let (run, mut notes) = run_with(Value::Null);
        for _ in 0..WAITING {
            run.log(Stream::Stdout, "a").await;
        }
        let before = Instant::now();
        for _ in 0..5 {
            run.log(Stream::Stdout, "b").await;
        }
        assert_eq!(before.elapsed(), ROOM);
        assert_eq!(lines(&mut notes).len(), WAITING);
        run.log(Stream::Stdout, "c").await;
        run.sink.close().await;
        let last = lines(&mut notes);
        assert_eq!(last[0].seq, i32::try_from(WAITING).unwrap() + 6);
        assert!(last[1].text.starts_with("5 lines"), "{last:?}");
    }
}
