use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::TestClock;
use crate::periodic::Pass as _;
use crate::telemetry::chain;

/// Who vouches for the certificates of a test, and where their files are.
struct Bed {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    clock: Arc<TestClock>,
}

impl Bed {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let bed = Self {
            authority,
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(TestClock::at("2026-06-01T00:00:00Z".parse().unwrap())),
        };
        bed.write(&bed.pair(2030));
        bed
    }

    /// A certificate for localhost that ends at the beginning of this year, and its key.
    fn pair(&self, ends: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn files(&self) -> TlsFiles {
        let file = |name: &str| Some(self.folder.path().join(name));
        TlsFiles { tls_cert: file("cert.pem"), tls_key: file("key.pem") }
    }

    fn write(&self, (cert, key): &(String, String)) {
        self.write_file("cert.pem", cert);
        self.write_file("key.pem", key);
    }

    fn write_file(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn bind(&self) -> Result<(Listener, Option<Reload>), ListenError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Listener::bind("127.0.0.1:0".parse().unwrap(), &self.files(), clock).await
    }

    /// Starts a server that answers `hello` at `/`. Dropped, it ends.
    async fn serve(&self) -> Server {
        let (listener, reload) = self.bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(listener.serve(router, stop.clone().cancelled_owned()));
        Server { address, reload: reload.unwrap(), _task: task }
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

struct Server {
    address: SocketAddr,
    reload: Reload,
    _task: JoinSet<()>,
}

async fn connect(client: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// One request over one connection.
async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The certificate that the server shows, as it is sent.
async fn shown(client: &TlsConnector, address: SocketAddr) -> Vec<u8> {
    let stream = connect(client, address).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_http_1_1_over_them() {
    let bed = Bed::new();
    let server = bed.serve().await;
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = connect(&bed.client(&[version]), server.address).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        let answer = ask(stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    }
}

#[tokio::test]
async fn whoever_speaks_http_in_plain_text_is_told_what_to_do() {
    let bed = Bed::new();
    let server = bed.serve().await;
    let answer = ask(TcpStream::connect(server.address).await.unwrap()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["detail"], "this port speaks TLS: begin the URL with https://");
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_out() {
    let bed = Bed::new();
    let server = bed.serve().await;
    // More than may be under way: what comes later ends the oldest.
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let client = bed.client(&[&TLS13]);
    let asked = tokio::time::timeout(Duration::from_secs(5), async {
        for _ in 0..20 {
            let answer = ask(connect(&client, server.address).await.unwrap()).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
        }
    });
    asked.await.expect("those who say nothing are in the way");
    let first = silent.remove(0).read(&mut [0]).await;
    assert!(matches!(first, Ok(0) | Err(_)), "the oldest was not ended: {first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_exchanged_under_load_without_a_failed_request() {
    let bed = Bed::new();
    let Server { address, mut reload, _task } = bed.serve().await;
    let client = bed.client(&[&TLS12, &TLS13]);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (client, over, asked) = (client.clone(), Arc::clone(&over), Arc::clone(&asked));
        callers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let answer = ask(connect(&client, address).await.unwrap()).await.unwrap();
                assert!(answer.ends_with("hello"), "{answer}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for year in 2031..2041 {
        let before = shown(&client, address).await;
        bed.write(&bed.pair(year));
        let (report, _) = reload.run_once().await.unwrap();
        assert_eq!(report, format!("the certificate is good until {year}-01-01T00:00:00Z"));
        assert_ne!(shown(&client, address).await, before);
        let until = asked.load(Ordering::Relaxed) + 5;
        while asked.load(Ordering::Relaxed) < until && !callers.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn faulty_files_change_nothing_and_are_told() {
    let bed = Bed::new();
    let Server { address, mut reload, _task } = bed.serve().await;
    let client = bed.client(&[&TLS13]);
    let before = shown(&client, address).await;
    let (_, stray) = bed.pair(2030);
    bed.write_file("key.pem", &stray);
    for _ in 0..2 {
        let (report, _) = reload.run_once().await.unwrap();
        assert!(
            report.starts_with("the certificate is good until 2030-01-01T00:00:00Z; its files are faulty"),
            "{report}"
        );
        assert!(report.contains("is not that of the first certificate"), "{report}");
        assert_eq!(shown(&client, address).await, before);
    }
    std::fs::remove_file(bed.folder.path().join("cert.pem")).unwrap();
    let (report, _) = reload.run_once().await.unwrap();
    assert!(report.contains("can't read") && report.contains("cert.pem"), "{report}");
    bed.write(&bed.pair(2031));
    let (report, _) = reload.run_once().await.unwrap();
    assert_eq!(report, "the certificate is good until 2031-01-01T00:00:00Z");
    assert_ne!(shown(&client, address).await, before);
}

#[tokio::test]
async fn an_end_that_comes_near_is_told() {
    let bed = Bed::new();
    let Server { mut reload, .. } = bed.serve().await;
    bed.clock.set("2029-12-20T01:00:00Z".parse().unwrap());
    assert_eq!(reload.run_once().await.unwrap().0, "the certificate ends at 2030-01-01T00:00:00Z, in 11 days");
    bed.clock.set("2030-01-01T00:00:01Z".parse().unwrap());
    let ended = "the certificate has ended at 2030-01-01T00:00:00Z: callers refuse it";
    assert_eq!(reload.run_once().await.unwrap().0, ended);
}

#[tokio::test]
async fn at_the_start_each_fault_is_named_with_its_file() {
    let bed = Bed::new();
    let (cert, key) = bed.pair(2030);
    let (_, stray) = bed.pair(2030);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAo=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
    for (cert, key, named, said) in [
        (&*cert, &*stray, "key.pem", "not that of the first certificate"),
        (&cert, encrypted, "key.pem", "has a password"),
        (&cert, "", "key.pem", "BEGIN PRIVATE KEY"),
        (&cert, &cert, "key.pem", "BEGIN PRIVATE KEY"),
        ("", &key, "cert.pem", "BEGIN CERTIFICATE"),
        (&key, &key, "cert.pem", "BEGIN CERTIFICATE"),
        (damaged, &key, "cert.pem", "damaged"),
    ] {
        bed.write(&(cert.to_owned(), key.to_owned()));
        let text = chain(&bed.bind().await.unwrap_err());
        assert!(text.contains(named) && text.contains(said), "{named}, {said}: {text}");
        let secret = key.lines().nth(1).filter(|line| line.len() > 8);
        assert!(secret.is_none_or(|secret| !text.contains(secret)), "{text}");
    }
    std::fs::remove_file(bed.folder.path().join("key.pem")).unwrap();
    assert!(chain(&bed.bind().await.unwrap_err()).contains("key.pem"));
}

#[tokio::test]
async fn one_file_of_the_two_is_refused() {
    let bed = Bed::new();
    for half in [TlsFiles { tls_key: None, ..bed.files() }, TlsFiles { tls_cert: None, ..bed.files() }] {
        let clock: Arc<dyn Clock> = Arc::clone(&bed.clock) as _;
        let refused = Listener::bind("127.0.0.1:0".parse().unwrap(), &half, clock).await.unwrap_err();
        assert!(refused.to_string().contains("belong together"), "{refused}");
    }
}

/// Plain text, with little patience: each answer of `/` is of 16 MiB.
async fn impatient(patience: Patience) -> (SocketAddr, CancellationToken, JoinSet<()>) {
    let address = "127.0.0.1:0".parse().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(TestClock::at("2026-06-01T00:00:00Z".parse().unwrap()));
    let (listener, _) = Listener::bind(address, &TlsFiles::default(), clock).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || vec![b'x'; 16 << 20]));
    let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
    task.spawn(listener.serve_with(router, patience, stop.clone().cancelled_owned()));
    (address, stop, task)
}

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(100);

#[tokio::test]
async fn a_head_that_drips_in_is_not_waited_for() {
    let (address, _stop, _task) = impatient(Patience { head: SHORT, stall: LONG }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let drips = async {
        writing.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Drip: ").await.unwrap();
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
        std::future::pending::<()>().await;
    };
    let ends = async { reading.read(&mut [0]).await };
    let ended = tokio::time::timeout(LONG / 10, async {
        tokio::select! {
            ended = ends => ended,
            () = drips => unreachable!("it never ends"),
        }
    });
    let ended = ended.await.expect("it is waited for");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn connections_that_say_nothing_more_are_closed() {
    let (address, _stop, _task) = impatient(Patience { head: SHORT, stall: LONG }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG / 10, stream.read_to_string(&mut answer)).await.expect("it stays open").unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_its_connection() {
    for is_taken in [false, true] {
        let (address, stop, mut task) = impatient(Patience { head: LONG, stall: SHORT }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        // It begins a new life with each byte that is taken, so that a slow reader has time.
        let mut taken = 0;
        while is_taken && taken < 16 << 20 {
            taken += stream.read(&mut vec![0; 1 << 20]).await.unwrap();
            tokio::time::sleep(SHORT / 10).await;
        }
        // Who stops waits for those who are served, and for nobody else.
        stop.cancel();
        let ended = tokio::time::timeout(LONG / 10, task.join_next()).await;
        ended.expect("the connection is open").unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_says_that_nothing_more_comes_takes_no_room() {
    let (address, stop, mut task) = impatient(Patience { head: LONG, stall: LONG }).await;
    // Before a request, within its head, and within its body.
    for begun in ["", "GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG / 10, stream.read_to_end(&mut answer)).await;
        assert!(ended.expect("the other half is open").is_ok() || !begun.is_empty(), "{begun}");
    }
    stop.cancel();
    let ended = tokio::time::timeout(LONG / 10, task.join_next()).await;
    ended.expect("a connection is open").unwrap().unwrap();
}
