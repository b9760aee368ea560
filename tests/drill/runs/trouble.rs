//! Brings faults about, and ends them again: several at a time, each on a process that has no other trouble.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use harness::process::tail;
use harness::process_tree::descendants;
use harness::stack::Service;
use harness::wait::eventually;
use lapin::options::QueuePurgeOptions;
use lapin::{Connection, ConnectionProperties};
use reveille_shared::clock::{Clock as _, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::faults::{Fault, SCHEDULERS, WORKERS, What, Whom};
use crate::stand::{Member, Stand};

/// How long a process may take to be well after its trouble has ended.
const HEALING: Duration = Duration::from_secs(240);
/// How long a process may take to end after SIGTERM: the worker's grace, and something to spare.
const STOPPING: Duration = Duration::from_secs(60);
/// A process that can't reach the database when it starts ends; as a service manager would, the drill waits before
/// it starts it again.
const RESTART: Duration = Duration::from_millis(300);
/// What RabbitMQ calls the work queues, for each priority.
const QUEUES: [&str; 6] = [
    "reveille.high.default",
    "reveille.q.default",
    "reveille.low.default",
    "reveille.high.foreign",
    "reveille.q.foreign",
    "reveille.low.foreign",
];
/// How often processes are looked after that have no trouble.
const LOOK: Duration = Duration::from_millis(500);

/// A fault that happened.
#[derive(Debug, Clone)]
pub(crate) struct Suffered {
    pub(crate) whom: Whom,
    pub(crate) what: What,
    /// Unix microseconds.
    pub(crate) from_us: i64,
    pub(crate) to_us: i64,
    /// From its end until the process was ready again.
    pub(crate) healed: Duration,
}

/// What has happened so far, and what must not have.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    suffered: Mutex<Vec<Suffered>>,
    violations: Mutex<Vec<String>>,
    /// Whether the database is down: whoever starts then ends at once.
    database_is_down: AtomicBool,
}

