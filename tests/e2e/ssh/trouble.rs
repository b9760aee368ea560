//! Commands that must end, however the worker, the network or they themselves behave.

use super::*;

/// A lease would live for three times as long.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Heeds no signal but SIGKILL, and has a child that has left its group; both say who they are.
const STUBBORN: &str = r#"
    trap '' TERM HUP INT
    setsid sh -c 'echo $$ > FOLDER/stray; while :; do sleep 0.1; done' &
    echo $$ > FOLDER/program
    while :; do echo; sleep 0.1; done
"#;

/// A folder for process ids, and a script that writes them there.
fn scene(script: &str) -> Result<(tempfile::TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let script = script.replace("FOLDER", &folder.path().to_string_lossy());
    Ok((folder, script))
}

/// The two processes of [`STUBBORN`].
async fn both(folder: &Path) -> Result<[Pid; 2]> {
    Ok([pid(&folder.join("program")).await?, pid(&folder.join("stray")).await?])
}

async fn are_gone(pids: [Pid; 2], limit: Duration) -> Result<()> {
    for pid in pids {
        is_gone(pid, limit).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_command_ends_with_all_of_its_tree() -> Result<()> {
    let (folder, stubborn) = scene(STUBBORN)?;
    let (told, obliging) =
        scene("trap 'echo ok > FOLDER/told; exit 0' TERM; echo $$ > FOLDER/program; while :; do sleep 0.02; done")?;
    let sshd = Sshd::start().await?;
    let jobs = Jobs::on(&sshd)
        .job("stubborn", json!({ "command": stubborn }))?
        .job("obliging", json!({ "command": ["sh", "-c", obliging] }))?;
    let stack = jobs.start(Stack::embedded()).await?;
    let api = &stack.api;
    let ids = [api.trigger("stubborn", json!({})).await?, api.trigger("obliging", json!({})).await?];
    let pids = both(folder.path()).await?;
    pid(&told.path().join("program")).await?;
    for id in &ids {
        api.cancel(id).await?;
    }
    for id in &ids {
        let run = api.wait_status(id, "CANCELED").await?;
        ensure!(run["lastError"].is_null(), "to obey is no failure: {run}");
    }
    ensure!(told.path().join("told").exists(), "it was killed before it had tidied up");
    are_gone(pids, AT_ONCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_end_commands() -> Result<()> {
    let (folder, slow) = scene("echo $$ > FOLDER/program; while :; do echo; sleep 0.1; done")?;
    let (quiet, idle) = scene("echo $$ > FOLDER/program; exec sleep 600")?;
    let sshd = Sshd::start().await?;
    let jobs = Jobs::on(&sshd)
        .job("slow", json!({ "command": slow, "timeout": "10s", "idle_timeout": "5s" }))?
        .job("idle", json!({ "command": idle, "idle_timeout": "1s" }))?
        .job(
            "chatty",
            json!({ "command": "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >&2; sleep 0.5; done", "idle_timeout": "4s" }),
        )?;
    let stack = jobs.start(Stack::embedded()).await?;
    let chatty = stack.api.trigger("chatty", json!({})).await?;
    fails(&stack, "slow", "Timeout", &[]).await?;
    is_gone(pid(&folder.path().join("program")).await?, AT_ONCE).await?;
    fails(&stack, "idle", "SshIdle", &["1s"]).await?;
    is_gone(pid(&quiet.path().join("program")).await?, AT_ONCE).await?;
    stack.api.wait_status(&chatty, "SUCCEEDED").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_in_its_group_ends_and_a_daemon_lives_on() -> Result<()> {
    let (folder, script) = scene(
        "sleep 600 & echo $! > FOLDER/left
         setsid sh -c 'echo $$ > FOLDER/daemon; exec sleep 60' &
         until [ -s FOLDER/daemon ]; do sleep 0.02; done; echo done",
    )?;
    let sshd = Sshd::start().await?;
    let stack = Jobs::on(&sshd).job("leaver", json!({ "command": script }))?.start(Stack::embedded()).await?;
    let start = Instant::now();
    ended(&stack, "leaver", "SUCCEEDED").await?;
    ensure!(start.elapsed() < Duration::from_secs(20), "it was waited for: {:?}", start.elapsed());
    is_gone(pid(&folder.path().join("left")).await?, Duration::from_secs(5)).await?;
    let daemon = pid(&folder.path().join("daemon")).await?;
    ensure!(is_living(daemon), "what has left the group is not ours any more");
    rustix::process::kill_process(daemon, Signal::KILL)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_of_a_killed_worker_dies_at_once() -> Result<()> {
    let (folder, stubborn) = scene(STUBBORN)?;
    let sshd = Sshd::start().await?;
    let mut stack = Jobs::on(&sshd).job("stubborn", json!({ "command": stubborn }))?.start(Stack::embedded()).await?;
    stack.api.trigger("stubborn", json!({})).await?;
    let pids = both(folder.path()).await?;
    stack.schedulers[0].kill9()?;
    are_gone(pids, AT_ONCE).await
}

/// Its connection stays open, and nothing comes over it.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_of_a_frozen_worker_dies_before_its_lease_does() -> Result<()> {
    const TTL: Duration = Duration::from_secs(6);
    let (folder, stubborn) = scene(STUBBORN)?;
    let sshd = Sshd::start().await?;
    let builder = Stack::postgres_rabbit().env("REVEILLE_LEASE_TTL", format!("{}s", TTL.as_secs()));
    let retry = json!({ "max_attempts": 3, "initial": "10ms" });
    let keys = json!({ "command": stubborn, "retry": retry });
    let mut stack = Jobs::on(&sshd).job("stubborn", keys)?.start(builder).await?;
    let id = stack.api.trigger("stubborn", json!({})).await?;
    let pids = both(folder.path()).await?;
    // News of a good lease keeps it alive.
    tokio::time::sleep(TTL + TTL / 2).await;
    ensure!(pids.iter().all(|pid| is_living(*pid)), "the command of a worker that lives was killed");
    stack.workers[0].signal(Signal::STOP)?;
    are_gone(pids, TTL).await?;
    let run = stack.api.get(&id).await?;
    ensure!(run["attempt"] == 1, "the lease was lost before the command was gone: {run}");
    let errors = stack.api.part(&id, "errors").await?;
    ensure!(errors.is_empty(), "the lease was lost before the command was gone: {errors:?}");
    // Thawed, it has nothing to say about the run but begins it anew.
    stack.workers[0].signal(Signal::CONT)?;
    eventually("the next attempt", LONG, async || {
        let run = stack.api.get(&id).await.map_err(|error| format!("{error:#}"))?;
        if run["attempt"] == 2 && run["status"] == "IN_PROGRESS" { Ok(()) } else { Err(run.to_string()) }
    })
    .await?;
    stack.api.cancel(&id).await?;
    stack.api.wait_status(&id, "CANCELED").await?;
    Ok(())
}

/// As when the host loses its power: no byte comes any more, and nobody says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_dead_is_found_out_and_its_command_is_gone_by_then() -> Result<()> {
    let (folder, stubborn) = scene(STUBBORN)?;
    let sshd = Sshd::start().await?;
    let proxy = Proxy::start(sshd.port().address()).await?;
    let jobs = Jobs::through(&sshd, proxy.address().port()).job("stubborn", json!({ "command": stubborn }))?;
    let stack = jobs.start(Stack::embedded()).await?;
    let id = stack.api.trigger("stubborn", json!({})).await?;
    let pids = both(folder.path()).await?;
    let start = Instant::now();
    proxy.stall();
    let run = stack.api.wait_status(&id, "FAILED").await?;
    ensure!(run["error"]["code"] == "SshConnectionLost", "{run}");
    ensure!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let left: Vec<_> = pids.into_iter().filter(|pid| is_living(*pid)).collect();
    ensure!(left.is_empty(), "{left:?} live when the run has failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_a_failure_worth_a_retry() -> Result<()> {
    let (folder, script) =
        scene("echo $$ > FOLDER/program-$REVEILLE_ATTEMPT; [ $REVEILLE_ATTEMPT = 2 ] || exec sleep 600")?;
    let sshd = Sshd::start().await?;
    let proxy = Proxy::start(sshd.port().address()).await?;
    let retry = json!({ "max_attempts": 2, "initial": "10ms" });
    let jobs = Jobs::through(&sshd, proxy.address().port()).job("cut", json!({ "command": script, "retry": retry }))?;
    let stack = jobs.start(Stack::embedded()).await?;
    let id = stack.api.trigger("cut", json!({})).await?;
    let first = pid(&folder.path().join("program-1")).await?;
    proxy.cut().await;
    is_gone(first, Duration::from_secs(2)).await?;
    proxy.heal();
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2, "{run}");
    let errors = stack.api.part(&id, "errors").await?;
    ensure!(errors.len() == 1 && errors[0]["code"] == "SshConnectionLost", "{errors:?}");
    Ok(())
}
