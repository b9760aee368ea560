//! Who the worker is to a host: a private key of a file, or those of an SSH agent.

use std::sync::Arc;

use reveille_shared::definition::SshCall;
use reveille_shared::telemetry::chain;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Error as KeyError, PrivateKey, PublicKey, decode_secret_key};
use tokio::net::UnixStream;

use crate::handlers::RunFailure;
use crate::handlers::env::Variables;
use crate::handlers::template::Renderer;

/// Where an agent listens.
const AGENT: &str = "SSH_AUTH_SOCK";

/// What the worker proves itself by.
pub(super) enum Identity {
    Key(Arc<PrivateKey>),
    Agent { agent: Box<AgentClient<UnixStream>>, keys: Vec<PublicKey> },
}

fn fatal(told: impl Into<String>) -> RunFailure {
    RunFailure::fatal(told).code("SshIdentity")
}

impl Identity {
    /// Reads the key, or asks the agent what it has.
    pub(super) async fn load(
        call: &SshCall,
        renderer: &Renderer<'_>,
        variables: &Variables,
    ) -> Result<Self, RunFailure> {
        let Some(file) = &call.identity_file else { return Self::of_agent(variables).await };
        let passphrase = call.passphrase.as_ref().map(|text| renderer.text("passphrase", text)).transpose()?;
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| fatal(format!("the private key {file} can't be read: {error}")))?;
        let has_passphrase = passphrase.is_some();
        // An encrypted key is made slow to open.
        let opened = tokio::task::spawn_blocking(move || decode_secret_key(&text, passphrase.as_deref())).await;
        let key = match opened.map_err(|error| fatal(chain(&error)))? {
            Ok(key) if is_usable(&key.algorithm()) => key,
            Ok(_) | Err(KeyError::UnsupportedKeyType { .. }) => {
                let told = format!(
                    "{file} is of a kind that can't be used: make an ed25519 key, or give an RSA key to an SSH agent"
                );
                return Err(fatal(told));
            }
            Err(_) if has_passphrase => {
                return Err(fatal(format!("{file} does not open with its passphrase, or is no private key")));
            }
            Err(KeyError::KeyIsEncrypted) => {
                return Err(fatal(format!("{file} is encrypted: write `passphrase: ${{env:NAME}}`")));
            }
            Err(_) => return Err(fatal(format!("{file} is no private key"))),
        };
        Ok(Self::Key(Arc::new(key)))
    }

    async fn of_agent(variables: &Variables) -> Result<Self, RunFailure> {
        let socket = variables.get(AGENT).ok_or_else(|| {
            fatal(format!("no `identity_file` is named, and the worker has no SSH agent ({AGENT} is not set)"))
        })?;
        let asked = async {
            let mut agent = AgentClient::connect_uds(&socket).await?;
            let keys = agent.request_identities().await?;
            Ok::<_, KeyError>((agent, keys))
        };
        let (agent, identities) = asked.await.map_err(|error| {
            let told = format!("the SSH agent at {socket} does not answer: {}", chain(&error));
            RunFailure::retry(told).code("SshIdentity")
        })?;
        let keys = identities.into_iter().filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            AgentIdentity::Certificate { .. } => None,
        });
        Ok(Self::Agent { agent: Box::new(agent), keys: keys.collect() })
    }
}

/// An RSA key can be used by an agent alone, as it makes the signature itself.
fn is_usable(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Ed25519 | Algorithm::Ecdsa { .. })
}
