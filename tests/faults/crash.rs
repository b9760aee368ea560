//! The crash sweep: at each crash point there is, a process dies and is started again, and nothing is lost or doubled.

mod ledger;
mod outside;
mod scenes;
mod world;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use harness::process::{Program, tail};
use harness::services::{Broker, Database};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use lapin::options::{BasicGetOptions, BasicPublishOptions, BasicRejectOptions, QueuePurgeOptions};
use reqwest::Method;
use reveille_shared::crash::{Act, Commit, Point};
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::WorkRequestId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use self::scenes::{Before, Dies, Load, Scene, scene};
use self::world::{LIMIT, SLOTS, WINDOW, World, stop};

/// RabbitMQ's name of the work queue.
const QUEUE: &str = "reveille.q.default";
/// A run with more triggers than this is given up.
const MOST_TRIGGERS: u32 = 20;
/// More children than triggers that may be with the broker, by far.
const CHILDREN: usize = 3 * WINDOW as usize;

/// By then lost messages have been missed.
const MISSED: Duration = Duration::from_secs(45);
/// How often a process is told to stop before it has to have passed the point.
const MOST_STOPS: u32 = 20;

/// Lets a process die at each of these points, on several stacks side by side as most of the time is waiting.
async fn sweep(points: impl Iterator<Item = Point>, lanes: usize, builder: &Builder) -> Result<()> {
    let points: Vec<_> = points.collect();
    let lane = |first: usize| {
        let points: Vec<_> = points.iter().skip(first).step_by(lanes).copied().collect();
        async move {
            let mut world = World::start(builder.clone()).await?;
            for point in points {
                let begun = Instant::now();
                die_at(&mut world, point).await.with_context(|| format!("crash point {point}"))?;
                tell(point, begun.elapsed());
            }
            ledger::nothing_is_lost_or_doubled(&world).await
        }
    };
    try_join_all((0..lanes).map(lane)).await.map(drop)
}

#[allow(clippy::print_stderr, reason = "the test runner shows it if the test failed")]
fn tell(point: Point, took: Duration) {
    eprintln!("{point}: {took:.1?}");
}

/// Lets a process die at a point, starts it again, and checks that everything asked for comes true.
async fn die_at(world: &mut World, point: Point) -> Result<()> {
    let Scene { dies, before, load, count } = scene(point);
    let mut target = world.take(dies);
    world.hold()?;
    prepare(world, &mut target, before).await?;
    world.let_go()?;
    let before_it = target.log().len();
    let mut stops = 0;
    let status = loop {
        target.start_again_with("REVEILLE_CRASH", &format!("{point}:{count}"))?;
        let pid = target.pid();
        let status = tokio::select! {
            status = target.wait_exit(LIMIT) => status.context("it was not passed")?,
            failed = provoke(world, pid, dies, load) => bail!("{failed:?}"),
        };
        // To resign has half a second; one whose database is slower than that, or that has just lost the lead, leaves it out.
        stops += 1;
        if !(status.code().is_some() && matches!(load, Load::Stops) && stops < MOST_STOPS) {
            break status;
        }
    };
    ensure!(status.signal() == Some(Signal::ABORT.as_raw()), "it ended with {status}");
    let said = target.log().split_off(before_it);
    ensure!(said.contains(&format!("crash point {point}: aborting")), "{}", tail(&said, 2000));
    world.stack.broker_proxy.iter().for_each(harness::proxy::Proxy::heal);
    target.restart().await?;
    world.put_back(dies, target);
    world.restart_workers().await?;
    if let Err(error) = world.all_comes_true().await {
        return Err(error.context(state(world).await));
    }
    Ok(())
}

/// What callers see at this moment, for whoever looks into a failure.
async fn state(world: &World) -> String {
    let mut seen = String::new();
    for path in ["/readyz", "/v1/workers", "/v1/queues"] {
        let answer = world.stack.api.get_path(path).await;
        seen += &answer.map_or_else(|error| format!("{path}: {error:#}\n"), |answer| format!("{path}: {answer}\n"));
    }
    seen
}

