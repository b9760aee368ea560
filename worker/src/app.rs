//! Wiring: settings → a worker that runs until it is told to stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use reveille_shared::broker::{self, Broker};
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::config::{self, Common};
use reveille_shared::crash::{self, Act};
use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::lifecycle::{Lifecycle, TaskResult};
use reveille_shared::listen::{self, Listener, Reload, TlsFiles};
use reveille_shared::periodic::{self, Pass, Vitals};
use reveille_shared::store::{KeyRing, KeyUses, NewWorker, Store};
use reveille_shared::telemetry::{self, chain};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::claim;
use crate::consume::{Consumer, Lane};
use crate::execute::Executor;
use crate::guard::Guard;
use crate::handlers::command::Guards;
use crate::handlers::env::Variables;
use crate::handlers::{Functions, Handlers};
use crate::heartbeat::{Heart, Incarnation, LastBeat, Suspects};
use crate::isolation::Isolation;
use crate::lease::{self, Ttl};
use crate::policy::Policy;
use crate::report::{self, Reporter};
use crate::runs::{Runs, Why};
use crate::status::{self, Door, Endpoint, Readiness};

/// What a worker is told beside where the database and the broker are.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The work queues to take runs from, separated by commas
    #[arg(long, env = "REVEILLE_QUEUES", value_delimiter = ',', default_value = "default", value_name = "NAMES")]
    pub queues: Vec<String>,

    /// How many runs to execute at once
    #[arg(long, env = "REVEILLE_SLOTS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000), value_name = "COUNT")]
    pub slots: u16,

    /// What people call this worker [default: host name and process id]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// How long this worker's runs are its own when it gives no sign of life: 3s to 10m
    #[arg(long, env = "REVEILLE_LEASE_TTL", default_value = "15s", value_parser = lease::parse, value_name = "DURATION")]
    pub lease_ttl: HumanDuration,

    /// A YAML file that says what jobs may run here [default: everything is allowed]
    #[arg(long, env = "REVEILLE_POLICY", value_parser = |file: &str| Policy::read(file), value_name = "FILE")]
    pub policy: Option<Policy>,
}

/// Runs jobs that a Reveille scheduler triggers.
#[derive(Debug, Parser)]
#[command(name = "reveille-worker", version)]
struct Arguments {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    settings: Settings,

    /// How long runs may go on after SIGTERM or Ctrl-C; what has not ended by then is broken off
    #[arg(long, env = "REVEILLE_GRACE", default_value = "30s", value_name = "DURATION")]
    grace: HumanDuration,

    /// Serve /metrics to whoever has a key, /livez and /readyz on this address [default: do not]
    #[arg(long, env = "REVEILLE_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    tls: TlsFiles,
}

/// A worker that runs.
#[derive(Clone)]
pub struct Running {
    /// The worker's name.
    pub name: String,
    /// What its readiness depends on.
    pub readiness: Readiness,
}

/// The whole life of a worker process with these functions: reads flags, environment and
/// configuration file, runs until a signal, drains. To be called before anything else: a process that was
/// started to be a [`Guard`] is one and does not return.
pub async fn main(functions: Functions) -> ExitCode {
    let guard = Guard::answer();
    let arguments: Arguments = config::parse();
    if let Err(error) = telemetry::init(&arguments.common.log, arguments.common.log_format) {
        return failed(&anyhow::anyhow!(error).context("can't set up logging"));
    }
    arguments.settings.policy.clone().unwrap_or_default().warn();
    let grace = arguments.grace.get();
    let mut lifecycle = Lifecycle::default();
    match connect(arguments, functions, guard, &mut lifecycle).await {
        Ok(()) => lifecycle.run(grace).await,
        Err(error) => failed(&error),
    }
}

#[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("reveille-worker: {}", chain(error.as_ref()));
    ExitCode::FAILURE
}

