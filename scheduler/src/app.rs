//! Settings, and which parts run together. Wiring only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusHandle;
use reveille_shared::broker::Broker;
use reveille_shared::clock::Clock;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::listen::{self, Listener, Reload, TlsFiles};
use reveille_shared::periodic::{self, Pass, Vitals};
use reveille_shared::store::{Hint, KeyRing, KeyUses, Store};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::announce::{self, Announcer};
use crate::api::access::Access;
use crate::api::polling::Polling;
use crate::api::rate::{Meter, RateLimits};
use crate::api::server_names::{PublicUrl, ServerNames};
use crate::api::{self, ApiState};
use crate::definitions::{self, FolderWatch, Seen};
use crate::dispatch::{self, Dispatcher, Others};
use crate::events_in::EventsIn;
use crate::follow_up::{self, FollowUps};
use crate::handover::{self, Handover, Intake};
use crate::housekeeping::{self, Tick};
use crate::leader::{self, Candidate, Leadership};
use crate::planner::{self, Planner};
use crate::probe::{self, Probe, Skew};
use crate::queued::{self, Queued};
use crate::reconcile::{self, Reconciler};
use crate::status::Status;
use crate::webhooks::matching::{self, Matcher};
use crate::webhooks::sending::{self, Sender};
use crate::webhooks::{WebhookSettings, Webhooks};
use crate::window::Windows;
use crate::{dead_letters, events_in, telemetry};

/// What a scheduler is told beside where the database and the broker are.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Where the API, the dashboard, /metrics, /livez and /readyz are served
    #[arg(long, env = "REVEILLE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// How callers reach the API, if not by its address: absolute URLs in answers begin with it, and its host is one of ours
    #[arg(long, env = "REVEILLE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// Whether and how it speaks TLS
    #[command(flatten)]
    pub tls: TlsFiles,

    /// The file or folder of jobs and schedules; without it, what is in force in the database stays
    #[arg(long, env = "REVEILLE_SCHEDULES", value_name = "PATH")]
    pub schedules: Option<PathBuf>,

    /// What this scheduler does, separated by commas; only api listens
    #[arg(long, env = "REVEILLE_ROLES", value_enum, value_delimiter = ',', default_value = "plan,dispatch,api")]
    pub roles: Vec<Role>,

    /// Whether what happens to runs is told on the broker's exchange `reveille.transitions`; the leader's word counts
    #[arg(long, env = "REVEILLE_TRANSITIONS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub transitions: bool,

    /// What happens to runs, posted to whoever has subscribed
    #[command(flatten)]
    pub webhooks: WebhookSettings,

    /// How many triggers of a queue and priority may wait with the broker at most; 0: any number. Up to that it follows the
    /// pace of the workers, so that a tenant's backlog does not bury another's run
    #[arg(long, env = "REVEILLE_WINDOW", default_value_t = Self::WINDOW, value_name = "COUNT")]
    pub window: u32,

    /// How many runs of one namespace may wait for their start before triggers by the API are refused; 0: any number
    #[arg(long, env = "REVEILLE_MAX_QUEUED", default_value_t = Self::MAX_QUEUED, value_name = "COUNT")]
    pub max_queued: u32,

    /// How many requests callers may make
    #[command(flatten)]
    pub rates: RateLimits,

    /// Everything runs in this one process: what an earlier incarnation has left is taken over at once
    #[arg(skip)]
    pub embedded: bool,
}

impl Settings {
    /// The default of `window`.
    pub const WINDOW: u32 = 20_000;
    /// The default of `max_queued`.
    pub const MAX_QUEUED: u32 = 1_000_000;
}

/// A part of a scheduler's work that may run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Applies definitions, plans and reconciles, while it leads.
    Plan,
    /// Publishes triggers.
    Dispatch,
    /// Answers callers.
    Api,
}

/// A scheduler that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// Where it listens, if it has the role `api`.
    pub address: Option<SocketAddr>,
    /// How its parts are.
    pub status: Arc<Status>,
}

