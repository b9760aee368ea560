//! `reveille dev`: scheduler, worker, API and dashboard in one process, on SQLite and the in-process queue.

mod banner;
mod queues;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::api::RateLimits;
use reveille_scheduler::app::{Role, Settings};
use reveille_scheduler::webhooks::{Allowed, WebhookSettings};
use reveille_shared::broker;
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::definition::{self, Definitions, ExternalJob, Job};
use reveille_shared::duration::HumanDuration;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::listen::TlsFiles;
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::{self, LogFormat, chain};
use reveille_worker::{Guard, Policy};

use self::queues::Workers;
use crate::commands::check;
use crate::failure::{Exit, Failure, say};
use crate::output::Output;

/// Where schedule files are looked for when none are named.
const SCHEDULES: &str = "deploy/schedules";
/// What encrypts webhooks' secrets, in the data folder.
const SECRET_KEY: &str = "secret.key";
/// The most jobs that a warning at start names one by one.
const MOST_WARNINGS: usize = 20;
/// How long runs may go on after the first Ctrl-C; what has not ended by then is broken off, and goes on when
/// Reveille does, as its job says of what is lost.
const GRACE: Duration = Duration::from_secs(10);
/// The database, in the data folder.
const DATABASE: &str = "reveille.db";
/// How long the database may take to be closed.
const CLOSING: Duration = Duration::from_secs(2);
/// Scheduler and worker live and die together, so that this only matters to a process that stood still.
const LEASE_TTL: HumanDuration = HumanDuration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the API and the dashboard are served: a loopback address, as callers need no key; port 0 takes a free one
    #[arg(long, env = "REVEILLE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// The folder that keeps all state; made when it is missing
    #[arg(long, default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,

    /// The file or folder of jobs and schedules, read again when it changes [default: deploy/schedules]
    #[arg(long, env = "REVEILLE_SCHEDULES", value_name = "PATH")]
    schedules: Option<PathBuf>,

    /// How many runs to execute at once
    #[arg(long, env = "REVEILLE_SLOTS", default_value_t = 16, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    slots: u16,

    /// A YAML file that says what jobs may run here [default: everything is allowed]
    #[arg(long, env = "REVEILLE_POLICY", value_parser = |file: &str| Policy::read(file), value_name = "FILE")]
    policy: Option<Policy>,

    /// Private targets that webhooks may have beside this machine, separated by commas: host names, addresses or networks
    #[arg(long, env = "REVEILLE_WEBHOOK_ALLOW", default_value = "", hide_default_value = true, value_name = "TARGETS")]
    webhook_allow: Allowed,

    /// How long a delivery is tried, and how long a webhook may take nothing until it is disabled
    #[arg(long, env = "REVEILLE_WEBHOOK_PATIENCE", default_value = "3d", value_name = "DURATION")]
    webhook_patience: HumanDuration,

    /// What to log: error, warn, info, debug, trace, or a filter such as reveille_worker=debug,warn
    #[arg(long, env = "REVEILLE_LOG", value_name = "FILTER", hide_default_value = true)]
    #[arg(default_value = "warn,reveille=info,reveille_shared=info,reveille_scheduler=info,reveille_worker=info")]
    log: String,

    /// How logs look: text for people, json for machines, auto by whether standard error is a terminal
    #[arg(long, env = "REVEILLE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Runs until Ctrl-C, then drains.
pub(crate) async fn run(arguments: Arguments, guard: Guard, output: &mut Output) -> Result<Exit, Failure> {
    let schedules = schedules(arguments.schedules.clone())?;
    let definitions = match definition::read_path(&schedules) {
        Ok(definitions) => Some(definitions),
        Err(faults) => {
            check::faulty(&faults, output)?;
            // Where there is no database nothing can be in force, and none has to be made to find that out.
            if !arguments.data_dir.join(DATABASE).exists() {
                say("reveille: not started");
                return Ok(Exit::Faults);
            }
            None
        }
    };
    telemetry::init(&arguments.log, arguments.log_format)
        .map_err(|error| Failure::Usage(format!("--log: {}", chain(&*error))))?;
    if rustix::process::geteuid().is_root() || arguments.policy.is_some() {
        arguments.policy.clone().unwrap_or_default().warn();
    }
    let store = open(&arguments.data_dir, Arc::new(SystemClock)).await?;
    if definitions.is_none() {
        if store.in_force().await.map_err(|error| other(chain(&error)))?.is_none() {
            close(&store).await;
            say("reveille: not started, as nothing was in force before");
            return Ok(Exit::Faults);
        }
        say("reveille: starting with what was in force before; what the files say is once they are good");
    }
    let mut lifecycle = Lifecycle::default();
    let stranded = definitions.as_ref().map(|definitions| check::stranded(&schedules, definitions)).unwrap_or_default();
    for ExternalJob { namespace, job, place } in stranded.into_iter().take(MOST_WARNINGS) {
        tracing::warn!(
            namespace,
            job,
            place,
            "an external job needs RabbitMQ, which is not part of this: its runs wait"
        );
    }
    let address = start(&arguments, guard, store.clone(), &schedules, definitions.as_ref(), &mut lifecycle).await?;
    let (data, definitions) = (&arguments.data_dir, definitions.as_ref());
    let scene = banner::Scene { address, data, schedules: &schedules, definitions };
    lifecycle.heed_signals().map_err(|error| other(format!("can't listen for signals: {error}")))?;
    // Nobody needs to read it.
    let _ = output.text(&scene.text()).and_then(|()| output.finish());
    let code = lifecycle.run(GRACE).await;
    close(&store).await;
    Ok(Exit::Process(code))
}

