//! A stack with a mixed load, and what was asked of it.

mod asked;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::callee::Callee;
use harness::process::tail;
use harness::receiver::Receiver;
use harness::stack::{Builder, Service, Stack};
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use self::asked::Asked;
use super::outside;
use super::scenes::Dies;

/// How long anything may take.
pub(super) const LIMIT: Duration = Duration::from_secs(180);
/// How many runs each worker takes at once.
pub(super) const SLOTS: u32 = 4;
/// How many triggers may be with the broker.
pub(super) const WINDOW: u32 = 64;

/// Keeps the secrets of webhooks.
const SECRET_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Where ends are posted to.
const ENDS: &str = "/ends";

/// Everything that is defined, but for the jobs that changes of the folder bring. What is to lie in a queue while no worker is
/// there is of high priority: the window of that is not filled by what fires meanwhile.
const DEFINITIONS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 20, initial: 100ms, max: 500ms } }
jobs:
  work: { command: [sh, -c, 'echo at it; echo "::progress 50 half"; sleep 0.1'] }
  flaky: { command: [sh, -c, 'echo again; [ "$REVEILLE_ATTEMPT" -gt 1 ]'] }
  chain: { command: [echo, done], on_success: [link] }
  link: { command: [echo, linked] }
  brief: { http: { url: CALLEE/done } }
  fleeting: { command: [echo, here], expires: 1h, priority: high }
  urgent: { command: ['true'], priority: high }
  longer: { command: [sleep, '3'] }
  held: { command: [sh, -c, 'until [ -e FOLDER/go ]; do sleep 0.1; done'], priority: high }
  narrow: { command: ['true'], concurrency: 1 }
  doubtful: { command: [sh, -c, 'until [ -e FOLDER/go ]; do sleep 0.1; done'], verify: { command: ['false'] } }
  endless: { command: [sleep, '600'] }
  remote: { http: { url: CALLEE/begin/3, follow: { poll: { min: 100ms, max: 200ms } } } }
  forsaken: { http: { url: CALLEE/once, follow: { poll: { min: 1h } } }, timeout: 1d }
  outside: { external: {}, queue: outside }
schedules:
  second: { every: 2s, trigger: [work, chain], overlap: allow, catch_up: { policy: all, window: 1h } }
  pulse: { every: 5s, trigger: work, overlap: allow, catch_up: { policy: all, window: 1h } }
  aside: { every: 1d, trigger: urgent }
"#;

