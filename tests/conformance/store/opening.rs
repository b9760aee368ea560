//! Opening a database: migrations, schemas of other builds, addresses that lead nowhere.

use std::sync::Arc;

use reveille_shared::clock::SystemClock;
use reveille_shared::store::{Action, DefinitionKind, Kind, Report, SCHEMA, Store, StoreError};
use reveille_shared::telemetry::chain;
use sqlx::Connection as _;
use tokio::task::JoinSet;

use crate::bed::{Bed, Keep, NAMESPACE, on_both, succeeded};
use crate::definitions::{definitions, every, schedule};
use crate::fires::key;

on_both!(a_reopened_store_has_everything, a_schema_that_is_too_new_is_refused, a_newer_schema_that_serves_us_is_fine);

async fn open(url: &str) -> Result<Store, StoreError> {
    Store::connect(url, "test", Arc::new(SystemClock)).await
}

/// Closes the bed's store and opens its database again; the second value keeps the database.
async fn reopen(bed: Bed) -> (Result<Store, StoreError>, Keep) {
    let expected = if bed.clock.is_some() { Kind::Sqlite } else { Kind::Postgres };
    assert_eq!(bed.store.kind(), expected);
    let (url, keep) = bed.close();
    (open(&url).await, keep)
}

async fn a_reopened_store_has_everything(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, succeeded()).await.unwrap();
    let waiting = bed.accepted().await;
    let (ended, history) = (bed.get(run.id).await, bed.history(run.id).await);
    let (store, _bed) = reopen(bed).await;
    let store = store.unwrap();
    assert_eq!(store.work_request(NAMESPACE, run.id).await.unwrap(), Some(ended));
    let again: Vec<_> = store.events(run.id, 0, 100).await.unwrap().into_iter().map(|event| event.what).collect();
    assert_eq!(again, history);
    assert_eq!(store.take_due(10).await.unwrap()[0].trigger.id, waiting);
}

async fn a_schema_that_is_too_new_is_refused(bed: Bed) {
    let (found, oldest) = (SCHEMA + 7, SCHEMA + 2);
    bed.tamper(&format!("UPDATE schema_info SET version = {found}, oldest_binary = {oldest}")).await;
    let (refused, _bed) = reopen(bed).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StoreError::TooNew { found: f, oldest: o } if (f, o) == (found, oldest)), "{refused:?}");
    assert!(refused.to_string().contains("install a newer one"));
}

async fn a_newer_schema_that_serves_us_is_fine(bed: Bed) {
    let id = bed.accepted().await;
    bed.tamper(&format!("UPDATE schema_info SET version = {}, oldest_binary = {SCHEMA}", SCHEMA + 7)).await;
    let (store, _bed) = reopen(bed).await;
    assert!(store.unwrap().work_request(NAMESPACE, id).await.unwrap().is_some());
}

