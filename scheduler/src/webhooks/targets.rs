//! Which addresses webhooks may be posted to: public ones, and what configuration allows. Names are judged by all that they
//! resolve to at the time of each connection, so that nothing can change between the look and the use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The longest URL.
pub(crate) const LONGEST_URL: usize = 2048;

/// Targets that are allowed although they are private.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Arc<Vec<Exception>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// All addresses that begin with the same bits.
    Network { address: IpAddr, bits: u8 },
    /// Whatever this name resolves to.
    Host(String),
}

/// A text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a host name, nor an address, nor a network such as 10.1.0.0/16")]
pub struct InvalidTarget(String);

impl Allowed {
    /// This machine itself.
    #[must_use]
    pub fn loopback() -> Self {
        let networks = [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];
        Self(Arc::new(networks.map(|(address, bits)| Exception::Network { address, bits }).to_vec()))
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(Arc::new(self.0.iter().chain(other.0.iter()).cloned().collect()))
    }

    fn host(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.0.iter().any(|known| matches!(known, Exception::Host(host) if host.eq_ignore_ascii_case(name)))
    }

    /// Whether an address may be connected to.
    fn address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|known| known.holds(address))
    }
}

impl FromStr for Allowed {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
        texts.map(str::parse).collect::<Result<Vec<_>, _>>().map(|all| Self(Arc::new(all)))
    }
}

impl FromStr for Exception {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), str::parse).map_err(|_| invalid())?;
            return if bits <= most { Ok(Self::Network { address, bits }) } else { Err(invalid()) };
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // What looks like an address and is none must not pass for a name.
        let is_name = text.split('.').all(is_label) && text.contains(|c: char| c.is_ascii_alphabetic());
        if is_name { Ok(Self::Host(text.to_ascii_lowercase())) } else { Err(invalid()) }
    }
}

impl Exception {
    fn holds(&self, candidate: IpAddr) -> bool {
        let Self::Network { address, bits } = self else { return false };
        let bits = u32::from(*bits);
        match (address, candidate) {
            (IpAddr::V4(net), IpAddr::V4(one)) => {
                (net.to_bits() ^ one.to_bits()).checked_shr(32 - bits).is_none_or(|differs| differs == 0)
            }
            (IpAddr::V6(net), IpAddr::V6(one)) => {
                (net.to_bits() ^ one.to_bits()).checked_shr(128 - bits).is_none_or(|differs| differs == 0)
            }
            _ => false,
        }
    }
}

/// Whether an address is of the public internet: by IANA's registries of special-purpose addresses (RFC 6890 and later).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special: [(Ipv4Addr, u32); 14] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16), // link-local: metadata services of clouds
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 0, 0, 0), 24),
        (Ipv4Addr::new(192, 0, 2, 0), 24), // documentation, with the two below
        (Ipv4Addr::new(192, 88, 99, 0), 24),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(198, 18, 0, 0), 15), // benchmarks
        (Ipv4Addr::new(198, 51, 100, 0), 24),
        (Ipv4Addr::new(203, 0, 113, 0), 24),
        (Ipv4Addr::new(224, 0, 0, 0), 3), // multicast, reserved, broadcast
    ];
    !special.iter().any(|(net, bits)| (net.to_bits() ^ address.to_bits()) >> (32 - bits) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let begins = |net: [u16; 2], bits: u32| {
        let net = u128::from(net[0]) << 112 | u128::from(net[1]) << 96;
        (net ^ address.to_bits()) >> (128 - bits) == 0
    };
    let embedded = |shift: u32| {
        let bits = u32::try_from((address.to_bits() >> shift) & u128::from(u32::MAX)).unwrap_or_default();
        is_public_v4(Ipv4Addr::from_bits(bits))
    };
    // NAT64 (RFC 6052) and 6to4 lead to the IPv4 address that they hold.
    if (address.to_bits() >> 32) == 0x0064_ff9b << 64 {
        return embedded(0);
    }
    if begins([0x2002, 0], 16) {
        return embedded(80);
    }
    // Only 2000::/3 is given out; of it, protocols' own addresses (Teredo among them) and documentation are no hosts.
    begins([0x2000, 0], 3) && !begins([0x2001, 0], 23) && !begins([0x2001, 0x0db8], 32) && !begins([0x3fff, 0], 20)
}

/// Why a URL can't be a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error("must be an absolute URL with http or https, such as https://portal.example.com/hooks")]
    Malformed,
    #[error("must have at most {LONGEST_URL} characters")]
    TooLong,
    #[error("must hold no user and no password: whoever may read the webhook could read them")]
    Credentials,
    #[error("must have no fragment: it would not be sent")]
    Fragment,
    #[error("names a private address: only those that the scheduler's REVEILLE_WEBHOOK_ALLOW names are allowed")]
    Private,
}

