//! `with-services COMMAND [ARG]…`: starts a private PostgreSQL and RabbitMQ, runs the command with their
//! addresses in its environment, stops both and ends with the command's exit code.
//!
//! Whatever the command leaves running becomes a child of this process: it is named, killed, and makes the
//! exit code 1.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::postgres::{Postgres, TEMPLATE_VARIABLE, Template};
use harness::process_tree::{Relative, descendants};
use harness::rabbitmq::RabbitMq;
use harness::services::{BROKER_VARIABLE, DATABASE_VARIABLE, VHOSTS_VARIABLE, Vhosts};
use harness::wait::eventually;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// How many tests may use the shared RabbitMQ; further ones start their own. Each costs its boot some 50 ms.
const VHOSTS: usize = 40;

/// What a test kills on its way out may take this long to be gone.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().context("usage: with-services COMMAND [ARG]...")?;
    set_child_subreaper(Some(getpid())).context("becoming the parent of what is left behind")?;
    // From here on a signal ends the command, and this process after it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let template = Template::create()?;
    let vhosts = Vhosts::prepare(VHOSTS)?;
    let config = vhosts.config();
    let start = async { tokio::try_join!(Postgres::start(), RabbitMq::start_with_config(&config)) };
    let (postgres, rabbitmq) = tokio::select! {
        started = start => started?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };

    let mut command = Command::new(&program);
    command.args(args).env(TEMPLATE_VARIABLE, template.path()).env(DATABASE_VARIABLE, postgres.url());
    command.env(BROKER_VARIABLE, format!("amqp://guest:guest@127.0.0.1:{}", rabbitmq.port()));
    command.env(VHOSTS_VARIABLE, vhosts.free());
    let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            // A terminal sends Ctrl-C to the command too.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                    // It may have ended in this instant.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    };

    let stopped = tokio::join!(postgres.stop(), rabbitmq.stop());
    let clean = nothing_left().await;
    stopped.0?;
    stopped.1?;
    Ok(if clean { exit_code(status) } else { ExitCode::FAILURE })
}

/// As a shell tells it: 128 and more for an end by a signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[allow(clippy::print_stderr, reason = "that is how a program complains")]
async fn nothing_left() -> bool {
    let gone = eventually("the end of all processes", GRACE, async || match describe(&descendants(getpid())) {
        None => Ok(()),
        Some(left) => Err(left),
    });
    let Err(error) = gone.await else { return true };
    eprintln!("error: something was left running, and is killed now: {error:#}");
    for relative in descendants(getpid()) {
        // It may end in this instant.
        let _ = kill_process(relative.pid, Signal::KILL);
    }
    false
}

fn describe(left: &[Relative]) -> Option<String> {
    let names = left.iter().map(|relative| format!("{} ({})", relative.name, relative.pid.as_raw_nonzero()));
    (!left.is_empty()).then(|| names.collect::<Vec<_>>().join(", "))
}
