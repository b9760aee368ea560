//! Where RabbitMQ is, and how it proves that it is the one.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use url::form_urlencoded;

use crate::broker::BrokerError;
use crate::telemetry::chain;

/// After two of these without a sign of life the peer is taken for dead. In seconds.
const HEARTBEAT: u16 = 10;

/// What a URL of RabbitMQ says.
#[derive(Clone)]
pub(super) struct Endpoint {
    uri: AMQPUri,
    /// Who vouches for it, beside those whom the system trusts.
    authorities: Option<PathBuf>,
    /// What we prove ourselves with: certificate and key.
    own: Option<(PathBuf, PathBuf)>,
}

impl Endpoint {
    /// Opens a connection. Over TLS both the certificate's chain and the host's name must be right; the files are read anew
    /// each time.
    pub(super) async fn connect(&self, properties: ConnectionProperties) -> Result<Connection, String> {
        let tls = self.tls().await?;
        let runtime = lapin::runtime::default_runtime().map_err(|error| chain(&error))?;
        let connected = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await;
        connected.map_err(|error| {
            let why = chain(&error);
            let hint = match self.uri.scheme {
                AMQPScheme::AMQPS if why.contains("InvalidContentType") => " (does this port speak TLS? see amqp://)",
                AMQPScheme::AMQP if is_broken_off(&error) => " (does this port speak TLS? see amqps://)",
                _ => "",
            };
            why + hint
        })
    }

    async fn tls(&self) -> Result<OwnedTLSConfig, String> {
        let read = async |file: &PathBuf| {
            let read = tokio::fs::read_to_string(file).await;
            read.map_err(|error| format!("can't read {}: {error}", file.display()))
        };
        let mut tls = OwnedTLSConfig::default();
        if let Some(file) = &self.authorities {
            let authorities = read(file).await?;
            if !authorities.contains("-----BEGIN CERTIFICATE-----") {
                return Err(format!("{} is not a PEM file with certificates", file.display()));
            }
            tls.cert_chain = Some(authorities);
        }
        if let Some((certificate, key)) = &self.own {
            let (pem, key) = (read(certificate).await?.into_bytes(), read(key).await?.into_bytes());
            tls.identity = Some(OwnedIdentity::PKCS8 { pem, key });
        }
        Ok(tls)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("Endpoint").field("host", &self.uri.authority.host).finish_non_exhaustive()
    }
}

/// A port that speaks TLS ends the connection at the first bytes of plain text, or answers with an alert.
fn is_broken_off(error: &lapin::Error) -> bool {
    matches!(
        error.kind(),
        lapin::ErrorKind::IOError(_) | lapin::ErrorKind::ParsingError(_) | lapin::ErrorKind::ProtocolError(_)
    )
}

impl FromStr for Endpoint {
    type Err = BrokerError;

    /// Reads `amqp://user:password@host:port/vhost`. No error text repeats the URL, as it holds a password.
    fn from_str(url: &str) -> Result<Self, BrokerError> {
        let invalid = |why: &str| BrokerError::InvalidUrl(why.to_owned());
        let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
        let rest = rest.ok_or_else(|| invalid("it must be `embedded` or start with amqp:// or amqps://"))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err(invalid("it names no host"));
        }
        let expected = "expected amqp://user:password@host:port/vhost, with special characters in %XX form";
        let mut uri: AMQPUri = url.parse().map_err(|_| invalid(expected))?;
        // The parser turns an IPv6 address into "localhost".
        if let Some((address, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            address.parse::<Ipv6Addr>().map_err(|_| invalid(expected))?;
            uri.authority.host = address.to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        // The parser passes over what it does not know, and what is about TLS must not be.
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let (mut authorities, mut certificate, mut key) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let file = match &*name {
                "cacertfile" => &mut authorities,
                "certfile" => &mut certificate,
                "keyfile" => &mut key,
                "verify" if value == "verify_peer" => continue,
                "verify" => return Err(invalid("amqps:// always verifies: leave verify= away, or say verify_peer")),
                _ => continue,
            };
            if uri.scheme == AMQPScheme::AMQP {
                return Err(invalid("cacertfile=, certfile= and keyfile= are for amqps://, and this is amqp://"));
            }
            *file = Some(PathBuf::from(value.into_owned()));
        }
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(invalid("certfile= and keyfile= belong together, and one is missing")),
        };
        Ok(Self { uri, authorities, own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        url.parse::<Endpoint>().unwrap_err().to_string()
    }

    #[test]
    fn reads_urls() {
        let Endpoint { uri, .. } = "amqps://u:p%40@[2001:db8::1]:5673/%2fv".parse().unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("2001:db8::1", 5673));
        assert_eq!((uri.authority.userinfo.password.as_str(), uri.vhost.as_str()), ("p@", "/v"));
        assert_eq!(uri.query.heartbeat, Some(HEARTBEAT));
        assert_eq!("amqp://host?heartbeat=3".parse::<Endpoint>().unwrap().uri.query.heartbeat, Some(3));
    }

    #[test]
    fn files_of_tls_are_read_and_verifying_cannot_be_turned_off() {
        let url = "amqps://h/%2f?cacertfile=%2Fetc%2Fmy%20ca.pem&certfile=c&keyfile=k&verify=verify_peer";
        let read: Endpoint = url.parse().unwrap();
        assert_eq!(read.authorities, Some("/etc/my ca.pem".into()));
        assert_eq!(read.own, Some(("c".into(), "k".into())));
        assert!(refused("amqps://h?verify=verify_none").contains("always verifies"));
        assert!(refused("amqps://h?certfile=c").contains("belong together"));
        assert!(refused("amqp://h?cacertfile=c").contains("for amqps://"));
    }

    #[test]
    fn errors_never_repeat_the_password() {
        for url in ["amqp:u:s3cret@h", "http://u:s3cret@h", "amqp://u:s3cret@h:99999999", "amqp://u:s3cret@", "s3cret"]
        {
            let text = refused(url);
            assert!(!text.contains("s3cret"), "{text}");
        }
        let shown = format!("{:?}", "amqp://u:s3cret@h".parse::<Endpoint>().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
