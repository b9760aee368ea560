//! A command to run on another host: how a job says it, with all defaults filled in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::duration::HumanDuration;

/// A command to run on another host over SSH.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshCall {
    /// Where; may hold `{{ … }}` templates.
    pub host: String,
    /// The port of its SSH server.
    #[serde(default = "usual_port", skip_serializing_if = "is_usual_port")]
    pub port: u16,
    /// As whom.
    pub user: String,
    /// What runs there.
    pub command: RemoteCommand,
    /// Added to the environment that the host gives it; values may hold templates and `${env:NAME}`, which is resolved on
    /// the worker and never stored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder of the host to run in; without it, where the host puts its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The private key: a file of the worker. Without it, those of the worker's SSH agent are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<String>,
    /// Opens the private key: `${env:NAME}` and nothing else, so it is no secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// A file of the worker with the keys of hosts; without it, those of its user and of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// How long it may take until the command has begun.
    #[serde(default = "usual_connect_timeout", skip_serializing_if = "is_usual_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long the command may print nothing; without it, as long as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<HumanDuration>,
    /// Exit codes that mean success; empty means 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<i32>,
    /// Exit codes after which a retry is pointless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_retry: Vec<i32>,
}

/// What runs on another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemoteCommand {
    /// Program and arguments, which no shell touches; arguments may hold `{{ … }}` templates.
    Argv(Vec<String>),
    /// A text for `/bin/sh` of the host, as it is written.
    Shell(String),
}

/// The port of SSH servers unless said otherwise.
pub(super) const fn usual_port() -> u16 {
    22
}

/// How long connecting may take unless said otherwise.
pub(super) const fn usual_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_usual_port(port: &u16) -> bool {
    *port == usual_port()
}

fn is_usual_connect_timeout(timeout: &HumanDuration) -> bool {
    *timeout == usual_connect_timeout()
}
