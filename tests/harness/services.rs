//! A database and a broker of a test's own: on the servers that `tests/run` started for the whole run, or,
//! for a test that breaks them or is run by itself, on servers of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::postgres::{self, Postgres};
use crate::rabbitmq::RabbitMq;

/// The URL of the run's PostgreSQL server, on which every test creates a database of its own.
pub const DATABASE_VARIABLE: &str = "REVEILLE_TEST_DATABASE_URL";

/// The URL of the run's RabbitMQ, without a virtual host.
pub const BROKER_VARIABLE: &str = "REVEILLE_TEST_AMQP_URL";

/// The folder with one empty file for every virtual host of the run's RabbitMQ that no test has taken.
pub const VHOSTS_VARIABLE: &str = "REVEILLE_TEST_VHOSTS";

/// An empty PostgreSQL database.
#[derive(Debug)]
pub struct Database {
    url: String,
    server: Option<Postgres>,
}

impl Database {
    /// A database on the run's server; without one, on a server of its own.
    ///
    /// # Errors
    /// No server answers or can be started.
    pub async fn fresh() -> Result<Self> {
        match std::env::var(DATABASE_VARIABLE) {
            Ok(server) => Ok(Self { url: postgres::create_database(&server).await?, server: None }),
            Err(_) => Self::private().await,
        }
    }

    /// A database on a server of its own, which the test may break.
    ///
    /// # Errors
    /// The server can't be started.
    pub async fn private() -> Result<Self> {
        let server = Postgres::start().await?;
        Ok(Self { url: server.create_database().await?, server: Some(server) })
    }

    /// Where and as whom to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The private server.
    ///
    /// # Errors
    /// The server is the run's, and not the test's to break.
    pub fn server(&mut self) -> Result<&mut Postgres> {
        self.server.as_mut().context("the database server is shared: start the stack with private_services()")
    }
}

/// An empty RabbitMQ virtual host.
#[derive(Debug)]
pub struct Broker {
    url: String,
    server: Option<RabbitMq>,
}

impl Broker {
    /// A virtual host of the run's RabbitMQ; without one, or when all are taken, a RabbitMQ of its own.
    ///
    /// # Errors
    /// RabbitMQ can't be started.
    pub async fn fresh() -> Result<Self> {
        let (server, vhosts) = (std::env::var(BROKER_VARIABLE), std::env::var_os(VHOSTS_VARIABLE));
        if let (Ok(server), Some(vhosts)) = (server, vhosts)
            && let Some(vhost) = take_vhost(Path::new(&vhosts))?
        {
            return Ok(Self { url: format!("{server}/{vhost}"), server: None });
        }
        Self::private().await
    }

    /// A RabbitMQ of its own, which the test may break.
    ///
    /// # Errors
    /// RabbitMQ can't be started.
    pub async fn private() -> Result<Self> {
        Ok(Self::on(RabbitMq::start().await?))
    }

    /// A RabbitMQ of its own, as [`RabbitMq::start_impatient`].
    ///
    /// # Errors
    /// RabbitMQ can't be started.
    pub async fn impatient(limit: Duration) -> Result<Self> {
        Ok(Self::on(RabbitMq::start_impatient(limit).await?))
    }

    fn on(server: RabbitMq) -> Self {
        Self { url: server.url(), server: Some(server) }
    }

    /// Where and as whom to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The private server.
    ///
    /// # Errors
    /// The server is the run's, and not the test's to break.
    pub fn server(&mut self) -> Result<&mut RabbitMq> {
        self.server.as_mut().context("RabbitMQ is shared: start the stack with private_services()")
    }
}

/// The virtual hosts of a whole test run: created when RabbitMQ boots, each taken by one test only.
/// Creating one later would need the management plugin, or a second or two of `rabbitmqctl`.
#[derive(Debug)]
pub struct Vhosts {
    folder: TempDir,
}

impl Vhosts {
    /// Prepares `count` virtual hosts.
    ///
    /// # Errors
    /// No temporary folder can be written.
    pub fn prepare(count: usize) -> Result<Self> {
        let folder = TempDir::with_prefix("reveille-vhosts-").context("making a folder for virtual hosts")?;
        let names: Vec<_> = (0..count).map(|number| format!("test-{number:03}")).collect();
        let vhosts = Self { folder };
        std::fs::create_dir(vhosts.free())?;
        for name in &names {
            std::fs::write(vhosts.free().join(name), "")?;
        }
        std::fs::write(vhosts.definitions(), definitions(&names))?;
        // RabbitMQ may run as another user than we do.
        let all_may_enter = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(vhosts.folder.path(), all_may_enter)?;
        Ok(vhosts)
    }

    /// The folder for [`VHOSTS_VARIABLE`].
    #[must_use]
    pub fn free(&self) -> PathBuf {
        self.folder.path().join("free")
    }

    /// What `rabbitmq.conf` must say to create them.
    #[must_use]
    pub fn config(&self) -> String {
        format!("load_definitions = {}", self.definitions().display())
    }

    fn definitions(&self) -> PathBuf {
        self.folder.path().join("definitions.json")
    }
}

/// RabbitMQ's own definitions file. As it names virtual hosts, it must name the default one and the user too.
fn definitions(names: &[String]) -> String {
    let vhosts = || std::iter::once("/").chain(names.iter().map(String::as_str));
    serde_json::json!({
        "users": [{ "name": "guest", "password": "guest", "tags": ["administrator"], "limits": {} }],
        "vhosts": vhosts().map(|name| serde_json::json!({ "name": name })).collect::<Vec<_>>(),
        "permissions": vhosts()
            .map(|name| serde_json::json!(
                { "user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*" }
            ))
            .collect::<Vec<_>>(),
    })
    .to_string()
}

/// Takes a name by removing its file: of several tests that try, only one succeeds.
fn take_vhost(free: &Path) -> Result<Option<String>> {
    for entry in std::fs::read_dir(free).context("looking for a virtual host")? {
        let entry = entry?;
        if std::fs::remove_file(entry.path()).is_ok() {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// The address that a `postgres://` or `amqp://` URL with a port points to.
///
/// # Errors
/// The URL names no IP address and port.
pub fn address_of(url: &str) -> Result<SocketAddr> {
    let (_, after_scheme) = url.split_once("://").context("a URL without a scheme")?;
    let authority = after_scheme.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.parse().context("a URL without an IP address and port")
}

/// The same URL, pointing to another address.
///
/// # Errors
/// The URL names no IP address and port.
pub fn through(url: &str, address: SocketAddr) -> Result<String> {
    Ok(url.replacen(&address_of(url)?.to_string(), &address.to_string(), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vhost_is_taken_once() {
        let vhosts = Vhosts::prepare(3).unwrap();
        let taken: std::collections::BTreeSet<_> =
            (0..3).map(|_| take_vhost(&vhosts.free()).unwrap().unwrap()).collect();
        assert_eq!(taken.into_iter().collect::<Vec<_>>(), ["test-000", "test-001", "test-002"]);
        assert_eq!(take_vhost(&vhosts.free()).unwrap(), None);
    }

    #[test]
    fn a_url_is_led_through_another_address() {
        let url = through("amqp://guest:guest@127.0.0.1:5672/%2f", "127.0.0.1:99".parse().unwrap()).unwrap();
        assert_eq!(url, "amqp://guest:guest@127.0.0.1:99/%2f");
        address_of("postgres://db.internal/x").unwrap_err();
    }
}
