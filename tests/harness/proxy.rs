//! A network between two parts that can be cut, stalled, slowed down and healed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

/// What the network does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Bytes arrive, this much later.
    Fair { delay: Duration },
    /// Connections end, and new ones end at once.
    Cut,
    /// Connections stay open, but no byte arrives: as when a cable is pulled.
    Stalled,
}

/// A TCP proxy on 127.0.0.1. Dropped, it takes its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    connections: TaskTracker,
    _acceptor: JoinSet<()>,
}

impl Proxy {
    /// Starts to pass connections on to `target`.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), target).await
    }

    /// The same at this address: the API, for one, answers only to loopback addresses with its own port.
    ///
    /// # Errors
    /// The port can't be bound.
    pub async fn start_at(address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.context("binding a port for a proxy")?;
        let address = listener.local_addr()?;
        let (weather, forecast) = watch::channel(Weather::Fair { delay: Duration::ZERO });
        let connections = TaskTracker::new();
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, target, forecast, connections.clone()));
        Ok(Self { address, weather, connections, _acceptor: acceptor })
    }

    /// Where to connect instead of the target.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections; new ones are accepted and end at once. Returns when the last one is gone.
    pub async fn cut(&self) {
        self.weather.send_replace(Weather::Cut);
        self.connections.close();
        self.connections.wait().await;
        self.connections.reopen();
    }

    /// Holds every byte back, on connections that stay open, until [`Proxy::heal`].
    pub fn stall(&self) {
        self.weather.send_replace(Weather::Stalled);
    }

    /// Lets every chunk of bytes arrive this much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_replace(Weather::Fair { delay });
    }

    /// Passes everything on at once again.
    pub fn heal(&self) {
        self.delay(Duration::ZERO);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    forecast: watch::Receiver<Weather>,
    connections: TaskTracker,
) {
    loop {
        // A connection that is gone before it is accepted is no reason to stop.
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(connection(client, target, forecast.clone()));
        }
    }
}

/// One connection; its end, for whatever reason, closes both sides.
async fn connection(mut client: TcpStream, target: SocketAddr, mut forecast: watch::Receiver<Weather>) {
    let sender = forecast.clone();
    let pass = async {
        let mut server = TcpStream::connect(target).await?;
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        tokio::try_join!(copy(client_reads, server_writes, sender.clone()), copy(server_reads, client_writes, sender))
    };
    tokio::select! {
        // The proxy is cut or dropped.
        _ = forecast.wait_for(|weather| *weather == Weather::Cut) => {}
        // Both sides have said goodbye, or one is broken; the peers see it by their closed sockets.
        _ = pass => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut forecast: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut chunk).await?;
        let fair = forecast.wait_for(|weather| matches!(weather, Weather::Fair { .. })).await;
        let weather = *fair.map_err(io::Error::other)?;
        if let Weather::Fair { delay } = weather
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A server that sends every byte back, and a proxy before it.
    async fn echo_behind_proxy(tasks: &mut JoinSet<io::Result<()>>) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await?;
                connections.spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    tokio::io::copy(&mut reads, &mut writes).await
                });
            }
        });
        proxy
    }

    async fn echo(stream: &mut TcpStream, word: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(word).await?;
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_cut_ends_old_and_new_connections_until_healed() {
        let mut tasks = JoinSet::new();
        let proxy = echo_behind_proxy(&mut tasks).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream, b"before").await.unwrap(), b"before");

        proxy.cut().await;
        echo(&mut stream, b"during").await.unwrap_err();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echo(&mut stream, b"during").await.unwrap_err();

        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(echo(&mut stream, b"after").await.unwrap(), b"after");
    }

    #[tokio::test]
    async fn a_stalled_connection_stays_open_and_loses_nothing() {
        let mut tasks = JoinSet::new();
        let proxy = echo_behind_proxy(&mut tasks).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.stall();
        timeout(Duration::from_millis(100), echo(&mut stream, b"late")).await.unwrap_err();
        proxy.heal();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"late");
    }

    #[tokio::test]
    async fn a_delay_counts_in_both_directions() {
        let mut tasks = JoinSet::new();
        let proxy = echo_behind_proxy(&mut tasks).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echo(&mut stream, b"connected").await.unwrap();
        proxy.delay(Duration::from_millis(100));
        let start = Instant::now();
        echo(&mut stream, b"slow").await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_dropped_proxy_ends_its_connections() {
        let mut tasks = JoinSet::new();
        let proxy = echo_behind_proxy(&mut tasks).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echo(&mut stream, b"before").await.unwrap();
        drop(proxy);
        assert_eq!(timeout(Duration::from_secs(10), stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    }
}
