//! The names by which callers reach this service, and how absolute URLs in answers begin.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::Authority;

/// The names of this service.
#[derive(Debug)]
pub struct ServerNames {
    port: u16,
    tls: bool,
    public: Option<PublicUrl>,
}

/// How callers reach a service that is behind a proxy: scheme, host, port if not the usual one, and the path that it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: &'static str,
    authority: Authority,
    /// Without a slash at the end; empty for a host of its own.
    path: String,
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "write it like https://jobs.example.com or https://example.com/reveille";
        let uri: Uri = text.parse().map_err(|_| expected)?;
        let scheme = match uri.scheme_str() {
            Some("http") => "http",
            Some("https") => "https",
            _ => return Err(expected),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or(expected)?;
        if authority.as_str().contains('@') {
            return Err("it must hold no user: it is shown to callers");
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(expected);
        }
        Ok(Self { scheme, authority: authority.clone(), path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl PublicUrl {
    fn is_host(&self, given: &Authority) -> bool {
        let port = |authority: &Authority| authority.port_u16().unwrap_or(usual_port(self.scheme));
        given.host().eq_ignore_ascii_case(self.authority.host()) && port(given) == port(&self.authority)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, authority, path } = self;
        write!(f, "{scheme}://{authority}{path}")
    }
}

impl ServerNames {
    /// A service on a loopback address with this port, and what it is called elsewhere.
    #[must_use]
    pub fn new(port: u16, tls: bool, public: Option<PublicUrl>) -> Self {
        Self { port, tls, public }
    }

    /// How absolute URLs begin for whoever has called `host`.
    pub(crate) fn base(&self, host: &str) -> String {
        match &self.public {
            Some(public) => public.to_string(),
            None => format!("{}://{host}", self.scheme()),
        }
    }

    /// For people: what to call.
    pub(crate) fn names(&self) -> String {
        let port = self.port;
        let public = self.public.as_ref().map_or_else(String::new, |public| format!("{public}, "));
        format!("{public}localhost:{port} or 127.0.0.1:{port}")
    }

    /// Whether a request to this host is for us.
    pub(crate) fn is_host(&self, authority: &str) -> bool {
        let Some(given) = authority.parse().ok().filter(|_| !authority.contains('@')) else { return false };
        self.is_loopback(&given) || self.public.as_ref().is_some_and(|public| public.is_host(&given))
    }

    /// Whether a web page of this origin is ours.
    pub(crate) fn is_origin(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let Some(given) = authority.parse().ok().filter(|_| !authority.contains('@')) else { return false };
        (scheme == self.scheme() && self.is_loopback(&given))
            || self.public.as_ref().is_some_and(|public| scheme == public.scheme && public.is_host(&given))
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Whether it is a loopback name or address with our port.
    fn is_loopback(&self, given: &Authority) -> bool {
        if given.port_u16().unwrap_or(usual_port(self.scheme())) != self.port {
            return false;
        }
        let host = given.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

fn usual_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_with_our_port_is_ours() {
        let ours = ServerNames::new(8080, false, None);
        for host in ["localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3:8080", "[::1]:8080"] {
            assert!(ours.is_host(host) && ours.is_origin(&format!("http://{host}")), "{host}");
            assert!(!ours.is_origin(&format!("https://{host}")), "{host}");
        }
        for foreign in [
            "",
            "localhost",
            "localhost:81",
            "evil.example:8080",
            "localhost.evil.example:8080",
            "10.0.0.1:8080",
            "user@localhost:8080",
            "127.0.0.1.evil.example:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "a b:8080",
        ] {
            assert!(!ours.is_host(foreign) && !ours.is_origin(&format!("http://{foreign}")), "{foreign}");
        }
        assert!(ServerNames::new(80, false, None).is_host("localhost"));
        let tls = ServerNames::new(443, true, None);
        assert!(
            tls.is_host("localhost") && tls.is_origin("https://localhost") && !tls.is_origin("http://localhost:443")
        );
    }

    #[test]
    fn a_public_url_is_one_of_our_names_and_how_urls_begin() {
        let ours = ServerNames::new(8080, false, Some("https://Jobs.example/reveille/".parse().unwrap()));
        assert_eq!(ours.base("localhost:8080"), "https://Jobs.example/reveille");
        for host in ["jobs.example", "jobs.example:443", "127.0.0.1:8080"] {
            assert!(ours.is_host(host), "{host}");
        }
        for foreign in ["jobs.example:8080", "jobs.example.evil", "u@jobs.example"] {
            assert!(!ours.is_host(foreign), "{foreign}");
        }
        assert!(ours.is_origin("https://jobs.example") && !ours.is_origin("http://jobs.example"));
        assert_eq!(ServerNames::new(1, true, None).base("localhost:1"), "https://localhost:1");
    }

    #[test]
    fn a_public_url_is_nothing_but_scheme_host_and_path() {
        for bad in ["", "jobs.example", "/x", "ftp://h", "https://", "https://u:p@h", "https://h/?q", "https://h/#f"] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("http://h:81".parse::<PublicUrl>().unwrap().to_string(), "http://h:81");
    }
}
