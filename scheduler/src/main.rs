//! `reveille-scheduler`: plans, dispatches and answers callers.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use reveille_scheduler::app::{self, Settings};
use reveille_shared::broker;
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::config::{self, Common};
use reveille_shared::duration::HumanDuration;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::{self, chain};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How long a database that is not there yet is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Decides when jobs are due and sends the triggers that workers act on.
#[derive(Debug, clap::Parser)]
#[command(name = "reveille-scheduler", version)]
struct Arguments {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    settings: Settings,

    /// How long callers are still answered and triggers confirmed after SIGTERM or Ctrl-C
    #[arg(long, env = "REVEILLE_GRACE", default_value = "10s", value_name = "DURATION")]
    grace: HumanDuration,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = config::parse();
    if let Err(error) = telemetry::init(&arguments.common.log, arguments.common.log_format) {
        return failed(&anyhow::anyhow!(error).context("can't set up logging"));
    }
    open_as_many_files_as_allowed();
    let grace = arguments.grace.get();
    let mut lifecycle = Lifecycle::default();
    match start(arguments, &mut lifecycle).await {
        Ok(()) => lifecycle.run(grace).await,
        Err(error) => failed(&error),
    }
}

/// Each stream and each long poll is an open file, and most systems begin with a limit of 1,024, which a process may raise
/// for itself. No other program is started from here, so that none is surprised by the numbers.
fn open_as_many_files_as_allowed() {
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        tracing::warn!(%error, "can't raise the number of open files");
    }
}

#[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("reveille-scheduler: {}", chain(error.as_ref()));
    ExitCode::FAILURE
}

async fn start(arguments: Arguments, lifecycle: &mut Lifecycle) -> anyhow::Result<()> {
    let Arguments { common, settings, .. } = arguments;
    let alone = [("sqlite:", &common.database_url), ("embedded", &common.broker_url)];
    if let Some((what, _)) = alone.iter().find(|(prefix, url)| url.starts_with(prefix)) {
        let what = what.trim_end_matches(':');
        ensure!(false, "{what} serves one process only, so that no worker could join: use `reveille dev`");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let broker = broker::connect(&common.broker_url, "reveille-scheduler", lifecycle.hard.clone())?;
    let store = connect(&common.database_url, Arc::clone(&clock)).await?;
    app::start(settings, store, broker, clock, lifecycle).await?;
    Ok(())
}

/// Opens the database, and waits a while for one that is not there yet. What it refuses, such as a wrong password, is not
/// waited for.
async fn connect(url: &str, clock: Arc<dyn Clock>) -> anyhow::Result<Store> {
    let begun = tokio::time::Instant::now();
    let mut said = false;
    loop {
        match Store::connect(url, "reveille-scheduler", Arc::clone(&clock)).await {
            Ok(store) => return Ok(store),
            Err(error) if is_absent(&error) && begun.elapsed() < PATIENCE => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = chain(&error), patience = ?PATIENCE, "waiting for the database");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Nobody answers, or the server is starting up. A server that does not prove who it is is there.
fn is_absent(error: &StoreError) -> bool {
    let StoreError::Connect { source, .. } = error else { return false };
    if error.is_about_tls() {
        return false;
    }
    source.as_database_error().is_none_or(|refusal| refusal.code().is_some_and(|code| code.starts_with("57P0")))
}
