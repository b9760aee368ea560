//! Keys, as those who run the service and those who call it meet them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process::Program;
use harness::stack::{Service, Stack};
use harness::wait::eventually;
use reqwest::{Method, StatusCode};
use reveille_shared::access::KeyText;
use serde_json::{Value, json};

const JOBS: &str = "
version: 1
jobs:
  hello: { command: [echo, hello] }
";
const LONG: Duration = Duration::from_secs(60);

/// What `reveille` prints on standard output.
async fn reveille(stack: &Stack, key: &str, arguments: &[&str]) -> Result<String> {
    let name = format!("reveille-{}", arguments.join("-").replace('/', "."));
    let program = Program::of_workspace("reveille", &name, stack.folder())?;
    let program = arguments.iter().fold(program, |program, argument| program.arg(argument));
    let mut process = program
        .env("REVEILLE_SERVER", format!("http://{}", stack.schedulers[0].address()))
        .env("REVEILLE_DATABASE_URL", stack.database.as_ref().context("a database")?.url())
        .env("REVEILLE_KEY", key)
        .quiet()
        .start()?;
    let status = process.wait_exit(LONG).await?;
    let printed = process.log();
    ensure!(status.success(), "{status}: {printed}");
    Ok(printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_opens_the_way_to_others_and_a_revoked_one_is_refused_everywhere() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).schedulers(2).workers(1).start().await?;
    let key = |printed: &str| printed.lines().find(|line| line.starts_with("rvl_")).map(str::to_owned).context("a key");
    let first =
        key(&reveille(&stack, "", &["keys", "create", "me", "--role", "admin", "--everywhere", "--directly"]).await?)?;
    let operator = key(&reveille(&stack, &first, &["keys", "create", "ci", "--role", "operator"]).await?)?;
    let waited = reveille(&stack, &operator, &["trigger", "hello", "--wait"]).await?;
    ensure!(waited.contains("SUCCEEDED"), "{waited}");
    let run = stack.api.list("job=hello").await?.swap_remove(0);
    let prefix = operator.split('_').nth(1).context("a prefix")?.to_owned();
    let events = stack.api.part(run["id"].as_str().context("an id")?, "events").await?;
    ensure!(events[0].to_string().contains(&format!("ci (key {prefix})")), "{events:?}");

    let asked = async |scheduler: usize| -> Result<StatusCode> {
        let url = format!("http://{}/v1/jobs", stack.schedulers[scheduler].address());
        Ok(reqwest::Client::new().get(url).header("x-api-key", &operator).send().await?.status())
    };
    ensure!(asked(0).await? == 200 && asked(1).await? == 200, "it is good at both");
    let revoked =
        stack.api.request(Method::POST, &format!("/v1/keys/{prefix}:revoke")).json(&json!({"reason": "gone"}));
    ensure!(revoked.send().await?.status() == 200);
    ensure!(asked(0).await? == 401, "who has revoked it knows at once");
    eventually("the other scheduler to know", Duration::from_secs(10), async || match asked(1).await {
        Ok(StatusCode::UNAUTHORIZED) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let list = reveille(&stack, &first, &["keys", "list", "--search", &prefix]).await?;
    ensure!(list.contains("revoked"), "{list}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_asks_for_the_same_keys_as_a_scheduler_and_refuses_in_the_same_words() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(1).start().await?;
    let made = |name: &'static str, more: &'static [&'static str]| {
        let stack = &stack;
        async move {
            let arguments = [&["keys", "create", name, "--role", "viewer"], more].concat();
            let printed = reveille(stack, &harness::key::text(), &arguments).await?;
            let key = printed.lines().find(|line| line.starts_with("rvl_")).map(str::to_owned);
            key.context("a key")
        }
    };
    let (everywhere, tenant) = (made("prometheus", &["--everywhere"]).await?, made("team", &[]).await?);
    let unknown = KeyText::generate()?.reveal();
    let asked = async |service: &Service, key: Option<&str>| -> Result<(StatusCode, String, String)> {
        let request = reqwest::Client::new().get(format!("http://{}/metrics", service.address()));
        let answer = key.into_iter().fold(request, |request, key| request.bearer_auth(key)).send().await?;
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.to_owned();
        Ok((answer.status(), kind, answer.text().await?))
    };
    for (key, expected) in [(None, 401), (Some("rvl_bad"), 401), (Some(&unknown), 401), (Some(&tenant), 403)] {
        let (theirs, ours) = tokio::try_join!(asked(&stack.schedulers[0], key), asked(&stack.workers[0], key))?;
        ensure!(theirs.0 == expected && theirs.1 == ours.1 && theirs.0 == ours.0, "{theirs:?} {ours:?}");
        let [theirs, ours] = [theirs, ours].map(|(_, _, text)| serde_json::from_str::<Value>(&text));
        ensure!(theirs? == ours?);
    }
    let (status, _, text) = asked(&stack.workers[0], Some(&everywhere)).await?;
    ensure!(status == 200 && text.contains("reveille_"), "{status}: {text}");

    let prefix = everywhere.split('_').nth(1).context("a prefix")?;
    reveille(&stack, &harness::key::text(), &["keys", "revoke", prefix]).await?;
    eventually("the worker to know", Duration::from_secs(10), async || {
        match asked(&stack.workers[0], Some(&everywhere)).await {
            Ok((StatusCode::UNAUTHORIZED, _, text)) if text.contains("was revoked") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
