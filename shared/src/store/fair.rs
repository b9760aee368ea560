//! Whose turn it is: what is due goes out in lanes, one for each of queue, priority and namespace, side by side.
//!
//! A lane's runs go in the order in which they are due. Of lanes of one priority each gives as many as the others, as long as it
//! has some; a higher priority goes before a lower one. So one tenant's backlog delays another one's run by a turn, whatever its
//! length. There is room for so many on a route as its window says (the scheduler's matter); the rest stays due.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use super::backlog::Seen;
use super::database::{Database, Tx, Which};
use super::transition::Locked;
use crate::broker::Route;
use crate::definition::Priority;
use crate::state::Phase;
use crate::work_request::WorkRequestId;

/// Of one tenant what is due on one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Where it goes.
    pub route: Route,
    /// The tenant.
    pub namespace: String,
}

/// One in which something is due, now or later, and when first.
pub type DueLane = (Lane, Timestamp);

/// A lane, as what waits in it names it.
pub(crate) type LaneKey<'a> = (Priority, &'a str, &'a str);

/// A run's position in its lane: when it is due, and its id.
pub type Position = (Timestamp, WorkRequestId);

/// Before all positions.
const BEGIN: Position = (Timestamp::UNIX_EPOCH, WorkRequestId(Uuid::nil()));

/// What is wanted of a lane: so many behind the last one that was taken. Of those that are due at the same instant PostgreSQL
/// goes by their ids, and SQLite, where nobody else is in between, by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) lane: Lane,
    pub(crate) after: Position,
    pub(crate) taken: i64,
    pub(crate) most: i64,
}

/// How many more may go out on a route.
pub(crate) type Room<'a> = dyn Fn(&Route) -> i64 + Send + Sync + 'a;

/// Behind which position of a lane to begin; none: with the first one.
pub(crate) type Behind<'a> = dyn Fn(&Lane) -> Option<Position> + Send + Sync + 'a;

/// What waits in a lane.
pub(crate) trait InLane {
    fn key(&self) -> LaneKey<'_>;
    fn position(&self) -> Position;
}

impl Lane {
    fn key(&self) -> LaneKey<'_> {
        (self.route.priority, &self.route.queue, &self.namespace)
    }
}

/// Locks up to `limit` runs that are due in these lanes, in the order in which they go out. Says whether some have to wait for room on
/// their route.
pub(crate) async fn lock_due(
    tx: &mut dyn Tx,
    lanes: &[DueLane],
    limit: i64,
    room: &Room<'_>,
) -> Result<(Vec<Locked>, bool)> {
    let mut turns = Turns::new(due_by(lanes, tx.now()), limit, room, &|_| None);
    while let Some(shares) = turns.next() {
        let rows = tx.lock(Which::Due { shares: &shares }).await?;
        turns.took(&shares, rows);
    }
    Ok(turns.end())
}

/// Reads up to `limit` runs that are due at `now` behind a position in each lane, in the same order and with the same answer, and locks
/// none.
pub(crate) async fn see_due(
    db: &dyn Database,
    lanes: &[DueLane],
    now: Timestamp,
    limit: i64,
    room: &Room<'_>,
    behind: &Behind<'_>,
) -> Result<(Vec<Seen>, bool)> {
    let mut turns = Turns::new(due_by(lanes, now), limit, room, behind);
    while let Some(shares) = turns.next() {
        let rows = db.see(&shares, now).await?;
        turns.took(&shares, rows);
    }
    Ok(turns.end())
}

/// The lanes in which something is due by `now`.
pub(crate) fn due_by(lanes: &[DueLane], now: Timestamp) -> impl Iterator<Item = &Lane> + Clone {
    lanes.iter().filter(move |(_, at)| *at <= now).map(|(lane, _)| lane)
}

struct Turns<T> {
    lanes: Vec<Progress>,
    /// Of each route that has lanes.
    room: HashMap<Route, i64>,
    left: i64,
    rows: Vec<(usize, T)>,
}

struct Progress {
    lane: Lane,
    after: Position,
    taken: usize,
    /// It has given less than was wanted: no more of it is due, or others have it.
    dry: bool,
}

