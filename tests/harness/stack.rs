//! A whole Reveille: real binaries on real services, all of them the test's own.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! # use serde_json::json;
//! # use harness::stack::Stack;
//! let yaml = "version: 1\njobs:\n  nap: { command: [sleep, '5'] }\n";
//! let mut stack = Stack::postgres_rabbit().schedules(yaml).workers(2).slots(9).start().await?;
//! let id = stack.api.trigger("nap", json!({})).await?;
//! stack.api.wait_status(&id, "IN_PROGRESS").await?;
//! stack.workers[0].kill9()?;
//! stack.api.wait_status(&id, "SUCCEEDED").await?;
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::client::Client;
use crate::key;
use crate::ports::Port;
use crate::process::{Process, Program, tail};
use crate::proxy::Proxy;
use crate::services::{Broker, Database, address_of, through};

/// How long a service may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running Reveille. Dropped, all of it ends; the parts that need others end first.
#[derive(Debug)]
pub struct Stack {
    /// A caller of the first scheduler, or of the one embedded process.
    pub api: Client,
    /// The workers; none if embedded.
    pub workers: Vec<Service>,
    /// The schedulers; the one process if embedded.
    pub schedulers: Vec<Service>,
    /// The network between the processes and the database, if [`Builder::proxied`].
    pub database_proxy: Option<Proxy>,
    /// The network between the processes and the broker, if [`Builder::proxied`].
    pub broker_proxy: Option<Proxy>,
    /// Each worker's own network, if [`Builder::proxied_workers`].
    pub worker_networks: Vec<Network>,
    /// The broker; none if embedded.
    pub broker: Option<Broker>,
    /// The database; none if embedded.
    pub database: Option<Database>,
    folder: TempDir,
}

/// The way of one process to the services.
#[derive(Debug)]
pub struct Network {
    /// To the database.
    pub database: Proxy,
    /// To the broker.
    pub broker: Proxy,
}

impl Stack {
    /// Schedulers and workers as processes of their own, on PostgreSQL and RabbitMQ.
    #[must_use]
    pub fn postgres_rabbit() -> Builder {
        Builder::new(false)
    }

    /// Everything in one process, on SQLite.
    #[must_use]
    pub fn embedded() -> Builder {
        Builder::new(true)
    }

    /// The folder of schedule files that the schedulers watch.
    #[must_use]
    pub fn schedules_folder(&self) -> PathBuf {
        self.folder.path().join("schedules")
    }

    /// The folder of all other files: logs, and the embedded `data`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What a stack consists of.
#[derive(Debug, Clone)]
pub struct Builder {
    embedded: bool,
    schedulers: usize,
    workers: usize,
    slots: Option<u32>,
    queues: Option<String>,
    schedules: String,
    env: Vec<(String, String)>,
    private_services: bool,
    proxied: bool,
    proxied_workers: bool,
    broker_cut: bool,
    broker_patience: Option<Duration>,
    wait_until_ready: bool,
}

impl Builder {
    fn new(embedded: bool) -> Self {
        Self {
            embedded,
            schedulers: 1,
            workers: 1,
            slots: None,
            queues: None,
            schedules: "version: 1\n".to_owned(),
            env: Vec::new(),
            private_services: false,
            proxied: false,
            proxied_workers: false,
            broker_cut: false,
            broker_patience: None,
            wait_until_ready: true,
        }
    }

    /// The text of the schedule file.
    #[must_use]
    pub fn schedules(mut self, yaml: impl Into<String>) -> Self {
        self.schedules = yaml.into();
        self
    }

    /// How many schedulers; one by default.
    #[must_use]
    pub fn schedulers(mut self, count: usize) -> Self {
        self.schedulers = count;
        self
    }

    /// How many workers; one by default.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// How many runs each worker takes at once.
    #[must_use]
    pub fn slots(mut self, count: u32) -> Self {
        self.slots = Some(count);
        self
    }

