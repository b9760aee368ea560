//! What a run costs does not depend on how many there were: no statement on its way reads a whole table. SQLite does so only where
//! there is no index; PostgreSQL, wherever it thinks that this is cheaper.

use std::time::Duration;

use harness::wait::eventually;
use reveille_shared::store::{Claim, FollowUp, NewWorkRequest, Report, Store};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::bed::{Bed, succeeded};

/// As many as make PostgreSQL think so.
const ENDED: &str = "
    INSERT INTO work_requests (id, namespace, job, job_version, queue, status, input, accepted_at)
    SELECT md5(n::text)::uuid, 'n', 'j', 1, 'q', 'SUCCEEDED', '{}', now() FROM generate_series(1, 10000) AS n;
    INSERT INTO events (work_request_id, seq, at, what)
    SELECT md5(n::text)::uuid, seq, now(), '{\"type\": \"admitted\"}' FROM generate_series(1, 10000) AS n, generate_series(1, 2) AS seq;
    ANALYZE;
    UPDATE schema_info SET transitions = true, feed_open = true";

/// Runs in one batch.
const BATCH: usize = 500;
const LIMIT: i64 = 500;

#[tokio::test]
async fn no_statement_on_a_runs_way_reads_all_runs() {
    let bed = Bed::postgres().await;
    let mut sql = sqlx::PgConnection::connect(&bed.url).await.unwrap();
    sqlx::raw_sql(ENDED).execute(&mut sql).await.unwrap();
    for table in ["work_requests", "events"] {
        let forget = "SELECT pg_stat_reset_single_table_counters($1::regclass)::text";
        sqlx::query(forget).bind(table).execute(&mut sql).await.unwrap();
    }
    // The server counts for good what a connection has done when that is closed.
    let store = bed.second().await;
    let mut ended = 0;
    for at_once in [BATCH, 1] {
        let mut requests = Vec::new();
        for _ in 0..at_once {
            requests.push(NewWorkRequest { follow: true, ..bed.new_request().await });
        }
        ended += run(&store, requests).await;
    }
    assert_eq!(ended, BATCH + 1);
    drop(store);
    let (_, _database) = bed.close();
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    eventually("all other connections to be closed", Duration::from_secs(30), async || {
        let open: i64 = sqlx::query_scalar(others).fetch_one(&mut sql).await.map_err(|error| error.to_string())?;
        if open == 0 { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await
    .unwrap();
    let counted = "SELECT relname::text, seq_scan, n_tup_ins FROM pg_stat_user_tables
                   WHERE relname IN ('work_requests', 'events') ORDER BY relname";
    let counts: Vec<(String, i64, i64)> = sqlx::query_as(counted).fetch_all(&mut sql).await.unwrap();
    assert_eq!(counts.len(), 2);
    for (table, whole, inserted) in counts {
        assert!(inserted >= i64::try_from(ended).unwrap(), "nothing was counted: {inserted} of {table}");
        assert_eq!(whole, 0, "all of {table} was read");
    }
}

/// Lets all of it happen to these, and answers how many have ended.
async fn run(store: &Store, requests: Vec<NewWorkRequest>) -> usize {
    store.accept_all(&requests).await.unwrap();
    let claim =
        |trigger: &reveille_shared::trigger::Trigger| Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() };
    let claims: Vec<_> = store.take_due(1_000).await.unwrap().iter().map(|out| claim(&out.trigger)).collect();
    let claimed = store.claim(Uuid::new_v4(), &claims).await.unwrap();
    let report = |claimed: Result<reveille_shared::store::Claimed, _>| {
        let claimed = claimed.unwrap();
        Report { known: claimed.known, ..Report::new(claimed.id, claimed.token, succeeded()) }
    };
    store.report(claimed.into_iter().map(report).collect()).await.unwrap();
    assert_eq!(store.untold(&[], 3 * LIMIT).await.unwrap().len(), 3 * BATCH);
    assert_eq!(store.feed_before(0, i64::MAX, 3 * LIMIT).await.unwrap().unwrap().entries.len(), 3 * BATCH);
    let ends = store.ended_runs(LIMIT).await.unwrap();
    let follow_ups = ends.into_iter().map(|run| FollowUp { run, births: Vec::new() }).collect();
    store.follow(follow_ups, &|_| false).await.unwrap().ended
}
