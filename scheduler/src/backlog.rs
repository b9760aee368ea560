//! Where many short runs wait their triggers go out unmarked (see the store's `backlog`): what is out is known here alone.
//!
//! A *line* is what this dispatcher knows of a lane: up to which position it has seen what is due, and what of that it has
//! published. What is due before that position and was never published was committed late, or comes from a transaction that
//! took long: it is found when the line is gone through again, as are those that were claimed meanwhile. Whatever goes wrong,
//! all of it may be forgotten: then what is due goes out once more.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::broker::Route;
use reveille_shared::store::{DueLane, Lane, Marker, Outgoing, Position, Seeing, Store, StoreError, Taken};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::WorkRequestId;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bundle::Bundles;

/// For how long a backlog is held: as long as others wait when its holder dies.
const TTL: Duration = Duration::from_secs(3);
/// How often that is renewed.
const RENEWED: Duration = Duration::from_millis(500);
/// How often a line is gone through, at least …
const SELDOM: Duration = Duration::from_secs(2);
/// … and at most …
const OFTEN: Duration = Duration::from_millis(250);
/// … later by so much for each one that is out: that is many times what it costs.
const PAUSE_EACH: Duration = Duration::from_micros(100);
/// How old what is known of the lanes may be: to find them means to pass over whatever was claimed lately. So much later does a run
/// go out whose lane is a new one, behind a backlog.
const LANES_KNOWN: Duration = Duration::from_millis(100);
/// What is still out so long after it was worth it is marked, so that nobody has to remember it.
const REMEMBERED: Duration = Duration::from_secs(2);

/// What a dispatcher publishes unmarked.
pub(crate) struct Backlog {
    /// By which others know who holds it.
    pub(crate) dispatcher: Uuid,
    held: Option<Held>,
}

struct Held {
    lines: HashMap<Lane, Line>,
    /// Where something was due …
    lanes: Vec<DueLane>,
    /// … at that time.
    found: Option<Instant>,
    renewed: Instant,
    /// More waits than was seen the last time.
    has_more: bool,
    /// Since when it is not worth it: nothing goes out unmarked, or nothing more waits.
    idle: Option<Instant>,
}

