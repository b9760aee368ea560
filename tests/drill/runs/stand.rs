//! What is drilled: schedulers and workers as real processes, each with a network of its own to a private PostgreSQL
//! and a private RabbitMQ.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::client::Client;
use harness::ports::Port;
use harness::process::{Program, tail};
use harness::proxy::Proxy;
use harness::services::{Broker, Database, address_of, through};
use harness::stack::Service;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::faults::{SCHEDULERS, WORKERS, Whom};

/// RabbitMQ 3.10 forgets who leads a quorum queue that was declared less than about five seconds before it is killed.
const SETTLING: Duration = Duration::from_secs(6);

/// A process and what surrounds it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) whom: Whom,
    pub(crate) api: Client,
    /// Held by the fault that hits it.
    pub(crate) service: Arc<Mutex<Service>>,
    pub(crate) program: Program,
    pub(crate) database: Proxy,
    pub(crate) broker: Proxy,
}

/// All of it. Dropped, it ends: first what needs the others.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Schedulers, then workers.
    pub(crate) members: Vec<Member>,
    /// One permit fewer than there are schedulers, so that one is always well.
    pub(crate) schedulers: Arc<Semaphore>,
    /// The same for workers.
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) database: Arc<Mutex<Database>>,
    pub(crate) broker: Arc<Mutex<Broker>>,
    pub(crate) database_url: String,
    schedules: PathBuf,
}

impl Stand {
    /// Starts everything, with logs and definitions in `folder`, and waits until it is well. `environment` is given to
    /// every process.
    pub(crate) async fn start(folder: &Path, definitions: &str, environment: &[(&str, String)]) -> Result<Self> {
        let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
        let (database_url, broker_url) = (database.url().to_owned(), broker.url().to_owned());
        let schedules = folder.join("schedules");
        std::fs::create_dir(&schedules)?;
        std::fs::write(schedules.join("drill.yaml"), definitions)?;
        let mut members = Vec::new();
        for whom in (0..SCHEDULERS).map(Whom::Scheduler).chain((0..WORKERS).map(Whom::Worker)) {
            let (to_database, to_broker) =
                tokio::try_join!(Proxy::start(address_of(&database_url)?), Proxy::start(address_of(&broker_url)?))?;
            let (port, name) = (Port::claim()?, whom.name());
            let program = match whom {
                Whom::Worker(_) => Program::of_workspace("drill-worker", &name, folder)?.arg("--name").arg(&name),
                _ => Program::of_workspace("reveille-scheduler", &name, folder)?,
            };
            let program = program
                .env("REVEILLE_DATABASE_URL", through(&database_url, to_database.address())?)
                .env("REVEILLE_BROKER_URL", through(&broker_url, to_broker.address())?)
                .env("REVEILLE_LISTEN", port.address().to_string())
                .env("REVEILLE_SCHEDULES", schedules.to_string_lossy());
            let environment = environment.iter();
            let program = environment.fold(program, |program, (name, value)| program.env(name, value)).quiet();
            let service = Service::start(program.clone(), port)?;
            let (api, service) = (service.api.clone(), Arc::new(Mutex::new(service)));
            members.push(Member { whom, api, service, program, database: to_database, broker: to_broker });
        }
        for member in &members {
            member.service.lock().await.wait_ready().await?;
        }
        sleep_until(Instant::now() + SETTLING).await;
        Ok(Self {
            members,
            schedulers: Arc::new(Semaphore::new(SCHEDULERS - 1)),
            workers: Arc::new(Semaphore::new(WORKERS - 1)),
            database: Arc::new(Mutex::new(database)),
            broker: Arc::new(Mutex::new(broker)),
            database_url,
            schedules,
        })
    }

    /// Who answers callers.
    pub(crate) fn apis(&self) -> Vec<Client> {
        self.members.iter().take(SCHEDULERS).map(|member| member.api.clone()).collect()
    }

    /// Straight to the database, past all proxies.
    pub(crate) async fn watch(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.database_url).await.context("connecting to the database")
    }

    /// Puts other definitions in force.
    pub(crate) fn define(&self, definitions: &str) -> Result<()> {
        let next = self.schedules.join("next");
        std::fs::write(&next, definitions)?;
        std::fs::rename(&next, self.schedules.join("drill.yaml")).context("changing the definitions")
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let logs = self.members.iter().map(|member| (member.whom.name(), member.program.log()));
        logs.map(|(name, log)| format!("--- {name}:\n{}\n", tail(&log, 6_000))).collect()
    }
}
