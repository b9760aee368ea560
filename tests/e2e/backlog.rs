//! A backlog of short runs goes out unmarked, from one dispatcher at a time: each run once, whatever is lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::services::Database;
use harness::wait::eventually;
use reveille_scheduler::dispatch::{Dispatcher, Others};
use reveille_scheduler::handover;
use reveille_scheduler::plan::{self, Ask};
use reveille_scheduler::status::Status;
use reveille_scheduler::window::Windows;
use reveille_shared::broker::{self, Broker, Delivery, Subscription};
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::definition::{Priority, read_texts};
use reveille_shared::store::{Claim, NewWorker, Outcome, Report, Store};
use reveille_shared::trigger::{Trigger, UNMARKED};
use reveille_shared::work_request::WorkRequestId;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const JOBS: &str =
    "version: 1\njobs:\n  brief: { command: ['true'] }\n  alone: { command: ['true'], concurrency: 1 }\n";
const LIMIT: Duration = Duration::from_secs(60);
/// How many triggers a dispatcher sends at first to a route of which it knows nothing.
const WINDOW: usize = 512;

/// A database, a broker, and a worker that is played by the test.
struct Scene {
    database: Database,
    store: Store,
    broker: Arc<dyn Broker>,
    worker: Uuid,
    subscription: Box<dyn Subscription>,
    /// How often each run's claim was granted.
    granted: HashMap<WorkRequestId, u32>,
    /// Of these how many were not marked as sent.
    unmarked: usize,
    refused: usize,
    stop: CancellationToken,
}

impl Scene {
    async fn set() -> Result<Self> {
        let database = Database::fresh().await?;
        let store = connect(&database).await?;
        let generation = store.lead(Uuid::new_v4(), Duration::from_secs(3600)).await?.context("nobody else leads")?;
        let definitions =
            read_texts(&[("test.yaml".into(), JOBS.into())]).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        store.apply_definitions(generation, &definitions, &definitions.digest(), "test").await?;
        let stop = CancellationToken::new();
        let broker = broker::connect("embedded", "test", stop.clone())?;
        broker.declare(&["default".to_owned()]).await?;
        let worker = Uuid::new_v4();
        let known = NewWorker {
            incarnation: worker,
            name: "played".into(),
            queues: vec!["default".into()],
            slots: 100,
            version: "0".into(),
            lease_ttl: LIMIT,
        };
        store.register_worker(&known).await?;
        let mut subscription = broker.subscribe(&["default".to_owned()], Priority::Normal).await?;
        subscription.demand(20).await;
        let (granted, unmarked, refused) = (HashMap::new(), 0, 0);
        let mut scene = Self { database, store, broker, worker, subscription, granted, unmarked, refused, stop };
        scene.runs_are_known_to_be_short().await?;
        Ok(scene)
    }

    async fn runs_are_known_to_be_short(&mut self) -> Result<()> {
        self.accept("brief", 1).await?;
        let sent: Vec<_> = self.store.take_due(1).await?.into_iter().map(|out| out.trigger).collect();
        self.run(&sent).await
    }

    async fn accept(&self, job: &str, count: usize) -> Result<Vec<WorkRequestId>> {
        let job = self.store.job("default", job).await?.context("the job is in force")?;
        let ask = || Ask { by: "test".into(), ..Ask::default() };
        let requests: Vec<_> = (0..count).map(|_| plan::request(&job, ask(), SystemClock.now())).collect();
        self.store.accept_all(&requests).await?;
        Ok(requests.into_iter().map(|request| request.id).collect())
    }

    /// A dispatcher as of a process of its own, until its tasks are dropped.
    async fn dispatch(&self) -> Result<JoinSet<()>> {
        let (_, _, handed) = handover::channels(Windows::new(20_000));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let dispatcher = Dispatcher {
            store: connect(&self.database).await?,
            broker: Arc::clone(&self.broker),
            clock: Arc::clone(&clock),
            definitions: watch::Sender::new(0).subscribe(),
            handed,
            others: Others::Leaders(watch::Sender::new(None).subscribe()),
            status: Arc::new(Status::new(clock, Arc::clone(&self.broker))),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(dispatcher.run(self.stop.clone()));
        Ok(tasks)
    }

    /// The next message, and which triggers are in it; a marker is answered.
    async fn next(&mut self) -> Result<(Delivery, Vec<Trigger>)> {
        let next = tokio::time::timeout(LIMIT, self.subscription.next()).await;
        let delivery = next.context("no message came")?.context("the broker has shut down")?;
        let (markers, triggers): (Vec<_>, Vec<_>) = delivery.triggers.iter().cloned().partition(Trigger::is_marker);
        for marker in &markers {
            self.store.marker_back(marker).await?;
        }
        Ok((delivery, triggers))
    }

    /// Runs what comes until that many claims were granted.
    async fn run_until(&mut self, granted: usize) -> Result<()> {
        while self.granted.len() < granted {
            self.run_next().await?;
        }
        Ok(())
    }

    /// Runs what comes until something comes unmarked: a dispatcher has the backlog, and keeps it as long as there is some left and
    /// somebody runs it.
    async fn run_until_unmarked(&mut self) -> Result<()> {
        while self.unmarked == 0 {
            self.run_next().await?;
        }
        Ok(())
    }

    async fn run_next(&mut self) -> Result<()> {
        let (delivery, triggers) = self.next().await?;
        self.run(&triggers).await?;
        self.subscription.ack(vec![delivery]).await;
        Ok(())
    }

    async fn run(&mut self, triggers: &[Trigger]) -> Result<()> {
        let claims: Vec<_> =
            triggers.iter().map(|trigger| Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() }).collect();
        let mut reports = Vec::new();
        for (trigger, answer) in triggers.iter().zip(self.store.claim(self.worker, &claims).await?) {
            let Ok(run) = answer else {
                self.refused += 1;
                continue;
            };
            *self.granted.entry(run.id).or_default() += 1;
            self.unmarked += usize::from(trigger.v == UNMARKED);
            let outcome = Outcome::Succeeded { output: Value::Null };
            let (took, known) = (Some(Duration::from_millis(1)), run.known.clone());
            reports.push(Report { took, known, ..Report::new(run.id, run.token, outcome) });
        }
        for verdict in self.store.report(reports).await? {
            verdict?;
        }
        Ok(())
    }

