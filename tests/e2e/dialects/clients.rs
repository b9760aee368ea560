//! The clients themselves, where Python's package index can be reached. Where it can't, the transcript alone has to do.

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
    for script in ["with_oci.py", "with_azure.py", "with_google.py"] {
        let output =
            run(Command::new(&python).arg(folder().join(script)).arg(&base).arg(harness::key::text()), LIMIT).await?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{script}: {said}");
        say(&said);
    }
    Ok(())
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
    match made {
        Ok(output) if output.status.success() => {
            std::fs::write(&installed, wanted)?;
            Ok(Some(python))
        }
        other => {
            let why = match other {
                Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned(),
                Err(error) => format!("{error:#}"),
            };
            say(&format!("PASSED OVER: no clients to be had from Python's package index: {why}"));
            Ok(None)
        }
    }
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