/// Prepares what a scene needs, and ends the process.
async fn prepare(world: &mut World, target: &mut harness::stack::Service, before: Before) -> Result<()> {
    match before {
        Before::Nothing => stop(target).await,
        Before::FolderChanges => {
            stop(target).await?;
            world.change_folder()
        }
        Before::TriggersAreDue => {
            (0..3).for_each(|_| world.ask("work", "100ms", "SUCCEEDED"));
            world.insist().await?;
            target.kill9()
        }
        Before::TriggersAreSent => {
            world.stop_workers().await?;
            let last = fill_slots(world, "held").await?;
            world.stack.api.wait_in_queue(&last).await?;
            target.kill9()
        }
        Before::HoldersDie | Before::HoldersDieInDoubt => {
            let job = if matches!(before, Before::HoldersDie) { "held" } else { "doubtful" };
            fill_slots(world, job).await?;
            let holders = world.insist().await?;
            world.wait_for_any(&holders, "started", |run| run["status"] == "IN_PROGRESS").await?;
            world.kill_workers()?;
            // In doubt are also the runs of the one that is to die again.
            let is_holder = world.is_one_process() || matches!(before, Before::HoldersDieInDoubt);
            if is_holder { target.kill9() } else { stop(target).await }
        }
        Before::RunsExpire => {
            world.stop_workers().await?;
            fill_slots(world, "held").await?;
            world.ask("fleeting", "0s", "FAILED");
            let last = world.insist().await?.pop().context("a run")?;
            world.stack.api.wait_in_queue(&last).await?;
            target.kill9()?;
            let over = "UPDATE deliveries SET expires_at =
                            (SELECT accepted_at FROM work_requests WHERE work_requests.id = deliveries.id)
                        WHERE expires_at IS NOT NULL";
            ensure!(tamper(world, over).await? == 1, "nothing expires");
            Ok(())
        }
        Before::EndsAreUncounted => {
            world.stop_workers().await?;
            fill_slots(world, "held").await?;
            world.ask_many(3);
            let parent = world.insist().await?.pop().context("a run")?;
            let children = world.children(&parent, 3).await?;
            for child in &children[..2] {
                world.cancel(child).await?;
            }
            world.wait_for(&parent, "told", |run| run["children"]["canceled"] == 2).await?;
            target.kill9()?;
            let forget = "UPDATE fan_outs SET canceled = 0 WHERE ended_at IS NULL AND canceled = 2";
            ensure!(tamper(world, forget).await? == 1, "nothing to forget");
            // Only when the third has ended, too, nobody is left to tell of the others.
            world.restart_workers().await
        }
        Before::FiresAreStranded => {
            world.stop_workers().await?;
            fill_slots(world, "held").await?;
            let fired = world.call(Method::POST, "/v1/schedules/aside:trigger", &json!({}), &[202]).await?;
            world.stack.api.wait_in_queue(fired["workRequests"][0]["id"].as_str().context("an id")?).await?;
            target.kill9()?;
            let held = "UPDATE deliveries SET phase = 'held' WHERE phase = 'sent' AND schedule = 'aside'";
            ensure!(tamper(world, held).await? == 1, "nothing to hold");
            Ok(())
        }
        Before::NothingIsTold => {
            target.kill9()?;
            let untold = "UPDATE schema_info SET transitions = false";
            ensure!(tamper(world, untold).await? == 1, "there is always one row");
            Ok(())
        }
        Before::OperationIsForsaken => {
            world.ask("forsaken", "0s", "SUCCEEDED");
            let id = world.insist().await?.pop().context("a run")?;
            let is_parked = |run: &serde_json::Value| {
                run["waitingFor"].as_str().is_some_and(|text| text.starts_with("goes on elsewhere"))
            };
            world.wait_for(&id, "parked", is_parked).await?;
            target.kill9()?;
            let over = "UPDATE deliveries SET attempt_until =
                            (SELECT accepted_at FROM work_requests WHERE work_requests.id = deliveries.id)
                        WHERE phase = 'parked'";
            ensure!(tamper(world, over).await? == 1, "nothing goes on elsewhere");
            Ok(())
        }
    }
}

/// Asks for more long runs than one process has slots. Answers the last of them.
async fn fill_slots(world: &mut World, job: &'static str) -> Result<String> {
    (0..SLOTS + 3).for_each(|_| world.ask(job, "0s", "SUCCEEDED"));
    world.insist().await?.pop().context("a run")
}

