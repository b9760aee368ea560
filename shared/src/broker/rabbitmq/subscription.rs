//! Messages of work queues → deliveries of triggers.

use async_trait::async_trait;
use tracing::warn;

use super::consumer::{Consumer, Fate, Message};
use super::topology::plain_name;
use crate::broker::{Delivery, Subscription};
use crate::telemetry::chain;
use crate::trigger::{self, Malformed};

/// A worker's view of its queues.
pub(super) struct RabbitSubscription {
    consumer: Consumer,
    /// It was said that there are schedulers of a later release.
    is_told: bool,
}

impl RabbitSubscription {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, is_told: false }
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let Message { session, delivery } = self.consumer.next().await?;
            let (redelivered, tag) = (delivery.redelivered, delivery.delivery_tag);
            match trigger::decode(&delivery.data) {
                Ok(triggers) => return Some(Delivery { triggers, redelivered, session, tag }),
                Err(malformed) => {
                    let queue = plain_name(delivery.routing_key.as_str());
                    match malformed {
                        // Its scheduler sends it again, until a worker has it that can read it.
                        Malformed::Newer(_) if self.is_told => {}
                        Malformed::Newer(_) => {
                            self.is_told = true;
                            let error = chain(&malformed);
                            warn!(queue, error, "triggers like this one are left for workers of a later release");
                        }
                        Malformed::NotATrigger(_) => {
                            warn!(queue, error = chain(&malformed), "not a trigger: moved to the dead letters");
                        }
                    }
                    metrics::counter!("reveille_unreadable_messages_total").increment(1);
                    self.consumer.settle([(session, tag)].into_iter(), Fate::Reject).await;
                }
            }
        }
    }

    async fn demand(&mut self, unsettled: u16) {
        self.consumer.demand(unsettled).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>) {
        self.consumer.settle(names(&deliveries), Fate::Ack).await;
    }

    async fn give_back(&mut self, deliveries: Vec<Delivery>) {
        self.consumer.settle(names(&deliveries), Fate::GiveBack).await;
    }
}

fn names(deliveries: &[Delivery]) -> impl Iterator<Item = (u64, u64)> {
    deliveries.iter().map(|delivery| (delivery.session, delivery.tag))
}