impl<T: InLane> Turns<T> {
    fn new<'a>(
        lanes: impl Iterator<Item = &'a Lane> + Clone,
        limit: i64,
        room: &Room<'_>,
        behind: &Behind<'_>,
    ) -> Self {
        let room = lanes.clone().map(|lane| (lane.route.clone(), room(&lane.route).max(0))).collect();
        let begin =
            |lane: &Lane| Progress { after: behind(lane).unwrap_or(BEGIN), lane: lane.clone(), taken: 0, dry: false };
        let lanes = lanes.map(begin).collect();
        Self { lanes, room, left: limit, rows: Vec::new() }
    }

    /// What is wanted next, of the lanes of the highest priority that has any; nothing when all are dry, or there is no room.
    fn next(&self) -> Option<Vec<Share>> {
        Priority::ALL.into_iter().find_map(|priority| self.next_of(priority))
    }

    fn next_of(&self, priority: Priority) -> Option<Vec<Share>> {
        let open = |progress: &&Progress| progress.lane.route.priority == priority && !progress.dry;
        let mut open: Vec<_> = self.lanes.iter().filter(open).filter(|lane| self.room[&lane.lane.route] > 0).collect();
        // Where there are more lanes than places, chance decides: each has its turn sooner or later.
        fastrand::shuffle(&mut open);
        let mut waiting: HashMap<&Route, i64> = HashMap::new();
        for lane in &open {
            *waiting.entry(&lane.lane.route).or_default() += 1;
        }
        let (mut left, mut lanes) = (self.left, i64::try_from(open.len()).unwrap_or(i64::MAX));
        let mut room = self.room.clone();
        let mut shares = Vec::with_capacity(open.len());
        for Progress { lane, after, taken, .. } in open {
            let (Some(beside), Some(room)) = (waiting.get_mut(&lane.route), room.get_mut(&lane.route)) else {
                continue;
            };
            let most = rounded_up(left, lanes).min(rounded_up(*room, *beside));
            (left, lanes, *room, *beside) = (left - most, lanes - 1, *room - most, *beside - 1);
            if most > 0 {
                let taken = i64::try_from(*taken).unwrap_or(i64::MAX);
                shares.push(Share { lane: lane.clone(), after: *after, taken, most });
            }
        }
        (!shares.is_empty()).then_some(shares)
    }

    /// Rows of a lane come in its order.
    fn took(&mut self, shares: &[Share], rows: Vec<T>) {
        let places: HashMap<_, _> =
            self.lanes.iter().enumerate().map(|(place, progress)| (progress.lane.key(), place)).collect();
        let of_rows: Vec<_> = rows.iter().map(|row| places.get(&row.key()).copied()).collect();
        let of_shares: Vec<_> = shares.iter().map(|share| places.get(&share.lane.key()).copied()).collect();
        let mut got: HashMap<usize, i64> = HashMap::new();
        for (row, place) in rows.into_iter().zip(of_rows) {
            let Some(place) = place else { continue };
            let progress = &mut self.lanes[place];
            progress.after = row.position();
            self.rows.push((progress.taken, row));
            progress.taken += 1;
            *got.entry(place).or_default() += 1;
        }
        for (share, place) in shares.iter().zip(of_shares) {
            let Some(place) = place else { continue };
            let got = got.get(&place).copied().unwrap_or(0);
            self.lanes[place].dry = got < share.most;
            self.left -= got;
            if let Some(room) = self.room.get_mut(&share.lane.route) {
                *room -= got;
            }
        }
    }

    /// What was taken, by priority, then turn by turn, of one turn the one that is due first; and whether some are held back.
    fn end(mut self) -> (Vec<T>, bool) {
        let is_held_back = |progress: &Progress| !progress.dry && self.room[&progress.lane.route] <= 0;
        let held_back = self.lanes.iter().any(is_held_back);
        self.rows.sort_by_key(|(turn, row)| (row.key().0, *turn, row.position()));
        (self.rows.into_iter().map(|(_, row)| row).collect(), held_back)
    }
}

/// What the first ones get more the last ones get less.
fn rounded_up(of: i64, among: i64) -> i64 {
    of / among + i64::from(of % among > 0)
}

impl InLane for Locked {
    fn key(&self) -> LaneKey<'_> {
        (self.priority, &self.queue, &self.namespace)
    }

    fn position(&self) -> Position {
        let due_at = match self.before.phase {
            Phase::Due { at } => at,
            _ => Timestamp::UNIX_EPOCH,
        };
        (due_at, self.id)
    }
}