/// Starts a scheduler's tasks in `lifecycle`. When this returns, callers can connect; in a process with a worker, it is
/// to be started before the worker.
///
/// # Errors
/// The address is taken or not a loopback one, a key of webhooks is malformed, or (embedded) the store fails.
pub async fn start(
    settings: Settings,
    store: Store,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    lifecycle: &mut Lifecycle,
) -> anyhow::Result<Running> {
    let has = |role| settings.roles.contains(&role);
    // Bound first, so that a taken port leaves nothing behind.
    let bound = if has(Role::Api) { Some(bind(&settings, Arc::clone(&clock)).await?) } else { None };
    let (listener, reload) = bound.unzip();
    let address = listener.as_ref().map(Listener::local_addr).transpose()?;
    let metrics = telemetry::metrics().context("can't set up metrics")?;
    let webhooks = Webhooks::new(&settings.webhooks, Arc::clone(&clock), settings.embedded)?;
    if settings.embedded {
        reconcile::end_earlier_incarnation(&store).await.context("can't take over what an earlier process left")?;
    }
    let status = Arc::new(Status::new(Arc::clone(&clock), Arc::clone(&broker)));
    let events = Arc::new(EventsIn::new(store.clone()));
    let stop = lifecycle.soft.clone();
    let parts = Parts { store, broker, clock, status: Arc::clone(&status), events, webhooks, stop };

    let skew = Arc::new(Skew::default());
    let (schedules, in_force) = watch::channel(0);
    let mut ticks = Vec::new();
    let probe = Probe {
        store: parts.store.clone(),
        clock: Arc::clone(&parts.clock),
        skew: Arc::clone(&skew),
        status: Arc::clone(&status),
    };
    parts.spawn_quietly(lifecycle, probe, probe::PERIOD);
    let upkeep = parts.spawn_quietly(lifecycle, Upkeep(metrics.clone()), Duration::from_secs(60));
    ticks.push(Tick { cron: "*/5 * * * * *", nudge: upkeep });
    if let Some(reload) = reload.flatten() {
        parts.spawn(lifecycle, reload, listen::PERIOD);
    }
    parts.listen(lifecycle);
    let leadership = Arc::new(Leadership::default());
    let (mut for_planner, mut for_others) = (None, None);
    if has(Role::Dispatch) {
        let (planner, others, handed) = handover::channels(Windows::new(settings.window));
        (for_planner, for_others) = (Some(planner), Some(others));
        let others = if settings.embedded { Others::Gone } else { Others::Leaders(leadership.changes()) };
        parts.dispatch(lifecycle, in_force.clone(), handed, others);
    }
    if has(Role::Plan) {
        ticks.extend(parts.plan(
            lifecycle,
            &settings,
            skew,
            leadership,
            (schedules, in_force),
            (for_planner, for_others.clone()),
        ));
    }
    let stop = lifecycle.soft.clone();
    lifecycle.spawn("housekeeping", async move { Ok(housekeeping::run(ticks, stop).await?) });
    if let (Some(listener), Some(address)) = (listener, address) {
        let access = parts.access(lifecycle, settings.embedded);
        let (meter, queued) = (Arc::new(Meter::new(settings.rates)), Arc::new(Queued::new(settings.max_queued)));
        let count = queued::Count { queued: Arc::clone(&queued), store: parts.store.clone() };
        parts.spawn_quietly(lifecycle, count, queued::PERIOD);
        let Parts { store, clock, status, events, webhooks, .. } = parts;
        let whole = Arc::default();
        let (handover, polling) = (for_others, Arc::new(Polling::new(lifecycle.soft.clone())));
        let names = Arc::new(ServerNames::new(address.port(), listener.is_tls(), settings.public_url));
        let state = ApiState {
            store,
            clock,
            status,
            metrics,
            address,
            names,
            access,
            meter,
            queued,
            whole,
            events,
            handover,
            polling,
            webhooks,
        };
        let router = api::router(state);
        let (soft, hard) = (lifecycle.soft.clone(), lifecycle.hard.clone());
        lifecycle.spawn("api", async move {
            hard.run_until_cancelled(listener.serve(router, soft.cancelled_owned())).await;
            Ok(())
        });
        tracing::info!(%address, "listening");
    }
    Ok(Running { address, status })
}

