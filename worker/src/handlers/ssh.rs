//! Runs a command on another host, over SSH.
//!
//! The command lives under a keeper on its host (`ssh/keeper.sh`), which ends its whole tree when the worker says so,
//! when the connection ends, and when the worker has not been heard for as long as its lease is good: as the guard does
//! it for programs here.

mod connection;
mod identity;
mod known_hosts;
mod outcome;
mod remote;
mod script;

use reveille_shared::definition::SshCall;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::connection::{Connection, Target};
use self::identity::Identity;
use self::known_hosts::KnownHost;
use self::remote::{Attempt, Remote};
use self::script::Script;
use super::env::Variables;
use super::template::Renderer;
use super::{Left, Run, RunFailure};
use crate::policy::Policy;

/// Runs the command to its end, and answers with `{"exitCode": …}`. After a stop its tree is sent SIGTERM, then SIGKILL;
/// when the returned future is dropped, SIGKILL at once.
pub(crate) async fn run(
    call: &SshCall,
    run: &Run,
    variables: &Variables,
    policy: &Policy,
    lease: watch::Receiver<Instant>,
) -> Left {
    let left = attempt(call, run, variables, policy, lease).await;
    left.unwrap_or_else(|failure| Left::Ended(Err(failure)))
}

async fn attempt(
    call: &SshCall,
    run: &Run,
    variables: &Variables,
    policy: &Policy,
    lease: watch::Receiver<Instant>,
) -> Result<Left, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let target = target(call, &renderer)?;
    policy.ssh(&target.user, &target.host, target.port)?;
    let script = Script::of(call, run, &renderer)?;
    let begin_by = Instant::now() + call.connect_timeout.get();
    let starting = async {
        let known = KnownHost::load(&target.host, target.port, call.known_hosts.as_deref(), variables).await?;
        let identity = Identity::load(call, &renderer, variables).await?;
        let connection = Connection::open(&target, known, identity).await?;
        Remote::start(connection, &target, &script, lease).await
    };
    let remote = tokio::select! {
        biased;
        () = run.stop.cancelled() => return Ok(Left::Untouched),
        started = timeout_at(begin_by, starting) => started.map_err(|_| outcome::too_slow(call, &target))??,
    };
    Ok(Left::Ended(remote.until_end(&Attempt { call, run, script, begin_by, target: &target }).await))
}

fn target(call: &SshCall, renderer: &Renderer<'_>) -> Result<Target, RunFailure> {
    let host = renderer.template("host", &call.host)?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(RunFailure::fatal(format!("host is {host:?}, which is none")).code("InvalidHost"));
    }
    Ok(Target { host, port: call.port, user: call.user.clone() })
}
