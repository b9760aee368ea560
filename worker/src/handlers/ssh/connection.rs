//! A connection to a host that is known, as a user whom it takes for one of its own.

use std::borrow::Cow;
use std::net::{Shutdown, TcpStream as Socket};
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::telemetry::chain;
use russh::client::{self, AuthResult, DisconnectReason, Handle, Msg};
use russh::keys::{Algorithm, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, Disconnect, Preferred};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::identity::Identity;
use super::known_hosts::{KnownHost, named};
use crate::handlers::RunFailure;

/// So long without a word from the host, and it is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// After so many unanswered ones the connection is lost.
const UNANSWERED: usize = 3;
/// How long saying goodbye may take, or finding out why a connection has ended.
const GOODBYE: Duration = Duration::from_millis(500);

/// Where to, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
}

/// An authenticated connection. Dropped, it is closed at once.
pub(super) struct Connection {
    handle: Handle<Doorman>,
    _socket: Closing,
}

/// Closes a connection when it is dropped, whoever else holds it.
struct Closing(Socket);

impl Drop for Closing {
    fn drop(&mut self) {
        // Fails if it is closed already.
        let _closed = self.0.shutdown(Shutdown::Both).is_err();
    }
}

impl Connection {
    pub(super) async fn open(target: &Target, known: KnownHost, identity: Identity) -> Result<Self, RunFailure> {
        let Target { host, port, .. } = target;
        let failed =
            |why: String| RunFailure::retry(format!("can't connect to {host}:{port}: {why}")).code("SshConnect");
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let stream = stream.into_std()?;
            let socket = Closing(stream.try_clone()?);
            std::io::Result::Ok((TcpStream::from_std(stream)?, socket))
        };
        let (stream, socket) = connecting.await.map_err(|error| failed(error.to_string()))?;
        let config = Arc::new(config(&known));
        let handle = client::connect_stream(config, stream, Doorman { known }).await.map_err(|fault| match fault {
            Fault::HostKey(failure) => failure,
            Fault::Ssh(error @ russh::Error::NoCommonAlgo { .. }) => {
                let told = format!(
                    "{host}:{port} and the worker have no algorithm in common (RSA host keys are not used): {error}"
                );
                RunFailure::fatal(told).code("SshHandshake")
            }
            other => failed(chain(&other)),
        })?;
        let mut connection = Self { handle, _socket: socket };
        connection.authenticate(target, identity).await?;
        Ok(connection)
    }

    async fn authenticate(&mut self, target: &Target, identity: Identity) -> Result<(), RunFailure> {
        let Target { host, port, user } = target;
        let (offered, answer) = match identity {
            Identity::Key(key) => {
                let offered = named(key.public_key());
                let key = PrivateKeyWithHashAlg::new(key, None);
                (offered, self.handle.authenticate_publickey(user, key).await.map_err(|error| chain(&error)))
            }
            Identity::Agent { mut agent, keys } => {
                let offered = format!("any of the {} keys of its SSH agent", keys.len());
                let mut answer =
                    Ok(AuthResult::Failure { remaining_methods: [].as_slice().into(), partial_success: false });
                for key in keys {
                    let hash = match key.algorithm() {
                        Algorithm::Rsa { .. } => self.handle.best_supported_rsa_hash().await.ok().flatten().flatten(),
                        _ => None,
                    };
                    let tried = self.handle.authenticate_publickey_with(user, key, hash, &mut *agent).await;
                    answer = tried.map_err(|error: russh::AgentAuthError| chain(&error));
                    if matches!(answer, Ok(AuthResult::Success)) || self.handle.is_closed() {
                        break;
                    }
                }
                (offered, answer)
            }
        };
        let (partial, why) = match answer {
            Ok(AuthResult::Success) => return Ok(()),
            Ok(AuthResult::Failure { partial_success, .. }) => (partial_success, String::new()),
            Err(error) => (false, format!(" ({error})")),
        };
        let told = if partial {
            format!("{host}:{port} wants more of {user} than a key, which is all that can be given")
        } else if self.handle.is_closed() {
            match self.fault().await {
                Some(Fault::Goodbye(said)) => {
                    format!("{host}:{port} does not take {user} with {offered}: it says {said:?}")
                }
                fault => {
                    let why = fault.map_or_else(|| "closed".to_owned(), |fault| chain(&fault));
                    let told = format!("the connection to {host}:{port} was lost at the login: {why}");
                    return Err(RunFailure::retry(told).code("SshConnect"));
                }
            }
        } else {
            format!("{host}:{port} does not take {user} with {offered}{why}: is it in that user's authorized_keys?")
        };
        Err(RunFailure::fatal(told).code("SshAuth"))
    }

    /// A channel for one command.
    pub(super) async fn channel(&self) -> Result<Channel<Msg>, russh::Error> {
        self.handle.channel_open_session().await
    }

    /// Why it has ended.
    pub(super) async fn why_closed(&mut self) -> String {
        self.fault().await.map_or_else(|| "nobody says why".to_owned(), |fault| chain(&fault))
    }

    /// What has ended it, unless that was done in order. To be asked once.
    async fn fault(&mut self) -> Option<Fault> {
        timeout(GOODBYE, &mut self.handle).await.ok()?.err()
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            if self.handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                let _ended = (&mut self.handle).await.is_ok();
            }
        };
        let _in_time = timeout(GOODBYE, goodbye).await.is_ok();
    }
}

/// Lets a host in by its key.
struct Doorman {
    known: KnownHost,
}

/// Why a connection is refused, or has ended.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the host is not to be trusted")]
    HostKey(RunFailure),
    #[error("the host said goodbye: {0}")]
    Goodbye(String),
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl client::Handler for Doorman {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        self.known.judge(&shown.public_key()).map(|()| true).map_err(Fault::HostKey)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        Err(match reason {
            DisconnectReason::ReceivedDisconnect(told) => Fault::Goodbye(told.message),
            DisconnectReason::Error(fault) => fault,
        })
    }
}

fn config(known: &KnownHost) -> client::Config {
    client::Config {
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: UNANSWERED,
        preferred: Preferred { key: Cow::Owned(known.algorithms()), ..Preferred::DEFAULT },
        ..client::Config::default()
    }
}