impl Diary {
    pub(crate) fn suffered(&self) -> Vec<Suffered> {
        self.suffered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn violation(&self, text: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

/// What a fault needs for itself until it has ended.
struct Hold {
    _permit: OwnedSemaphorePermit,
    service: OwnedMutexGuard<Service>,
}

/// Lets all of it happen, or what begins before `enough`, and returns when every process is well again.
pub(crate) async fn bring(
    stand: &Stand,
    faults: &[Fault],
    diary: &Diary,
    enough: &CancellationToken,
    said: impl Fn(usize, &Fault),
) {
    let all = async {
        let mut running = FuturesUnordered::new();
        for (number, fault) in faults.iter().enumerate() {
            during(&mut running, sleep(fault.after)).await;
            let hold = during(&mut running, hold(stand, fault.whom)).await;
            if enough.is_cancelled() {
                break;
            }
            said(number, fault);
            running.push(async move {
                if let Err(error) = suffer(stand, diary, fault, hold).await {
                    diary.violation(format!("{fault}: {error:#}"));
                }
            });
        }
        while running.next().await.is_some() {}
    };
    tokio::select! {
        () = all => {}
        never = look_after(stand, diary) => match never {},
    }
}

/// Waits for something, while others go on.
async fn during<T>(running: &mut FuturesUnordered<impl Future<Output = ()>>, wanted: impl Future<Output = T>) -> T {
    let mut wanted = pin!(wanted);
    loop {
        tokio::select! {
            done = &mut wanted => return done,
            Some(()) = running.next() => {}
        }
    }
}

/// Waits until a process may have trouble: it has none, and another one of its kind is well.
async fn hold(stand: &Stand, whom: Whom) -> Option<Hold> {
    let member = member(stand, whom)?;
    let permits = match whom {
        Whom::Scheduler(_) => &stand.schedulers,
        Whom::External(_) => &stand.externals,
        _ => &stand.workers,
    };
    // Nobody closes them.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    Some(Hold { _permit: permit, service: Arc::clone(&member.service).lock_owned().await })
}

fn number_of(whom: Whom) -> usize {
    match whom {
        Whom::Scheduler(index) => index,
        Whom::Worker(index) => SCHEDULERS + index,
        Whom::External(index) => SCHEDULERS + WORKERS + index,
        Whom::Database | Whom::Broker | Whom::Host => usize::MAX,
    }
}

fn member(stand: &Stand, whom: Whom) -> Option<&Member> {
    stand.members.get(number_of(whom))
}

async fn suffer(stand: &Stand, diary: &Diary, fault: &Fault, hold: Option<Hold>) -> Result<()> {
    let from_us = SystemClock.now().as_microsecond();
    let (Some(member), Some(mut hold)) = (member(stand, fault.whom), hold) else {
        let to_us = hit_service(stand, diary, fault).await?;
        note(diary, fault, from_us, to_us, Duration::ZERO);
        return Ok(());
    };
    let hit = hit(member, &mut hold.service, diary, fault).await;
    let healing = Instant::now();
    if fault.what == What::FullDisk {
        hold.service.start_instead(member.program.clone())?;
    }
    let well = get_well(member, &mut hold.service, diary).await;
    let to_us = *hit.as_ref().unwrap_or(&SystemClock.now().as_microsecond());
    note(diary, fault, from_us, to_us, healing.elapsed());
    hit.and(well)
}

fn note(diary: &Diary, fault: &Fault, from_us: i64, to_us: i64, healed: Duration) {
    let suffered = Suffered { whom: fault.whom, what: fault.what, from_us, to_us, healed };
    diary.suffered.lock().unwrap_or_else(PoisonError::into_inner).push(suffered);
}

/// Lets it happen to a process; answers when it was over.
async fn hit(member: &Member, service: &mut Service, diary: &Diary, fault: &Fault) -> Result<i64> {
    // How long the trouble lasts is what is drilled: nothing is awaited here but its end.
    let lasts = || sleep(fault.lasts);
    match fault.what {
        What::Kill => {
            service.kill9()?;
            lasts().await;
            service.start_again()?;
        }
        What::Stop => {
            service.signal(Signal::TERM)?;
            let ended = service.wait_exit(STOPPING).await;
            if member.tells_that_it_is_well() {
                ended?;
            }
            // One that has no API to report to goes on until its service manager loses patience.
            lasts().await;
            service.start_again()?;
        }
        What::Freeze => {
            service.signal(Signal::STOP)?;
            lasts().await;
            let over = SystemClock.now().as_microsecond();
            service.signal(Signal::CONT)?;
            return Ok(over);
        }
        What::FreezeAll => {
            service.signal(Signal::STOP)?;
            let children: Vec<Pid> = descendants(service.pid()).into_iter().map(|child| child.pid).collect();
            signal_all(&children, Signal::STOP);
            lasts().await;
            let over = SystemClock.now().as_microsecond();
            signal_all(&children, Signal::CONT);
            service.signal(Signal::CONT)?;
            return Ok(over);
        }
        What::FullDisk => {
            service.start_instead(member.program.clone().output("/dev/full"))?;
            get_well(member, service, diary).await?;
            // A network that breaks is worth some lines.
            member.broker.cut().await;
            lasts().await;
            member.broker.heal();
            get_well(member, service, diary).await?;
        }
        _ => {
            let database = matches!(fault.what, What::CutDatabase | What::StallDatabase | What::DelayDatabase);
            let network = if database { &member.database } else { &member.broker };
            match fault.what {
                What::StallDatabase | What::StallBroker => network.stall(),
                What::DelayDatabase | What::DelayBroker => network.delay(fault.delay),
                _ => network.cut().await,
            }
            lasts().await;
            network.heal();
        }
    }
    Ok(SystemClock.now().as_microsecond())
}

/// A process that has ended meanwhile needs no signal.
fn signal_all(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ended = kill_process(*pid, signal).is_err();
    }
}

async fn hit_service(stand: &Stand, diary: &Diary, fault: &Fault) -> Result<i64> {
    match fault.what {
        What::RestartDatabase => {
            let mut database = stand.database.lock().await;
            diary.database_is_down.store(true, Ordering::Relaxed);
            database.server()?.kill()?;
            sleep(fault.lasts).await;
            let started = database.server()?.restart().await;
            // Who has not reached it just now may end a moment later.
            sleep(RESTART).await;
            diary.database_is_down.store(false, Ordering::Relaxed);
            started?;
        }
        What::RestartBroker => {
            let mut broker = stand.broker.lock().await;
            broker.server()?.kill().await?;
            sleep(fault.lasts).await;
            // As a service manager would, again if it does not come up: others may have its port for a moment.
            let server = broker.server()?;
            eventually("the broker to be up again", HEALING, async || {
                server.restart().await.map_err(|error| format!("{error:#}"))
            })
            .await?;
        }
        What::CutHost | What::StallHost => {
            let host = stand.host.lock().await;
            match fault.what {
                What::CutHost => host.network.cut().await,
                _ => host.network.stall(),
            }
            sleep(fault.lasts).await;
            host.network.heal();
        }
        _ => purge(stand).await?,
    }
    Ok(SystemClock.now().as_microsecond())
}

async fn purge(stand: &Stand) -> Result<()> {
    // Not while it is being restarted.
    let broker = stand.broker.lock().await;
    eventually("the broker to purge the queues", HEALING, async || {
        let purge = async {
            let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            for queue in QUEUES {
                channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
            }
            connection.close(200, "done".into()).await
        };
        purge.await.map_err(|error| error.to_string())
    })
    .await
}

/// Waits until a process is ready. One that ends because it was started while the database was away is started again.
async fn get_well(member: &Member, service: &mut Service, diary: &Diary) -> Result<()> {
    eventually(&format!("{} to be well", member.whom.name()), HEALING, async || {
        match start_if_ended(service, diary).await {
            Ok(Ended::No | Ended::Excused) => {}
            Ok(Ended::Unasked(why)) => return Ok(Err(anyhow!(why))),
            Err(error) => return Ok(Err(error)),
        }
        if !member.tells_that_it_is_well() {
            return Ok(Ok(()));
        }
        service.api.wait_ready(LOOK).await.map(Ok).map_err(|error| format!("{error:#}"))
    })
    .await
    .flatten()
}

/// Whether a process had ended.
enum Ended {
    No,
    /// The database was away when it started.
    Excused,
    Unasked(String),
}

/// Starts a process that has ended.
async fn start_if_ended(service: &mut Service, diary: &Diary) -> Result<Ended> {
    let Some(status) = service.exit_status()? else { return Ok(Ended::No) };
    let why = format!("it ended by itself with {status}; its log ends with:\n{}", tail(&service.log(), 800));
    sleep(RESTART).await;
    service.start_again()?;
    Ok(if diary.database_is_down.load(Ordering::Relaxed) { Ended::Excused } else { Ended::Unasked(why) })
}

/// Looks after the processes that have no trouble at the moment.
async fn look_after(stand: &Stand, diary: &Diary) -> Infallible {
    loop {
        sleep(LOOK).await;
        for member in &stand.members {
            let Ok(mut service) = member.service.try_lock() else { continue };
            match start_if_ended(&mut service, diary).await {
                Ok(Ended::No | Ended::Excused) => {}
                Ok(Ended::Unasked(why)) => diary.violation(format!("{}: {why}", member.whom.name())),
                Err(error) => diary.violation(format!("{}: {error:#}", member.whom.name())),
            }
        }
    }
}
