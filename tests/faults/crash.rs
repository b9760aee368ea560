//! The crash sweep: at each crash point there is, a process dies and is started again, and nothing is lost or doubled.

mod ledger;
mod outside;
mod prepare;
mod provoke;
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
use reveille_shared::crash::{Act, Commit, Point};
use rustix::process::Signal;
use tempfile::TempDir;

use self::scenes::{Dies, Load, Scene, scene};
use self::world::{LIMIT, World};

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
    prepare::prepare(world, &mut target, before).await?;
    world.let_go()?;
    let before_it = target.log().len();
    let mut stops = 0;
    let status = loop {
        target.start_again_with("REVEILLE_CRASH", &format!("{point}:{count}"))?;
        let pid = target.pid();
        let status = tokio::select! {
            status = target.wait_exit(LIMIT) => status.context("it was not passed")?,
            failed = provoke::provoke(world, pid, dies, load) => bail!("{failed:?}"),
        };
        // To resign has half a second; one whose database is slower than that, or that has just lost the lead, leaves it out.
        let most_stops =
            if matches!(point, Point::Before(Commit::Resign) | Point::After(Commit::Resign)) { 20 } else { 2 };
        stops += 1;
        if !(status.code().is_some() && matches!(load, Load::Stops) && stops < most_stops) {
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
