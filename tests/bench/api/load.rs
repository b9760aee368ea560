//! Callers, each of which asks again as soon as it has its answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use harness::client::Client;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::{Connection, request};
use crate::sample::{Sample, millis};

/// Runs that are looked at, half of which have ended.
const RUNS: usize = 200;

pub(crate) struct Load {
    address: SocketAddr,
    connections: Vec<Mutex<Connection>>,
}

/// What was answered.
pub(crate) struct Served {
    time: Duration,
    count: usize,
    /// In ms.
    pub(crate) took: Sample,
}

impl Served {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }
}

impl Load {
    pub(crate) async fn open(address: SocketAddr, connections: u16) -> Result<Self> {
        let opened = try_join_all((0..connections).map(|_| Connection::open(address))).await?;
        Ok(Self { address, connections: opened.into_iter().map(Mutex::new).collect() })
    }

    /// Paths of work requests: every other one has ended.
    pub(crate) async fn runs(&self, api: &Client) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for number in 0..RUNS {
            let id = if number % 2 == 0 {
                let id = api.trigger("noop", json!({"part": number})).await?;
                api.wait_status(&id, "SUCCEEDED").await?;
                id
            } else {
                let later = api.request(reqwest::Method::POST, "/v1/jobs/later/trigger");
                let accepted: serde_json::Value = later.json(&json!({"delay": "10h"})).send().await?.json().await?;
                accepted["id"].as_str().context("no id")?.to_owned()
            };
            paths.push(format!("/v1/workRequests/{id}"));
        }
        Ok(paths)
    }

    /// Asks for these, in turn.
    pub(crate) async fn gets(&self, paths: &[String], time: Duration) -> Result<Served> {
        let requests: Vec<_> = paths.iter().map(|path| request(self.address, &format!("GET {path}"), "", "")).collect();
        self.ask(time, 200, |number| requests[number % requests.len()].clone()).await
    }

    /// Triggers a job that nobody runs, each time under another key.
    pub(crate) async fn triggers(&self, time: Duration) -> Result<Served> {
        self.ask(time, 202, |number| {
            let key = format!("idempotency-key: bench-{number}\r\n");
            request(self.address, "POST /v1/jobs/later/trigger", &key, r#"{"input": {"part": 7}, "delay": "10h"}"#)
        })
        .await
    }

    async fn ask(&self, time: Duration, expected: u16, request: impl Fn(usize) -> Vec<u8>) -> Result<Served> {
        let begun = Instant::now();
        let callers = self.connections.len();
        let took = try_join_all(self.connections.iter().enumerate().map(async |(caller, connection)| {
            let (mut connection, mut took, mut number) = (connection.lock().await, Vec::new(), caller);
            while begun.elapsed() < time {
                let asked = Instant::now();
                let status = connection.ask(&request(number)).await?;
                ensure!(status == expected, "answered {status}");
                took.push(millis(asked.elapsed()));
                number += callers;
            }
            Ok(took)
        }))
        .await?
        .concat();
        Ok(Served { time: begun.elapsed(), count: took.len(), took: Sample::of(took)? })
    }
}
