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
use super::database::{Tx, Which};
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
    fn lane(&self) -> Lane;
    fn position(&self) -> Position;
}

/// Locks up to `limit` due runs, in the order in which they go out. Says whether some have to wait for room on their route.
pub(crate) async fn lock_due(tx: &mut dyn Tx, limit: i64, room: &Room<'_>) -> Result<(Vec<Locked>, bool)> {
    let mut turns = Turns::new(tx.due_lanes().await?, limit, room, &|_| None);
    while let Some(shares) = turns.next() {
        let rows = tx.lock(Which::Due { shares: &shares }).await?;
        turns.took(&shares, rows);
    }
    Ok(turns.end())
}

/// Reads up to `limit` due runs behind a position in each lane, in the same order and with the same answer, and locks none.
pub(crate) async fn see_due(
    tx: &mut dyn Tx,
    limit: i64,
    room: &Room<'_>,
    behind: &Behind<'_>,
) -> Result<(Vec<Seen>, bool)> {
    let mut turns = Turns::new(tx.due_lanes().await?, limit, room, behind);
    while let Some(shares) = turns.next() {
        let rows = tx.see(&shares).await?;
        turns.took(&shares, rows);
    }
    Ok(turns.end())
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
    fn new(lanes: Vec<Lane>, limit: i64, room: &Room<'_>, behind: &Behind<'_>) -> Self {
        let room = lanes.iter().map(|lane| (lane.route.clone(), room(&lane.route).max(0))).collect();
        let begin = |lane: Lane| Progress { after: behind(&lane).unwrap_or(BEGIN), lane, taken: 0, dry: false };
        let lanes = lanes.into_iter().map(begin).collect();
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
        let mut places: HashMap<Lane, usize> =
            self.lanes.iter().enumerate().map(|(place, progress)| (progress.lane.clone(), place)).collect();
        let mut got: HashMap<usize, i64> = HashMap::new();
        for row in rows {
            let Some(&place) = places.get(&row.lane()) else { continue };
            let progress = &mut self.lanes[place];
            progress.after = row.position();
            self.rows.push((progress.taken, row));
            progress.taken += 1;
            *got.entry(place).or_default() += 1;
        }
        for share in shares {
            let Some(place) = places.remove(&share.lane) else { continue };
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
        self.rows.sort_by_cached_key(|(turn, row)| (row.lane().route.priority, *turn, row.position()));
        (self.rows.into_iter().map(|(_, row)| row).collect(), held_back)
    }
}

/// What the first ones get more the last ones get less.
fn rounded_up(of: i64, among: i64) -> i64 {
    of / among + i64::from(of % among > 0)
}

impl InLane for Locked {
    fn lane(&self) -> Lane {
        let route = Route { queue: self.queue.clone(), priority: self.priority };
        Lane { route, namespace: self.namespace.clone() }
    }

    fn position(&self) -> Position {
        let due_at = match self.before.phase {
            Phase::Due { at } => at,
            _ => Timestamp::UNIX_EPOCH,
        };
        (due_at, self.id)
    }
}
