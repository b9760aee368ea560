//! Connections that are not yet ones: their handshakes run beside each other, in time, and not more than so many.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How many may be under way. One more ends the oldest: a handshake takes a round trip or two, so that the oldest of many is
/// one whose client says nothing.
const MOST: usize = 256;
/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;
/// How much of a request in plain text is read to its end, so that its sender gets to read the answer.
const MOST_DRAINED: u64 = 1 << 20;

/// What whoever speaks HTTP to a TLS port is told.
const PLAIN_TEXT: &str = "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"code\":\"PlainText\",\
    \"message\":\"this port speaks TLS: begin the URL with https://\",\
    \"detail\":\"this port speaks TLS: begin the URL with https://\"}\n";

/// Accepts TLS connections whose handshake is done.
#[derive(Debug)]
pub struct TlsListener {
    tcp: TcpListener,
    serving: watch::Receiver<Arc<ServerConfig>>,
    handshakes: JoinSet<Option<Connection>>,
    /// Those of the handshakes, the oldest first; some may have ended.
    begun: VecDeque<AbortHandle>,
}

type Connection = (TlsStream<TcpStream>, SocketAddr);

impl TlsListener {
    pub(super) fn new(tcp: TcpListener, serving: watch::Receiver<Arc<ServerConfig>>) -> Self {
        Self { tcp, serving, handshakes: JoinSet::new(), begun: VecDeque::new() }
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        while self.begun.front().is_some_and(|oldest| oldest.is_finished() || self.handshakes.len() >= MOST) {
            let oldest = self.begun.pop_front();
            if let Some(oldest) = oldest.filter(|oldest| !oldest.is_finished()) {
                oldest.abort();
                count("displaced");
                break;
            }
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.serving.borrow()));
        self.begun.push_back(self.handshakes.spawn(async move {
            match timeout(LIMIT, shake(stream, acceptor)).await {
                Ok(Ok(stream)) => {
                    count("done");
                    return stream.map(|stream| (stream, peer));
                }
                Ok(Err(error)) => {
                    count("failed");
                    tracing::debug!(%peer, %error, "no TLS");
                }
                Err(_) => {
                    count("late");
                    tracing::debug!(%peer, limit = ?LIMIT, "no TLS in time");
                }
            }
            None
        }));
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                // A handshake that was ended, or panicked, is none.
                Some(done) = self.handshakes.join_next() => if let Ok(Some(connection)) = done {
                    return connection;
                },
                (stream, peer) = Listener::accept(&mut self.tcp) => self.begin(stream, peer),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Nothing: it was no TLS, and the other side has been told.
async fn shake(mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<Option<TlsStream<TcpStream>>> {
    // Small answers are not held back until the last one is acknowledged.
    stream.set_nodelay(true)?;
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if first[0] == HANDSHAKE => acceptor.accept(stream).await.map(Some),
        _ if first[0].is_ascii_uppercase() => {
            let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{PLAIN_TEXT}", PLAIN_TEXT.len());
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(MOST_DRAINED), &mut tokio::io::sink()).await?;
            Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP in plain text"))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "neither TLS nor HTTP")),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("reveille_tls_handshakes_total", "outcome" => outcome).increment(1);
}