#[tokio::test]
async fn several_processes_may_start_on_an_empty_database() {
    let database = harness::services::Database::fresh().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let url = database.url().to_owned();
        tasks.spawn(async move { open(&url).await.map(|store| (store.kind(), store)) });
    }
    for opened in tasks.join_all().await {
        let (kind, store) = opened.unwrap();
        assert_eq!(kind, Kind::Postgres);
        assert!(store.depths().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_data_folder_belongs_to_one_process() {
    let bed = Bed::sqlite().await;
    let refused = open(&bed.url).await.unwrap_err();
    assert!(matches!(refused, StoreError::Locked(_)), "{refused:?}");
    assert!(refused.to_string().contains(bed.url.trim_start_matches("sqlite://")));
    bed.accepted().await;
    let (store, _bed) = reopen(bed).await;
    store.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(&format!("sqlite://{}/data", file.display())).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Folder { path, .. } if path.starts_with(&file)), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reveille.db");
    let content = "not a database at all ".repeat(300);
    std::fs::write(&file, &content).unwrap();
    open(&format!("sqlite://{}", folder.path().display())).await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let database = harness::services::Database::fresh().await.unwrap();
    let (before, at) = database.url().split_once('@').unwrap();
    let (user, _) = before.rsplit_once(':').unwrap();
    let secret = "hunter2secret";
    let port = harness::ports::Port::claim().unwrap();
    for url in [
        format!("{user}:{secret}@{at}"),
        format!("postgres://reveille:{secret}@{}/x", port.address()),
        format!("postgres://reveille:{secret}@host:notaport/x"),
        format!("postgres://reveille:{secret}@[::1/x"),
        format!("postgres://reveille:{secret}#?@host/x?sslmode=maybe"),
        format!("mysql://reveille:{secret}@host/x"),
        format!("postgres:reveille:{secret}@host/x"),
    ] {
        let refused = open(&url).await.unwrap_err();
        let (shown, debugged) = (chain(&refused), format!("{refused:?}"));
        assert!(!shown.contains(secret) && !debugged.contains(secret), "{shown}\n{debugged}");
    }
}

/// What a build of schema 1 has left: a schedule, one that is gone, a run under way.
const LEFT_BY_SCHEMA_1: &str = r#"
INSERT INTO job_versions (namespace, name, version, spec, created_at) VALUES ('default', 'copy', 1,
    '{"namespace":"default","name":"copy","queue":"main","handler":{"function":"noop"},"timeout":"1m",
      "retry":{"maxAttempts":3,"initial":"5s","max":"5m","backoff":"exponential"},"onLost":"retry"}', EPOCH);
INSERT INTO jobs VALUES ('default', 'copy', 1);
INSERT INTO schedules (namespace, name, version, spec, cursor, next_due_at) VALUES ('default', 'ping', 2,
    '{"namespace":"default","name":"ping","every":"10s","timezone":"UTC","trigger":["copy"],"overlap":"skip",
      "catchUp":{"policy":"latest","window":"1h"}}', EPOCH, EPOCH);
INSERT INTO fires (namespace, schedule, origin, due_at, last_due_at, count, work_requests, version, decided_at)
    VALUES ('default', 'gone', 'schedule', EPOCH, EPOCH, 1, '[]', 4, EPOCH);
INSERT INTO work_requests (id, namespace, job, job_version, queue, schedule, due_at, origin, status, input, accepted_at)
    VALUES (RUN, 'default', 'copy', 1, 'main', 'ping', EPOCH, 'schedule', 'ACCEPTED', 'null', EPOCH);
INSERT INTO deliveries (id, namespace, queue, schedule, phase, phase_at, timeout_ms, seq)
    VALUES (RUN, 'default', 'main', 'ping', 'due', EPOCH, 60000, 1);
"#;

/// Goes on with what a build of schema 1 has left.
async fn goes_on(store: &Store) {
    let row = store.schedule(&key("ping")).await.unwrap().unwrap();
    assert_eq!(
        (row.schedule.clone(), row.version),
        (schedule("ping", every(10)), 2),
        "equal to the same one read today"
    );
    assert_eq!((row.fired, row.failures, row.pause), (0, 0, None));
    let of = async |name| store.changes(DefinitionKind::Schedule, &key(name), i64::MAX, 10).await.unwrap();
    assert_eq!((of("ping").await[0].version, of("gone").await[0].action), (2, Action::Removed));
    let generation = store.lead(uuid::Uuid::from_u128(1), std::time::Duration::from_secs(60)).await.unwrap().unwrap();
    let again = definitions(vec![schedule("ping", every(10)), schedule("gone", every(10))]);
    store.apply_definitions(generation, &again, "d1", "test").await.unwrap();
    let gone = store.schedule(&key("gone")).await.unwrap().unwrap();
    assert_eq!(gone.version, 5, "a name that comes back does not count from one");
    let sent = store.take_due(10).await.unwrap().remove(0);
    let run = store.claim(crate::bed::worker(), &[crate::bed::claim(&sent.trigger)]).await.unwrap().remove(0).unwrap();
    assert_eq!(run.fire.unwrap().schedule, "ping");
    let report = Report::new(run.id, run.token, succeeded());
    store.report(vec![report]).await.unwrap().remove(0).unwrap();
}

/// The migrations of schema 1.
fn schema_1(all: sqlx::migrate::Migrator) -> sqlx::migrate::Migrator {
    let first = all.iter().filter(|migration| migration.version == 1).cloned().collect();
    sqlx::migrate::Migrator::with_migrations(first)
}

#[tokio::test]
async fn a_database_of_schema_1_is_brought_up_to_date_with_its_data_on_postgres() {
    let database = harness::services::Database::fresh().await.unwrap();
    let mut connection = sqlx::PgConnection::connect(database.url()).await.unwrap();
    schema_1(sqlx::migrate!("../shared/migrations/postgres")).run(&mut connection).await.unwrap();
    let left = LEFT_BY_SCHEMA_1
        .replace("EPOCH", "'1970-01-01T00:00:00Z'")
        .replace("RUN", "'018f0000-0000-7000-8000-000000000001'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(left)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    goes_on(&open(database.url()).await.unwrap()).await;
}

#[tokio::test]
async fn a_database_of_schema_1_is_brought_up_to_date_with_its_data_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("reveille.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let mut connection = sqlx::SqliteConnection::connect_with(&file).await.unwrap();
    schema_1(sqlx::migrate!("../shared/migrations/sqlite")).run(&mut connection).await.unwrap();
    let left = LEFT_BY_SCHEMA_1.replace("EPOCH", "0").replace("RUN", "x'018f0000000070008000000000000001'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(left)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    goes_on(&open(&format!("sqlite://{}", folder.path().display())).await.unwrap()).await;
}
