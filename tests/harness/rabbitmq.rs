//! A private RabbitMQ node: own ports on the loopback, own data in a temporary folder, gone on drop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::process::tail;

/// What runs in the node's process group. The shell leads it and waits for the end of its standard input,
/// which this process holds: however this process dies, the node dies with it. The port mapper runs in
/// the foreground, as the one that Erlang would start for itself detaches and stays for ever.
const NODE: &str = "\
    epmd -port $ERL_EPMD_PORT -address 127.0.0.1 </dev/null & \
    until epmd -port $ERL_EPMD_PORT -names >/dev/null 2>&1; do sleep 0.02; done; \
    /usr/lib/rabbitmq/bin/rabbitmq-server </dev/null & \
    cat >/dev/null; kill -9 0";

/// How long a node may take to start. It takes about 5 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// One running node, or one that was killed and can be started again with its data.
#[derive(Debug)]
pub struct RabbitMq {
    folder: TempDir,
    port: u16,
    distribution_port: u16,
    mapper_port: u16,
    node: Option<Child>,
}

impl RabbitMq {
    /// Starts a node and waits until it speaks AMQP.
    ///
    /// # Errors
    /// The node can't be started, or isn't up after two minutes; the text holds the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with_config("").await
    }

    /// As [`RabbitMq::start`], with further lines for `rabbitmq.conf`.
    ///
    /// # Errors
    /// As [`RabbitMq::start`].
    pub async fn start_with_config(extra_conf_lines: &str) -> Result<Self> {
        Self::start_with_settings(extra_conf_lines, "[].").await
    }

    /// A node that closes the channel of whoever leaves a delivery unacknowledged for longer than `limit`, which
    /// it looks for four times in that time. An untouched one looks once a minute, and its limit is half an hour.
    ///
    /// # Errors
    /// As [`RabbitMq::start`].
    pub async fn start_impatient(limit: Duration) -> Result<Self> {
        let conf = format!("consumer_timeout = {}", limit.as_millis());
        let advanced = format!("[{{rabbit, [{{channel_tick_interval, {}}}]}}].", limit.as_millis() / 4);
        Self::start_with_settings(&conf, &advanced).await
    }

    /// With further lines for `rabbitmq.conf`, and the whole text of `advanced.config`.
    async fn start_with_settings(extra_conf_lines: &str, advanced: &str) -> Result<Self> {
        let [port, distribution_port, mapper_port] = free_ports().await?;
        let folder = TempDir::with_prefix("reveille-rabbitmq-").context("making a folder for RabbitMQ")?;
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             disk_free_limit.absolute = 50MB\n\
             vm_memory_high_watermark.absolute = 2GB\n\
             {extra_conf_lines}\n"
        );
        std::fs::write(folder.path().join("rabbitmq.conf"), config)?;
        std::fs::write(folder.path().join("advanced.config"), advanced)?;
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n")?;
        let mut rabbitmq = Self { folder, port, distribution_port, mapper_port, node: None };
        rabbitmq.restart().await?;
        Ok(rabbitmq)
    }

    /// Where and as whom to connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The AMQP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the node has logged so far, over all restarts. It may be some moments behind.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.folder.path().join(format!("log/reveille{}@localhost.log", self.port)))
    }

    /// Ends the node with SIGKILL, its data stay. Harmless if it is dead. A quorum queue that was
    /// declared less than about 5 s ago is of no more use after it: RabbitMQ 3.10 has not written down who leads it.
    ///
    /// # Errors
    /// The signal can't be sent, or the process can't be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut node) = self.node.take() {
            signal_group(&node).context("killing RabbitMQ")?;
            node.wait().await.context("waiting for the killed RabbitMQ")?;
            // The group's other processes die at the same time, but only the shell is our child to wait for.
            for port in [self.port, self.mapper_port] {
                while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
        Ok(())
    }

    /// Starts the node again, with the same port and data; kills it first if it runs.
    ///
    /// # Errors
    /// As [`RabbitMq::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.node = Some(self.spawn().context("starting RabbitMQ")?);
        let deadline = Instant::now() + START_LIMIT;
        while !self.speaks_amqp().await {
            if let Some(status) = self.node.as_mut().and_then(|node| node.try_wait().transpose()) {
                bail!("RabbitMQ ended with {} while starting\n{}", status?, self.log_end());
            }
            ensure!(Instant::now() < deadline, "RabbitMQ is not up after {START_LIMIT:?}\n{}", self.log_end());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends the node and removes its data.
    ///
    /// # Errors
    /// The node can't be ended or its folder not be removed.
    pub async fn stop(mut self) -> Result<()> {
        self.kill().await
    }

    fn spawn(&self) -> Result<Child> {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("console.log"))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", NODE])
            .current_dir(folder)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("reveille{}@localhost", self.port))
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("no-environment.conf"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_PLUGINS_EXPAND_DIR", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            // Nodes of several tests share few cores: they must not spin while they wait.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        Ok(command.spawn()?)
    }

    /// Whether the server answers a protocol header with its first frame (a method on channel 0).
    async fn speaks_amqp(&self) -> bool {
        let greet = async {
            let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await?;
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_u8().await
        };
        matches!(timeout(Duration::from_secs(2), greet).await, Ok(Ok(1)))
    }

    fn log_end(&self) -> String {
        tail(&read(&self.folder.path().join("console.log")), 4000).to_owned()
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            // It is reaped by the runtime; if the signal fails it dies by the end of its standard input.
            let _ = signal_group(node);
        }
    }
}

fn signal_group(node: &Child) -> Result<()> {
    let Some(pid) = node.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return Ok(()) };
    Ok(kill_process_group(pid, Signal::KILL)?)
}

/// Ports that nobody listens on at the moment; all are held until the last is found, so they differ.
async fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    for _ in 0..N {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("looking for a free port")?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}