struct Line {
    until: Position,
    /// What was published, when, and may not be claimed yet.
    out: HashMap<WorkRequestId, Timestamp>,
    gone_through: Instant,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self { dispatcher: Uuid::new_v4(), held: None }
    }

    /// Whether it is this dispatcher's: what is due may be what it has published.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// This batch was taken, and more waits for room: if some of its runs are short, they go out unmarked from now on, unless another
    /// dispatcher sees to that.
    pub(crate) async fn begin(&mut self, store: &Store, bundles: &mut Bundles, batch: &[Outgoing]) {
        if self.is_held() {
            return;
        }
        let begun = async {
            let short = bundles.short(store, batch.iter()).await?;
            if short.is_empty() { Ok(false) } else { store.hold_backlog(self.dispatcher, TTL).await }
        };
        match begun.await {
            Ok(true) => {
                let renewed = Instant::now();
                self.held = Some(Held {
                    lines: HashMap::new(),
                    lanes: Vec::new(),
                    found: None,
                    renewed,
                    has_more: true,
                    idle: None,
                });
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(error = chain(&error), "can't hold the backlog; it goes out marked"),
        }
    }

    /// Keeps it, if it is held: it is forgotten when it can't be, or another dispatcher has it.
    pub(crate) async fn keep(&mut self, store: &Store) {
        if let Some(held) = &mut self.held
            && held.renewed.elapsed() >= RENEWED
        {
            match store.hold_backlog(self.dispatcher, TTL).await {
                Ok(true) => held.renewed = Instant::now(),
                Ok(false) => self.held = None,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "can't keep the backlog; what is out goes out once more");
                    self.held = None;
                }
            }
        }
    }

    /// Up to `limit` triggers to be published now, within the room that their routes have, and before them as many that were passed
    /// over; none if there is no backlog, or it is another one's.
    ///
    /// # Errors
    /// [`StoreError::Query`]: what was out is forgotten.
    pub(crate) async fn next(
        &mut self,
        store: &Store,
        bundles: &mut Bundles,
        limit: i64,
        room: &(dyn Fn(&Route) -> i64 + Send + Sync),
    ) -> Result<Option<Taken>, StoreError> {
        let Some(mut held) = self.held.take() else { return Ok(None) };
        if held.idle.is_some_and(|since| since.elapsed() >= REMEMBERED) {
            return self.mark_out(store, held, limit).await;
        }
        let mut to_mark = held.go_through(store).await?;
        if held.lines.is_empty() && !held.has_more {
            store.leave_backlog(self.dispatcher).await?;
            return Ok(None);
        }
        // The rest of them is passed over the next time too.
        to_mark.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        held.find_lanes(store).await?;
        let until = |lane: &Lane| held.lines.get(lane).map(|line| line.until);
        let seeing = store.see_due(&held.lanes, limit, room, &until).await?;
        let held_back = seeing.held_back;
        held.has_more = held_back || i64::try_from(seeing.due.len()).is_ok_and(|seen| seen >= limit);
        let free = seeing.due.iter().filter(|seen| seen.is_free).map(|seen| &seen.outgoing);
        let short = bundles.short(store, free).await?;
        let (mut outgoing, others) = held.publish(seeing, &short);
        let is_worth_it = held.has_more && !outgoing.is_empty();
        held.idle = (!is_worth_it).then(|| held.idle.unwrap_or_else(Instant::now));
        to_mark.extend(others);
        // Also what is parked, and what was held and has its slot.
        outgoing.extend(store.take_due_among(&to_mark, limit).await?);
        self.held = Some(held);
        Ok(Some(Taken { outgoing, held_back, ..Taken::default() }))
    }

    /// Marks what is out, up to `limit` at a time, which need not be published again, and then leaves the backlog.
    async fn mark_out(&mut self, store: &Store, mut held: Held, limit: i64) -> Result<Option<Taken>, StoreError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let out = held.lines.values().flat_map(|line| line.out.keys().copied());
        let some: HashSet<_> = out.take(most).collect();
        if some.is_empty() {
            store.leave_backlog(self.dispatcher).await?;
            return Ok(None);
        }
        let mut outgoing = store.take_due_among(&some.iter().copied().collect::<Vec<_>>(), limit).await?;
        held.forget(&some);
        // A further one is that of a run whose first trigger the broker did not take.
        outgoing.retain(|sent| sent.trigger.n > 1 || !some.contains(&sent.trigger.id));
        self.held = Some(held);
        Ok(Some(Taken { outgoing, ..Taken::default() }))
    }

    /// How many triggers that were published unmarked on a route are not claimed.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub(crate) async fn unclaimed_on(&self, store: &Store, route: &Route) -> Result<i64, StoreError> {
        let lines = self.lines().filter(|(lane, _)| lane.route == *route).map(|(lane, line)| (lane, line.until));
        store.count_due_until(&lines.collect::<Vec<_>>()).await
    }

    /// The routes where something was published unmarked at this instant or earlier that may not be claimed yet.
    pub(crate) fn unclaimed(&self, until: Timestamp) -> HashSet<Route> {
        let waits = |line: &Line| line.out.values().any(|at| *at <= until);
        self.lines().filter(|(_, line)| waits(line)).map(|(lane, _)| lane.route.clone()).collect()
    }

    /// Up to `limit` triggers, marked as sent again, that nobody has claimed for that long though a marker that followed them has come
    /// back.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub(crate) async fn resend_lost(
        &mut self,
        store: &Store,
        back: &[Marker],
        patience: SignedDuration,
        limit: usize,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let Some(held) = &mut self.held else { return Ok(Vec::new()) };
        let before = store.now().await?.saturating_sub(patience).unwrap_or(Timestamp::MIN);
        let mut lost = HashSet::new();
        for (lane, line) in &held.lines {
            let followed = back.iter().filter(|marker| marker.route == lane.route).map(|marker| marker.sent_at).max();
            let Some(followed) = followed else { continue };
            let waited = line.out.iter().filter(|(_, at)| **at < followed && **at <= before).map(|(id, _)| *id);
            lost.extend(waited.take(limit.saturating_sub(lost.len())));
        }
        if lost.is_empty() {
            return Ok(Vec::new());
        }
        let resent = store.resend_unmarked(lost.iter().copied()).await?;
        held.forget(&lost);
        Ok(resent)
    }

    /// Lets others take what is due. Whatever is out and not claimed goes out once more.
    pub(crate) async fn leave(&mut self, store: &Store) {
        if self.held.take().is_some()
            && let Err(error) = store.leave_backlog(self.dispatcher).await
        {
            tracing::debug!(error = chain(&error), "could not leave the backlog; others have it soon");
        }
    }

    fn lines(&self) -> impl Iterator<Item = (&Lane, &Line)> {
        self.held.iter().flat_map(|held| &held.lines)
    }
}

