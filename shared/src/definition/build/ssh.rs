//! A command on another host, as it is written → as it is kept.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::ssh::{RemoteCommand, SshCall, usual_connect_timeout, usual_port};
use crate::duration::HumanDuration;

#[derive(Deserialize)]
pub(super) struct RawSsh {
    host: String,
    port: Option<u16>,
    user: String,
    command: RawCommand,
    env: Option<BTreeMap<String, String>>,
    working_dir: Option<String>,
    identity_file: Option<String>,
    passphrase: Option<String>,
    known_hosts: Option<String>,
    connect_timeout: Option<HumanDuration>,
    idle_timeout: Option<HumanDuration>,
    #[serde(default)]
    success: Vec<i32>,
    #[serde(default)]
    no_retry: Vec<i32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCommand {
    Argv(Vec<String>),
    Shell(String),
}

impl From<RawSsh> for SshCall {
    fn from(raw: RawSsh) -> Self {
        Self {
            host: raw.host,
            port: raw.port.unwrap_or(usual_port()),
            user: raw.user,
            command: match raw.command {
                RawCommand::Argv(argv) => RemoteCommand::Argv(argv),
                RawCommand::Shell(text) => RemoteCommand::Shell(text),
            },
            env: raw.env.unwrap_or_default(),
            working_dir: raw.working_dir,
            identity_file: raw.identity_file,
            passphrase: raw.passphrase,
            known_hosts: raw.known_hosts,
            connect_timeout: raw.connect_timeout.unwrap_or(usual_connect_timeout()),
            idle_timeout: raw.idle_timeout,
            success: raw.success,
            no_retry: raw.no_retry,
        }
    }
}
