//! What is asked of a world: all of it has to come true, whoever dies.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use harness::stack::Stack;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{LIMIT, SLOTS, World};

/// How many ask at once.
const TOGETHER: usize = 6;
/// How many fires a backfill has that is to be made whole.
const BACKFILLED: i64 = 5;

/// A run that was asked for under an idempotency key.
#[derive(Debug)]
pub(super) struct Asked {
    key: String,
    job: &'static str,
    delay: &'static str,
    /// How many children it is to have, if any.
    children: usize,
    /// How it has to end.
    end: &'static str,
    /// What the first answer said, if one came.
    id: Option<String>,
}

impl World {
    pub(in super::super) fn ask(&mut self, job: &'static str, delay: &'static str, end: &'static str) {
        self.number += 1;
        self.asked.push(Asked { key: format!("ask-{}", self.number), job, delay, children: 0, end, id: None });
    }

    /// Several callers ask at once and without a key. One who is not answered may have a run or not.
    pub(in super::super) async fn ask_once(&mut self) {
        let Self { stack, answered, .. } = self;
        let ask = async || {
            let request = stack.api.request(Method::POST, "/v1/jobs/brief/trigger").json(&json!({}));
            let answer = request.send().await.ok()?;
            let is_accepted = answer.status() == StatusCode::ACCEPTED;
            let accepted: Value = answer.json().await.ok()?;
            if is_accepted { accepted["id"].as_str().map(str::to_owned) } else { None }
        };
        // Each answer counts, also if the process dies before the others have theirs.
        let mut answers: FuturesUnordered<_> = (0..TOGETHER).map(|_| ask()).collect();
        while let Some(id) = answers.next().await {
            answered.extend(id);
        }
    }

    /// A run with so many children.
    pub(in super::super) fn ask_many(&mut self, children: usize) {
        self.ask("brief", "0s", "SUCCEEDED");
        if let Some(asked) = self.asked.last_mut() {
            asked.children = children;
        }
    }

    /// Sends what was asked for last several times at once: all but one have to take back what they have staged.
    pub(in super::super) async fn insist_at_once(&mut self) -> Result<()> {
        let asked = self.asked.last().context("nothing was asked for")?;
        let ids: BTreeSet<_> = eventually("answers", LIMIT, async || {
            join_all((0..TOGETHER).map(|_| send(&self.stack, asked))).await.into_iter().collect()
        })
        .await?;
        ensure!(ids.len() == 1, "{asked:?} is {ids:?}");
        if let Some(asked) = self.asked.last_mut() {
            asked.id = ids.into_iter().next();
        }
        Ok(())
    }

    /// Sends what was asked for until all of it was answered; answers the ids.
    pub(in super::super) async fn insist(&mut self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for asked in &mut self.asked {
            let id = match &asked.id {
                Some(id) => id.clone(),
                None => eventually("an answer", LIMIT, async || send(&self.stack, asked).await).await?,
            };
            asked.id = Some(id.clone());
            ids.push(id);
        }
        Ok(ids)
    }

    /// Asks for more runs of a job than one process has slots. Answers the last of them.
    pub(in super::super) async fn fill_slots(&mut self, job: &'static str) -> Result<String> {
        (0..SLOTS + 3).for_each(|_| self.ask(job, "0s", "SUCCEEDED"));
        self.insist().await?.pop().context("a run")
    }

    /// Asks for a backfill; one that is to be canceled would take much longer than that.
    pub(in super::super) async fn backfill(&mut self, end: &'static str) -> Result<String> {
        self.number += 1;
        let id = format!("fill-{}", self.number);
        self.backfills.push((id.clone(), end));
        self.ask_backfill(&id, end).await?;
        Ok(id)
    }

    async fn ask_backfill(&self, id: &str, end: &str) -> Result<Value> {
        let from: Timestamp = "2026-01-01T00:00:00Z".parse()?;
        let many = if end == "done" { BACKFILLED } else { 60 };
        let to = from + SignedDuration::from_secs(2 * (many - 1));
        let body = json!({"id": id, "from": from, "to": to, "maxParallel": 2});
        self.call(Method::POST, "/v1/schedules/second:backfill", &body, &[202]).await
    }

    pub(in super::super) async fn cancel_backfill(&self, id: &str) -> Result<()> {
        let path = format!("/v1/schedules/second/backfills/{id}");
        self.call(Method::DELETE, &path, &json!({}), &[202]).await.map(drop)
    }

    /// Everything that was asked for comes true, and what is asked again is the same.
    pub(in super::super) async fn all_comes_true(&mut self) -> Result<()> {
        for asked in std::mem::take(&mut self.asked) {
            let id = eventually("an answer", LIMIT, async || send(&self.stack, &asked).await).await?;
            let first = asked.id.as_ref().unwrap_or(&id);
            ensure!(*first == id, "{} was {first} at first and is {id} now", asked.key);
            if asked.end == "CANCELED" {
                self.cancel(&id).await?;
            }
            self.stack.api.wait_status_within(&id, asked.end, LIMIT).await?;
            if asked.children > 0 {
                self.children(&id, asked.children).await?;
            }
        }
        for id in std::mem::take(&mut self.answered) {
            self.stack.api.wait_status_within(&id, "SUCCEEDED", LIMIT).await?;
        }
        for (id, end) in std::mem::take(&mut self.backfills) {
            self.ask_backfill(&id, end).await?;
            if end == "canceled" {
                self.cancel_backfill(&id).await?;
            }
            eventually(&format!("backfill {id} to be {end}"), LIMIT, async || {
                let path = format!("/v1/schedules/second/backfills/{id}");
                let seen = self.stack.api.get_path(&path).await.map_err(|error| format!("{error:#}"))?;
                let is_whole = end != "done" || seen["triggered"] == BACKFILLED;
                if seen["status"] == end && is_whole { Ok(()) } else { Err(seen.to_string()) }
            })
            .await?;
        }
        if std::mem::take(&mut self.is_paused) {
            self.call(Method::POST, "/v1/schedules/pulse:resume", &json!({}), &[200, 409]).await?;
        }
        if self.changes > 0 { self.change_is_in_force().await } else { Ok(()) }
    }
}

async fn send(stack: &Stack, asked: &Asked) -> Result<String, String> {
    let Asked { key, job, delay, children, .. } = asked;
    let body = match children {
        0 => json!({ "delay": delay }),
        count => json!({ "inputs": (0..*count).map(|number| json!({ "number": number })).collect::<Vec<_>>() }),
    };
    let request = stack.api.request(Method::POST, &format!("/v1/jobs/{job}/trigger")).header("Idempotency-Key", key);
    let answer = request.json(&body).send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    let accepted: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    match accepted["id"].as_str() {
        Some(id) if status == StatusCode::ACCEPTED => Ok(id.to_owned()),
        _ => Err(format!("{status}: {text}")),
    }
}
