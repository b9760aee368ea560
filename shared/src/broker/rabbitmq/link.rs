//! One connection to RabbitMQ, made again whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ANSWER_LIMIT;
use super::endpoint::Endpoint;
use super::topology::{self, KnownQueues};
use crate::telemetry::chain;

/// How long to wait for a connection, from the first packet to the end of the handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Keeps one connection up until it is told to stop, or nobody sees it any more.
#[derive(Debug)]
pub(super) struct Link(LinkWatch);

impl Link {
    pub(super) fn open(endpoint: Endpoint, name: String, queues: Arc<KnownQueues>, stop: CancellationToken) -> Self {
        let (sender, state) = watch::channel(State::down("connecting"));
        let mut supervisor = JoinSet::new();
        supervisor.spawn(supervise(endpoint, name, queues, stop, sender));
        Self(LinkWatch { state, _supervisor: Arc::new(supervisor) })
    }

    pub(super) fn watch(&self) -> LinkWatch {
        self.0.clone()
    }
}

/// Sees the connection of a [`Link`] come and go, and keeps it: a subscription outlives the broker's own handle.
#[derive(Debug, Clone)]
pub(super) struct LinkWatch {
    state: watch::Receiver<State>,
    /// Dropping the last one aborts the task that holds the connection.
    _supervisor: Arc<JoinSet<()>>,
}

impl LinkWatch {
    /// The connection, or why there is none that can be used.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, Arc<str>> {
        match &*self.state.borrow() {
            State::Up(connection) if connection.status().blocked() => {
                Err("blocked by the broker: it is short of memory or disk".into())
            }
            State::Up(connection) if connection.status().connected() => Ok(Arc::clone(connection)),
            State::Up(_) => Err("not connected: the connection has just broken".into()),
            State::Down { since, why } => {
                Err(format!("not connected: for {} s: {why}", since.elapsed().as_secs()).into())
            }
            State::Stopped => Err("not connected: shut down".into()),
        }
    }

    /// Waits for a connection; `None` once there will be no more. Cancel safe.
    pub(super) async fn wait_up(&mut self) -> Option<Arc<Connection>> {
        let settled = self.state.wait_for(|state| !matches!(state, State::Down { .. })).await.ok()?;
        match &*settled {
            State::Up(connection) => Some(Arc::clone(connection)),
            State::Down { .. } | State::Stopped => None,
        }
    }

    /// Waits until there will be no more connections. Cancel safe.
    pub(super) async fn wait_stopped(&mut self) {
        // An error says that the supervisor is gone, which is the same.
        let _ = self.state.wait_for(|state| matches!(state, State::Stopped)).await;
    }
}

#[derive(Debug)]
enum State {
    Up(Arc<Connection>),
    Down { since: Instant, why: String },
    Stopped,
}

impl State {
    fn down(why: impl Into<String>) -> Self {
        Self::Down { since: Instant::now(), why: why.into() }
    }
}

/// Waits that double from 0.2 s to 10 s, each shortened at random by up to half, so that processes
/// that lost the broker together don't come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next_wait(&mut self) -> Duration {
        let longest = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
        self.failures += 1;
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

async fn supervise(
    endpoint: Endpoint,
    name: String,
    queues: Arc<KnownQueues>,
    stop: CancellationToken,
    state: watch::Sender<State>,
) {
    let mut backoff = Backoff::default();
    while let Some(why) = stop.run_until_cancelled(session(&endpoint, &name, &queues, &state, &mut backoff)).await {
        let wait = backoff.next_wait();
        warn!(connection = name, why, ?wait, "no connection to the broker");
        state.send_modify(|state| match state {
            // A failed attempt is not the start of the outage.
            State::Down { why: old, .. } => *old = why,
            State::Up(_) | State::Stopped => *state = State::down(why),
        });
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            break;
        }
    }
    if let State::Up(connection) = state.send_replace(State::Stopped) {
        let _ = timeout(ANSWER_LIMIT, connection.close(200, "shut down".into())).await;
    }
}

/// Connects, makes the connection known and watches it; returns why it could not, or why it ended.
async fn session(
    endpoint: &Endpoint,
    name: &str,
    queues: &KnownQueues,
    state: &watch::Sender<State>,
    backoff: &mut Backoff,
) -> String {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = match timeout(CONNECT_LIMIT, endpoint.connect(properties)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(why)) => return why,
        Err(_) => return format!("no connection within {} s", CONNECT_LIMIT.as_secs()),
    };
    let mut events = Box::pin(connection.events_listener());
    if let Err(error) = topology::declare_all(&connection, queues).await {
        return chain(&error);
    }
    backoff.reset();
    info!(connection = name, "connected to the broker");
    let connection = Arc::new(connection);
    state.send_replace(State::Up(Arc::clone(&connection)));
    while connection.status().connected() {
        // The timeout is for an end that is told by no event.
        match timeout(Duration::from_secs(1), events.next()).await {
            Ok(Some(Event::Error(error))) => return chain(&error),
            Ok(Some(Event::ConnectionBlocked(why))) => warn!(connection = name, why, "blocked by the broker"),
            Ok(Some(Event::ConnectionUnblocked)) => info!(connection = name, "no longer blocked by the broker"),
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => {}
        }
    }
    "closed by the broker".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_fifth_of_a_second_to_ten() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= FIRST_WAIT && waits[0] >= FIRST_WAIT / 2);
        assert!(waits[39] <= LONGEST_WAIT && waits[39] >= LONGEST_WAIT / 2);
    }
}
