//! The contract, put to the test by `schemathesis`: all that fits `/openapi.json` and all that does not, as three callers, about
//! things that there are. Of what decides about a change the cases are the same for everybody; a desk tries more, in sequences too.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use harness::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::dialects::clients::{clients, run, say};

/// How long one round may take.
const LIMIT: Duration = Duration::from_secs(400);
/// A word that is in all that the one namespace has, and in nothing that a caller sends.
const SECRET: &str = "nightingale";
const JOBS: &str = "
version: 1
jobs:
  hello: { command: [echo, nightingale], description: nightingale }
  outside: { queue: outside, external: {} }
schedules:
  rarely: { cron: '0 0 1 1 *', trigger: hello, input: { of: nightingale } }
";
/// By it webhooks' secrets are kept.
const SECRET_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What no schema can say: why something that fits it may be refused all the same.
const MEANT: [&str; 16] = [
    "\"detail\":\"page: not a page of this list",
    "\"detail\":\"pageToken: not a page of this list",
    "is another name for Idempotency-Key",
    "IdempotencyKeyReused",
    "does not go together with",
    "it needs inputs",
    "must not hold the character U+0000",
    "is before from",
    "nothing can be both",
    "is not in the future",
    "there is no due time from",
    "due times, and the most is",
    "FaultyDefinitions",
    "must be at most 30d",
    "InvalidData",
    "must be true, or say which ones with",
];

/// Each failure that it has found, in its words, without those that are meant.
fn found(report: &str) -> Vec<&str> {
    let failures = report.split("\n- ").skip(1).filter(|part| part.starts_with("ST"));
    let ends = |part: &str| part.find("\n____").or_else(|| part.find("\n====")).unwrap_or(part.len());
    let failures = failures.map(|part| &part[..ends(part)]);
    let is_meant = |part: &&str| {
        // Which hosts may have deliveries is configuration.
        let whys = MEANT.iter().chain(&["\"detail\":\"url: "]);
        part.starts_with("ST202") && whys.into_iter().any(|text| part.contains(text))
    };
    failures.filter(|part| !is_meant(part)).collect()
}

/// The operations that have not answered, but for the stream: under load it may be given up before it has begun.
fn broken(report: &str) -> Vec<&str> {
    let errors = report.split_once("= ERRORS =").map_or("", |(_, rest)| rest);
    let errors = errors.split("\n====").next().unwrap_or_default();
    let operations = errors.lines().filter(|line| line.starts_with("____")).map(|line| line.trim_matches(['_', ' ']));
    operations.filter(|operation| *operation != "GET /v1/workRequests:stream").collect()
}

/// A stack with something of every kind in the namespace `default`.
struct Round {
    stack: Stack,
    schemathesis: PathBuf,
    base: String,
    run: String,
    waits: String,
    webhook: String,
    delivery: String,
    key: String,
}

/// What has come of a round.
struct Told {
    report: String,
    exchanges: Vec<Value>,
}

impl Round {
    /// None if there is no schemathesis to be had.
    async fn start() -> Result<Option<Self>> {
        let Some(python) = clients().await? else { return Ok(None) };
        let builder = Stack::postgres_rabbit().schedules(JOBS).workers(1).env("REVEILLE_SECRET_KEY", SECRET_KEY);
        let stack = builder.start().await?;
        let base = crate::dialects::base(&stack)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        let hook = json!({"url": "https://portal.example.com/hooks", "description": SECRET});
        let webhook = text(&post(&stack, "/v1/webhooks", &hook).await?["id"])?;
        let run = stack.api.trigger("hello", json!({"of": SECRET})).await?;
        stack.api.wait_status(&run, "SUCCEEDED").await?;
        let waits = stack.api.trigger("outside", json!({"of": SECRET})).await?;
        let instant = "2020-01-01T00:00:00Z";
        let span = json!({"from": instant, "to": instant, "id": "again", "reason": SECRET});
        post(&stack, "/v1/schedules/rarely:backfill", &span).await?;
        eventually("the end of the backfill", Duration::from_secs(60), async || {
            let backfill = stack.api.get_path("/v1/schedules/rarely/backfills/again").await;
            let backfill = backfill.map_err(|error| format!("{error:#}"))?;
            if backfill["timeEnded"].is_string() { Ok(()) } else { Err(backfill.to_string()) }
        })
        .await?;
        let key = text(&post(&stack, "/v1/keys", &json!({"name": SECRET, "role": "viewer"})).await?["prefix"])?;
        let deliveries = format!("/v1/webhooks/{webhook}/deliveries");
        let delivery = eventually("a delivery", Duration::from_secs(60), async || {
            let list = stack.api.get_path(&deliveries).await.map_err(|error| format!("{error:#}"))?;
            list["items"][0]["id"].as_str().map(str::to_owned).ok_or(list.to_string())
        });
        let delivery = delivery.await?;
        let schemathesis = python.with_file_name("schemathesis");
        Ok(Some(Self { stack, schemathesis, base, run, waits, webhook, delivery, key }))
    }