    /// The queues that every worker serves, as `REVEILLE_QUEUES` wants them.
    #[must_use]
    pub fn queues(mut self, queues: impl Into<String>) -> Self {
        self.queues = Some(queues.into());
        self
    }

    /// A further environment variable of every process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// A database server and a RabbitMQ of the test's own, which it may kill.
    #[must_use]
    pub fn private_services(mut self) -> Self {
        self.private_services = true;
        self
    }

    /// Leads the connections to database and broker through proxies, which the test may cut.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Leads each worker's connections through proxies of its own, which the test may cut.
    #[must_use]
    pub fn proxied_workers(mut self) -> Self {
        self.proxied_workers = true;
        self
    }

    /// As [`Builder::proxied`], with the broker out of reach from the start.
    #[must_use]
    pub fn without_broker(mut self) -> Self {
        self.broker_cut = true;
        self.proxied()
    }

    /// A RabbitMQ of the test's own that soon closes the channel of whoever holds a delivery back, see
    /// [`RabbitMq::start_impatient`](crate::rabbitmq::RabbitMq::start_impatient).
    #[must_use]
    pub fn impatient_broker(mut self, limit: Duration) -> Self {
        self.broker_patience = Some(limit);
        self
    }

    /// Doesn't wait for the processes to be ready, for tests that start them in trouble.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait_until_ready = false;
        self
    }

    /// Starts all of it, and waits until every process says that it is ready.
    ///
    /// # Errors
    /// A part doesn't start; the text holds the end of its log.
    pub async fn start(self) -> Result<Stack> {
        let folder = TempDir::with_prefix("reveille-stack-").context("making a folder for the stack")?;
        let schedules = folder.path().join("schedules");
        std::fs::create_dir(&schedules)?;
        std::fs::write(schedules.join("test.yaml"), &self.schedules)?;
        let mut stack = if self.embedded {
            self.start_embedded(folder, &schedules)?
        } else {
            self.start_distributed(folder, &schedules).await?
        };
        if self.wait_until_ready {
            for service in stack.schedulers.iter_mut().chain(&mut stack.workers) {
                service.wait_ready().await?;
            }
        }
        Ok(stack)
    }

    fn start_embedded(&self, folder: TempDir, schedules: &Path) -> Result<Stack> {
        let port = Port::claim()?;
        let program = self
            .program("reveille", "reveille-dev", folder.path())?
            .arg("dev")
            .arg("--listen")
            .arg(port.address().to_string())
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--schedules")
            .arg(schedules);
        let process = Service::start(program, port)?;
        Ok(Stack {
            api: process.api.clone(),
            workers: Vec::new(),
            schedulers: vec![process],
            database_proxy: None,
            broker_proxy: None,
            worker_networks: Vec::new(),
            broker: None,
            database: None,
            folder,
        })
    }