async fn bind(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<(Listener, Option<Reload>)> {
    let (address, is_open) = (settings.listen, settings.embedded);
    ensure!(
        !is_open || address.ip().is_loopback(),
        "will not listen on {address}: callers need no key, so that only a loopback address such as 127.0.0.1 is safe"
    );
    Ok(Listener::bind(address, &settings.tls, clock).await?)
}

/// What all parts are made from.
struct Parts {
    store: Store,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    status: Arc<Status>,
    events: Arc<EventsIn>,
    webhooks: Arc<Webhooks>,
    stop: CancellationToken,
}

impl Parts {
    /// Whether callers need keys: where everything is one process on loopback, they don't.
    fn access(&self, lifecycle: &mut Lifecycle, is_open: bool) -> Access {
        if is_open {
            return Access::Open;
        }
        let ring = Arc::new(KeyRing::default());
        let uses = KeyUses::new(Arc::clone(&ring), self.store.clone());
        self.spawn_quietly(lifecycle, uses, KeyUses::PERIOD);
        Access::Keys(ring)
    }

    /// Hears the hints of other processes.
    fn listen(&self, lifecycle: &mut Lifecycle) {
        let (store, stop) = (self.store.clone(), self.stop.clone());
        lifecycle.spawn("listener", async move {
            dispatch::listen(store, stop).await;
            Ok(())
        });
    }

    fn dispatch(&self, lifecycle: &mut Lifecycle, definitions: watch::Receiver<u64>, handed: Intake, others: Others) {
        let dispatcher = Dispatcher {
            store: self.store.clone(),
            broker: Arc::clone(&self.broker),
            clock: Arc::clone(&self.clock),
            definitions,
            handed,
            others,
            status: Arc::clone(&self.status),
        };
        let stop = self.stop.clone();
        lifecycle.spawn("dispatcher", async move {
            dispatcher.run(stop).await;
            Ok(())
        });
        let letters = dead_letters::run(self.store.clone(), Arc::clone(&self.broker), self.stop.clone());
        lifecycle.spawn("dead letters", async move { Ok(letters.await?) });
    }

    /// Answers the ticks that nudge its passes.
    fn plan(
        &self,
        lifecycle: &mut Lifecycle,
        settings: &Settings,
        skew: Arc<Skew>,
        leadership: Arc<Leadership>,
        (schedules, in_force): (watch::Sender<u64>, watch::Receiver<u64>),
        (for_planner, for_follow_ups): (Option<Handover>, Option<Handover>),
    ) -> Vec<Tick> {
        let (store, status) = (&self.store, &self.status);
        let planner = Planner::new(
            store.clone(),
            Arc::clone(&self.clock),
            Arc::clone(&leadership),
            Arc::clone(&skew),
            in_force,
            Arc::clone(status),
        );
        let planner = match for_planner {
            Some(dispatcher) => planner.handing_over(dispatcher),
            None => planner,
        };
        status.may_lead(Arc::clone(&leadership));
        let planner = self.spawn(lifecycle, planner, planner::PERIOD);
        let (changed, wake, stop) = (store.nudge(Hint::Schedules), Arc::clone(&planner), self.stop.clone());
        lifecycle.spawn("schedules", async move {
            while stop.run_until_cancelled(changed.notified()).await.is_some() {
                schedules.send_modify(|count| *count += 1);
                wake.notify_one();
            }
            Ok(())
        });

        let events = events_in::run(Arc::clone(&self.events), Arc::clone(&self.broker), self.stop.clone());
        lifecycle.spawn("events in", async move {
            events.await;
            Ok(())
        });

        let follow_ups = FollowUps::new(store.clone(), Arc::clone(&self.clock), for_follow_ups);
        let ended = store.nudge(Hint::Ended);
        self.spawn_on(lifecycle, follow_ups, follow_up::PERIOD, ended);

        let reconciler = Reconciler::new(store.clone(), Arc::clone(&self.broker), Arc::clone(&leadership));
        let reconciler = self.spawn(lifecycle, reconciler, reconcile::PERIOD);

        let wanted = settings.transitions;
        let announcer = Announcer::new(store.clone(), Arc::clone(&self.broker), Arc::clone(&leadership), wanted);
        self.spawn(lifecycle, announcer, announce::PERIOD);

        self.post(lifecycle, &leadership);

        let holder = Uuid::new_v4();
        let me = format!("scheduler {} (process {})", holder.simple(), std::process::id());
        let mut nudges = vec![Arc::clone(&planner)];
        if let Some(path) = settings.schedules.clone() {
            status.tell("definitions", false, "the folder has not been looked at yet");
            let folder = FolderWatch {
                path,
                store: store.clone(),
                leadership: Arc::clone(&leadership),
                me,
                alone: settings.embedded,
                status: Arc::clone(status),
                seen: Seen::default(),
            };
            nudges.push(self.spawn(lifecycle, folder, definitions::PERIOD));
        } else {
            status.tell("definitions", true, "no folder is given: what is in force stays");
        }
        let candidate = Candidate {
            store: store.clone(),
            holder,
            ttl: leader::TTL,
            renew: leader::RENEW,
            skew,
            leadership,
            nudges,
            status: Arc::clone(status),
        };
        let stop = self.stop.clone();
        lifecycle.spawn("leader", async move {
            candidate.run(stop).await;
            Ok(())
        });
        vec![Tick { cron: "* * * * * *", nudge: planner }, Tick { cron: "*/2 * * * * *", nudge: reconciler }]
    }

    /// Posts what happens to whoever has subscribed.
    fn post(&self, lifecycle: &mut Lifecycle, leadership: &Arc<Leadership>) {
        let (store, webhooks, nudge) = (self.store.clone(), Arc::clone(&self.webhooks), Arc::new(Notify::new()));
        let matcher = Matcher::new(store.clone(), Arc::clone(leadership), Arc::clone(&webhooks), Arc::clone(&nudge));
        self.spawn(lifecycle, matcher, matching::PERIOD);
        let (clock, leadership) = (Arc::clone(&self.clock), Arc::clone(leadership));
        let sender = Sender::new(store, clock, leadership, webhooks, Arc::clone(&nudge));
        self.spawn_on(lifecycle, sender, sending::PERIOD, nudge);
    }

    /// Runs a pass that operators see by its name. Answers what wakes it.
    fn spawn<P: Pass>(&self, lifecycle: &mut Lifecycle, pass: P, period: Duration) -> Arc<Notify> {
        let nudge = Arc::new(Notify::new());
        self.spawn_on(lifecycle, pass, period, Arc::clone(&nudge));
        nudge
    }

    /// The same for a pass that `nudge` wakes.
    fn spawn_on<P: Pass>(&self, lifecycle: &mut Lifecycle, pass: P, period: Duration, nudge: Arc<Notify>) {
        let vitals = Vitals::default();
        self.status.watch(P::NAME, vitals.clone(), period * 3 + Duration::from_secs(5));
        self.run(lifecycle, pass, period, vitals, nudge);
    }

    /// Runs a pass that has told operators what they need to know, or nothing.
    fn spawn_quietly<P: Pass>(&self, lifecycle: &mut Lifecycle, pass: P, period: Duration) -> Arc<Notify> {
        let nudge = Arc::new(Notify::new());
        self.run(lifecycle, pass, period, Vitals::default(), Arc::clone(&nudge));
        nudge
    }

    fn run<P: Pass>(&self, lifecycle: &mut Lifecycle, pass: P, period: Duration, vitals: Vitals, nudge: Arc<Notify>) {
        let looped = periodic::run(pass, period, nudge, vitals, Arc::clone(&self.clock), self.stop.clone());
        lifecycle.spawn(P::NAME, async move {
            looped.await;
            Ok(())
        });
    }
}

/// Keeps the metrics recorder from growing.
///
/// - Reads and writes: the recorder's memory, nothing else.
/// - Repeating is safe; a crash leaves nothing behind.
struct Upkeep(PrometheusHandle);

#[async_trait]
impl Pass for Upkeep {
    const NAME: &'static str = "upkeep";
    type Report = &'static str;
    type Error = std::convert::Infallible;

    async fn run_once(&mut self) -> Result<(&'static str, Option<Duration>), Self::Error> {
        self.0.run_upkeep();
        Ok(("done", None))
    }
}
