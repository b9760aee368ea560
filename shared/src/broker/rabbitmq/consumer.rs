//! Messages from some queues, over as many connections as it takes.

use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Error, ErrorKind};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::warn;

use super::ANSWER_LIMIT;
use super::link::{Backoff, LinkWatch};
use super::tags::{Settling, Tags};
use super::topology::{self, KnownQueues};
use crate::telemetry::chain;

/// A session without work for so long is opened anew. RabbitMQ 3.10 tells no consumer of the end of a
/// quorum queue that is deleted and declared again at once: it would wait on nothing for ever.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// Numbers the sessions of all consumers of this process, so that no delivery fits another one's.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// A message as it came, and where it came from.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) session: u64,
    pub(super) delivery: Delivery,
}

/// What to tell the broker about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done with.
    Ack,
    /// It goes back to its queue.
    GiveBack,
    /// It goes to the dead letters.
    Reject,
}

/// Consumes from queues, with reconnects. Everything happens within the calls: there is no task.
pub(super) struct Consumer {
    link: LinkWatch,
    known: Arc<KnownQueues>,
    queues: Vec<String>,
    demand: u16,
    phase: Phase,
    backoff: Backoff,
}

/// Kept between calls of [`Consumer::next`], so that a call can be cancelled without losing any way.
enum Phase {
    Closed,
    Opening(BoxFuture<'static, Result<Session, Error>>),
    Open(Box<Session>),
    Pausing(Pin<Box<Sleep>>),
}

impl Consumer {
    /// Without demand yet.
    pub(super) fn new(link: LinkWatch, known: Arc<KnownQueues>, queues: Vec<String>) -> Self {
        Self { link, known, queues, demand: 0, phase: Phase::Closed, backoff: Backoff::default() }
    }

    /// The next message. Cancel safe. `None` once the link has stopped.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let mut stopped = self.link.clone();
            let stopped = stopped.wait_stopped();
            match &mut self.phase {
                Phase::Closed if self.demand == 0 => {
                    stopped.await;
                    return None;
                }
                Phase::Closed => {
                    let connection = self.link.wait_up().await?;
                    let opened = open(connection, Arc::clone(&self.known), self.queues.clone(), self.demand);
                    self.phase = Phase::Opening(Box::pin(opened));
                }
                Phase::Opening(opened) => match opened.await {
                    Ok(session) => {
                        self.backoff.reset();
                        self.phase = Phase::Open(Box::new(session));
                    }
                    Err(error) => self.broken(&error),
                },
                Phase::Open(session) => {
                    let limit = usize::from(self.demand);
                    let idle = session.idle();
                    let next = tokio::select! {
                        biased;
                        next = poll_fn(|context| session.poll_next(context, limit)) => Some(next),
                        () = stopped => return None,
                        () = idle => None,
                    };
                    match next {
                        Some(Ok(delivery)) => return Some(Message { session: session.number, delivery }),
                        Some(Err(error)) => self.broken(&error),
                        None => self.phase = Phase::Closed,
                    }
                }
                Phase::Pausing(pause) => {
                    pause.await;
                    self.phase = Phase::Closed;
                }
            }
        }
    }

    /// How many may be unsettled from now on; zero gives back what [`Consumer::next`] has not handed out.
    pub(super) async fn demand(&mut self, unsettled: u16) {
        if self.demand == unsettled {
            return;
        }
        self.demand = unsettled;
        // Taken out, so that a session that is left half way by a cancelled call is dropped, which gives all back.
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Open(mut session) => match in_time(session.restart(&self.queues, unsettled)).await {
                Ok(()) => self.phase = Phase::Open(session),
                Err(error) => self.broken(&error),
            },
            Phase::Opening(_) | Phase::Closed => {}
            pausing @ Phase::Pausing(_) => self.phase = pausing,
        }
    }

    /// Settles messages of the present session; those of earlier ones the broker has given to others.
    pub(super) async fn settle(&mut self, messages: impl Iterator<Item = (u64, u64)>, fate: Fate) {
        let Phase::Open(session) = &mut self.phase else { return };
        let number = session.number;
        let tags = messages.filter(|&(session, _)| session == number).map(|(_, tag)| tag);
        if let Err(error) = in_time(session.settle(tags, fate)).await {
            self.broken(&error);
        }
    }

    fn broken(&mut self, error: &Error) {
        let wait = self.backoff.next_wait();
        warn!(queues = ?self.queues, error = chain(error), ?wait, "consuming has broken off");
        self.phase = Phase::Pausing(Box::pin(sleep(wait)));
    }
}