async fn close(store: &Store) {
    if tokio::time::timeout(CLOSING, store.close()).await.is_err() {
        tracing::debug!("the database is left open, as it is still in use");
    }
}

fn schedules(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let path = named.unwrap_or_else(|| SCHEDULES.into());
    if path == Path::new(SCHEDULES) && !path.exists() {
        let message = format!("there is no folder {SCHEDULES} here");
        return Err(Failure::with_hint(message, "name your schedule files with --schedules PATH"));
    }
    Ok(path)
}

/// Starts everything, the worker last. Answers where it listens.
async fn start(
    arguments: &Arguments,
    guard: Guard,
    store: Store,
    schedules: &Path,
    definitions: Option<&Definitions>,
    lifecycle: &mut Lifecycle,
) -> Result<SocketAddr, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let broker =
        broker::connect("embedded", "reveille-dev", lifecycle.hard.clone()).map_err(|error| other(chain(&error)))?;
    let settings = Settings {
        transitions: false,
        window: Settings::WINDOW,
        max_queued: Settings::MAX_QUEUED,
        rates: RateLimits::NONE,
        listen: arguments.listen,
        public_url: None,
        tls: TlsFiles::default(),
        schedules: Some(schedules.to_owned()),
        roles: vec![Role::Plan, Role::Dispatch, Role::Api],
        webhooks: WebhookSettings {
            secret_key: None,
            secret_key_file: Some(arguments.data_dir.join(SECRET_KEY)),
            webhook_allow: Allowed::loopback().and(&arguments.webhook_allow),
            webhook_patience: arguments.webhook_patience,
        },
        embedded: true,
    };
    let scheduler =
        reveille_scheduler::app::start(settings, store.clone(), Arc::clone(&broker), Arc::clone(&clock), lifecycle)
            .await
            .map_err(|error| not_started(&error))?;
    let failed = |error: StoreError| other(chain(&error));
    let (external, own): (Vec<&Job>, Vec<&Job>) =
        definitions.iter().flat_map(|definitions| &definitions.jobs).partition(|job| job.handler.is_external());
    let mut queues: BTreeSet<String> = own.iter().map(|job| job.queue.clone()).collect();
    queues.insert("default".to_owned());
    queues.extend(store.queues().await.map_err(failed)?);
    let external: BTreeSet<String> = match definitions {
        Some(_) => external.iter().map(|job| job.queue.clone()).collect(),
        None => store.external_queues().await.map_err(failed)?.into_iter().collect(),
    };
    queues.retain(|queue| !external.contains(queue));
    let workers = Workers { store, broker, clock, slots: arguments.slots, guard, policy: arguments.policy.clone() };
    if !queues.is_empty() {
        workers.start(&queues, None, lifecycle).await.map_err(|error| not_started(&error))?;
    }
    let child = lifecycle.child();
    lifecycle.spawn("new queues", workers.follow(queues, child));
    Ok(scheduler.address.unwrap_or(arguments.listen))
}

async fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Store, Failure> {
    let Some(text) = folder.to_str() else {
        return Err(Failure::Usage(format!("--data-dir {} is not UTF-8", folder.display())));
    };
    Store::connect(&format!("sqlite://{text}"), "reveille-dev", clock).await.map_err(|error| match &error {
        StoreError::Folder { .. } | StoreError::Connect { .. } => {
            Failure::with_hint(chain(&error), "choose a folder that you can write to with --data-dir DIR")
        }
        StoreError::Locked(_) => Failure::with_hint(chain(&error), "choose another folder with --data-dir DIR"),
        _ => other(chain(&error)),
    })
}

fn other(message: String) -> Failure {
    Failure::Other { message, hint: None }
}

fn not_started(error: &anyhow::Error) -> Failure {
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let hint = (kind == Some(io::ErrorKind::AddrInUse))
        .then(|| "end the program that listens there, or choose another port with --listen 127.0.0.1:PORT".to_owned());
    Failure::Other { message: chain(error.as_ref()), hint }
}