    async fn start_distributed(&self, folder: TempDir, schedules: &Path) -> Result<Stack> {
        ensure!(self.schedulers > 0, "a stack needs a scheduler");
        let (database, broker) = match self.broker_patience {
            Some(limit) => tokio::try_join!(Database::fresh(), Broker::impatient(limit))?,
            None if self.private_services => tokio::try_join!(Database::private(), Broker::private())?,
            None => tokio::try_join!(Database::fresh(), Broker::fresh())?,
        };
        key::give(database.url()).await?;
        let (mut database_url, mut broker_url) = (database.url().to_owned(), broker.url().to_owned());
        let (mut database_proxy, mut broker_proxy) = (None, None);
        if self.proxied {
            let proxy = database_proxy.insert(Proxy::start(address_of(&database_url)?).await?);
            database_url = through(&database_url, proxy.address())?;
            let proxy = broker_proxy.insert(Proxy::start(address_of(&broker_url)?).await?);
            if self.broker_cut {
                proxy.cut().await;
            }
            broker_url = through(&broker_url, proxy.address())?;
        }
        let service = |binary: &str, number: usize, database_url: &str, broker_url: &str| {
            let port = Port::claim()?;
            let program = self
                .program(binary, &format!("{binary}-{number}"), folder.path())?
                .env("REVEILLE_DATABASE_URL", database_url)
                .env("REVEILLE_BROKER_URL", broker_url)
                .env("REVEILLE_LISTEN", port.address().to_string());
            anyhow::Ok((program, port))
        };
        let mut schedulers = Vec::new();
        for number in 0..self.schedulers {
            let (program, port) = service("reveille-scheduler", number, &database_url, &broker_url)?;
            let program = program.env("REVEILLE_SCHEDULES", schedules.to_string_lossy());
            schedulers.push(Service::start(program, port)?);
        }
        let (mut workers, mut worker_networks) = (Vec::new(), Vec::new());
        for number in 0..self.workers {
            let (mut database_url, mut broker_url) = (database_url.clone(), broker_url.clone());
            if self.proxied_workers {
                let database = Proxy::start(address_of(&database_url)?).await?;
                let broker = Proxy::start(address_of(&broker_url)?).await?;
                database_url = through(&database_url, database.address())?;
                broker_url = through(&broker_url, broker.address())?;
                worker_networks.push(Network { database, broker });
            }
            let (program, port) = service("reveille-worker", number, &database_url, &broker_url)?;
            workers.push(Service::start(program, port)?);
        }
        Ok(Stack {
            api: schedulers[0].api.clone(),
            workers,
            schedulers,
            database_proxy,
            broker_proxy,
            worker_networks,
            broker: Some(broker),
            database: Some(database),
            folder,
        })
    }

    fn program(&self, binary: &str, name: &str, folder: &Path) -> Result<Program> {
        let mut program = Program::of_workspace(binary, name, folder)?;
        if let Some(slots) = self.slots {
            program = program.env("REVEILLE_SLOTS", slots.to_string());
        }
        if let Some(queues) = &self.queues {
            program = program.env("REVEILLE_QUEUES", queues);
        }
        Ok(self.env.iter().fold(program, |program, (name, value)| program.env(name, value)))
    }
}

/// One of Reveille's processes: it can be killed and started again, on the same port.
#[derive(Debug)]
pub struct Service {
    /// A caller of this process.
    pub api: Client,
    process: Process,
    program: Program,
    port: Port,
}

impl Service {
    /// Starts a program that listens on this port.
    ///
    /// # Errors
    /// The program can't be executed.
    pub fn start(program: Program, port: Port) -> Result<Self> {
        Ok(Self { api: Client::new(port.address())?, process: program.start()?, program, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its log so far, over all restarts.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// The process id; another one after each restart.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// How the process ended, or nothing while it runs.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends, or isn't ready within a minute; the text holds the end of its log.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let ready: Result<()> = tokio::select! {
            ready = self.api.wait_ready(READY_LIMIT) => ready,
            ended = self.process.wait_exit(READY_LIMIT * 2) => ended.and_then(|status| anyhow::bail!("ended with {status}")),
        };
        ready.with_context(|| {
            format!("{}; its log ends with:\n{}", self.program.name(), tail(&self.program.log(), 4000))
        })
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Ends the process and its group with SIGKILL.
    ///
    /// # Errors
    /// It can't be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait_exit(limit).await
    }

    /// Starts it again, after killing it if it runs.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.restart_as(&self.program)
    }

    /// The same, with one more environment variable until it is started again.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_again_with(&mut self, name: &str, value: &str) -> Result<()> {
        self.process.restart_as(&self.program.clone().env(name, value))
    }

    /// Starts another program in its place, after killing it if it runs.
    ///
    /// # Errors
    /// The program can't be executed.
    pub fn start_instead(&mut self, program: Program) -> Result<()> {
        self.process.kill9()?;
        self.process = program.start()?;
        self.program = program;
        Ok(())
    }

    /// Starts it again, after killing it if it runs, and waits until it is ready.
    ///
    /// # Errors
    /// It doesn't start, or isn't ready within a minute.
    pub async fn restart(&mut self) -> Result<()> {
        self.start_again()?;
        self.wait_ready().await
    }
}
