//! The contract, put to the test by `schemathesis`: all that fits `/openapi.json` and all that does not, as three callers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::dialects::clients::{clients, run, say};

/// How long one round may take.
const LIMIT: Duration = Duration::from_secs(400);
const JOBS: &str = "
version: 1
jobs:
  hello: { command: [echo, hello] }
  canary: { command: [echo, canary], description: canary }
  outside: { queue: outside, external: {} }
schedules:
  canaries: { every: 1h, trigger: canary }
";

/// What no schema can say: why something that fits it may be refused all the same.
const MEANT: [&str; 20] = [
    "begin anew, without Last-Event-ID",
    "page: not a page of this list",
    "is another name for",
    "IdempotencyKeyReused",
    "does not go together with",
    "it needs inputs",
    "U+0000",
    "is before from",
    "is not in the future",
    "is in the future",
    "no due time",
    "and the most is",
    "FaultyDefinitions",
    "a marker, thank you",
    "it has changed since",
    "must be at most 30d",
    "is not a list of field=value",
    "InvalidData",
    "SecretKeyMissing",
    "\"detail\":\"url: ",
];

/// Each failure that it has found, in its words, without those that are meant.
fn found(report: &str) -> Vec<&str> {
    let failures = report.split("\n- ").skip(1).filter(|part| part.starts_with("ST"));
    let ends = |part: &str| part.find("\n____").or_else(|| part.find("\n====")).unwrap_or(part.len());
    let failures = failures.map(|part| &part[..ends(part)]);
    let is_meant = |part: &&str| {
        let is_refusal = part.starts_with("ST202") || part.starts_with("ST201") && part.contains("a marker, thank you");
        is_refusal && MEANT.iter().any(|text| part.contains(text))
    };
    failures.filter(|part| !is_meant(part)).collect()
}

struct Round<'a> {
    stack: &'a Stack,
    python: &'a Path,
    base: String,
}

impl Round<'_> {
    /// A key, by its role and where it is for.
    async fn key(&self, role: &str, namespace: &str) -> Result<String> {
        let ask = json!({"name": format!("{role} of {namespace}"), "role": role, "namespaces": [namespace]});
        let answer = self.stack.api.request(Method::POST, "/v1/keys").json(&ask).send().await?;
        let made: Value = answer.json().await?;
        Ok(made["key"].as_str().with_context(|| format!("no key in {made}"))?.to_owned())
    }

    /// Everything that schemathesis sends, and the answers.
    async fn fuzz(&self, key: &str, phases: &str, examples: u32) -> Result<(String, String)> {
        let har = self.stack.folder().join("exchanges.har");
        let program = self.python.parent().context("a folder")?.join("schemathesis");
        let mut command = Command::new(program);
        command.args(["run", &format!("{}/openapi.json", self.base), "--url", &self.base, "--checks", "all"]);
        command.args(["--header", &format!("X-API-Key: {key}"), "--phases", phases]);
        command.args(["--max-examples", &examples.to_string(), "--continue-on-failure", "--no-color"]);
        command.args(["--generation-database", "none", "--report", "har", "--report-har-path"]).arg(&har);
        // What decides about a change tries the same for everybody, as with property tests.
        if let Ok(seed) = std::env::var("PROPTEST_RNG_SEED") {
            command.args(["--seed", &seed]);
        }
        command.current_dir(self.stack.folder());
        let output = run(&mut command, LIMIT).await?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(said.contains("generated"), "it did not run: {said}");
        Ok((said, std::fs::read_to_string(&har)?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_breaks_the_contract_and_no_key_reaches_beyond_itself() -> Result<()> {
    let Some(python) = clients().await? else { return Ok(()) };
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(1).start().await?;
    let base = crate::dialects::base(&stack)?;
    let round = Round { stack: &stack, python: &python, base };
    let canary = stack.api.trigger("canary", json!({"word": "canary"})).await?;
    stack.api.wait_status(&canary, "SUCCEEDED").await?;

    // A viewer writes nothing.
    let viewer = round.key("viewer", "default").await?;
    let state = async || -> Result<(Value, usize, Value)> {
        let audit = stack.api.get_path("/v1/audit?limit=1000").await?;
        let runs = stack.api.list("").await?.len();
        Ok((audit, runs, stack.api.get_path("/v1/schedules").await?["items"][0]["paused"].clone()))
    };
    let before = state().await?;
    let (said, _) = round.fuzz(&viewer, "coverage", 1).await?;
    ensure!(found(&said).is_empty(), "as a viewer: {:#?}\n{said}", found(&said));
    ensure!(state().await? == before, "a viewer has changed something");

    // The longer rounds are for desks: what decides about a change has to end in time.
    if std::env::var_os("PROPTEST_RNG_SEED").is_some() {
        return Ok(());
    }
    // A key of another namespace learns nothing of this one.
    let stranger = round.key("admin", "other").await?;
    let (said, exchanges) = round.fuzz(&stranger, "examples,coverage", 5).await?;
    ensure!(found(&said).is_empty(), "as a stranger: {:#?}\n{said}", found(&said));
    for word in ["canary", canary.as_str(), "canaries"] {
        ensure!(!exchanges.contains(word), "{word} was told to a stranger");
    }
    ensure!(state().await? == before, "a stranger has changed something");

    // Who may do everything breaks nothing.
    let (said, _) = round.fuzz(&harness::key::text(), "examples,coverage,stateful", 4).await?;
    ensure!(found(&said).is_empty(), "as an admin: {:#?}\n{said}", found(&said));
    say(&said.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    let ready = stack.api.get_path("/readyz").await?;
    ensure!(ready["ready"] == true, "{ready}");
    Ok(())
}