/// A stack, and what was asked of it since it was last looked at.
pub(super) struct World {
    pub(super) stack: Stack,
    /// Where ends are posted to.
    receiver: Receiver,
    /// The path of the webhook that does so, and when it was made.
    webhook: (String, Timestamp),
    definitions: String,
    _callee: Callee,
    /// Runs of `held` and `doubtful` go on until there is a file `go`.
    gate: TempDir,
    asked: Vec<Asked>,
    /// Runs that were asked for without a key and answered.
    answered: Vec<String>,
    /// Backfills, and how they have to end.
    backfills: Vec<(String, &'static str)>,
    is_paused: bool,
    changes: u32,
    number: u32,
    /// Runs the jobs of the queue `outside`.
    _outside: JoinSet<()>,
}

impl World {
    pub(super) async fn start(builder: Builder) -> Result<Self> {
        let (callee, gate) = (Callee::start().await?, TempDir::new()?);
        let definitions = DEFINITIONS.replace("CALLEE", &callee.base);
        let definitions = definitions.replace("FOLDER", &gate.path().to_string_lossy());
        let builder = builder.schedules(definitions.clone()).slots(SLOTS).env("REVEILLE_LEASE_TTL", "3s");
        let builder = builder.env("REVEILLE_WINDOW", WINDOW.to_string());
        let builder = builder.env("REVEILLE_SECRET_KEY", SECRET_KEY).env("REVEILLE_WEBHOOK_ALLOW", "127.0.0.1");
        let stack = builder.start().await?;
        let receiver = Receiver::start().await?;
        let made = make_webhook(&stack, &format!("{}{ENDS}", receiver.base)).await?;
        let created = made["timeCreated"].as_str().context("a time")?.parse()?;
        let webhook = (webhook_path(&made)?, created);
        let mut outside = JoinSet::new();
        outside.spawn(outside::play(stack.api.clone(), stack.broker.as_ref().map(|broker| broker.url().to_owned())));
        let (asked, answered, backfills) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            stack,
            receiver,
            webhook,
            definitions,
            _callee: callee,
            gate,
            asked,
            answered,
            backfills,
            is_paused: false,
            changes: 0,
            number: 0,
            _outside: outside,
        })
    }

    pub(super) fn is_one_process(&self) -> bool {
        self.stack.database.is_none()
    }

    fn services(&mut self, dies: Dies) -> &mut Vec<Service> {
        match dies {
            Dies::Worker | Dies::WorkerOnly if !self.is_one_process() => &mut self.stack.workers,
            _ => &mut self.stack.schedulers,
        }
    }

    /// Takes out the process that is to die, to be put back by [`World::put_back`].
    pub(super) fn take(&mut self, dies: Dies) -> Service {
        self.services(dies).remove(0)
    }

    pub(super) fn put_back(&mut self, dies: Dies, service: Service) {
        self.services(dies).insert(0, service);
    }

    pub(super) async fn stop_workers(&mut self) -> Result<()> {
        for worker in &mut self.stack.workers {
            stop(worker).await?;
        }
        Ok(())
    }

    pub(super) fn kill_workers(&mut self) -> Result<()> {
        self.stack.workers.iter_mut().try_for_each(Service::kill9)
    }

    /// From now on, runs of `held` and `doubtful` don't end.
    pub(super) fn hold(&self) -> Result<()> {
        let go = self.gate.path().join("go");
        if go.exists() { Ok(std::fs::remove_file(go)?) } else { Ok(()) }
    }

    /// From now on they do.
    pub(super) fn let_go(&self) -> Result<()> {
        Ok(std::fs::write(self.gate.path().join("go"), "")?)
    }

    /// Starts again what a scene has ended.
    pub(super) async fn restart_workers(&mut self) -> Result<()> {
        for worker in &mut self.stack.workers {
            if worker.exit_status()?.is_some() {
                worker.restart().await?;
            }
        }
        Ok(())
    }

    /// The children of a run, once all of them are there.
    pub(super) async fn children(&self, parent: &str, count: usize) -> Result<Vec<String>> {
        eventually(&format!("{count} children of {parent}"), LIMIT, async || {
            let query = format!("parent={parent}&limit=1000");
            let seen = self.stack.api.list(&query).await.map_err(|error| format!("{error:#}"))?;
            let ids: Vec<_> = seen.iter().filter_map(|run| run["id"].as_str().map(str::to_owned)).collect();
            if ids.len() == count { Ok(ids) } else { Err(format!("{} are there", ids.len())) }
        })
        .await
    }

    /// Waits until a work request looks as it should.
    pub(super) async fn wait_for(&self, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(&format!("{id} to be {what}"), LIMIT, async || {
            let seen = self.stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
            if is_it(&seen) { Ok(()) } else { Err(seen.to_string()) }
        })
        .await
    }

    /// The same, of one of several.
    pub(super) async fn wait_for_any(&self, ids: &[String], what: &str, is_it: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(&format!("one to be {what}"), LIMIT, async || {
            for id in ids {
                let seen = self.stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
                if is_it(&seen) {
                    return Ok(());
                }
            }
            Err(format!("none of {ids:?}"))
        })
        .await
    }

    /// Asks until it is answered as one of these says.
    pub(super) async fn call(&self, method: Method, path: &str, body: &Value, good: &[u16]) -> Result<Value> {
        eventually(&format!("{method} {path} to answer"), LIMIT, async || {
            let request = self.stack.api.request(method.clone(), path).json(body);
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let text = answer.text().await.map_err(|error| error.to_string())?;
            if good.contains(&status.as_u16()) {
                serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
            } else {
                Err(format!("{status}: {text}"))
            }
        })
        .await
    }

    pub(super) async fn cancel(&self, id: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/v1/workRequests/{id}"), &json!({}), &[202, 409]).await.map(drop)
    }

    pub(super) async fn pause_and_resume(&mut self) -> Result<()> {
        self.is_paused = true;
        self.call(Method::POST, "/v1/schedules/pulse:pause", &json!({}), &[200, 409]).await?;
        self.call(Method::POST, "/v1/schedules/pulse:resume", &json!({}), &[200, 409]).await.map(drop)
    }

    /// Makes a key, rotates and revokes it: each is recorded once, whatever dies in between.
    pub(super) async fn change_a_key(&self) -> Result<()> {
        let made = self.call(Method::POST, "/v1/keys", &json!({"name": "made", "role": "viewer"}), &[201]).await?;
        let prefix = made["prefix"].as_str().context("a prefix")?;
        let rotated = self.call(Method::POST, &format!("/v1/keys/{prefix}:rotate"), &json!({}), &[200]).await?;
        ensure!(rotated["key"] != made["key"], "it has the secret that it had");
        let revoked = self.call(Method::POST, &format!("/v1/keys/{prefix}:revoke"), &json!({}), &[200]).await?;
        ensure!(revoked["state"] == "revoked", "{revoked}");
        let audit = self.call(Method::GET, "/v1/audit?limit=100", &json!({}), &[200]).await?;
        let of_it = audit["items"].as_array().context("items")?.iter().filter(|change| change["name"] == prefix);
        let actions: Vec<_> = of_it.map(|change| change["action"].as_str().unwrap_or_default()).collect();
        // A rotation whose answer was lost is done again: that is another one.
        let known = actions.first() == Some(&"revoked") && actions.last() == Some(&"created");
        ensure!(known && actions[1..actions.len() - 1].iter().all(|action| *action == "rotated"), "{actions:?}");
        Ok(())
    }

    /// Makes a webhook and deletes it; one may be left whose answer was lost.
    pub(super) async fn webhooks_come_and_go(&self) -> Result<()> {
        let made = make_webhook(&self.stack, &format!("{}/others", self.receiver.base)).await?;
        let path = webhook_path(&made)?;
        eventually("it to be deleted", LIMIT, async || {
            let answer =
                self.stack.api.request(Method::DELETE, &path).send().await.map_err(|error| error.to_string())?;
            let status = answer.status();
            if [204, 404].contains(&status.as_u16()) { Ok(()) } else { Err(status.to_string()) }
        })
        .await
    }

    /// Has something posted once more that was taken.
    pub(super) async fn redeliver(&self) -> Result<()> {
        let (hook, _) = &self.webhook;
        let taken = eventually("something to be delivered", LIMIT, async || {
            let log = self.stack.api.get_path(&format!("{hook}/deliveries?state=delivered&limit=1")).await;
            let log = log.map_err(|error| format!("{error:#}"))?;
            log["items"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| log.to_string())
        })
        .await?;
        let path = format!("{hook}/deliveries/{taken}:redeliver");
        self.call(Method::POST, &path, &json!({}), &[202, 409]).await.map(drop)
    }

    /// Every one of these ends, by when it was, was posted, but for those of before there was a webhook.
    pub(super) async fn ends_are_posted(&self, ends: &[(String, Timestamp)]) -> Result<()> {
        // An end that began to be written before that is not told.
        let since = self.webhook.1 + SignedDuration::from_secs(1);
        let told = ends.iter().filter(|(_, at)| *at > since).map(|(id, _)| id.clone()).collect::<BTreeSet<_>>();
        ensure!(!told.is_empty(), "nothing has ended");
        eventually("every end to be posted", LIMIT, async || {
            let posted = self.receiver.received(ENDS).into_iter().map(|post| post.id).collect::<BTreeSet<_>>();
            let missing: Vec<_> = told.difference(&posted).collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{} of {} are not: {missing:?}", missing.len(), told.len()))
            }
        })
        .await
    }

    /// Adds a job to the folder.
    pub(super) fn change_folder(&mut self) -> Result<()> {
        self.changes += 1;
        let text = format!("version: 1\njobs:\n  extra-{}: {{ command: ['true'] }}\n", self.changes);
        self.put_file("extra.yaml", &text)
    }

    pub(super) async fn change_is_in_force(&self) -> Result<()> {
        self.call(Method::GET, &format!("/v1/jobs/extra-{}", self.changes), &json!({}), &[200]).await.map(drop)
    }

    /// Takes all schedules out of the folder.
    pub(super) fn end_schedules(&self) -> Result<()> {
        self.put_file("test.yaml", self.definitions.split("schedules:").next().context("jobs")?)
    }

    fn put_file(&self, name: &str, text: &str) -> Result<()> {
        let folder = self.stack.schedules_folder();
        std::fs::write(folder.join("next"), text)?;
        Ok(std::fs::rename(folder.join("next"), folder.join(name))?)
    }

    /// Does to the database what no store does. Answers how many rows it was.
    pub(super) async fn tamper(&self, sql: &str) -> Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.stack.database {
            Some(database) => {
                let mut connection = PgConnection::connect(database.url()).await?;
                Ok(sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected())
            }
            None => {
                let file = self.stack.folder().join("data/reveille.db");
                let mut connection = SqliteConnection::connect(&file.to_string_lossy()).await?;
                Ok(sqlx::raw_sql(sql).execute(&mut connection).await?.rows_affected())
            }
        }
    }
}