    /// Names what there is, so that little of what is sent comes to nothing as there is no such thing.
    fn config(&self, namespace: &str) -> String {
        let Self { run, waits, webhook, delivery, key, .. } = self;
        let things = [
            ("^/v1/webhooks/", webhook.as_str()),
            ("/backfills/", "again"),
            ("^/v1/workRequests/.*(:claim|:heartbeat|/events)$", waits),
            ("^/(20[0-9]+|v1)/(workRequests|operations)/", run),
        ];
        let things = things.map(|(paths, id)| {
            format!("[[operations]]\ninclude-path-regex = '{paths}'\nparameters = {{ \"path.id\" = \"{id}\" }}\n")
        });
        // A stream goes on until nobody listens any more. What is gone and what has changed is no matter of the request's form.
        format!(
            r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 412]

[parameters]
"header.x-reveille-namespace" = "{namespace}"
"path.job" = "hello"
"path.schedule" = "rarely"
"path.prefix" = "{key}"
"path.delivery" = "{delivery}"

[[operations]]
include-path = "/v1/workRequests:stream"
request-timeout = 2

{}"#,
            things.join("\n")
        )
    }

    /// A key, by its role and where it is for.
    async fn key(&self, role: &str, namespace: &str) -> Result<String> {
        let ask = json!({"name": format!("{role} of {namespace}"), "role": role, "namespaces": [namespace]});
        let made = post(&self.stack, "/v1/keys", &ask).await?;
        Ok(made["key"].as_str().with_context(|| format!("no key in {made}"))?.to_owned())
    }

    /// Has schemathesis send what it thinks of, as the holder of a key.
    async fn fuzz(&self, who: &str, key: &str, namespace: &str) -> Result<Told> {
        let (folder, har) = (self.stack.folder(), self.stack.folder().join("exchanges.har"));
        std::fs::write(folder.join("schemathesis.toml"), self.config(namespace))?;
        let mut command = Command::new(&self.schemathesis);
        command.args(["run", &format!("{}/openapi.json", self.base), "--url", &self.base, "--checks", "all"]);
        command.args(["--header", &format!("X-API-Key: {key}"), "--continue-on-failure", "--no-color"]);
        command.args(["--generation-database", "none", "--report", "har", "--report-har-path"]).arg(&har);
        match std::env::var("PROPTEST_RNG_SEED") {
            Ok(seed) => command.args(["--phases", "examples,coverage", "--max-examples", "2", "--seed", &seed]),
            Err(_) => command.args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "5"]),
        };
        let output = run(command.current_dir(folder), LIMIT).await?;
        let report = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(report.contains("generated"), "it did not run: {report}");
        ensure!(broken(&report).is_empty(), "as {who}: {:#?}\n{report}", broken(&report));
        ensure!(found(&report).is_empty(), "as {who}: {:#?}\n{report}", found(&report));
        let mut har: Value = serde_json::from_str(&std::fs::read_to_string(&har)?)?;
        let Value::Array(exchanges) = har["log"]["entries"].take() else { anyhow::bail!("no exchanges") };
        let told = Told { report, exchanges };
        ensure!(
            told.count(|status| status == 429) == 0,
            "{who} had to wait, which hides what else would have come of it"
        );
        say(&format!("as {who}: {} requests, {} of them good", told.exchanges.len(), told.count(is_good)));
        Ok(told)
    }

    /// The same, as somebody who may change nothing here.
    async fn fuzz_in_vain(&self, who: &str, key: &str, namespace: &str) -> Result<Told> {
        let before = self.state().await?;
        let told = self.fuzz(who, key, namespace).await?;
        let after = self.state().await?;
        ensure!(after == before, "{who} has changed something: {before:?} {after:?}");
        Ok(told)
    }

    /// What nobody changes who may not.
    async fn state(&self) -> Result<(Value, usize, Value)> {
        let audit = self.stack.api.get_path("/v1/audit?limit=1000").await?;
        let runs = self.stack.api.list("").await?.len();
        Ok((audit, runs, self.stack.api.get_path("/v1/schedules").await?["items"][0]["paused"].clone()))
    }
}

