//! Receivers as others write them: the library of the specification, where Python's package index can be reached.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::receiver::{Received, Receiver};
use harness::stack::Stack;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{LIMIT, call, hook};
use crate::dialects::clients::{clients, run, say};

#[tokio::test(flavor = "multi_thread")]
async fn others_clients_verify_what_is_posted() -> Result<()> {
    let Some(python) = clients().await? else { return Ok(()) };
    let (stack, receiver) = (super::stack(Stack::embedded()).start().await?, Receiver::start().await?);
    let (path, old) = hook(&stack.api, &receiver, "/a", json!({})).await?;
    let (_, other) = hook(&stack.api, &receiver, "/b", json!({})).await?;
    let mut posts = Vec::new();
    let post = |received: &Received, good: &[&str], bad: &[&str]| {
        let Received { id, timestamp, signature, content_type, body } = received;
        let headers = json!({"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature});
        json!({"headers": headers, "contentType": content_type, "body": body, "good": good, "bad": bad})
    };
    stack.api.trigger("good", json!({})).await?;
    posts.push(post(&receiver.wait("/a", 1, LIMIT).await?[0], &[&old], &[&other]));
    posts.push(post(&receiver.wait("/b", 1, LIMIT).await?[0], &[&other], &[&old]));
    let (status, rotated) = call(&stack.api, Method::POST, &format!("{path}:rotateSecret"), &json!({})).await?;
    let new = rotated["secret"].as_str().with_context(|| format!("{status}: {rotated}"))?.to_owned();
    ensure!(new != old && rotated["oldSecretValidUntil"].is_string(), "{rotated}");
    stack.api.trigger("bad", json!({})).await?;
    posts.push(post(&receiver.wait("/a", 2, LIMIT).await?[1], &[&old, &new], &[&other]));
    let (status, ping) = call(&stack.api, Method::POST, &format!("{path}:test"), &Value::Null).await?;
    ensure!(status == 200 && ping["delivered"] == true, "{ping}");
    posts.push(post(&receiver.wait("/a", 3, LIMIT).await?[2], &[&old, &new], &[&other]));
    let (_, rotated) =
        call(&stack.api, Method::POST, &format!("{path}:rotateSecret"), &json!({"keepOldFor": "0s"})).await?;
    let newest = rotated["secret"].as_str().context("a secret")?;
    stack.api.trigger("good", json!({})).await?;
    posts.push(post(&receiver.wait("/a", 4, LIMIT).await?[3], &[newest], &[&old, &new]));

    let file = stack.folder().join("posts.json");
    std::fs::write(&file, Value::from(posts).to_string())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/webhooks/with_standardwebhooks.py");
    let output = run(Command::new(&python).arg(script).arg(&file), LIMIT).await?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}");
    say(&said);
    Ok(())
}
