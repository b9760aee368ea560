//! How many triggers of a route may be with the broker: about as many as its workers claim in a second.
//!
//! What is with the broker goes in the order in which it came, whosever it is. So what lies there in front of a newcomer is
//! bounded, and the rest stays in the store, where tenants have their turns. What has to be known is counted in the store, and only
//! where the window may be full: on a route where little waits nothing is ever asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reveille_shared::broker::Route;
use tokio::time::Instant;

/// The window of a route of which nothing is known.
const FIRST: i64 = 512;
/// The smallest one.
const LEAST: i64 = 16;
/// A full route is not counted again sooner …
const PAUSE: Duration = Duration::from_millis(20);
/// … and later by so much for each one that was counted: that is what it costs.
const PAUSE_EACH: Duration = Duration::from_micros(40);
/// The window is what is claimed in so long.
const SPAN: Duration = Duration::from_secs(1);
/// In so long a window that nobody fills forgets half of what it is above the first.
const FORGET: Duration = Duration::from_secs(10);

/// The windows of all routes that this process sends to.
#[derive(Debug)]
pub struct Windows {
    /// The largest one; none: whatever is due goes out.
    most: Option<i64>,
    routes: Mutex<HashMap<Route, Window>>,
}

/// Of one route.
#[derive(Debug, Clone, Copy)]
struct Window {
    size: i64,
    /// Not claimed when that was counted last.
    unclaimed: i64,
    /// Sent since.
    sent: i64,
    counted: Instant,
    /// How many are claimed in [`SPAN`], the last ones weighing most.
    pace: f64,
    /// Something waits for room.
    holds_back: bool,
}

impl Windows {
    /// Windows up to this size; zero: no bound.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most: (most > 0).then_some(i64::from(most)), routes: Mutex::default() }
    }

    /// Takes a place on a route, if there is room and nobody waits for it.
    #[must_use]
    pub fn admit(&self, route: &Route) -> bool {
        let Some(most) = self.most else { return true };
        let mut routes = self.routes();
        let window = window_of(&mut routes, route, most);
        let has_room = !window.holds_back && window.room() > 0;
        window.sent += i64::from(has_room);
        has_room
    }

    /// How many more may go out on a route.
    pub(crate) fn room(&self, route: &Route) -> i64 {
        let Some(most) = self.most else { return i64::MAX };
        self.routes().get(route).map_or(FIRST.min(most), Window::room)
    }

    /// These have gone out.
    pub(crate) fn sent<'a>(&self, sent: impl Iterator<Item = &'a Route>) {
        let Some(most) = self.most else { return };
        let mut routes = self.routes();
        sent.for_each(|route| window_of(&mut routes, route, most).sent += 1);
    }

    /// What is due was taken as far as there is room: if some was held back, it waits on full routes. Who hands over waits for it
    /// there, until it was taken.
    pub(crate) fn took(&self, held_back: bool) {
        self.routes().values_mut().for_each(|window| window.holds_back = held_back && window.room() <= 0);
    }

    /// Here something is due to another process: who hands over waits for that too.
    pub(crate) fn is_elsewhere(&self, routes: &[Route]) {
        let Some(most) = self.most else { return };
        let mut windows = self.routes();
        routes.iter().for_each(|route| window_of(&mut windows, route, most).holds_back = true);
    }

    /// The routes to be counted now: whose window may be half full.
    pub(crate) fn to_count(&self, now: Instant) -> HashSet<Route> {
        let is_due = |window: &Window| {
            window.room() <= window.size / 2 && now.saturating_duration_since(window.counted) >= window.pause()
        };
        self.routes().iter().filter(|(_, window)| is_due(window)).map(|(route, _)| route.clone()).collect()
    }

    /// So many are not claimed on a route.
    pub(crate) fn counted(&self, route: &Route, unclaimed: i64, now: Instant) {
        let Some(most) = self.most else { return };
        if let Some(window) = self.routes().get_mut(route) {
            window.adapt(unclaimed, now, most);
        }
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<Route, Window>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn window_of<'a>(routes: &'a mut HashMap<Route, Window>, route: &Route, most: i64) -> &'a mut Window {
    if !routes.contains_key(route) {
        let counted = Instant::now();
        let new = Window { size: FIRST.min(most), unclaimed: 0, sent: 0, counted, pace: 0.0, holds_back: false };
        routes.insert(route.clone(), new);
    }
    routes.get_mut(route).expect("it was put there if it was missing")
}

impl Window {
    fn room(&self) -> i64 {
        self.size - self.unclaimed - self.sent
    }

    fn pause(&self) -> Duration {
        PAUSE + PAUSE_EACH * u32::try_from(self.unclaimed).unwrap_or(0)
    }