impl Told {
    fn count(&self, is_wanted: impl Fn(u64) -> bool) -> usize {
        self.exchanges.iter().filter(|exchange| is_wanted(status(exchange))).count()
    }

    /// What requests of a method have asked for with success.
    fn paths(&self, method: &str) -> BTreeSet<&str> {
        let good = self.exchanges.iter().filter(|exchange| is_good(status(exchange)));
        let of_method = good.filter(|exchange| exchange["request"]["method"] == method);
        let urls = of_method.filter_map(|exchange| exchange["request"]["url"].as_str());
        urls.filter_map(|url| url.split('?').next()).collect()
    }
}

fn status(exchange: &Value) -> u64 {
    exchange["response"]["status"].as_u64().unwrap_or_default()
}

fn is_good(status: u64) -> bool {
    (200..300).contains(&status)
}

async fn post(stack: &Stack, path: &str, body: &Value) -> Result<Value> {
    let answer = stack.api.request(Method::POST, path).json(body).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{path}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_a_viewer_breaks_the_contract_or_changes_anything() -> Result<()> {
    let Some(round) = Round::start().await? else { return Ok(()) };
    let viewer = round.key("viewer", "default").await?;
    let told = round.fuzz_in_vain("a viewer", &viewer, "default").await?;
    let looked = told.paths("GET").len();
    ensure!(looked >= 35, "a viewer has seen {looked} things only: {}", told.report);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_a_stranger_breaks_the_contract_or_reaches_another_namespace() -> Result<()> {
    let Some(round) = Round::start().await? else { return Ok(()) };
    let stranger = round.key("admin", "other").await?;
    let told = round.fuzz_in_vain("a stranger", &stranger, "other").await?;
    for exchange in &told.exchanges {
        let answer = exchange["response"].to_string();
        ensure!(!answer.contains(SECRET), "told to a stranger: {exchange}");
        // A refusal says what there is not.
        let names = [&round.run, &round.waits, &round.webhook, &round.delivery, &round.key];
        let is_named = is_good(status(exchange)) && names.iter().any(|name| answer.contains(name.as_str()));
        ensure!(!is_named, "told to a stranger: {exchange}");
    }
    let made = told.paths("POST").len();
    ensure!(made >= 3, "a stranger has made {made} things only in its own namespace: {}", told.report);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_an_admin_breaks_the_contract_or_the_service() -> Result<()> {
    let Some(round) = Round::start().await? else { return Ok(()) };
    let told = round.fuzz("an admin", &harness::key::text(), "default").await?;
    for (method, least) in [("GET", 45), ("POST", 15), ("PATCH", 1), ("DELETE", 1)] {
        let reached = told.paths(method).len();
        ensure!(reached >= least, "{method} has reached {reached} things only: {}", told.report);
    }
    let ready = round.stack.api.get_path("/readyz").await?;
    ensure!(ready["ready"] == true, "{ready}");
    Ok(())
}
