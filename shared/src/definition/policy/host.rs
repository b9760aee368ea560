//! Which host a call goes to, and patterns for it.
//!
//! A host is a name or an address, never both: wildcards stand for names only, networks for addresses only. Names are
//! compared in lower case and without a dot at their end; an IPv4 address that is written as an IPv6 one is that address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::node::short;
use super::super::text::{Complaint, complaint};
use super::pattern::Pattern;

/// Where a call goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
    /// Neither for sure: numbers that some programs take for an address. No pattern stands for it.
    Doubtful(String),
}

impl Host {
    /// The host of a URL, or as it is given to a program.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) if is_numeric(&name) || !is_name(&name) => Self::Doubtful(name),
            Err(_) => Self::Name(name),
        }
    }
}

/// Of `127.1`, `2130706433` and `0x7f000001`, which are all the same address.
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    text.split('.').all(|label| !label.is_empty()) && text.bytes().all(is_of_name)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// `[scheme://]host[:port]`: where HTTP calls may go. Without a scheme both are meant, without a port the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    scheme: Option<String>,
    host: Hosts,
    port: Port,
}

/// `user@host[:port]`: where commands may be run over SSH. Without a port 22 is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshRule {
    user: Pattern,
    host: Hosts,
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Name(Pattern),
    /// Addresses with this beginning of so many bits.
    Network(IpAddr, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Usual,
    Any,
    Only(u16),
}

impl Port {
    fn matches(self, port: u16, usual: u16) -> bool {
        match self {
            Self::Usual => port == usual,
            Self::Any => true,
            Self::Only(own) => port == own,
        }
    }
}

impl HostRule {
    /// Whether it stands for this URL's parts; `port` is the one that is really used.
    #[must_use]
    pub fn matches(&self, scheme: &str, host: &Host, port: u16) -> bool {
        let usual = if scheme == "http" { 80 } else { 443 };
        self.scheme.as_ref().is_none_or(|own| own == scheme)
            && self.host.matches(host)
            && self.port.matches(port, usual)
    }

    pub(super) fn read(text: &str) -> Result<Self, Complaint> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        if scheme.as_ref().is_some_and(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
            return Err(complaint("a scheme other than http and https", HOSTS));
        }
        let (host, port) = place(rest, HOSTS)?;
        Ok(Self { scheme, host, port })
    }
}

impl SshRule {
    /// Whether it stands for this user at this host.
    #[must_use]
    pub fn matches(&self, user: &str, host: &Host, port: u16) -> bool {
        self.user.matches(user) && self.host.matches(host) && self.port.matches(port, 22)
    }

    pub(super) fn read(text: &str) -> Result<Self, Complaint> {
        let wrong = || complaint(format!("`{}` names no user at a host", short(text)), SSH);
        let (user, rest) = text.split_once('@').ok_or_else(wrong)?;
        if user.is_empty() || user.contains([':', '/']) || user.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let (host, port) = place(rest, SSH)?;
        Ok(Self { user: Pattern::new(user, None), host, port })
    }
}

impl Hosts {
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name(pattern), Host::Name(name)) => pattern.matches(name),
            (Self::Network(network, bits), Host::Address(address)) => {
                beginning(*network, *bits) == beginning(*address, *bits)
            }
            _ => false,
        }
    }
}

const HOSTS: &str = "write it like api.example.com, https://*.example.com:8443, 10.0.0.0/8 or [::1]:*";
const SSH: &str = "write it like backup@db-*.example.com or root@10.0.0.7:2222";

/// Reads `host[:port]`.
fn place(text: &str, hint: &str) -> Result<(Hosts, Port), Complaint> {
    let wrong = || complaint(format!("`{}` is not a host", short(text)), hint);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            let host = network::<Ipv6Addr>(host).ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(wrong)?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
            if text.ends_with(':') || host.contains(':') {
                return Err(complaint(
                    format!("`{}` is not a host", short(text)),
                    "write an IPv6 address in brackets, like [::1] or [2001:db8::/32]",
                ));
            }
            (name_or_network(host, hint)?, port)
        }
    };
    let port =
        match port {
            "" => Port::Usual,
            "*" => Port::Any,
            port => Port::Only(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                complaint(format!("`{}` is not a port", short(port)), "write 1 to 65535, or * for any")
            })?),
        };
    Ok((host, port))
}

