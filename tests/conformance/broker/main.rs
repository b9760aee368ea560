//! The broker contract, run against both brokers, and what only RabbitMQ can go through.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod contract;
mod rabbitmq;
mod world;

use harness::rabbitmq::RabbitMq;

use crate::world::World;

/// The cases that both brokers must pass: one test each in process, and one with all of them for RabbitMQ,
/// as starting a node takes longer than all the cases on it.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                super::contract::$case(&super::World::new("embedded")).await;
            })*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn rabbitmq_keeps_the_contract() {
            let (url, _node) = match std::env::var("REVEILLE_TEST_AMQP_URL") {
                Ok(url) => (url, None),
                Err(_) => {
                    let node = RabbitMq::start().await.unwrap();
                    (node.url(), Some(node))
                }
            };
            let world = World::new(&url);
            $(
                world::report(stringify!($case));
                contract::$case(&world).await;
            )*
        }
    };
}

cases!(
    a_trigger_reaches_a_worker_once_and_is_gone_when_acked,
    every_message_has_its_own_verdict,
    each_priority_has_its_own_way,
    a_bundle_brings_all_of_its_triggers,
    without_demand_nothing_flows_and_zero_gives_back,
    demand_can_change_without_loss,
    no_more_is_handed_out_than_demanded,
    what_is_given_back_comes_first_and_says_so,
    a_dropped_subscription_gives_back,
    two_subscriptions_share,
    a_busy_queue_does_not_starve_a_quiet_one,
    ten_thousand_and_none_is_lost,
    settling_what_came_over_another_subscription_is_harmless,
    a_wait_can_be_cancelled_without_loss,
    depth_counts_what_waits,
    bad_queue_names_are_refused,
    a_subscription_outlives_the_handle_that_made_it,
    what_nobody_has_subscribed_to_is_announced_all_the_same,
    a_pulse_is_heard_by_all_who_are_tuned_in,
    events_come_where_others_can_put_them,
    a_call_comes_back_behind_the_pulses_before_it,
    stop_ends_everything,
);