/// Reads a target, and refuses what can be refused without asking for addresses.
pub(crate) fn target(text: &str, allowed: &Allowed) -> Result<Url, InvalidUrl> {
    if text.chars().count() > LONGEST_URL {
        return Err(InvalidUrl::TooLong);
    }
    let url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")).ok_or(InvalidUrl::Malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::Credentials);
    }
    if url.fragment().is_some() {
        return Err(InvalidUrl::Fragment);
    }
    let is_allowed = match literal(host) {
        Some(address) => allowed.address(address),
        None => allowed.host(host) || !is_local(host) || allowed.address(Ipv4Addr::LOCALHOST.into()),
    };
    if is_allowed { Ok(url) } else { Err(InvalidUrl::Private) }
}

/// The address that a URL's host is, if it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

/// A name that has addresses which are not allowed. It does not say which: they may be nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has a private address, and REVEILLE_WEBHOOK_ALLOW does not name it")]
pub(crate) struct PrivateAddress;

/// Resolves names to addresses that may be connected to. One that may not is reason enough to connect to none.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(pub(crate) Allowed);

impl Resolver {
    fn checked(&self, name: &str, addresses: &[SocketAddr]) -> Result<(), PrivateAddress> {
        let is_allowed = self.0.host(name) || addresses.iter().all(|address| self.0.address(address.ip()));
        if is_allowed { Ok(()) } else { Err(PrivateAddress) }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            this.checked(name.as_str(), &addresses)?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Allowed {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_allowed() {
        let none = Allowed::default();
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:0101:0101::1",
        ] {
            assert!(none.address(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:0001::1",
            "2002:0a00:0001::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!none.address(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn configuration_allows_networks_addresses_and_hosts() {
        let some = allowed("10.1.0.0/16, 192.168.7.9,fd00::/8, hooks.internal");
        for good in ["10.1.2.3", "::ffff:10.1.2.3", "192.168.7.9", "fd12::1"] {
            assert!(some.address(good.parse().unwrap()), "{good}");
        }
        for bad in ["10.2.0.1", "192.168.7.8", "fc00::1", "127.0.0.1"] {
            assert!(!some.address(bad.parse().unwrap()), "{bad}");
        }
        assert!(some.host("hooks.internal") && some.host("HOOKS.internal.") && !some.host("x.hooks.internal"));
        assert!(allowed("0.0.0.0/0").address("10.0.0.1".parse().unwrap()));
        assert!(allowed("::/0").address("fe80::1".parse().unwrap()));
        assert!(Allowed::loopback().and(&some).address("127.0.0.1".parse().unwrap()));
        assert_eq!(allowed(""), Allowed::default());
        for bad in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0", "a b", "http://x", "10.0.0.0/8x", "-", "x..y"] {
            assert!(bad.parse::<Allowed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_refused_for_what_they_are() {
        let none = Allowed::default();
        for good in ["https://portal.example.com/hooks?x=1", "http://1.1.1.1:8080/", "https://[2606:4700::1111]/"] {
            assert!(target(good, &none).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", InvalidUrl::Malformed),
            ("/hooks", InvalidUrl::Malformed),
            ("ftp://example.com/", InvalidUrl::Malformed),
            ("file:///etc/passwd", InvalidUrl::Malformed),
            ("http:///", InvalidUrl::Malformed),
            ("https://me:hunter2@example.com/", InvalidUrl::Credentials),
            ("https://me@example.com/", InvalidUrl::Credentials),
            ("https://example.com/#x", InvalidUrl::Fragment),
            ("http://127.0.0.1/", InvalidUrl::Private),
            ("http://localhost:80/", InvalidUrl::Private),
            ("http://LOCALHOST./", InvalidUrl::Private),
            ("http://a.localhost/", InvalidUrl::Private),
            // Other spellings of addresses.
            ("http://2130706433/", InvalidUrl::Private),
            ("http://0x7f.1/", InvalidUrl::Private),
            ("http://0177.0.0.1/", InvalidUrl::Private),
            ("http://[::1]/", InvalidUrl::Private),
            ("http://[::ffff:10.0.0.1]/", InvalidUrl::Private),
            ("http://[::ffff:a9fe:a9fe]/", InvalidUrl::Private),
        ] {
            assert_eq!(target(bad, &none).unwrap_err(), why, "{bad}");
        }
        assert_eq!(target(&format!("https://a.test/{}", "x".repeat(LONGEST_URL)), &none), Err(InvalidUrl::TooLong));
        for good in ["http://localhost:9/", "http://127.0.0.1:9/x"] {
            assert!(target(good, &Allowed::loopback()).is_ok(), "{good}");
        }
        assert!(target("http://localhost/", &allowed("localhost")).is_ok());
    }

    #[test]
    fn one_private_address_of_a_name_is_enough_to_refuse_it() {
        let addresses = ["1.1.1.1:0", "10.0.0.1:0"].map(|address| address.parse().unwrap());
        assert_eq!(Resolver(Allowed::default()).checked("a.test", &addresses), Err(PrivateAddress));
        assert_eq!(Resolver(Allowed::default()).checked("a.test", &addresses[..1]), Ok(()));
        assert_eq!(Resolver(allowed("a.test")).checked("a.test", &addresses), Ok(()));
        assert_eq!(Resolver(allowed("10.0.0.0/8")).checked("a.test", &addresses), Ok(()));
    }
}
