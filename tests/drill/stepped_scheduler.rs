//! `reveille-scheduler` with a clock that can be put forward and back while it runs: the same wiring, and what
//! a file says is added to the machine's time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reveille_scheduler::app::{self, Settings};
use reveille_shared::broker;
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::config::{self, Common};
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::store::Store;
use reveille_shared::telemetry::{self, chain};

/// A step of the clock shows after this time at the latest.
const REREAD: Duration = Duration::from_millis(50);

/// A scheduler whose clock can be stepped
#[derive(Debug, clap::Parser)]
#[command(name = "drill-stepped-scheduler")]
struct Arguments {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    settings: Settings,

    /// Holds how many milliseconds the clock is ahead; without the file it is right
    #[arg(long, value_name = "FILE")]
    clock: PathBuf,

    /// Which of several this is, for the database's list of sessions
    #[arg(long, value_name = "NAME")]
    name: String,
}

/// The machine's clock, put wrong by what a file says.
#[derive(Debug)]
struct SteppedClock {
    file: PathBuf,
    /// When the file was last read, and what it said.
    seen: Mutex<(Instant, SignedDuration)>,
}

impl SteppedClock {
    fn new(file: PathBuf) -> Self {
        let seen = Mutex::new((Instant::now(), read(&file)));
        Self { file, seen }
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.elapsed() >= REREAD {
            *seen = (Instant::now(), read(&self.file));
        }
        SystemClock.now().saturating_add(seen.1).unwrap_or(Timestamp::MAX)
    }
}

fn read(file: &Path) -> SignedDuration {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    SignedDuration::from_millis(text.trim().parse().unwrap_or(0))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = config::parse();
    if let Err(error) = telemetry::init(&arguments.common.log, arguments.common.log_format) {
        return failed(&anyhow::anyhow!(error).context("can't set up logging"));
    }
    let mut lifecycle = Lifecycle::default();
    match start(arguments, &mut lifecycle).await {
        Ok(()) => lifecycle.run(Duration::from_secs(10)).await,
        Err(error) => failed(&error),
    }
}

#[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("drill-stepped-scheduler: {}", chain(error.as_ref()));
    ExitCode::FAILURE
}

async fn start(arguments: Arguments, lifecycle: &mut Lifecycle) -> anyhow::Result<()> {
    let Arguments { common, settings, clock, name } = arguments;
    let clock: Arc<dyn Clock> = Arc::new(SteppedClock::new(clock));
    let broker = broker::connect(&common.broker_url, &name, lifecycle.hard.clone())?;
    let store = Store::connect(&common.database_url, &name, Arc::clone(&clock)).await?;
    app::start(settings, store, broker, clock, lifecycle).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_moves_the_clock_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let ahead = |clock: &SteppedClock| clock.now().duration_since(SystemClock.now()).as_secs();
        let clock = SteppedClock::new(file.clone());
        assert_eq!(ahead(&clock), 0);
        for hour in [3_600, -3_600] {
            std::fs::write(&file, (hour * 1000).to_string()).unwrap();
            clock.seen.lock().unwrap().0 -= REREAD;
            assert!((ahead(&clock) - hour).abs() <= 1, "{} s ahead", ahead(&clock));
        }
    }
}
