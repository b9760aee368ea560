//! The host on which the drill's `ssh` jobs work: a real server, over a network that all workers share.

use std::path::PathBuf;

use anyhow::Result;
use harness::proxy::Proxy;
use harness::sshd::Sshd;
use serde_json::{Value, json};

/// The host. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) network: Proxy,
    known_hosts: PathBuf,
    sshd: Sshd,
}

impl Host {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self> {
        let sshd = Sshd::quiet().await?;
        let network = Proxy::start(sshd.port().address()).await?;
        let known_hosts = sshd.known_hosts(network.address().port())?;
        Ok(Self { network, known_hosts, sshd })
    }

    /// What a job must say to work on it.
    pub(crate) fn keys(&self) -> Value {
        json!({
            "host": "127.0.0.1",
            "port": self.network.address().port(),
            "user": self.sshd.user(),
            "identity_file": self.sshd.key(),
            "known_hosts": self.known_hosts,
        })
    }
}