impl Held {
    /// Looks where something is due, unless that is known.
    async fn find_lanes(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.found.is_none_or(|found| found.elapsed() >= LANES_KNOWN) {
            self.lanes = store.due_lanes().await?;
            self.found = Some(Instant::now());
        }
        Ok(())
    }

    /// Forgets what was claimed, in lines whose turn it is. Answers what is due in them and was passed over.
    async fn go_through(&mut self, store: &Store) -> Result<Vec<WorkRequestId>, StoreError> {
        let each = |line: &Line| PAUSE_EACH.saturating_mul(u32::try_from(line.out.len()).unwrap_or(u32::MAX));
        let every = |line: &Line| OFTEN.saturating_add(each(line)).min(SELDOM);
        let mut lines: Vec<_> =
            self.lines.iter_mut().filter(|(_, line)| line.gone_through.elapsed() >= every(line)).collect();
        let asked: Vec<_> = lines.iter().map(|(lane, line)| (*lane, line.until)).collect();
        let mut due = vec![HashSet::new(); asked.len()];
        for (line, id) in store.due_until(&asked).await? {
            due[line].insert(id);
        }
        let mut passed_over = Vec::new();
        for ((_, line), due) in lines.iter_mut().zip(&due) {
            line.gone_through = Instant::now();
            line.out.retain(|id, _| due.contains(id));
            passed_over.extend(due.iter().filter(|id| !line.out.contains_key(id)));
        }
        // What comes behind one in which nothing waits is seen from the beginning.
        let over: HashSet<_> =
            lines.iter().zip(&due).filter(|(_, due)| due.is_empty()).map(|((lane, _), _)| (*lane).clone()).collect();
        self.lines.retain(|lane, _| !over.contains(lane));
        Ok(passed_over)
    }

    /// Of these others know now that they are out.
    fn forget(&mut self, marked: &HashSet<WorkRequestId>) {
        self.lines.values_mut().for_each(|line| line.out.retain(|id, _| !marked.contains(id)));
    }

    /// Notes what was seen. Answers what goes out unmarked, and what is to be marked.
    fn publish(&mut self, seeing: Seeing, short: &HashSet<WorkRequestId>) -> (Vec<Outgoing>, Vec<WorkRequestId>) {
        let (mut outgoing, mut to_mark) = (Vec::new(), Vec::new());
        for seen in seeing.due {
            let id = seen.outgoing.trigger.id;
            let until = seen.position();
            let new = || Line { until, out: HashMap::new(), gone_through: Instant::now() };
            let line = self.lines.entry(seen.lane()).or_insert_with(new);
            line.until = until;
            if seen.is_free && short.contains(&id) {
                line.out.insert(id, seeing.at);
                outgoing.push(seen.outgoing);
            } else {
                to_mark.push(id);
            }
        }
        (outgoing, to_mark)
    }
}
