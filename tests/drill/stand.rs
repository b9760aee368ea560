//! What is drilled: three schedulers and two workers as real processes, each scheduler with a network and a clock
//! of its own, on a private PostgreSQL and RabbitMQ.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::ports::Port;
use harness::process::{Process, Program, tail};
use harness::proxy::Proxy;
use harness::services::{Broker, Database, address_of, through};
use harness::stack::Service;
use harness::wait::eventually;
use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::ledger::YAML;
use crate::rounds::SCHEDULERS;
use crate::witness;

const WORKERS: usize = 2;
/// How long a process that is well may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long all may take to be well again.
const HEALING: Duration = Duration::from_secs(60);

/// A scheduler and what surrounds it.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) name: String,
    pub(crate) service: Service,
    pub(crate) database: Proxy,
    pub(crate) broker: Proxy,
    clock: PathBuf,
}

impl Scheduler {
    /// Puts its clock so many milliseconds ahead of the machine's.
    pub(crate) fn set_clock(&self, ahead_ms: i64) -> Result<()> {
        let next = self.clock.with_extension("next");
        std::fs::write(&next, ahead_ms.to_string())?;
        std::fs::rename(&next, &self.clock).context("setting a clock")
    }

    /// What it says of its parts; whether it is ready.
    pub(crate) async fn readiness(&self) -> Result<(bool, Value), String> {
        let ask = async {
            let answer = self.service.api.request(Method::GET, "/readyz").send().await?;
            let ready = answer.status().is_success();
            Ok::<_, reqwest::Error>((ready, answer.json().await?))
        };
        match timeout(ANSWER, ask).await {
            Ok(answer) => answer.map_err(|error| format!("{} does not answer: {error}", self.name)),
            Err(_) => Err(format!("{} does not answer within {ANSWER:?}", self.name)),
        }
    }
}

/// One part's word.
pub(crate) fn part<'a>(readiness: &'a Value, name: &str) -> Option<(bool, &'a str)> {
    let part = readiness["parts"].as_array()?.iter().find(|part| part["name"] == name)?;
    Some((part["ready"].as_bool()?, part["detail"].as_str()?))
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) index: usize,
    pub(crate) generation: i64,
}

/// All of it. Dropped, it ends: first what needs the others.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) schedulers: Vec<Scheduler>,
    workers: Vec<Process>,
    /// Straight to the database, past all proxies.
    pub(crate) watch: PgConnection,
    _services: (Database, Broker),
}

impl Stand {
    /// Starts everything, with logs and clocks in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
        harness::key::give(database.url()).await?;
        let schedules = folder.join("schedules");
        std::fs::create_dir(&schedules)?;
        std::fs::write(schedules.join("drill.yaml"), YAML)?;
        // Brings the schema, so that the witness is there before the first write.
        let clock = std::sync::Arc::new(reveille_shared::clock::SystemClock);
        drop(reveille_shared::store::Store::connect(database.url(), "drill", clock).await?);
        let mut watch = PgConnection::connect(database.url()).await?;
        witness::set_up(&mut watch).await?;

        let mut schedulers = Vec::new();
        for number in 0..SCHEDULERS {
            let name = format!("scheduler-{number}");
            let (database_proxy, broker_proxy) =
                tokio::try_join!(Proxy::start(address_of(database.url())?), Proxy::start(address_of(broker.url())?))?;
            let (port, clock) = (Port::claim()?, folder.join(format!("{name}.clock")));
            let program = Program::of_workspace("drill-stepped-scheduler", &name, folder)?
                .arg("--name")
                .arg(&name)
                .arg("--clock")
                .arg(&clock)
                .env("REVEILLE_DATABASE_URL", through(database.url(), database_proxy.address())?)
                .env("REVEILLE_BROKER_URL", through(broker.url(), broker_proxy.address())?)
                .env("REVEILLE_LISTEN", port.address().to_string())
                .env("REVEILLE_SCHEDULES", schedules.to_string_lossy())
                .quiet();
            let service = Service::start(program, port)?;
            schedulers.push(Scheduler { name, service, database: database_proxy, broker: broker_proxy, clock });
        }
        let workers = (0..WORKERS).map(|number| {
            Program::of_workspace("bench-noop-worker", &format!("worker-{number}"), folder)?
                .env("REVEILLE_DATABASE_URL", database.url())
                .env("REVEILLE_BROKER_URL", broker.url())
                .quiet()
                .start()
        });
        let workers = workers.collect::<Result<_>>()?;
        Ok(Self { schedulers, workers, watch, _services: (database, broker) })
    }

    /// Waits until every scheduler is ready, one of them leads, and nothing that is due waits for its decision.
    ///
    /// # Errors
    /// It takes longer than a minute, or a process has ended that nobody has killed.
    pub(crate) async fn healthy(&mut self) -> Result<Leader> {
        let Self { schedulers, workers, watch, .. } = self;
        eventually("all to be well", HEALING, async || {
            if let Err(error) = all_live(schedulers, workers) {
                return Ok(Err(error));
            }
            let leader = who_leads(schedulers, watch).await?;
            let late: Vec<(String, f64)> = sqlx::query_as(
                "SELECT name, extract(epoch FROM clock_timestamp() - next_due_at)::float8 FROM schedules
                 WHERE next_due_at < clock_timestamp() - interval '1 second'",
            )
            .fetch_all(&mut *watch)
            .await
            .map_err(|error| error.to_string())?;
            if late.is_empty() {
                Ok(Ok(leader))
            } else {
                Err(format!("undecided, with their age in seconds: {late:?}"))
            }
        })
        .await
        .flatten()
    }

    /// The database's time, as Unix milliseconds.
    pub(crate) async fn now_ms(&mut self) -> Result<i64> {
        let now = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint");
        Ok(now.fetch_one(&mut self.watch).await?)
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let schedulers = self.schedulers.iter().map(|scheduler| (scheduler.name.as_str(), scheduler.service.log()));
        let workers = self.workers.iter().map(|worker| ("worker", worker.log()));
        schedulers.chain(workers).map(|(name, log)| format!("--- {name}:\n{}\n", tail(&log, 8_000))).collect()
    }
}

fn all_live(schedulers: &mut [Scheduler], workers: &mut [Process]) -> Result<()> {
    for scheduler in schedulers {
        if let Some(status) = scheduler.service.exit_status()? {
            bail!("{} ended by itself with {status}", scheduler.name);
        }
    }
    for worker in workers {
        ensure!(worker.exit_status()?.is_none(), "a worker ended by itself");
    }
    Ok(())
}

/// The one that says so, if the database agrees.
async fn who_leads(schedulers: &[Scheduler], watch: &mut PgConnection) -> Result<Leader, String> {
    let mut leaders = Vec::new();
    for (index, scheduler) in schedulers.iter().enumerate() {
        let (ready, parts) = scheduler.readiness().await?;
        if !ready {
            return Err(format!("{} is not ready: {parts}", scheduler.name));
        }
        let said = part(&parts, "leader").and_then(|(_, detail)| detail.strip_prefix("leading as generation "));
        leaders.extend(said.and_then(|said| said.parse().ok()).map(|generation| Leader { index, generation }));
    }
    let generation: i64 = sqlx::query_scalar("SELECT generation FROM leader")
        .fetch_one(watch)
        .await
        .map_err(|error| error.to_string())?;
    match leaders[..] {
        [leader] if leader.generation == generation => Ok(leader),
        _ => Err(format!("leading are {leaders:?}, and the database says generation {generation}")),
    }
}
