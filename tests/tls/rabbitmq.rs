//! What proves to be the broker, and what is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::certificates::{Authority, Pair};
use harness::ports::Port;
use harness::rabbitmq::RabbitMq;
use harness::wait::eventually;
use reveille_shared::broker::{self, Broker, Health};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

/// A node that speaks TLS on a port beside the usual one.
pub(crate) struct TlsNode {
    node: RabbitMq,
    port: Port,
    _folder: TempDir,
}

impl TlsNode {
    pub(crate) async fn start(pair: &Pair) -> Result<Self> {
        let (folder, port) = (TempDir::with_prefix("reveille-rabbitmq-tls-")?, Port::claim()?);
        let (cert, key) = pair.write(folder.path())?;
        // The node may run as another user.
        for (path, mode) in [(folder.path(), 0o755), (&key, 0o644)] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        let config = format!(
            "listeners.ssl.1 = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
            port.address(),
            cert.display(),
            key.display()
        );
        Ok(Self { node: RabbitMq::start_with_config(&config).await?, port, _folder: folder })
    }

    /// Where to connect over TLS.
    pub(crate) fn url(&self, host: &str, authority: Option<&Path>) -> String {
        let query = authority.map_or_else(String::new, |file| format!("?cacertfile={}", file.display()));
        format!("amqps://guest:guest@{host}:{}/%2f{query}", self.port.number())
    }
}

fn connect(url: &str) -> Result<(Arc<dyn Broker>, CancellationToken)> {
    let stop = CancellationToken::new();
    Ok((broker::connect(url, "test", stop.clone())?, stop))
}

/// Why there is no connection.
async fn refusal(url: &str) -> Result<String> {
    let (broker, stop) = connect(url)?;
    let why = eventually("a refusal", LIMIT, async || match broker.health() {
        Health::Down(why) if why.ends_with(": connecting") => Err(why),
        seen => Ok(seen),
    });
    let seen = why.await?;
    stop.cancel();
    let Health::Down(why) = seen else { anyhow::bail!("connected to {url}") };
    Ok(why)
}

async fn wait_up(broker: &dyn Broker) -> Result<()> {
    eventually("a connection", LIMIT, async || match broker.health() {
        Health::Up => Ok(()),
        Health::Down(why) => Err(why),
    })
    .await
}

#[tokio::test]
async fn the_right_authority_and_name_are_taken_and_no_others() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let node = TlsNode::start(&authority.certify(&["localhost"], 2040)?).await?;

    let (broker, stop) = connect(&node.url("localhost", Some(&authority.file())))?;
    wait_up(&*broker).await?;
    broker.declare(&["default".to_owned()]).await?;
    ensure!(broker.depth("default").await? == 0);
    stop.cancel();

    let unknown = refusal(&node.url("localhost", Some(&stranger.file()))).await?;
    ensure!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{unknown}");
    let unknown = refusal(&node.url("localhost", None)).await?;
    ensure!(unknown.contains("certificate"), "{unknown}");
    let elsewhere = refusal(&node.url("127.0.0.1", Some(&authority.file()))).await?;
    ensure!(elsewhere.contains("not valid for name"), "{elsewhere}");
    let missing = refusal(&node.url("localhost", Some(Path::new("/nowhere/ca.pem")))).await?;
    ensure!(missing.contains("can't read /nowhere/ca.pem"), "{missing}");

    // Each speaks to the port of the other.
    let plain = refusal(&node.url("localhost", None).replacen("amqps", "amqp", 1)).await?;
    ensure!(plain.contains("see amqps://"), "{plain}");
    let tls =
        format!("amqps://guest:guest@localhost:{}/%2f?cacertfile={}", node.node.port(), authority.file().display());
    let tls = refusal(&tls).await?;
    ensure!(tls.contains("see amqp://"), "{tls}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_refused() -> Result<()> {
    let authority = Authority::new()?;
    let node = TlsNode::start(&authority.certify(&["localhost"], 2020)?).await?;
    let ended = refusal(&node.url("localhost", Some(&authority.file()))).await?;
    ensure!(ended.contains("expired"), "{ended}");
    Ok(())
}
