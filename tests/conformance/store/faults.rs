//! The ground gives way: a full disk under SQLite, a power cut under PostgreSQL.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use harness::services::Database;
use harness::wait::eventually;
use reveille_shared::clock::SystemClock;
use reveille_shared::store::{Acceptance, NewWorkRequest, Store, StoreError};
use reveille_shared::work_request::WorkRequestId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use crate::bed::{NAMESPACE, connect};

async fn request(store: &Store, size: usize) -> Result<NewWorkRequest, StoreError> {
    Ok(NewWorkRequest {
        input: json!("x".repeat(size)),
        ..NewWorkRequest::new(WorkRequestId::new(store.now().await?), &super::definitions::job("copy", ""), 1, "test")
    })
}

async fn accept(store: &Store, size: usize) -> Result<WorkRequestId, StoreError> {
    let request = request(store, size).await?;
    let id = request.id;
    assert_eq!(store.accept(request, None).await?, Acceptance::New(id));
    Ok(id)
}

const FOLDER: &str = "REVEILLE_TEST_FULL_FOLDER";

/// The process may write files of at most this size: to SQLite that is a full disk.
const DISK: u64 = 600 * 1024;

/// The test proper needs a process of its own whose limit no other test feels, started with SIGXFSZ ignored
/// (which only a shell can do for us) so that writing beyond the limit is an error and not a death.
#[test]
fn a_full_disk_is_an_error_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", "faults::on_a_full_disk", "--include-ignored", "--nocapture"]).env(FOLDER, folder.path());
    let output = child.process_group(0).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "is started by a_full_disk_is_an_error_and_harms_nothing"]
fn on_a_full_disk() {
    let folder = std::env::var(FOLDER).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(fill(&folder));
}

async fn fill(folder: &str) {
    let url = format!("sqlite://{folder}");
    let store = Store::connect(&url, "test", Arc::new(SystemClock)).await.unwrap();
    let mut accepted = vec![accept(&store, 10).await.unwrap()];
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(DISK), ..limit }).unwrap();
    let full = loop {
        match accept(&store, 20_000).await {
            Ok(id) => accepted.push(id),
            Err(error) => break error,
        }
        assert!(accepted.len() < 1000, "the disk is never full");
    };
    assert!(matches!(full, StoreError::Query { .. }), "{full:?}");
    // Reading goes on, and a second try fails like the first.
    assert!(store.work_request(NAMESPACE, accepted[0]).await.unwrap().is_some());
    accept(&store, 20_000).await.unwrap_err();

    // Room again: the same store goes on.
    setrlimit(Resource::Fsize, limit).unwrap();
    accepted.push(accept(&store, 20_000).await.unwrap());
    let mut sent: Vec<_> = store.take_due(1000).await.unwrap().into_iter().map(|out| out.trigger.id).collect();
    sent.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(sent, accepted, "what was accepted is there, and nothing else");
    drop(store);

    let mut connection = SqliteConnection::connect(&format!("{folder}/reveille.db")).await.unwrap();
    let checked: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(checked, "ok");
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_committed() {
    let mut database = Database::private().await.unwrap();
    let store = connect(database.url()).await;
    let writing = store.clone();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = writing.clone();
        writers.spawn(async move {
            let mut accepted = Vec::new();
            loop {
                match accept(&store, 100).await {
                    Ok(id) => accepted.push(id),
                    Err(error) => return (accepted, error),
                }
            }
        });
    }
    eventually("some work requests", Duration::from_secs(60), async || {
        let found = store.depths().await.map_err(|error| error.to_string())?;
        if found.iter().any(|depth| depth.count >= 50) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
    .unwrap();
    database.server().unwrap().kill().unwrap();
    let mut accepted = Vec::new();
    for (ids, error) in writers.join_all().await {
        assert!(matches!(error, StoreError::Query { .. }), "{error:?}");
        accepted.extend(ids);
    }
    assert!(accepted.len() >= 46);
    assert!(store.now().await.is_err(), "the server is down");

    database.server().unwrap().restart().await.unwrap();
    eventually("the same store to work again", Duration::from_secs(60), async || {
        accept(&store, 10).await.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    for id in accepted {
        assert!(store.work_request(NAMESPACE, id).await.unwrap().is_some(), "{id} was accepted and is gone");
        assert_eq!(store.events(id, 0, 10).await.unwrap().len(), 1);
    }
}
