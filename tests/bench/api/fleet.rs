//! A fleet that is given runs at a steady rate, while schedules fire.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{Handler, Job};
use reveille_shared::store::{NewWorkRequest, Store};
use reveille_shared::work_request::WorkRequestId;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::sample::Sample;

/// How often runs are given.
const TICK: Duration = Duration::from_millis(50);

/// Jobs whose runs do nothing, in a queue of their own for those of schedules, and one whose runs nobody runs.
pub(crate) fn definitions(schedules: u32) -> String {
    let mut yaml = "version: 1\njobs:\n  noop: { function: noop }\n  tick: { function: noop, queue: fires }\n  later: { function: noop, queue: later }\nschedules:\n".to_owned();
    for number in 0..schedules {
        let _ = writeln!(yaml, "  s{number}: {{ cron: '* * * * * *', trigger: tick, overlap: allow }}");
    }
    yaml
}

pub(crate) struct Fleet {
    store: Store,
    database: String,
    job_version: i64,
    /// Given at each tick.
    each: usize,
}

/// What was done meanwhile.
pub(crate) struct Work {
    /// Runs that ended per second.
    pub(crate) ended: f64,
    /// Fires: from due to decided, and to started, in ms.
    pub(crate) decided: Sample,
    pub(crate) started: Sample,
}

impl Fleet {
    pub(crate) async fn new(database: &str, rate: u32) -> Result<Self> {
        let store = Store::connect(database, "bench", Arc::new(SystemClock)).await?;
        let job_version = store.job("default", "noop").await?.context("the job is not in force")?.version;
        let each = usize::try_from(rate)? * usize::try_from(TICK.as_millis())? / 1000;
        ensure!(each > 0, "a rate below 20 is not given");
        Ok(Self { store, database: database.to_owned(), job_version, each })
    }

    /// Gives runs for so long, and waits until all of them have ended; fires count that were due meanwhile.
    pub(crate) async fn works(&self, time: Duration) -> Result<Work> {
        let noop = Job::new("default", "noop", Handler::Function("noop".into()));
        let (from, begun) = (self.store.now().await?, Instant::now());
        let mut ids: Vec<Uuid> = Vec::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while begun.elapsed() < time {
            ticks.tick().await;
            let new = |_| NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &noop, self.job_version, "bench");
            let runs: Vec<_> = (0..self.each).map(new).collect();
            self.store.accept_all(&runs).await?;
            ids.extend(runs.iter().map(|run| run.id.0));
        }
        let until = self.store.now().await?;
        let mut connection = PgConnection::connect(&self.database).await?;
        let ended: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM work_requests WHERE id = ANY($1) AND status = 'SUCCEEDED' AND finished_at <= $2::timestamptz",
        )
        .bind(&ids)
        .bind(jiff_text(until))
        .fetch_one(&mut connection)
        .await?;
        let took = begun.elapsed().as_secs_f64();
        let lateness = |what: &'static str| {
            format!(
                "SELECT extract(epoch FROM {what} - f.due_at)::float8 * 1000
                 FROM fires f CROSS JOIN LATERAL jsonb_array_elements_text(f.work_requests) AS run (id)
                 JOIN work_requests w ON w.id = run.id::uuid
                 WHERE f.due_at BETWEEN $1::timestamptz AND $2::timestamptz AND w.started_at IS NOT NULL"
            )
        };
        let mut read = async |what| {
            let lateness: Vec<f64> = sqlx::query_scalar(sqlx::AssertSqlSafe(lateness(what)))
                .bind(jiff_text(from))
                .bind(jiff_text(until))
                .fetch_all(&mut connection)
                .await?;
            Sample::of(lateness)
        };
        let (decided, started) = (read("f.decided_at").await?, read("w.started_at").await?);
        Ok(Work { ended: ended as f64 / took, decided, started })
    }
}

fn jiff_text(at: jiff::Timestamp) -> String {
    at.to_string()
}