fn name_or_network(text: &str, hint: &str) -> Result<Hosts, Complaint> {
    if let Some(network) = network::<Ipv4Addr>(text) {
        return Ok(network);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if !name.is_ascii() {
        return Err(complaint("a host name with letters beyond ASCII", "write it as it is sent, beginning with xn--"));
    }
    let is_wild = |byte: u8| matches!(byte, b'*' | b'?');
    if name.bytes().any(|byte| byte.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || is_wild(byte))
    {
        return Err(complaint(
            format!("`{}` is no address", short(text)),
            "wildcards stand for names only: write a network like 10.0.0.0/8",
        ));
    }
    if name.is_empty() || !name.bytes().all(|byte| is_of_name(byte) || is_wild(byte)) {
        return Err(complaint(format!("`{}` is not a host", short(text)), hint));
    }
    Ok(Hosts::Name(Pattern::new(&name, Some('.'))))
}

/// Reads `address` or `address/bits`; without bits, all of them.
fn network<T: std::str::FromStr + Into<IpAddr>>(text: &str) -> Option<Hosts> {
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse::<T>().ok()?.into();
    let most: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits =
        if bits.is_empty() && !text.contains('/') { most } else { bits.parse().ok().filter(|bits| *bits <= most)? };
    // Addresses are compared in their shortest form: of an IPv4 address that is written as an IPv6 one, the last 32 bits.
    match address.to_canonical() {
        IpAddr::V4(address) if most == 128 => Some(Hosts::Network(address.into(), bits.checked_sub(96)?)),
        address => Some(Hosts::Network(address, bits)),
    }
}

/// The kind of address, and its first bits.
fn beginning(address: IpAddr, bits: u8) -> (bool, u128) {
    let (number, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    (address.is_ipv4(), number.checked_shr(width - u32::from(bits).min(width)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(rule: &str, scheme: &str, host: &str, port: u16) -> bool {
        HostRule::read(rule).unwrap().matches(scheme, &Host::new(host), port)
    }

    #[test]
    fn a_host_is_a_name_or_an_address_however_it_is_written() {
        assert_eq!(Host::new("API.Example.com."), Host::Name("api.example.com".into()));
        let loopback = Host::Address(Ipv4Addr::LOCALHOST.into());
        for text in ["127.0.0.1", "127.0.0.1.", "::ffff:127.0.0.1", "[::ffff:7f00:1]"] {
            assert_eq!(Host::new(text), loopback, "{text}");
        }
        for text in [
            "2130706433",
            "0x7f.1",
            "127.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1..",
            "",
            "a b",
            "ä",
            "fe80::1%eth0",
            "[::1",
        ] {
            assert!(matches!(Host::new(text), Host::Doubtful(_)), "{text}: {:?}", Host::new(text));
        }
    }

    #[test]
    fn names_ports_and_schemes() {
        assert!(allows("billing.internal", "https", "Billing.Internal.", 443));
        assert!(allows("billing.internal", "http", "billing.internal", 80));
        assert!(!allows("billing.internal", "https", "billing.internal", 8443), "only the usual port");
        assert!(!allows("billing.internal", "http", "billing.internal", 443), "only the usual port of the scheme");
        assert!(allows("billing.internal:*", "http", "billing.internal", 9));
        assert!(allows("HTTPS://billing.internal:8443", "https", "billing.internal", 8443));
        assert!(!allows("https://billing.internal:8443", "http", "billing.internal", 8443));
        assert!(allows("*.example.com", "https", "api.example.com", 443));
        for host in ["example.com", "a.b.example.com", "example.com.evil.org", "api-example.com"] {
            assert!(!allows("*.example.com", "https", host, 443), "{host}");
        }
        assert!(allows("**.example.com", "https", "a.b.example.com", 443));
        for host in ["127.0.0.1", "[::1]", "2130706433"] {
            assert!(!allows("**:*", "http", host, 80), "{host} is no name");
        }
    }

    #[test]
    fn networks() {
        assert!(allows("10.0.0.0/8", "http", "10.255.0.1", 80));
        assert!(allows("10.0.0.0/8", "http", "::ffff:10.1.2.3", 80));
        assert!(!allows("10.0.0.0/8", "http", "11.0.0.1", 80));
        assert!(allows("127.0.0.1:8080", "http", "127.0.0.1", 8080));
        assert!(!allows("127.0.0.1", "http", "127.0.0.2", 80));
        assert!(allows("[2001:db8::/32]:*", "https", "[2001:db8::7]", 1));
        assert!(!allows("[2001:db8::/32]", "https", "[2001:db9::7]", 443));
        assert!(allows("[::1]", "http", "::1", 80));
        assert!(allows("[::ffff:10.0.0.0/104]", "http", "10.9.9.9", 80));
        assert!(allows("0.0.0.0/0", "http", "1.2.3.4", 80) && !allows("0.0.0.0/0", "http", "::1", 80));
    }

    #[test]
    fn what_can_mean_nothing_is_refused() {
        for text in [
            "",
            "ftp://a",
            "a/b",
            "me@host",
            "host:",
            "host:0",
            "host:99999",
            "a b",
            "::1",
            "[::1",
            "10.0.*",
            "10.0.0.0/33",
            "[::/129]",
            "bücher.de",
            "https://",
            "http://a/x",
        ] {
            assert!(HostRule::read(text).is_err(), "{text:?} was accepted");
        }
        for text in ["host", "@host", "a:b@host", "me@", "me@host:x"] {
            assert!(SshRule::read(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn users_at_hosts() {
        let rule = SshRule::read("backup@db-*.internal").unwrap();
        assert!(rule.matches("backup", &Host::new("DB-7.internal"), 22));
        assert!(!rule.matches("root", &Host::new("db-7.internal"), 22));
        assert!(!rule.matches("backup", &Host::new("db-7.internal"), 2222));
        assert!(!rule.matches("backup", &Host::new("db-7.evil.internal"), 22));
        assert!(SshRule::read("*@10.0.0.0/8:*").unwrap().matches("any", &Host::new("10.1.1.1"), 2222));
    }

    proptest! {
        #[test]
        fn a_network_holds_an_address_if_they_agree_in_its_bits(network: u32, address: u32, bits in 0u8..=32) {
            let rule = format!("{}/{bits}", Ipv4Addr::from(network));
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            prop_assert_eq!(allows(&rule, "http", &Ipv4Addr::from(address).to_string(), 80), network & mask == address & mask);
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,20}", other in "[a-z0-9.:/*\\[\\]@?]{0,20}") {
            for text in [text, other] {
                let _ = (HostRule::read(&text), SshRule::read(&text), Host::new(&text));
            }
        }
    }
}