/// Makes the process pass the point, until that has happened. Returns only an error.
async fn provoke(world: &mut World, pid: Pid, dies: Dies, load: Load) -> Result<std::convert::Infallible> {
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
        Load::LongRuns => drop(fill_slots(world, "longer").await?),
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
                tamper(world, "UPDATE markers SET sent_at = sent_at - interval '1 hour'").await?;
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
            world::heeds_signals(pid).await?;
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
        let mine = |worker: &&serde_json::Value| worker["name"].as_str().is_some_and(|text| text.ends_with(&name));
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
    tamper(world, "DELETE FROM markers").await?;
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
    let id = world.insist().await?.swap_remove(0);
    world.stack.api.wait_in_queue(&id).await?;
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
    world.ask("work", "0s", "FAILED");
    let id = world.insist().await?.swap_remove(0);
    world.stack.api.wait_in_queue(&id).await?;
    let n = MOST_TRIGGERS + 1;
    ensure!(tamper(world, &format!("UPDATE deliveries SET sends = {n} WHERE id = '{id}'")).await? == 1, "no {id}");
    let id = WorkRequestId(Uuid::parse_str(&id)?);
    let trigger = Trigger { v: trigger::VERSION, id, n, namespace: "default".into(), job: "work".into() };
    let (options, properties) = (BasicPublishOptions::default(), lapin::BasicProperties::default());
    let channel = channel(world).await?;
    channel.basic_publish("".into(), "reveille.dead".into(), options, &trigger.encode(), properties).await?.await?;
    Ok(())
}

/// Does to the database what no store does. Answers how many rows it was.
async fn tamper(world: &World, sql: &str) -> Result<u64> {
    let sql = AssertSqlSafe(sql.to_owned());
    match &world.stack.database {
        Some(database) => {
            let mut connection = PgConnection::connect(database.url()).await?;
            Ok(sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected())
        }
        None => {
            let file = world.stack.folder().join("data/reveille.db");
            let mut connection = SqliteConnection::connect(&file.to_string_lossy()).await?;
            Ok(sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected())
        }
    }
}

fn points_of(who: &'static [Dies]) -> impl Iterator<Item = Point> {
    Point::all().filter(|point| who.contains(&scene(*point).dies))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_may_die_at_every_point() -> Result<()> {
    let stack = Stack::postgres_rabbit().workers(2).proxied();
    sweep(points_of(&[Dies::Scheduler, Dies::SchedulerOnly]), 4, &stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_die_at_every_point() -> Result<()> {
    sweep(points_of(&[Dies::Worker, Dies::WorkerOnly]), 3, &Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_one_process_may_die_at_every_point() -> Result<()> {
    sweep(points_of(&[Dies::Scheduler, Dies::Worker]), 3, &Stack::embedded()).await
}

#[tokio::test]
async fn a_process_that_is_to_die_at_an_unknown_point_does_not_start() -> Result<()> {
    let (folder, database, broker) = (TempDir::new()?, Database::fresh().await?, Broker::fresh().await?);
    let program = Program::of_workspace("reveille-worker", "worker", folder.path())?
        .env("REVEILLE_DATABASE_URL", database.url())
        .env("REVEILLE_BROKER_URL", broker.url())
        .env("REVEILLE_CRASH", "BeforeLunch");
    let mut process = program.quiet().start()?;
    let status = process.wait_exit(LIMIT).await?;
    let log = process.log();
    ensure!(status.code() == Some(2) && log.contains("no crash point \"BeforeLunch\""), "{status}: {log}");
    Ok(())
}

#[test]
fn every_point_is_passed_somewhere_and_every_commit_of_the_store_has_one() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let mut texts = Vec::new();
    for member in ["shared", "scheduler", "worker", "cli"] {
        read_sources(&root.join(member).join("src"), &mut texts)?;
    }
    texts.retain(|(path, _)| !path.ends_with("shared/src/crash.rs"));
    let is_named = |name: &str| {
        let mut after = texts.iter().flat_map(|(_, text)| text.split(name).skip(1));
        // A longer name is another one.
        after.any(|after| !after.starts_with(char::is_alphanumeric))
    };
    for commit in Commit::ALL {
        ensure!(is_named(&format!("Commit::{commit:?}")), "no transaction is {commit:?}");
    }
    for act in Act::ALL {
        ensure!(is_named(&format!("crash::at(Act::{act:?}")), "nothing passes {act:?}");
    }
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with(root.join("shared/src/store"))) {
        // Where the databases commit; whoever calls that has to say what it makes durable.
        let mut lines = text.lines().filter(|line| line.contains(".commit()") && !line.contains("self.tx.commit()"));
        let bare = lines.find(|line| !line.contains("crash::around("));
        ensure!(bare.is_none(), "{} has a commit without crash points: {bare:?}", path.display());
    }
    Ok(())
}

fn read_sources(folder: &Path, texts: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            texts.push((path, text));
        }
    }
    Ok(())
}