/// A webhook that wants to know how runs end.
async fn make_webhook(stack: &Stack, url: &str) -> Result<Value> {
    eventually("a webhook", LIMIT, async || {
        let request = stack.api.request(Method::POST, "/v1/webhooks").json(&json!({ "url": url }));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let made = answer.json().await.map_err(|error| error.to_string())?;
        if status == StatusCode::CREATED { Ok(made) } else { Err(format!("{status}: {made}")) }
    })
    .await
}

fn webhook_path(made: &Value) -> Result<String> {
    Ok(format!("/v1/webhooks/{}", made["id"].as_str().context("an id")?))
}

/// Ends a process in good order, if it runs; on a busy machine it may have to drop something when its grace is over.
pub(super) async fn stop(service: &mut Service) -> Result<()> {
    if service.exit_status()?.is_none() {
        heeds_signals(service.pid()).await?;
        service.signal(Signal::TERM)?;
        let status = service.wait_exit(LIMIT).await?;
        ensure!(status.code().is_some(), "told to stop, it ended with {status}: {}", tail(&service.log(), 2000));
    }
    Ok(())
}

/// Waits until SIGTERM means "stop in good order" to a process: before it has started everything, it just dies of it.
pub(super) async fn heeds_signals(pid: Pid) -> Result<()> {
    eventually("a process to heed signals", LIMIT, async || {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
        let mask = u64::from_str_radix(caught, 16).map_err(|error| format!("{error}: {caught}"))?;
        if mask & (1 << (Signal::TERM.as_raw() - 1)) != 0 { Ok(()) } else { Err(format!("it catches {caught}")) }
    })
    .await
}
