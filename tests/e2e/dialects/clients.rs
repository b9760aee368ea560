//! The clients themselves, where Python's and Node's package indexes can be reached. Where they can't, the transcript and our own
//! reader of streams have to do.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use tokio::process::Command;

/// How long installing may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long one client may take.
const LIMIT: Duration = Duration::from_secs(120);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/dialects/clients")
}

#[tokio::test(flavor = "multi_thread")]
async fn others_clients_follow_runs_unmodified() -> Result<()> {
    let Some(python) = clients().await? else { return Ok(()) };
    let stack = super::stack(Stack::postgres_rabbit()).start().await?;
    let base = super::base(&stack)?;
    for script in ["with_oci.py", "with_azure.py", "with_google.py", "with_sse.py"] {
        drive(script, Command::new(&python).arg(folder().join(script)).arg(&base).arg(harness::key::text())).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_event_source_hears_runs_unmodified() -> Result<()> {
    let Some(script) = event_source().await? else { return Ok(()) };
    let stack = super::stack(Stack::embedded()).start().await?;
    drive("with_eventsource.mjs", Command::new("node").arg(script).arg(super::base(&stack)?)).await
}

async fn drive(script: &str, client: &mut Command) -> Result<()> {
    let output = run(client, LIMIT).await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{script}: {said}");
    say(&said);
    Ok(())
}

/// The script beside the client that it drives, kept in the target folder for the next time; none if that can't be had.
async fn event_source() -> Result<Option<PathBuf>> {
    let kept = harness::process::workspace_binary("reveille")?.parent().context("a folder")?.join("event-source");
    std::fs::create_dir_all(&kept)?;
    for file in ["package.json", "with_eventsource.mjs"] {
        std::fs::copy(folder().join(file), kept.join(file))?;
    }
    let install = ["install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=5000"];
    let made = run(Command::new("npm").args(install).current_dir(&kept), PATIENCE).await;
    Ok(had(made, "Node's").then(|| kept.join("with_eventsource.mjs")))
}

/// Whether a client could be installed; says so if not.
fn had(made: Result<Output>, whose: &str) -> bool {
    let why = match made {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned(),
        Err(error) => format!("{error:#}"),
    };
    say(&format!("PASSED OVER: no clients to be had from {whose} package index: {why}"));
    false
}

/// A Python that has the clients, kept in the target folder for the next time; none if they can't be had.
pub(crate) async fn clients() -> Result<Option<PathBuf>> {
    let kept = harness::process::workspace_binary("reveille")?.parent().context("a folder")?.join("clients");
    let (python, requirements) = (kept.join("bin/python"), folder().join("requirements.txt"));
    // Several tests may look for it at once.
    let lock = std::fs::File::create(kept.with_extension("lock"))?;
    let _held = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    let wanted = std::fs::read_to_string(&requirements)?;
    let installed = kept.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(python));
    }
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    let begun = run(Command::new("python3").args(["-m", "venv"]).arg(&kept), PATIENCE).await;
    let quiet = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"];
    let fails_fast = ["--retries", "1", "--timeout", "5", "-r"];
    let made = match begun {
        Ok(output) if output.status.success() => {
            run(Command::new(&python).args(quiet).args(fails_fast).arg(&requirements), PATIENCE).await
        }
        other => other,
    };
    if !had(made, "Python's") {
        return Ok(None);
    }
    std::fs::write(&installed, wanted)?;
    Ok(Some(python))
}

pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let command = command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output()).await;
    Ok(output.with_context(|| format!("it took longer than {limit:?}"))??)
}

#[allow(clippy::print_stderr, reason = "what was passed over is to be seen")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
