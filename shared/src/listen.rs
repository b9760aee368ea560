//! Where a process answers HTTP, in plain text or over TLS.
//!
//! - [`certificate`]: files → what handshakes are made with, or what is wrong with them.
//! - [`handshakes`]: connections that are not yet ones.
//! - [`serve`]: connections, and what they may take.
//! - [`reload`]: the pass that looks at the files again.

mod certificate;
mod handshakes;
mod reload;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use self::certificate::Certificate;
pub use self::certificate::CertificateError;
use self::handshakes::TlsListener;
pub use self::reload::{PERIOD, Reload};
use self::serve::{Patience, serve};
use crate::clock::Clock;

/// With which certificate a listener proves who it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsFiles {
    /// Answer over TLS with this certificate, and those between it and its root: a PEM file, read again when it changes
    #[arg(long, env = "REVEILLE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert: a PEM file without a password, read again when it changes
    #[arg(long, env = "REVEILLE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or not allowed.
    #[error("can't listen on {address}")]
    Address {
        /// Where it was to be.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// One file of the two is given.
    #[error("--tls-cert and --tls-key (REVEILLE_TLS_CERT, REVEILLE_TLS_KEY) belong together: {0} is missing")]
    Half(&'static str),
    /// The files are not those of a certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    /// Plain text.
    Plain(TcpListener),
    /// TLS, nothing else.
    Tls(TlsListener),
}

impl Listener {
    /// Binds `address`. With files it speaks TLS, and the pass is to be run.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        address: SocketAddr,
        files: &TlsFiles,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<Reload>), ListenError> {
        let pair = match (&files.tls_cert, &files.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(Certificate::load(cert, key).await?),
            (Some(_), None) => return Err(ListenError::Half("--tls-key")),
            (None, Some(_)) => return Err(ListenError::Half("--tls-cert")),
        };
        let tcp = TcpListener::bind(address).await.map_err(|source| ListenError::Address { address, source })?;
        if pair.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "keys and answers go over the network in plain text: see --tls-cert");
        }
        Ok(match pair {
            None => (Self::Plain(tcp), None),
            Some(certificate) => {
                let (reload, serving) = Reload::new(certificate, clock);
                (Self::Tls(TlsListener::new(tcp, serving)), Some(reload))
            }
        })
    }

    /// Where it is bound, the port in numbers.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(tcp) => tcp.local_addr(),
            Self::Tls(tls) => axum::serve::Listener::local_addr(tls),
        }
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Answers requests until `stop`, then those that have begun.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()> + Send) {
        self.serve_with(router, Patience::default(), stop).await;
    }

    async fn serve_with(self, router: Router, patience: Patience, stop: impl Future<Output = ()> + Send) {
        match self {
            // Small events are not held back until the last one is acknowledged.
            Self::Plain(tcp) => {
                let tcp = tcp.tap_io(|stream| drop(stream.set_nodelay(true)));
                serve(tcp, router, patience, stop).await;
            }
            Self::Tls(tls) => serve(tls, router, patience, stop).await,
        }
    }
}
