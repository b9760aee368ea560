//! The harness's own tests, on real servers.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::postgres::Postgres;
use harness::process::{Program, workspace_binary};
use harness::process_tree::{descendants, is_living};
use harness::proxy::Proxy;
use harness::services::{Broker, Database, address_of, through};
use harness::wait::eventually;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection as Amqp, ConnectionProperties};
use rustix::process::{Pid, Signal, getpid, kill_process};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

async fn number(url: &str) -> Result<i32, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await
}

#[tokio::test]
async fn postgres_keeps_its_data_through_kill_and_restart() {
    let mut postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database().await.unwrap();
    let mut open = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n INT); INSERT INTO kept VALUES (42)").execute(&mut open).await.unwrap();
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut open).await.unwrap();
    assert_eq!(fsync, "on");

    let server: Vec<_> = descendants(getpid()).into_iter().filter(|relative| relative.name == "postgres").collect();
    assert!(server.len() > 1, "a server with a session has more processes than {server:?}");
    postgres.kill().unwrap();
    sqlx::query("SELECT 1").execute(&mut open).await.unwrap_err();
    number(&url).await.unwrap_err();
    assert!(!server.iter().any(|relative| is_living(relative.pid)), "{server:?}");

    postgres.restart().await.unwrap();
    assert_eq!(number(&url).await.unwrap(), 42);
    postgres.restart().await.unwrap();
    assert_eq!(number(&url).await.unwrap(), 42);
    let port = postgres.port();
    postgres.stop().await.unwrap();
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap_err();
}

#[tokio::test]
async fn every_test_has_a_database_and_a_broker_of_its_own() {
    let (one, other) = tokio::try_join!(Database::fresh(), Database::fresh()).unwrap();
    let mut connection = PgConnection::connect(one.url()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n INT); INSERT INTO kept VALUES (1)").execute(&mut connection).await.unwrap();
    assert_eq!(number(one.url()).await.unwrap(), 1);
    number(other.url()).await.unwrap_err();

    let (one, other) = tokio::try_join!(Broker::fresh(), Broker::fresh()).unwrap();
    let declare = async |url: &str, passive: bool| {
        let connection = Amqp::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive, ..QueueDeclareOptions::default() };
        channel.queue_declare("mine".into(), options, FieldTable::default()).await.map(|_| ())
    };
    declare(one.url(), false).await.unwrap();
    declare(one.url(), true).await.unwrap();
    declare(other.url(), true).await.unwrap_err();
}

#[tokio::test]
async fn a_database_behind_a_proxy_is_cut_off_and_comes_back() {
    let database = Database::fresh().await.unwrap();
    let proxy = Proxy::start(address_of(database.url()).unwrap()).await.unwrap();
    let url = through(database.url(), proxy.address()).unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    proxy.cut().await;
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
    PgConnection::connect(&url).await.unwrap_err();
    proxy.heal();
    PgConnection::connect(&url).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_process_is_signaled_killed_and_captured() {
    let folder = TempDir::new().unwrap();
    let script = "trap 'echo terminated; exit 7' TERM; echo ready >&2; while :; do sleep 0.01; done";
    let program = Program::new("sh", "patient", folder.path()).arg("-c").arg(script);
    let mut process = program.start().unwrap();
    let ready = async || if process.log() == "ready\n" { Ok(()) } else { Err(process.log()) };
    eventually("the trap", LIMIT, ready).await.unwrap();
    process.signal(Signal::TERM).unwrap();
    assert_eq!(process.wait_exit(LIMIT).await.unwrap().code(), Some(7));
    assert_eq!(process.log(), "ready\nterminated\n");
    process.signal(Signal::TERM).unwrap_err();

    process.restart().unwrap();
    let text = process.wait_exit(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(text.contains("the end of patient") && text.contains("it runs"), "{text}");
    process.kill9().unwrap();
    assert!(!is_living(process.pid()));
}

#[tokio::test]
async fn a_dropped_process_takes_its_group_with_it() {
    let folder = TempDir::new().unwrap();
    let program = Program::new("sh", "parent", folder.path()).arg("-c").arg("sleep 1000 & echo $!; wait");
    let process = program.start().unwrap();
    let child = eventually("the child's id", LIMIT, async || process.log().trim().parse().map_err(|_| process.log()));
    let child = Pid::from_raw(child.await.unwrap()).unwrap();
    assert!(is_living(child));
    drop(process);
    let gone = async || if is_living(child) { Err("alive") } else { Ok(()) };
    eventually("the child's end", LIMIT, async || gone().await.map_err(str::to_owned)).await.unwrap();
}

/// Re-runs this test executable as a test that is then killed before it can clean up.
#[tokio::test]
async fn what_a_killed_test_had_started_is_killed_by_the_watchdog() {
    const INSIDE: &str = "INSIDE_A_TEST_TO_BE_KILLED";
    if let Ok(inside) = std::env::var(INSIDE) {
        let folder = Path::new(&inside).parent().unwrap();
        let process = Program::new("sleep", "sleep", folder).arg("1000").start().unwrap();
        std::fs::write(&inside, process.pid().as_raw_nonzero().to_string()).unwrap();
        std::thread::sleep(LIMIT);
        return;
    }
    let folder = TempDir::new().unwrap();
    let note = folder.path().join("pid");
    let program = Program::new(std::env::current_exe().unwrap(), "killed-test", folder.path())
        .arg("what_a_killed_test_had_started_is_killed_by_the_watchdog")
        .env(INSIDE, note.to_string_lossy());
    let mut test = program.start().unwrap();
    let read = async || {
        let text = std::fs::read_to_string(&note).map_err(|error| error.to_string())?;
        text.parse().map_err(|_| text)
    };
    let pid = Pid::from_raw(eventually("the inner test", LIMIT, read).await.unwrap()).unwrap();
    assert!(is_living(pid));
    kill_process(test.pid(), Signal::KILL).unwrap();
    test.wait_exit(LIMIT).await.unwrap();
    eventually("the orphan's end", LIMIT, async || if is_living(pid) { Err("it lives".to_owned()) } else { Ok(()) })
        .await
        .unwrap();
}

#[tokio::test]
async fn with_services_passes_the_exit_code_on_and_names_what_is_left() {
    let folder = TempDir::new().unwrap();
    let start = Instant::now();
    let script = "test -n \"$REVEILLE_TEST_DATABASE_URL\" && test -n \"$REVEILLE_TEST_AMQP_URL\" && exit 9";
    let run = |name: &str, script: &str| {
        let program = Program::new(workspace_binary("with-services").unwrap(), name, folder.path());
        program.arg("sh").arg("-c").arg(script).start().unwrap()
    };
    let (mut clean, mut dirty) = (run("clean", script), run("dirty", "setsid sleep 1000 & exit 0"));
    let status = clean.wait_exit(LIMIT * 4).await.unwrap();
    assert_eq!(status.code(), Some(9), "{}", clean.log());
    let status = dirty.wait_exit(LIMIT * 4).await.unwrap();
    assert_eq!(status.code(), Some(1), "after {:?}: {}", start.elapsed(), dirty.log());
    assert!(dirty.log().contains("left running") && dirty.log().contains("sleep ("), "{}", dirty.log());
}
