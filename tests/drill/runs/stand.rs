//! What is drilled: schedulers and workers as real processes, each with a network of its own to a private PostgreSQL
//! and a private RabbitMQ.

use std::net::{Ipv4Addr, SocketAddr};
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

use crate::definitions::{FOREIGN_QUEUE, Hands};
use crate::faults::{EXTERNALS, SCHEDULERS, WORKERS, Whom};
use crate::host::Host;

/// RabbitMQ 3.10 forgets who leads a quorum queue that was declared less than about five seconds before it is killed.
const SETTLING: Duration = Duration::from_secs(6);
/// Debian's, which has the package that external workers need.
const PYTHON: &str = "/usr/bin/python3";
/// What they run, and the example that it imports.
const EXTERNAL_WORKER: &str = "tests/drill/runs/external_worker.py";
const EXAMPLE: &str = "deploy/examples/python-worker";

/// A process and what surrounds it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) whom: Whom,
    pub(crate) api: Client,
    /// Held by the fault that hits it.
    pub(crate) service: Arc<Mutex<Service>>,
    pub(crate) program: Program,
    /// To the database; that of an external worker to the API.
    pub(crate) database: Proxy,
    pub(crate) broker: Proxy,
}

/// All of it. Dropped, it ends: first what needs the others.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Schedulers, then workers, then external ones.
    pub(crate) members: Vec<Member>,
    /// One permit fewer than there are schedulers, so that one is always well.
    pub(crate) schedulers: Arc<Semaphore>,
    /// The same for workers.
    pub(crate) workers: Arc<Semaphore>,
    /// The same for external ones.
    pub(crate) externals: Arc<Semaphore>,
    /// Held by the fault that hits its network.
    pub(crate) host: Arc<Mutex<Host>>,
    pub(crate) database: Arc<Mutex<Database>>,
    pub(crate) broker: Arc<Mutex<Broker>>,
    pub(crate) database_url: String,
    schedules: PathBuf,
}

impl Stand {
    /// Starts everything, with logs and definitions in `folder`, and waits until it is well. `environment` is given to
    /// every process.
    pub(crate) async fn start(
        folder: &Path,
        hands: &Hands,
        host: Host,
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
        harness::key::give(database.url()).await?;
        let schedules = folder.join("schedules");
        std::fs::create_dir(&schedules)?;
        std::fs::write(schedules.join("drill.yaml"), hands.definitions(true))?;
        let policy = folder.join("policy.yaml");
        std::fs::write(&policy, hands.policy())?;
        let outfit = Outfit {
            folder,
            environment,
            schedules: &schedules,
            policy: &policy,
            database_url: database.url(),
            broker_url: broker.url(),
        };
        let mut members: Vec<Member> = Vec::new();
        for whom in (0..SCHEDULERS).map(Whom::Scheduler).chain((0..WORKERS).map(Whom::Worker)) {
            members.push(outfit.member(whom).await?);
        }
        for index in 0..EXTERNALS {
            // Each has a scheduler of its own.
            let api = members[index].service.lock().await.address();
            members.push(outfit.external(index, api).await?);
        }
        for member in members.iter().filter(|member| member.tells_that_it_is_well()) {
            member.service.lock().await.wait_ready().await?;
        }
        sleep_until(Instant::now() + SETTLING).await;
        let database_url = database.url().to_owned();
        Ok(Self {
            members,
            schedulers: Arc::new(Semaphore::new(SCHEDULERS - 1)),
            workers: Arc::new(Semaphore::new(WORKERS - 1)),
            externals: Arc::new(Semaphore::new(EXTERNALS - 1)),
            host: Arc::new(Mutex::new(host)),
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

impl Member {
    /// Whether it can be asked; else it is well if it has not ended.
    pub(crate) fn tells_that_it_is_well(&self) -> bool {
        !matches!(self.whom, Whom::External(_))
    }
}

/// What processes are started with.
struct Outfit<'a> {
    folder: &'a Path,
    environment: &'a [(&'a str, String)],
    schedules: &'a Path,
    policy: &'a Path,
    database_url: &'a str,
    broker_url: &'a str,
}

impl Outfit<'_> {
    async fn member(&self, whom: Whom) -> Result<Member> {
        let database = Proxy::start(address_of(self.database_url)?).await?;
        let broker = Proxy::start(address_of(self.broker_url)?).await?;
        let (port, name) = (Port::claim()?, whom.name());
        let program = match whom {
            Whom::Worker(_) => Program::of_workspace("drill-worker", &name, self.folder)?
                .arg("--name")
                .arg(&name)
                .env("REVEILLE_POLICY", self.policy.to_string_lossy()),
            _ => Program::of_workspace("reveille-scheduler", &name, self.folder)?,
        };
        let program = program
            .env("REVEILLE_DATABASE_URL", through(self.database_url, database.address())?)
            .env("REVEILLE_BROKER_URL", through(self.broker_url, broker.address())?)
            .env("REVEILLE_LISTEN", port.address().to_string())
            .env("REVEILLE_SCHEDULES", self.schedules.to_string_lossy());
        self.started(whom, program, port, database, broker)
    }

    /// The one of the examples, with work of the drill.
    async fn external(&self, index: usize, api: SocketAddr) -> Result<Member> {
        // The API answers to any loopback address, but to its own port alone.
        let own = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), api.port());
        let (api, broker) = tokio::try_join!(Proxy::start_at(own, api), Proxy::start(address_of(self.broker_url)?))?;
        let (whom, port) = (Whom::External(index), Port::claim()?);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
        let program = Program::new(PYTHON, &whom.name(), self.folder)
            .arg(root.join(EXTERNAL_WORKER))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("EXAMPLE", root.join(EXAMPLE).to_string_lossy())
            .env("QUEUE", FOREIGN_QUEUE)
            .env("WORKER_NAME", whom.name())
            .env("SLOTS", "4")
            .env("GRACE", "3")
            .env("REVEILLE_KEY", harness::key::text())
            .env("REVEILLE_URL", format!("http://{}", api.address()))
            .env("REVEILLE_BROKER_URL", through(self.broker_url, broker.address())?);
        self.started(whom, program, port, api, broker)
    }

    fn started(&self, whom: Whom, program: Program, port: Port, database: Proxy, broker: Proxy) -> Result<Member> {
        let environment = self.environment.iter();
        let program = environment.fold(program, |program, (name, value)| program.env(name, value)).quiet();
        let service = Service::start(program.clone(), port)?;
        let (api, service) = (service.api.clone(), Arc::new(Mutex::new(service)));
        Ok(Member { whom, api, service, program, database, broker })
    }
}
