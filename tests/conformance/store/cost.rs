//! What a run costs does not depend on how many there were: no statement on its way reads a whole table. SQLite does so only where
//! there is no index; PostgreSQL, wherever it thinks that this is cheaper.

use std::time::Duration;

use harness::wait::eventually;
use reveille_shared::state::Refusal;
use reveille_shared::store::{Claim, Claimed, FollowUp, NewWorkRequest, Outgoing, Report, Store};
use reveille_shared::work_request::WorkRequestId;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::bed::{Bed, connect, succeeded};

/// As many as make PostgreSQL think so.
const ENDED: &str = "
    INSERT INTO work_requests (id, namespace, job, job_version, queue, status, input, accepted_at)
    SELECT md5(n::text)::uuid, 'n', 'j', 1, 'q', 'SUCCEEDED', '{}', now() FROM generate_series(1, 10000) AS n;
    INSERT INTO events (work_request_id, seq, at, what)
    SELECT md5(n::text)::uuid, seq, now(), '{\"type\": \"admitted\"}'
    FROM generate_series(1, 10000) AS n, generate_series(1, 2) AS seq;
    ANALYZE;
    UPDATE schema_info SET transitions = true, feed_open = true";

/// Runs in one batch.
const BATCH: usize = 500;
const LIMIT: i64 = 500;

#[tokio::test]
async fn no_statement_on_a_runs_way_reads_all_runs() {
    let (url, _database) = Bed::postgres().await.close();
    let mut seed = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(ENDED).execute(&mut seed).await.unwrap();
    seed.close().await.unwrap();
    let mut sql = PgConnection::connect(&url).await.unwrap();
    let before = counts(&mut sql).await;

    let store = connect(&url).await;
    let mut ended = 0;
    for at_once in [BATCH, 1] {
        let now = store.now().await.unwrap();
        let request = || NewWorkRequest {
            follow: true,
            ..NewWorkRequest::new(WorkRequestId::new(now), &super::definitions::job("copy", ""), 1, "test")
        };
        ended += run(&store, (0..at_once).map(|_| request()).collect()).await;
    }
    assert_eq!(ended, BATCH + 1);
    drop(store);

    let after = counts(&mut sql).await;
    let written = [3 * ended, ended];
    for ((before, after), written) in before.iter().zip(&after).zip(written) {
        let (table, whole, inserted) = after;
        assert_eq!(inserted - before.2, i64::try_from(written).unwrap(), "not all was counted of {table}");
        assert_eq!(whole - before.1, 0, "all of {table} was read");
    }
}

/// How often the whole of a table was read, and how many rows were written. The server knows what a connection has done for certain
/// when that is closed.
async fn counts(sql: &mut PgConnection) -> Vec<(String, i64, i64)> {
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    eventually("all other connections to be closed", Duration::from_secs(30), async || {
        let open: i64 = sqlx::query_scalar(others).fetch_one(&mut *sql).await.map_err(|error| error.to_string())?;
        if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await
    .unwrap();
    let counts = "SELECT relname::text, seq_scan, n_tup_ins FROM pg_stat_user_tables
                  WHERE relname IN ('work_requests', 'events') ORDER BY relname";
    sqlx::query_as(counts).fetch_all(sql).await.unwrap()
}

/// Lets all of it happen to these, and answers how many have ended.
async fn run(store: &Store, requests: Vec<NewWorkRequest>) -> usize {
    store.accept_all(&requests).await.unwrap();
    let claim = |out: &Outgoing| Claim { id: out.trigger.id, n: out.trigger.n, token: Uuid::new_v4() };
    let claims: Vec<_> = store.take_due(1_000).await.unwrap().iter().map(claim).collect();
    let claimed = store.claim(Uuid::new_v4(), &claims).await.unwrap();
    let report = |claimed: Result<Claimed, Refusal>| {
        let Claimed { id, token, known, .. } = claimed.unwrap();
        Report { known, ..Report::new(id, token, succeeded()) }
    };
    store.report(claimed.into_iter().map(report).collect()).await.unwrap();
    assert_eq!(store.untold(&[], 3 * LIMIT).await.unwrap().len(), 3 * BATCH);
    assert_eq!(store.feed_before(0, i64::MAX, 3 * LIMIT).await.unwrap().unwrap().entries.len(), 3 * BATCH);
    let ends = store.ended_runs(LIMIT).await.unwrap();
    let follow_ups = ends.into_iter().map(|run| FollowUp { run, births: Vec::new() }).collect();
    store.follow(follow_ups, &|_| false).await.unwrap().ended
}
