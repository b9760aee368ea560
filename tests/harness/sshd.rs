//! A private OpenSSH server: own port on the loopback, own keys in a temporary folder, gone on drop. Whoever runs the
//! tests is its only user.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::ports::Port;
use crate::process::{Process, Program};
use crate::wait::eventually;

const SSHD: &str = "/usr/sbin/sshd";
/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that takes one key, which [`Sshd::key`] opens.
#[derive(Debug)]
pub struct Sshd {
    process: Process,
    port: Port,
    user: String,
    folder: TempDir,
}

impl Sshd {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// OpenSSH isn't installed, or doesn't start.
    pub async fn start() -> Result<Self> {
        Self::start_as(|program| program).await
    }

    /// The same; it prints no log when it is dropped.
    ///
    /// # Errors
    /// As [`Sshd::start`].
    pub async fn quiet() -> Result<Self> {
        Self::start_as(Program::quiet).await
    }

    async fn start_as(arrange: impl FnOnce(Program) -> Program) -> Result<Self> {
        let folder = TempDir::with_prefix("reveille-sshd-").context("making a folder for sshd")?;
        let port = Port::claim()?;
        for key in ["host", "key"] {
            make_key(&folder.path().join(key), &[])?;
        }
        std::fs::copy(folder.path().join("key.pub"), folder.path().join("authorized_keys"))?;
        let process = arrange(server(folder.path(), port.number())?).start()?;
        let user = text_of(Command::new("id").arg("-un"))?;
        let sshd = Self { process, port, user, folder };
        eventually("sshd to listen", LIMIT, async || {
            TcpStream::connect(sshd.port.address()).await.map_err(|error| format!("{error}; {}", sshd.process.log()))
        })
        .await?;
        Ok(sshd)
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Whom it lets in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that it takes.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// A file of known hosts that knows the server under this port, be it that of a proxy before it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn known_hosts(&self, port: u16) -> Result<PathBuf> {
        let key = std::fs::read_to_string(self.folder.path().join("host.pub"))?;
        let file = self.folder.path().join(format!("known_hosts-{port}"));
        std::fs::write(&file, format!("[127.0.0.1]:{port} {key}"))?;
        Ok(file)
    }

    /// Takes this public key too.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn authorize(&self, public_key: &Path) -> Result<()> {
        let file = self.folder.path().join("authorized_keys");
        let keys = std::fs::read_to_string(&file)? + &std::fs::read_to_string(public_key)?;
        Ok(std::fs::write(file, keys)?)
    }
}

/// Makes a private key at this path, and the public one beside it; an ed25519 key without a passphrase unless the
/// options of `ssh-keygen` say otherwise.
///
/// # Errors
/// `ssh-keygen` isn't installed, or refuses.
pub fn make_key(path: &Path, options: &[&str]) -> Result<()> {
    let options = if options.is_empty() { &["-t", "ed25519", "-N", ""] } else { options };
    text_of(Command::new("ssh-keygen").arg("-q").args(options).arg("-f").arg(path)).map(drop)
}

fn server(folder: &Path, port: u16) -> Result<Program> {
    let config = folder.join("sshd_config");
    let file = |name: &str| folder.join(name).display().to_string();
    let lines = [
        format!("Port {port}\nListenAddress 127.0.0.1\nPidFile none\nLogLevel VERBOSE"),
        format!("HostKey {}\nAuthorizedKeysFile {}", file("host"), file("authorized_keys")),
        // The folder is private, but lies in one that is everybody's.
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no".to_owned(),
        "PermitRootLogin prohibit-password\nAcceptEnv none\n".to_owned(),
    ];
    std::fs::write(&config, lines.join("\n"))?;
    let program = if geteuid().is_root() {
        // Started by root, it asks for a folder /run/sshd, and is given one that nobody else sees.
        let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec \"$@\"";
        let program = Program::new("unshare", "sshd", folder).arg("--mount").arg("--");
        program.arg("sh").arg("-c").arg(script).arg("sh").arg(SSHD)
    } else {
        Program::new(SSHD, "sshd", folder)
    };
    Ok(program.arg("-D").arg("-e").arg("-f").arg(config))
}

fn text_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