async fn connect(
    arguments: Arguments,
    functions: Functions,
    guard: Guard,
    lifecycle: &mut Lifecycle,
) -> anyhow::Result<()> {
    let Arguments { common, settings, listen, tls, .. } = arguments;
    let alone = [("sqlite", &common.database_url), ("embedded", &common.broker_url)];
    if let Some((what, _)) = alone.iter().find(|(prefix, url)| url.starts_with(prefix)) {
        bail!("{what} serves one process only, which no worker can join: use `reveille dev`");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Bound first, so that a taken port leaves nothing behind.
    let endpoint = match listen {
        Some(address) => {
            let bound = Listener::bind(address, &tls, Arc::clone(&clock)).await?;
            Some((bound, recorder()?))
        }
        None => None,
    };
    let store = Store::connect(&common.database_url, "reveille-worker", Arc::clone(&clock)).await?;
    let broker = broker::connect(&common.broker_url, "reveille-worker", lifecycle.hard.clone())?;
    let running = start(settings, functions, guard, store.clone(), broker, Arc::clone(&clock), lifecycle).await?;
    if let Some((bound, metrics)) = endpoint {
        serve_status(bound, metrics, running.readiness, store, clock, lifecycle);
    }
    Ok(())
}

/// Answers those who ask how this worker is.
fn serve_status(
    (listener, reload): (Listener, Option<Reload>),
    metrics: PrometheusHandle,
    readiness: Readiness,
    store: Store,
    clock: Arc<dyn Clock>,
    lifecycle: &mut Lifecycle,
) {
    let (stop, certificate, ring) = (lifecycle.soft.clone(), Vitals::default(), Arc::<KeyRing>::default());
    if let Some(reload) = reload {
        spawn(lifecycle, reload, listen::PERIOD, certificate.clone(), &clock);
    }
    spawn(lifecycle, KeyUses::new(Arc::clone(&ring), store.clone()), KeyUses::PERIOD, Vitals::default(), &clock);
    lifecycle.spawn("metrics upkeep", run_upkeep(metrics.clone(), stop.clone()));
    let door = Arc::new(Door { ring, store, clock, turn: Mutex::default() });
    let router = status::router(Endpoint { metrics, readiness, certificate, door });
    lifecycle.spawn("status endpoint", async move {
        listener.serve(router, stop.cancelled_owned()).await;
        Ok(())
    });
}

fn spawn<P: Pass>(lifecycle: &mut Lifecycle, pass: P, period: Duration, vitals: Vitals, clock: &Arc<dyn Clock>) {
    let pass = periodic::run(pass, period, Arc::default(), vitals, Arc::clone(clock), lifecycle.soft.clone());
    lifecycle.spawn(P::NAME, async move {
        pass.await;
        Ok(())
    });
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    const SECONDS: [f64; 14] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
    const COUNTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_batch_size".into()), &COUNTS))
        .and_then(PrometheusBuilder::install_recorder)
        .context("can't set up metrics")
}

async fn run_upkeep(metrics: PrometheusHandle, stop: CancellationToken) -> TaskResult {
    let pass = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            metrics.run_upkeep();
        }
    };
    stop.run_until_cancelled(pass).await;
    Ok(())
}