/// One channel with its consumers. Dropping it closes the channel; the broker gives the unsettled to others.
struct Session {
    number: u64,
    channel: Channel,
    consumers: Vec<lapin::Consumer>,
    /// The consumer to ask first, so that a busy queue does not starve the others.
    first: usize,
    /// Come, but not handed out, when the consumers were last restarted.
    kept: VecDeque<Delivery>,
    tags: Tags,
    /// Handed out and not settled.
    unsettled: usize,
    last_delivery: Instant,
    /// Lives as long as any channel on it.
    _connection: Arc<Connection>,
}

async fn open(
    connection: Arc<Connection>,
    known: Arc<KnownQueues>,
    queues: Vec<String>,
    demand: u16,
) -> Result<Session, Error> {
    // They may be newer than the connection, or deleted since.
    topology::declare_all(&connection, &known).await?;
    in_time(async {
        let mut session = Session {
            number: SESSIONS.fetch_add(1, Ordering::Relaxed),
            channel: connection.create_channel().await?,
            consumers: Vec::new(),
            first: 0,
            kept: VecDeque::new(),
            tags: Tags::default(),
            unsettled: 0,
            last_delivery: Instant::now(),
            _connection: connection,
        };
        session.consume(&queues, demand).await?;
        Ok(session)
    })
    .await
}

impl Session {
    /// RabbitMQ has no limit over several quorum queues, so each may send `prefetch`; [`Session::poll_next`]
    /// keeps the sum that is handed out within it.
    async fn consume(&mut self, queues: &[String], prefetch: u16) -> Result<(), Error> {
        self.channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        for queue in queues {
            let (queue, tag) = (queue.as_str().into(), ShortString::default());
            let consumer =
                self.channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
            self.consumers.push(consumer);
        }
        Ok(())
    }

    async fn restart(&mut self, queues: &[String], prefetch: u16) -> Result<(), Error> {
        for mut consumer in std::mem::take(&mut self.consumers) {
            self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            // Cancelled, the stream has an end.
            while let Some(delivery) = consumer.next().await {
                self.kept.push_back(delivery?);
            }
        }
        if prefetch > 0 {
            return self.consume(queues, prefetch).await;
        }
        let kept: Vec<_> = std::mem::take(&mut self.kept).iter().map(|delivery| delivery.delivery_tag).collect();
        self.tell(kept, Fate::GiveBack).await
    }

    /// Ends when nothing has come or been held for [`IDLE_LIMIT`].
    fn idle(&self) -> impl Future<Output = ()> + use<> {
        let (held, until) = (self.unsettled > 0, self.last_delivery + IDLE_LIMIT);
        async move {
            if held {
                pending::<()>().await;
            }
            sleep_until(until).await;
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<Result<Delivery, Error>> {
        if self.unsettled >= limit {
            // Only a call that settles some or demands more changes that, not time.
            return Poll::Pending;
        }
        if let Some(delivery) = self.kept.pop_front() {
            self.unsettled += 1;
            return Poll::Ready(Ok(delivery));
        }
        let count = self.consumers.len();
        for index in (0..count).map(|step| (self.first + step) % count) {
            match self.consumers[index].poll_next_unpin(context) {
                Poll::Ready(Some(Ok(delivery))) => {
                    self.first = index + 1;
                    self.unsettled += 1;
                    self.last_delivery = Instant::now();
                    return Poll::Ready(Ok(delivery));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // The broker has cancelled it: the queue is gone. Opening again declares it.
                Poll::Ready(None) => return Poll::Ready(Err(ErrorKind::InvalidChannel(self.channel.id()).into())),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    async fn settle(&mut self, tags: impl Iterator<Item = u64>, fate: Fate) -> Result<(), Error> {
        let tags: Vec<_> = tags.collect();
        self.unsettled = self.unsettled.saturating_sub(tags.len());
        self.tell(tags, fate).await
    }

    async fn tell(&mut self, tags: Vec<u64>, fate: Fate) -> Result<(), Error> {
        let Settling { up_to, single } = self.tags.settle(tags);
        let commands = up_to.map(|tag| (tag, true)).into_iter().chain(single.into_iter().map(|tag| (tag, false)));
        let channel = &self.channel;
        try_join_all(commands.map(|(tag, multiple)| async move {
            match fate {
                Fate::Ack => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
                Fate::GiveBack => channel.basic_nack(tag, BasicNackOptions { multiple, requeue: true }).await,
                Fate::Reject => channel.basic_nack(tag, BasicNackOptions { multiple, requeue: false }).await,
            }
        }))
        .await?;
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
