//! A way to a server that counts what passes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::frames::{Cutter, Kind, Protocol, Sender};

/// By kind.
type Passed = [AtomicU64; Kind::ALL.len()];

/// On 127.0.0.1. Dropped, it takes its connections with it.
pub(crate) struct Tap {
    address: SocketAddr,
    passed: Arc<Passed>,
    _acceptor: JoinSet<()>,
}

/// How much has passed so far.
pub(crate) struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }
}

impl Tap {
    pub(crate) async fn open(target: SocketAddr, protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a port for a tap")?;
        let address = listener.local_addr()?;
        let passed = Arc::default();
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, target, protocol, Arc::clone(&passed)));
        Ok(Self { address, passed, _acceptor: acceptor })
    }

    /// Where to connect instead of the target.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|kind| self.passed[kind].load(Ordering::Relaxed)))
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, protocol: Protocol, passed: Arc<Passed>) {
    let mut connections = JoinSet::new();
    loop {
        // A connection that is gone before it is accepted is no reason to stop.
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(connection(client, target, protocol, Arc::clone(&passed)));
        }
        // Those that have ended are of no more use.
        while connections.try_join_next().is_some() {}
    }
}

/// Its end, for whatever reason, closes both sides; the peers see it by their closed sockets.
async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    protocol: Protocol,
    passed: Arc<Passed>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.split();
    let (server_reads, server_writes) = server.split();
    tokio::try_join!(
        copy(client_reads, server_writes, Cutter::new(protocol, Sender::Client), &passed),
        copy(server_reads, client_writes, Cutter::new(protocol, Sender::Server), &passed),
    )?;
    Ok(())
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut cutter: Cutter,
    passed: &Passed,
) -> io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        for kind in cutter.take(&chunk[..length]) {
            passed[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        to.write_all(&chunk[..length]).await?;
    }
}
