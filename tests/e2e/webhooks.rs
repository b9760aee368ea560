//! What happens to runs, as receivers of webhooks are told it.

mod libraries;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::receiver::{Answer, Received, Receiver};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::scenario::metric;

const LIMIT: Duration = Duration::from_secs(120);
/// Longer than the pause between two looks, several times over.
const SETTLED: Duration = Duration::from_secs(2);
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const JOBS: &str = r#"
version: 1
jobs:
  good: { command: ['true'] }
  bad: { command: ['false'], retry: { max_attempts: 1 } }
  flaky: { command: [sh, -c, 'test $REVEILLE_ATTEMPT = 2'], retry: { max_attempts: 2, initial: 50ms } }
schedules:
  rare: { every: 1d, trigger: good }
"#;

fn stack(builder: Builder) -> Builder {
    builder.schedules(JOBS).env("REVEILLE_SECRET_KEY", KEY).env("REVEILLE_WEBHOOK_ALLOW", "127.0.0.1")
}

async fn call(api: &Client, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
    let answer = api.request(method, path).json(body).send().await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// A webhook to a path of the receiver; its own path, and its secret.
async fn hook(api: &Client, receiver: &Receiver, path: &str, filter: Value) -> Result<(String, String)> {
    let mut body = filter;
    body["url"] = json!(format!("{}{path}", receiver.base));
    let (status, made) = call(api, Method::POST, "/v1/webhooks", &body).await?;
    ensure!(status == 201, "{status}: {made}");
    let (id, secret) = (made["id"].as_str().context("an id")?, made["secret"].as_str().context("a secret")?);
    Ok((format!("/v1/webhooks/{id}"), secret.to_owned()))
}

async fn deliveries(api: &Client, hook: &str, query: &str) -> Result<Vec<Value>> {
    let log = api.get_path(&format!("{hook}/deliveries?limit=1000{query}")).await?;
    Ok(log["items"].as_array().context("items")?.clone())
}

async fn until(api: &Client, path: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(what, LIMIT, async || {
        let seen = api.get_path(path).await.map_err(|error| format!("{error:#}"))?;
        if is_it(&seen) { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await
}

#[tokio::test]
async fn what_is_refused_comes_again_and_what_is_taken_does_not() -> Result<()> {
    let (stack, receiver) = (stack(Stack::embedded()).start().await?, Receiver::start().await?);
    receiver.answer("/flaky", [Answer::Status(500), Answer::Status(200)]);
    let (hook, _) = hook(&stack.api, &receiver, "/flaky", json!({})).await?;
    let id = stack.api.trigger("good", json!({})).await?;
    let posts = receiver.wait("/flaky", 2, LIMIT).await?;
    let [first, second] = &posts[..] else { panic!("{posts:?}") };
    ensure!((&first.id, &first.body) == (&second.id, &second.body), "{posts:?}");
    ensure!(first.timestamp < second.timestamp && first.signature != second.signature, "{posts:?}");
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    let history = stack.api.part(&id, "events").await?;
    let last = history.last().context("a history")?;
    let event = first.event();
    ensure!(first.id == event["id"] && event["id"] == format!("{id}/{}", last["seq"]), "{event}");
    ensure!(event["type"] == "io.reveille.workRequest.succeeded" && event["time"] == run["timeFinished"], "{event}");
    ensure!(event["data"]["workRequestId"] == id.as_str() && event["data"]["status"] == "SUCCEEDED", "{event}");
    ensure!(event["data"]["event"] == *last, "{event} tells {last}");
    let log = eventually("the log to say that it was taken", LIMIT, async || {
        let log = deliveries(&stack.api, &hook, "").await.map_err(|error| format!("{error:#}"))?;
        if log.len() == 1 && log[0]["state"] == "delivered" { Ok(log) } else { Err(format!("{log:?}")) }
    })
    .await?;
    let statuses: Vec<_> =
        log[0]["attempts"].as_array().context("attempts")?.iter().map(|one| &one["status"]).collect();
    ensure!(statuses == [&json!(500), &json!(200)], "{log:?}");
    let told = metric(&stack, "reveille_webhook_attempts_total{outcome=\"delivered\"}").await?;
    ensure!((told - 1.0).abs() < 0.5, "{told}");

    // By hand it comes once more, as the same event.
    let again = format!("{hook}/deliveries/{}:redeliver", log[0]["id"].as_str().context("an id")?);
    let (status, answer) = call(&stack.api, Method::POST, &again, &json!({})).await?;
    ensure!(status == 202, "{answer}");
    let posts = receiver.wait("/flaky", 3, LIMIT).await?;
    ensure!(posts[2].id == first.id && posts[2].body == first.body, "{posts:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_there_disables_and_enabling_goes_on() -> Result<()> {
    let patience = stack(Stack::embedded()).env("REVEILLE_WEBHOOK_PATIENCE", "3s");
    let (stack, receiver) = (patience.start().await?, Receiver::start().await?);
    receiver.answer("/gone", [Answer::Status(410)]);
    receiver.answer("/dead", [Answer::Status(503)]);
    let (gone, _) = hook(&stack.api, &receiver, "/gone", json!({})).await?;
    let (dead, _) = hook(&stack.api, &receiver, "/dead", json!({})).await?;
    stack.api.trigger("good", json!({})).await?;
    let is_off = |seen: &Value| seen["enabled"] == false;
    let seen = until(&stack.api, &gone, "410 to disable", is_off).await?;
    ensure!(seen["disabledReason"].as_str().is_some_and(|reason| reason.contains("410")), "{seen}");
    let seen = until(&stack.api, &dead, "patience to end", is_off).await?;
    ensure!(
        seen["disabledReason"].as_str().is_some_and(|reason| reason.contains("every delivery has failed")),
        "{seen}"
    );
    ensure!(receiver.received("/gone").len() == 1, "{:?}", receiver.received("/gone"));
    ensure!(receiver.received("/dead").len() > 1, "{:?}", receiver.received("/dead"));
    ensure!(stack.schedulers[0].log().matches("a webhook is disabled").count() == 2, "the log does not say so");
    ensure!(metric(&stack, "reveille_webhooks_disabled").await? > 1.5, "the figures do not say so");

    receiver.answer("/dead", [Answer::Status(200)]);
    let before = receiver.received("/dead").len();
    let (status, seen) = call(&stack.api, Method::PATCH, &dead, &json!({"enabled": true})).await?;
    ensure!(status == 200 && seen["enabled"] == true && seen.get("disabledReason").is_none(), "{seen}");
    let id = stack.api.trigger("bad", json!({})).await?;
    let posts = receiver.wait("/dead", before + 1, LIMIT).await?;
    let is_told = |posts: &[Received]| posts.iter().any(|post| post.event()["subject"] == id.as_str());
    eventually("what happens from then on", LIMIT, async || {
        if is_told(&receiver.received("/dead")) { Ok(()) } else { Err(format!("{posts:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_slow_target_makes_no_other_wait() -> Result<()> {
    const RUNS: usize = 150;
    let (stack, receiver) = (stack(Stack::embedded()).slots(16).start().await?, Receiver::start().await?);
    receiver.answer("/slow", [Answer::Never]);
    hook(&stack.api, &receiver, "/slow", json!({})).await?;
    hook(&stack.api, &receiver, "/fast", json!({})).await?;
    let mut asked = BTreeSet::new();
    for _ in 0..RUNS {
        asked.insert(stack.api.trigger("good", json!({})).await?);
    }
    for id in &asked {
        stack.api.wait_status(id, "SUCCEEDED").await?;
    }
    // Far less than one post to the slow one may take.
    let posts = receiver.wait("/fast", RUNS, Duration::from_secs(10)).await?;
    let told: BTreeSet<_> =
        posts.iter().filter_map(|post| post.event()["subject"].as_str().map(str::to_owned)).collect();
    ensure!(told == asked, "{} of {} are told", told.len(), asked.len());
    let slow = receiver.received("/slow").len();
    ensure!((1..=64).contains(&slow), "{slow} posts to the slow one");
    Ok(())
}

#[tokio::test]
async fn neither_redirects_nor_what_is_private_is_followed() -> Result<()> {
    let mut stack = stack(Stack::postgres_rabbit()).start().await?;
    let receiver = Receiver::start().await?;
    receiver.answer("/away", [Answer::Redirect(format!("{}/inside", receiver.base))]);
    let (away, _) = hook(&stack.api, &receiver, "/away", json!({"statuses": ["SUCCEEDED"]})).await?;
    stack.api.trigger("good", json!({})).await?;
    let failed = |words: &'static str| {
        move |log: &Value| {
            let attempts = log["items"][0]["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
            attempts.last().is_some_and(|one| one["error"].as_str().is_some_and(|error| error.contains(words)))
        }
    };
    until(&stack.api, &format!("{away}/deliveries"), "the redirect to fail", failed("redirects are not followed"))
        .await?;
    let before = receiver.received("/away").len();

    // What is no longer allowed gets nothing more, also what is pending; and may not be asked for.
    stack.schedulers[0].start_again_with("REVEILLE_WEBHOOK_ALLOW", "192.0.2.1")?;
    stack.schedulers[0].wait_ready().await?;
    let log =
        until(&stack.api, &format!("{away}/deliveries"), "the private one to fail", failed("private address")).await?;
    ensure!(receiver.received("/away").len() <= before + 1, "{log}");
    ensure!(receiver.received("/inside").is_empty(), "a redirect was followed");
    for url in [&receiver.base, "http://localhost:1/", "http://169.254.169.254/", "http://[::ffff:10.0.0.1]/"] {
        let (status, refused) = call(&stack.api, Method::POST, "/v1/webhooks", &json!({"url": url})).await?;
        ensure!(status == 422 && refused["errors"][0]["field"] == "url", "{url}: {status} {refused}");
    }
    Ok(())
}

/// Only the first of each event counts, as for a receiver that forgets repetitions.
fn first_of_each(posts: &[Received]) -> BTreeMap<String, Vec<Value>> {
    let (mut seen, mut runs): (_, BTreeMap<String, Vec<Value>>) = (BTreeSet::new(), BTreeMap::new());
    for post in posts.iter().filter(|post| seen.insert(post.id.clone())) {
        let event = post.event();
        let run = event["subject"].as_str().unwrap_or_default().to_owned();
        runs.entry(run).or_default().push(event["data"]["event"].clone());
    }
    runs
}

#[tokio::test]
async fn each_history_is_told_whole_and_in_order_whoever_dies() -> Result<()> {
    let mut stack = stack(Stack::postgres_rabbit()).schedulers(2).env("REVEILLE_TRANSITIONS", "false").start().await?;
    let receiver = Receiver::start().await?;
    let statuses = json!(["ACCEPTED", "IN_PROGRESS", "CANCELING", "SUCCEEDED", "FAILED", "CANCELED"]);
    hook(&stack.api, &receiver, "/all", json!({ "statuses": statuses })).await?;
    hook(&stack.api, &receiver, "/failures", json!({"statuses": ["FAILED"], "jobs": ["bad", "flaky"]})).await?;
    hook(&stack.api, &receiver, "/rare", json!({"schedules": ["rare"]})).await?;
    let mut asked = BTreeMap::new();
    for round in 0..3_usize {
        // Now and then a post is refused.
        receiver.answer("/all", (0..5).map(|_| Answer::Status(500)).chain([Answer::Status(200)]));
        for (number, job) in ["good", "flaky", "bad"].into_iter().cycle().take(24).enumerate() {
            asked.insert(stack.schedulers[number % 2].api.trigger(job, json!({})).await?, job);
        }
        receiver.wait("/all", 20 * (round + 1), LIMIT).await?;
        // Whichever of the two leads: both die, one after the other.
        stack.schedulers[round % 2].kill9()?;
        stack.schedulers[round % 2].restart().await?;
    }
    let fired = call(&stack.api, Method::POST, "/v1/schedules/rare:trigger", &json!({})).await?.1;
    let fired = fired["workRequests"][0]["id"].as_str().context("an id")?.to_owned();
    asked.insert(fired.clone(), "good");
    let mut told = BTreeMap::new();
    for (id, job) in &asked {
        stack.api.wait_status(id, if *job == "bad" { "FAILED" } else { "SUCCEEDED" }).await?;
        // Those that say where the run stands from then on.
        let mut history = stack.api.part(id, "events").await?;
        history.retain(|event| {
            !matches!(event["type"].as_str(), Some("held" | "admitted" | "returned" | "resent" | "parked"))
        });
        told.insert(id.clone(), history);
    }
    let patience = Duration::from_secs(120);
    eventually("every entry to be told", patience, async || {
        let heard = first_of_each(&receiver.received("/all"));
        let missing = told.iter().find(|(id, history)| heard.get(*id).is_none_or(|heard| heard.len() < history.len()));
        missing.map_or(Ok(()), |(id, history)| Err(format!("of {id}: {:?} of {history:?}", heard.get(id))))
    })
    .await?;
    ensure!(first_of_each(&receiver.received("/all")) == told, "not what happened, or not in its order");
    let bad = asked.iter().filter(|(_, job)| **job == "bad").map(|(id, _)| id.clone()).collect::<BTreeSet<_>>();
    eventually("every failure to be told", patience, async || {
        let failures = first_of_each(&receiver.received("/failures"));
        if failures.len() >= bad.len() { Ok(()) } else { Err(format!("{} are", failures.len())) }
    })
    .await?;
    ensure!(first_of_each(&receiver.received("/failures")).into_keys().collect::<BTreeSet<_>>() == bad);
    receiver.wait("/rare", 1, patience).await?;
    ensure!(first_of_each(&receiver.received("/rare")).into_keys().eq([fired]));
    Ok(())
}

#[tokio::test]
async fn what_was_taken_does_not_come_again_and_a_deleted_webhook_gets_nothing() -> Result<()> {
    let (mut stack, receiver) = (stack(Stack::postgres_rabbit()).start().await?, Receiver::start().await?);
    receiver.answer("/gone", [Answer::RetryAfter(503, 1)]);
    let (gone, _) = hook(&stack.api, &receiver, "/gone", json!({})).await?;
    hook(&stack.api, &receiver, "/kept", json!({})).await?;
    let id = stack.api.trigger("good", json!({})).await?;
    stack.api.wait_status(&id, "SUCCEEDED").await?;
    receiver.wait("/gone", 1, LIMIT).await?;
    receiver.wait("/kept", 1, LIMIT).await?;
    let deleted = stack.api.request(Method::DELETE, &gone).send().await?.status();
    ensure!(deleted == 204, "{deleted}");
    let before = receiver.received("/gone").len();
    // In good order a restart repeats nothing.
    stack.schedulers[0].signal(rustix::process::Signal::TERM)?;
    stack.schedulers[0].wait_exit(LIMIT).await?;
    stack.schedulers[0].restart().await?;
    let id = stack.api.trigger("good", json!({})).await?;
    let kept = receiver.wait("/kept", 2, LIMIT).await?;
    ensure!(kept.len() == 2 && kept[1].event()["subject"] == id.as_str(), "{kept:?}");
    // Longer than its next attempt was away.
    tokio::time::sleep(SETTLED * 2).await;
    ensure!(receiver.received("/gone").len() <= before + 1, "{:?}", receiver.received("/gone"));
    ensure!(receiver.received("/kept").len() == 2, "{:?}", receiver.received("/kept"));
    Ok(())
}
