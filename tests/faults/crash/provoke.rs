//! What is done to a process until it passes its point.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::wait::eventually;
use lapin::options::{BasicGetOptions, BasicPublishOptions, BasicRejectOptions, QueuePurgeOptions};
use reqwest::Method;
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::WorkRequestId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use super::scenes::{Dies, Load};
use super::world::{LIMIT, SLOTS, WINDOW, World, heeds_signals};

/// RabbitMQ's name of the work queue.
const QUEUE: &str = "reveille.q.default";
/// A run with more triggers than this is given up.
const MOST_TRIGGERS: u32 = 20;
/// More children than triggers that may be with the broker, by far.
const CHILDREN: usize = 3 * WINDOW as usize;

/// By then lost messages have been missed.
const MISSED: Duration = Duration::from_secs(45);

/// Makes the process pass the point, until that has happened. Returns only an error.
pub(super) async fn provoke(world: &mut World, pid: Pid, dies: Dies, load: Load) -> Result<Infallible> {
    match load {
        Load::Fires => {}
        Load::External => {
            world.ask("outside", "0s", "SUCCEEDED");
            world.insist().await?;
        }
        Load::Asks => {
            let jobs = ["work", "flaky", "chain", "remote", "narrow"];
            jobs.into_iter().for_each(|job| world.ask(job, "0s", "SUCCEEDED"));
            world.insist().await?;
        }
        Load::AsksOnce => loop {
            world.ask_once().await;
        },
        Load::ManyChildren => {
            // Before one has ended nobody knows that they are short.
            let mut children = 1;
            loop {
                world.ask_many(children);
                let parent = world.insist().await?.pop().context("a run")?;
                world.wait_for(&parent, "over", |run| run["status"] == "SUCCEEDED").await?;
                children = CHILDREN;
            }
        }
        Load::LongRuns => drop(world.fill_slots("longer").await?),
        Load::FanOuts => {
            (0..2).for_each(|_| world.ask_many(12));
            world.insist().await?;
        }
        Load::RepeatedFanOuts => loop {
            world.ask_many(2);
            world.insist_at_once().await?;
        },
        Load::Cancels => {
            for id in ask_for_endless(world).await? {
                world.cancel(&id).await?;
            }
        }
        Load::CancelsAll => {
            ask_for_endless(world).await?;
            world.call(Method::POST, "/v1/workRequests:cancel", &json!({"job": "endless"}), &[200]).await?;
        }
        Load::FireByHand => drop(world.call(Method::POST, "/v1/schedules/second:trigger", &json!({}), &[202]).await?),
        Load::PauseAndResume => world.pause_and_resume().await?,
        Load::Keys => loop {
            world.change_a_key().await?;
        },
        Load::Webhooks => world.webhooks_come_and_go().await?,
        Load::Redeliveries => world.redeliver().await?,
        Load::Listens => loop {
            // Who is not answered comes again.
            let _ = world.stack.api.request(Method::GET, "/v1/workRequests:stream").send().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        },
        Load::Backfill => drop(world.backfill("done").await?),
        Load::CanceledBackfill => {
            let id = world.backfill("canceled").await?;
            world.cancel_backfill(&id).await?;
        }
        // The first change may be applied as a whole, by a process that has just begun to lead.
        Load::FolderChanges => loop {
            world.change_folder()?;
            world.change_is_in_force().await?;
        },
        Load::BrokerIsCut => world.stack.broker_proxy.as_ref().context("a proxy")?.cut().await,
        // What is lost before it leads is not missed: it sends that again.
        Load::MessagesAreLost => loop {
            wait_until_it_works(world, pid, dies).await?;
            lose_messages(world).await?;
            tokio::time::sleep(MISSED).await;
        },
        Load::MessagesWereLost => loop {
            wait_until_it_works(world, pid, dies).await?;
            lose_messages(world).await?;
            let lost = Instant::now();
            while lost.elapsed() < MISSED {
                world.tamper("UPDATE markers SET sent_at = sent_at - interval '1 hour'").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        },
        Load::Backlog => {
            ask_for_backlog(world);
            world.insist().await?;
        }
        Load::MessagesDie => kill_messages(world).await?,
        Load::LastMessageDies => kill_last_message(world).await?,
        Load::Stops => {
            wait_until_it_works(world, pid, dies).await?;
            heeds_signals(pid).await?;
            kill_process(pid, Signal::TERM)?;
        }
        Load::Freezes => {
            wait_until_it_works(world, pid, dies).await?;
            kill_process(pid, Signal::STOP)?;
            wait_for_worker(world, pid, false).await?;
            kill_process(pid, Signal::CONT)?;
        }
    }
    std::future::pending().await
}

/// A scheduler leads, or a worker is known.
async fn wait_until_it_works(world: &World, pid: Pid, dies: Dies) -> Result<()> {
    if matches!(dies, Dies::Worker | Dies::WorkerOnly) {
        return wait_for_worker(world, pid, true).await;
    }
    eventually("it to lead", LIMIT, async || {
        let seen = world.stack.api.get_path("/readyz").await.map_err(|error| format!("{error:#}"))?;
        if seen["leader"]["leading"] == true { Ok(()) } else { Err(seen.to_string()) }
    })
    .await
}

/// The worker of a process is taken for alive, or for dead.
async fn wait_for_worker(world: &World, pid: Pid, live: bool) -> Result<()> {
    let name = format!("-{}", pid.as_raw_nonzero());
    eventually("a word on the worker", LIMIT, async || {
        let seen = world.stack.api.get_path("/v1/workers").await.map_err(|error| format!("{error:#}"))?;
        let mine = |worker: &&Value| worker["name"].as_str().is_some_and(|text| text.ends_with(&name));
        let found = seen["items"].as_array().and_then(|workers| workers.iter().find(mine));
        if found.is_some_and(|worker| worker["live"] == live) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await
}

async fn channel(world: &World) -> Result<lapin::Channel> {
    let url = world.stack.broker.as_ref().context("a broker")?.url();
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

/// Runs that have to be canceled: one that goes on, and one that waits.
async fn ask_for_endless(world: &mut World) -> Result<Vec<String>> {
    ["0s", "1h"].into_iter().for_each(|delay| world.ask("endless", delay, "CANCELED"));
    let ids = world.insist().await?;
    world.wait_for(&ids[0], "started", |run| run["status"] == "IN_PROGRESS").await?;
    Ok(ids)
}

/// More runs than can start before it is asked after those that wait.
fn ask_for_backlog(world: &mut World) {
    (0..SLOTS * 4).for_each(|_| world.ask("longer", "0s", "SUCCEEDED"));
}

/// Lets the broker forget what waits for workers; these come back.
async fn lose_messages(world: &mut World) -> Result<()> {
    if world.is_one_process() {
        ask_for_backlog(world);
        return world.insist().await.map(drop);
    }
    world.stop_workers().await?;
    // Those that earlier deaths have lost make the next one wait for longer.
    world.tamper("DELETE FROM markers").await?;
    let channel = channel(world).await?;
    eventually("messages to lose", LIMIT, async || {
        let lost = channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await;
        let lost = lost.map_err(|error| error.to_string())?;
        if lost > 2 { Ok(()) } else { Err(format!("{lost} lost")) }
    })
    .await?;
    world.restart_workers().await
}

/// Rejects messages, which makes dead letters of them.
async fn kill_messages(world: &mut World) -> Result<()> {
    world.stop_workers().await?;
    world.ask("work", "0s", "SUCCEEDED");
    world.insist().await?;
    let channel = channel(world).await?;
    let message = eventually("a message", LIMIT, async || {
        let got = channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await;
        got.map_err(|error| error.to_string())?.ok_or_else(|| "none".to_owned())
    })
    .await?;
    channel.basic_reject(message.delivery_tag, BasicRejectOptions { requeue: false }).await?;
    Ok(())
}

/// Makes a dead letter of one trigger too many.
async fn kill_last_message(world: &mut World) -> Result<()> {
    world.stop_workers().await?;
    world.ask("urgent", "0s", "FAILED");
    let id = world.insist().await?.swap_remove(0);
    world.stack.api.wait_in_queue(&id).await?;
    let n = MOST_TRIGGERS + 1;
    ensure!(world.tamper(&format!("UPDATE deliveries SET sends = {n} WHERE id = '{id}'")).await? == 1, "no {id}");
    let id = WorkRequestId(Uuid::parse_str(&id)?);
    let trigger = Trigger { v: trigger::VERSION, id, n, namespace: "default".into(), job: "urgent".into() };
    let (options, properties) = (BasicPublishOptions::default(), lapin::BasicProperties::default());
    let channel = channel(world).await?;
    channel.basic_publish("".into(), "reveille.dead".into(), options, &trigger.encode(), properties).await?.await?;
    Ok(())
}