    fn each_ran_once(&self, runs: &[WorkRequestId]) -> Result<()> {
        let more: Vec<_> = self.granted.iter().filter(|(_, times)| **times != 1).collect();
        ensure!(more.is_empty(), "more than once: {more:?}");
        ensure!(runs.iter().all(|id| self.granted.contains_key(id)), "not all have run");
        Ok(())
    }

    /// Waits until no dispatcher has the backlog.
    async fn backlog_is_left(&self) -> Result<()> {
        eventually("the backlog to be left", LIMIT, async || {
            let is_free =
                self.store.hold_backlog(Uuid::nil(), Duration::ZERO).await.map_err(|error| error.to_string())?;
            if is_free { Ok(()) } else { Err("somebody has it".to_owned()) }
        })
        .await
    }
}

async fn connect(database: &Database) -> Result<Store> {
    Ok(Store::connect(database.url(), "test", Arc::new(SystemClock)).await?)
}

#[tokio::test]
async fn it_goes_out_once_from_one_dispatcher_and_what_is_limited_is_marked() -> Result<()> {
    let mut scene = Scene::set().await?;
    let mut runs = scene.accept("brief", 2_000).await?;
    let _one = scene.dispatch().await?;
    scene.run_until_unmarked().await?;
    let _other = scene.dispatch().await?;
    scene.run_until(700).await?;
    // What comes later has its turn, also with others who want their slot first.
    runs.extend(scene.accept("alone", 3).await?);
    runs.extend(scene.accept("brief", 500).await?);
    let late = scene.accept("brief", 1).await?;
    let mut connection = PgConnection::connect(scene.database.url()).await?;
    // As if its transaction had begun long ago: all around it went out already.
    let back = "UPDATE deliveries SET phase_at = phase_at - interval '1 hour' WHERE id = $1";
    sqlx::query(back).bind(late[0].0).execute(&mut connection).await?;
    runs.extend(late);
    scene.run_until(2_505).await?;
    scene.each_ran_once(&runs)?;
    // Where this machine stands still for long the backlog is left and begun anew, maybe while the other one has some in its hands.
    ensure!(scene.refused <= WINDOW, "{} triggers went out once more", scene.refused);
    ensure!((300..2_502).contains(&scene.unmarked), "{} went out unmarked", scene.unmarked);
    scene.backlog_is_left().await?;
    // Then both of them take what is due.
    let last = scene.accept("brief", 1).await?;
    scene.run_until(2_506).await?;
    scene.each_ran_once(&last)
}

#[tokio::test]
async fn when_its_dispatcher_dies_another_one_goes_on() -> Result<()> {
    let mut scene = Scene::set().await?;
    let runs = scene.accept("brief", 2_000).await?;
    let mut one = scene.dispatch().await?;
    scene.run_until_unmarked().await?;
    let _other = scene.dispatch().await?;
    scene.run_until(800).await?;
    one.abort_all();
    while one.join_next().await.is_some() {}
    scene.run_until(2_001).await?;
    scene.each_ran_once(&runs)
}

#[tokio::test]
async fn what_the_broker_loses_is_sent_again_and_the_history_says_so() -> Result<()> {
    let mut scene = Scene::set().await?;
    let runs = scene.accept("brief", 1_500).await?;
    let _one = scene.dispatch().await?;
    scene.run_until_unmarked().await?;
    let mut lost = HashSet::new();
    while lost.len() < 100 {
        let (delivery, triggers) = scene.next().await?;
        let (unmarked, marked): (Vec<_>, Vec<_>) = triggers.into_iter().partition(|trigger| trigger.v == UNMARKED);
        scene.run(&marked).await?;
        lost.extend(unmarked.into_iter().map(|trigger| trigger.id));
        scene.subscription.ack(vec![delivery]).await;
    }
    scene.run_until(1_501).await?;
    scene.each_ran_once(&runs)?;
    for id in &lost {
        let history = scene.store.events(*id, 0, 10).await?;
        let told: Vec<_> = history.iter().map(|event| serde_json::to_value(&event.what)).collect::<Result<_, _>>()?;
        ensure!(told.iter().any(|what| what["type"] == "resent"), "{id}: {told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_dispatcher_that_has_lost_it_to_another_one_leaves_it_alone_and_then_goes_on() -> Result<()> {
    let mut scene = Scene::set().await?;
    let runs = scene.accept("brief", 1_500).await?;
    let _one = scene.dispatch().await?;
    scene.run_until_unmarked().await?;
    scene.run_until(300).await?;
    // As if it had been frozen for so long that another one has it; that one dies at once.
    let mut connection = PgConnection::connect(scene.database.url()).await?;
    let taken = "UPDATE backlog SET holder = gen_random_uuid(), held_until = clock_timestamp() + interval '3 s'";
    sqlx::query(taken).execute(&mut connection).await?;
    scene.run_until(1_501).await?;
    scene.each_ran_once(&runs)
}