/// Starts a worker within a process. It consumes until the soft token, lets its runs end until the hard one,
/// reports everything and says goodbye. Commands run under `guard`.
///
/// # Errors
/// The store or the broker refuses it from the start.
pub async fn start(
    settings: Settings,
    functions: Functions,
    guard: Guard,
    store: Store,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    lifecycle: &mut Lifecycle,
) -> anyhow::Result<Running> {
    let Settings { queues, slots, name, lease_ttl, policy } = settings;
    let policy = policy.unwrap_or_default();
    let name = name.unwrap_or_else(default_name);
    let worker = NewWorker {
        incarnation: Uuid::new_v4(),
        name: name.clone(),
        queues: queues.clone(),
        slots: slots.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        lease_ttl: lease_ttl.get(),
    };
    let ttl = Ttl::new(lease_ttl.get());
    let last_beat = LastBeat::new(ttl);
    let guards = Guards { guard, lease: last_beat.allowed(), policy: policy.clone() };
    let handlers = Handlers::new(functions, Variables::of_process(policy.clone()), guards)
        .context("can't set up the HTTP client")?;
    let mut subscriptions = Vec::new();
    for priority in Priority::ALL {
        subscriptions.push(broker.subscribe(&queues, priority).await?);
    }
    store.register_worker(&worker).await.context("can't register this worker")?;
    tracing::info!(name, ?queues, slots, policy = policy.summary(), "worker started");

    let runs = Arc::new(Runs::default());
    let incarnation = Arc::new(Incarnation::new(worker.incarnation));
    let (reporter, notes) = Reporter::new(clock, policy.limits().output.as_ref().map(|rule| rule.value));
    let tracker = TaskTracker::new();
    let executor = Arc::new(Executor {
        store: store.clone(),
        handlers,
        reporter: reporter.clone(),
        tracker: tracker.clone(),
        lease: last_beat.allowed(),
        jobs: std::sync::Mutex::default(),
    });
    let heart = Heart {
        store: store.clone(),
        worker,
        incarnation: Arc::clone(&incarnation),
        runs: Arc::clone(&runs),
        reporter,
        ttl,
        last: last_beat.clone(),
        suspects: Suspects::default(),
    };
    let isolation = Isolation { pulses: broker.pulses().await, runs: Arc::clone(&runs), last: last_beat.clone(), ttl };
    let now = Instant::now();
    let lanes = subscriptions.into_iter().map(|subscription| Lane::new(subscription, slots, now)).collect::<Vec<_>>();
    let lanes = lanes.try_into().unwrap_or_else(|_| unreachable!("there is one for each priority"));
    let consumer = Consumer {
        lanes,
        is_cut_off: last_beat.is_cut_off(),
        store: store.clone(),
        incarnation: Arc::clone(&incarnation),
        runs: Arc::clone(&runs),
        executor,
        slots: Arc::new(Semaphore::new(slots.into())),
        parcels: HashMap::new(),
        next_parcel: 0,
        most_waiting: usize::from(slots).max(claim::BATCH),
        free_since: None,
        ready: Vec::new(),
        ready_since: now,
        claims: JoinSet::new(),
    };
    let reports = report::run(notes, store.clone(), Arc::clone(&runs));
    let parts = Parts { consumer, heart, isolation, tracker, runs, incarnation, store };
    let (soft, hard) = (lifecycle.soft.clone(), lifecycle.hard.clone());
    lifecycle.spawn("worker", parts.live(reports, soft, hard));
    Ok(Running { name, readiness: Readiness { last_beat, broker } })
}

fn default_name() -> String {
    let host = rustix::system::uname();
    format!("{}-{}", host.nodename().to_string_lossy(), std::process::id())
}

/// A worker's parts, in the order in which they end.
struct Parts {
    consumer: Consumer,
    heart: Heart,
    isolation: Isolation,
    tracker: TaskTracker,
    runs: Arc<Runs>,
    incarnation: Arc<Incarnation>,
    store: Store,
}

impl Parts {
    async fn live(
        self,
        reports: impl Future<Output = ()> + Send + 'static,
        soft: CancellationToken,
        hard: CancellationToken,
    ) -> TaskResult {
        let Self { consumer, heart, isolation, tracker, runs, incarnation, store } = self;
        let quiet = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(reports);
        tasks.spawn(heart.run(quiet.clone()));
        tasks.spawn(isolation.run(quiet.clone()));

        // Neither of them ends by itself: if one does, it has panicked.
        let consumed = tokio::select! {
            consumed = consumer.run(soft) => consumed,
            Some(ended) = tasks.join_next() => return ended.map_err(Into::into),
        };
        tracker.close();
        tokio::select! {
            () = tracker.wait() => {}
            () = hard.cancelled() => {
                runs.stop_all(Why::Drained);
                tracker.wait().await;
            }
            Some(ended) = tasks.join_next() => return ended.map_err(Into::into),
        }
        // The reporter ends when all that hold on to it have ended: consumer and runs have, the beat does now.
        quiet.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        crash::at(Act::Drained);
        if let Ok(Err(error)) = timeout(Duration::from_secs(1), store.retire_worker(incarnation.get())).await {
            tracing::warn!(error = chain(&error), "can't say goodbye; the scheduler will notice");
        }
        Ok(consumed?)
    }
}