    /// Takes a count. Where something waits and workers have almost run out, the window was too small; where much is left, it is
    /// what was claimed in a second, and shrinks to that by half in each.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "small numbers, and no more than a guess"
    )]
    fn adapt(&mut self, unclaimed: i64, now: Instant, most: i64) {
        let elapsed = now.saturating_duration_since(self.counted).max(Duration::from_millis(1));
        let claimed = (self.unclaimed + self.sent - unclaimed).max(0);
        let weight = 1.0 - (-elapsed.as_secs_f64() / SPAN.as_secs_f64()).exp();
        self.pace += (claimed as f64 * SPAN.as_secs_f64() / elapsed.as_secs_f64() - self.pace) * weight;
        let pace = self.pace as i64;
        let halved =
            |size: i64, half: Duration| (size as f64 * 0.5f64.powf(elapsed.as_secs_f64() / half.as_secs_f64())) as i64;
        let has_run_out = unclaimed <= self.size / 4;
        self.size = match (has_run_out, self.holds_back) {
            (true, true) => (self.size * 2).min(pace.max(FIRST)).max(self.size),
            (true, false) if self.size < FIRST => self.size * 2,
            (true, false) => halved(self.size, FORGET).max(FIRST),
            (false, _) => halved(self.size, SPAN).max(pace),
        }
        .clamp(LEAST.min(most), most);
        (self.unclaimed, self.sent, self.counted) = (unclaimed, 0, now);
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::definition::Priority;

    use super::*;

    fn route() -> Route {
        Route { queue: "q".into(), priority: Priority::Normal }
    }

    /// Lets a backlog go out to workers that claim so many a second, for some seconds; answers how many went out, and how many
    /// lay with the broker at most in the last one.
    fn played(windows: &Windows, per_second: i64, seconds: u64) -> (i64, i64) {
        let (step, mut now) = (Duration::from_millis(20), Instant::now());
        let (mut with_broker, mut out, mut claims, mut deepest) = (0_i64, 0, 0.0, 0);
        for tick in 0..seconds * 50 {
            for route in windows.to_count(now) {
                windows.counted(&route, with_broker, now);
            }
            let room = windows.room(&route()).max(0);
            windows.sent(std::iter::repeat_n(&route(), usize::try_from(room).unwrap()));
            windows.took(true);
            (with_broker, out) = (with_broker + room, out + room);
            claims += per_second as f64 * step.as_secs_f64();
            let claimed = (claims as i64).min(with_broker);
            (claims, with_broker, now) = (claims - claimed as f64, with_broker - claimed, now + step);
            if tick >= (seconds - 1) * 50 {
                deepest = deepest.max(with_broker);
            }
        }
        (out, deepest)
    }

    #[test]
    fn fast_workers_are_kept_busy_and_slow_ones_are_not_buried() {
        let (out, deepest) = played(&Windows::new(20_000), 9_000, 10);
        assert!(out > 85_000 && deepest < 12_000, "{out}, {deepest}");
        let (out, deepest) = played(&Windows::new(20_000), 100, 60);
        assert!(out >= 6_000 && deepest <= 110, "{out}, {deepest}");
        let (_, deepest) = played(&Windows::new(20_000), 1, 900);
        assert!(deepest <= LEAST, "{deepest}");
        let (out, _) = played(&Windows::new(20_000), 0, 60);
        assert_eq!(out, FIRST, "nobody claims");
    }

    #[test]
    fn who_hands_over_finds_room_until_something_waits_for_it() {
        let windows = Windows::new(20_000);
        let admitted = (0..FIRST + 10).filter(|_| windows.admit(&route())).count();
        assert_eq!(i64::try_from(admitted).unwrap(), FIRST);
        windows.took(true);
        let now = Instant::now() + PAUSE;
        assert_eq!(windows.to_count(now), HashSet::from([route()]));
        windows.counted(&route(), FIRST - 100, now);
        assert!(!windows.admit(&route()), "there is room, but for what has waited for it");
        windows.took(false);
        assert!(windows.admit(&route()), "room, and nothing is held back");
        let unbounded = Windows::new(0);
        assert!((0..100_000).all(|_| unbounded.admit(&route())) && unbounded.to_count(now).is_empty());
    }

    #[test]
    fn who_hands_over_waits_where_something_is_due_to_another_process() {
        let windows = Windows::new(20_000);
        assert!(windows.admit(&route()));
        windows.is_elsewhere(&[route()]);
        assert!(!windows.admit(&route()), "there is room, and whatever is due goes first");
        assert!(windows.admit(&Route { priority: Priority::High, ..route() }));
        windows.took(false);
        assert!(windows.admit(&route()));
    }

    #[test]
    fn the_more_there_is_to_count_the_later_it_is_counted_again() {
        let windows = Windows::new(20_000);
        windows.sent(std::iter::repeat_n(&route(), 10_000));
        let now = Instant::now() + PAUSE;
        windows.counted(&route(), 10_000, now);
        assert!(windows.to_count(now + Duration::from_millis(300)).is_empty());
        assert_eq!(windows.to_count(now + Duration::from_millis(500)).len(), 1);
    }

    #[test]
    fn a_window_that_nobody_fills_is_the_first_one_again() {
        let windows = Windows::new(20_000);
        played(&windows, 9_000, 5);
        windows.took(false);
        let mut now = Instant::now() + Duration::from_secs(5);
        for _ in 0..20 {
            now += Duration::from_secs(10);
            windows.counted(&route(), 0, now);
        }
        assert_eq!(windows.room(&route()), FIRST);
    }

    #[test]
    fn two_routes_have_nothing_to_do_with_each_other() {
        let windows = Windows::new(100);
        assert_eq!((0..200).filter(|_| windows.admit(&route())).count(), 100);
        let other = Route { priority: Priority::High, ..route() };
        assert!(windows.admit(&other));
    }
}
