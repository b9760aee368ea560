//! Whose turn it is: what is due goes out in lanes, one for each of queue, priority and namespace, side by side.
//!
//! A lane's runs go in the order in which they are due. Of lanes of one priority each gives as many as the others, as long as it
//! has some; a higher priority goes before a lower one. So one tenant's backlog delays another one's run by a turn, whatever its
//! length. There is room for so many on a route as its window says (the scheduler's matter); the rest stays due.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::Result;
use super::database::{Tx, Which};
use super::transition::Locked;
use crate::broker::Route;
use crate::definition::Priority;
use crate::state::Phase;

/// Of one tenant what is due on one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) route: Route,
    pub(crate) namespace: String,
}

/// What is wanted of a lane: so many behind the last one that was taken. Of those that are due at the same instant PostgreSQL
/// goes by their ids, and SQLite, where nobody else is in between, by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) lane: Lane,
    pub(crate) after: (Timestamp, Uuid),
    pub(crate) taken: i64,
    pub(crate) most: i64,
}

/// How many more may go out on a route.
pub(crate) type Room<'a> = dyn Fn(&Route) -> i64 + Send + Sync + 'a;

/// Locks up to `limit` due runs, in the order in which they go out. Says whether some have to wait for room on their route.
pub(crate) async fn lock_due(tx: &mut dyn Tx, limit: i64, room: &Room<'_>) -> Result<(Vec<Locked>, bool)> {
    let mut turns = Turns::new(tx.due_lanes().await?, limit, room);
    for priority in Priority::ALL {
        while let Some(shares) = turns.next(priority) {
            let rows = tx.lock(Which::Due { shares: &shares }).await?;
            turns.took(&shares, rows);
        }
    }
    let held_back = turns.holds_back();
    Ok((turns.in_order(), held_back))
}

struct Turns {
    lanes: Vec<Progress>,
    /// Of each route that has lanes.
    room: HashMap<Route, i64>,
    left: i64,
    rows: Vec<(usize, Locked)>,
}

struct Progress {
    lane: Lane,
    after: (Timestamp, Uuid),
    taken: usize,
    /// It has given less than was wanted: no more of it is due, or others have it.
    dry: bool,
}

impl Turns {
    fn new(lanes: Vec<Lane>, limit: i64, room: &Room<'_>) -> Self {
        let room = lanes.iter().map(|lane| (lane.route.clone(), room(&lane.route).max(0))).collect();
        let begin = (Timestamp::UNIX_EPOCH, Uuid::nil());
        let lanes = lanes.into_iter().map(|lane| Progress { lane, after: begin, taken: 0, dry: false }).collect();
        Self { lanes, room, left: limit, rows: Vec::new() }
    }

    /// What is wanted of the lanes of a priority next; nothing when they are dry, or there is no room.
    fn next(&self, priority: Priority) -> Option<Vec<Share>> {
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
    fn took(&mut self, shares: &[Share], rows: Vec<Locked>) {
        let mut places: HashMap<Lane, usize> =
            self.lanes.iter().enumerate().map(|(place, progress)| (progress.lane.clone(), place)).collect();
        let mut got: HashMap<usize, i64> = HashMap::new();
        for row in rows {
            let route = Route { queue: row.queue.clone(), priority: row.priority };
            let Some(&place) = places.get(&Lane { route, namespace: row.namespace.clone() }) else { continue };
            let progress = &mut self.lanes[place];
            progress.after = (due_at(&row), row.id.0);
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

    fn holds_back(&self) -> bool {
        self.lanes.iter().any(|progress| !progress.dry && self.room[&progress.lane.route] <= 0)
    }

    /// By priority, then turn by turn; of one turn the one that is due first.
    fn in_order(mut self) -> Vec<Locked> {
        self.rows.sort_by_key(|(turn, row)| (row.priority, *turn, due_at(row), row.id.0));
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// What the first ones get more the last ones get less.
fn rounded_up(of: i64, among: i64) -> i64 {
    of / among + i64::from(of % among > 0)
}

fn due_at(row: &Locked) -> Timestamp {
    match row.before.phase {
        Phase::Due { at } => at,
        _ => Timestamp::UNIX_EPOCH,
    }
}
