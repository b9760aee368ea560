//! All of Reveille over TLS, with real processes: API, command line, worker, database and broker.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::certificates::Authority;
use harness::key;
use harness::ports::Port;
use harness::postgres::Postgres;
use harness::process::{Process, Program, workspace_binary};
use harness::wait::eventually;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Certificate, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::rabbitmq::TlsNode;

const JOB: &str = "version: 1\njobs:\n  hello: { command: [echo, hello] }\n";
const LIMIT: Duration = Duration::from_secs(60);

/// A scheduler and a worker, over TLS wherever they go.
struct Stand {
    scheduler: Port,
    worker: Port,
    folder: TempDir,
    authority: Authority,
    caller: reqwest::Client,
    // In the order in which they end.
    _processes: [Process; 2],
    _services: (Postgres, TlsNode),
}

impl Stand {
    async fn start() -> Result<Self> {
        let (authority, folder) = (Authority::new()?, TempDir::new()?);
        let pair = authority.certify(&["localhost"], 2040)?;
        let (postgres, rabbitmq) = tokio::try_join!(Postgres::start_over_tls(&pair), TlsNode::start(&pair))?;
        let database = postgres.create_database().await?;
        key::give(&database).await?;
        let database = database.replacen("127.0.0.1", "localhost", 1);
        let database = format!("{database}?sslmode=verify-full&sslrootcert={}", authority.file().display());
        let (cert, key) = pair.write(folder.path())?;
        std::fs::write(folder.path().join("jobs.yaml"), JOB)?;
        let start = |binary: &str| {
            let port = Port::claim()?;
            let program = Program::of_workspace(binary, binary, folder.path())?
                .env("REVEILLE_DATABASE_URL", &*database)
                .env("REVEILLE_BROKER_URL", rabbitmq.url("localhost", Some(&authority.file())))
                .env("REVEILLE_LISTEN", port.address().to_string())
                .env("REVEILLE_SCHEDULES", folder.path().join("jobs.yaml").to_string_lossy())
                .env("REVEILLE_TLS_CERT", cert.to_string_lossy())
                .env("REVEILLE_TLS_KEY", key.to_string_lossy());
            anyhow::Ok((program.start()?, port))
        };
        let ((scheduler, scheduler_port), (worker, worker_port)) =
            (start("reveille-scheduler")?, start("reveille-worker")?);
        let trusted = Certificate::from_pem(&std::fs::read(authority.file())?)?;
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", key::text().parse()?);
        let caller = reqwest::Client::builder()
            .default_headers(headers)
            .tls_certs_only([trusted])
            .no_proxy()
            .timeout(LIMIT)
            .build()?;
        let stand = Self {
            scheduler: scheduler_port,
            worker: worker_port,
            folder,
            authority,
            caller,
            _processes: [scheduler, worker],
            _services: (postgres, rabbitmq),
        };
        for port in [&stand.scheduler, &stand.worker] {
            eventually("both to be ready", LIMIT, async || match stand.get(port, "readyz").await {
                Ok((StatusCode::OK, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await?;
        }
        Ok(stand)
    }

    async fn get(&self, port: &Port, path: &str) -> Result<(StatusCode, String)> {
        let answer = self.caller.get(format!("https://localhost:{}/{path}", port.number())).send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    /// What the scheduler says of its certificate; it is ready whatever that is.
    async fn certificate(&self) -> Result<String> {
        let (status, text) = self.get(&self.scheduler, "readyz").await?;
        ensure!(status == StatusCode::OK, "{text}");
        let parts: Value = serde_json::from_str(&text)?;
        let part = parts["parts"].as_array().context("parts")?.iter().find(|part| part["name"] == "certificate");
        Ok(part.context("no part tells of the certificate")?["detail"].as_str().unwrap_or_default().to_owned())
    }

    async fn command(&self, scheme: &str, authority: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(workspace_binary("reveille")?);
        command.arg("--server").arg(format!("{scheme}://localhost:{}", self.scheduler.number()));
        command.env("REVEILLE_KEY", key::text());
        Ok(command.arg("--ca-cert").arg(authority).args(arguments).kill_on_drop(true).output().await?)
    }
}

#[tokio::test]
async fn everything_goes_over_tls_and_certificates_are_taken_anew() -> Result<()> {
    let stand = Stand::start().await?;
    let run = stand.command("https", &stand.authority.file(), &["trigger", "hello", "--wait"]).await?;
    ensure!(run.status.success(), "{run:?}");
    let url = format!("https://localhost:{}/v1/jobs/hello/trigger", stand.scheduler.number());
    let accepted = stand.caller.post(url).send().await?;
    let location = accepted.headers()[LOCATION].to_str()?;
    ensure!(location.starts_with(&format!("https://localhost:{}/v1/", stand.scheduler.number())), "{location}");

    stand.authority.certify(&["localhost"], 2041)?.write(stand.folder.path())?;
    let told = |what: &'static str| {
        let stand = &stand;
        eventually(what, LIMIT, async move || {
            let told = stand.certificate().await.map_err(|error| format!("{error:#}"))?;
            if told.contains(what) { Ok(()) } else { Err(told) }
        })
    };
    told("is good until 2041-01-01").await?;
    eventually("the worker to have it too", LIMIT, async || match stand.get(&stand.worker, "readyz").await {
        Ok((StatusCode::OK, text)) if text.contains("is good until 2041-01-01") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    std::fs::write(stand.folder.path().join("key.pem"), "no key")?;
    told("key.pem is not a PEM file").await?;
    stand.authority.certify(&["localhost"], 2042)?.write(stand.folder.path())?;
    told("is good until 2042-01-01").await
}

#[tokio::test]
async fn the_command_line_says_what_is_wrong_with_a_connection() -> Result<()> {
    let stand = Stand::start().await?;
    let own = stand.authority.file();
    let stranger = Authority::new()?;
    for (scheme, authority, code, said) in [
        ("https", &stranger.file(), 5, "--ca-cert FILE"),
        ("http", &own, 1, "this port speaks TLS"),
        ("https", &stand.folder.path().join("jobs.yaml"), 2, "not a PEM file"),
        ("https", &stand.folder.path().join("none.pem"), 2, "none.pem"),
    ] {
        let refused = stand.command(scheme, authority, &["runs"]).await?;
        let text = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(code) && text.contains(said), "{code}, {said}: {refused:?}");
    }
    Ok(())
}
