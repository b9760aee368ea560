//! Ports on 127.0.0.1 that tests running at the same time don't take from each other.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};

/// Below the range from which Linux takes the local ports of outgoing connections (32768 and up), so that
/// no connection lands on a port while its server restarts.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that is ours until this is dropped, whether somebody listens on it or not.
///
/// The claim is a socket in Linux's abstract namespace: it excludes every process of the machine, and the
/// kernel ends it with the process that holds it. Nothing is left to clean up.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    /// Claims a port that nobody listens on.
    ///
    /// # Errors
    /// Every port of the range is taken.
    pub fn claim() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes start at different places, so that they seldom meet.
        let start = u16::try_from(std::process::id() * 37 % u32::from(RANGE.end - RANGE.start))?;
        RANGE
            .map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
            .map(|step| RANGE.start + step % (RANGE.end - RANGE.start))
            .find_map(Self::try_claim)
            .with_context(|| format!("no port is free between {} and {}", RANGE.start, RANGE.end))
    }

    fn try_claim(number: u16) -> Option<Self> {
        let name = UnixAddr::from_abstract_name(format!("reveille-test-port-{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _claim: claim })
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_nobody_elses_until_dropped() {
        let port = Port::claim().unwrap();
        let number = port.number();
        assert!(Port::try_claim(number).is_none());
        drop(port);
        assert!(Port::try_claim(number).is_some());
    }

    #[test]
    fn a_port_with_a_listener_is_not_claimed() {
        let free = Port::claim().unwrap();
        let listener = TcpListener::bind(free.address()).unwrap();
        let number = free.number();
        drop(free);
        assert!(Port::try_claim(number).is_none());
        drop(listener);
    }

    #[test]
    fn many_claims_at_once_are_all_different() {
        let claims: Vec<_> = std::thread::scope(|scope| {
            let claimants: Vec<_> = (0..4).map(|_| scope.spawn(|| [(); 50].map(|()| Port::claim().unwrap()))).collect();
            claimants.into_iter().flat_map(|claimant| claimant.join().unwrap()).collect()
        });
        let numbers: std::collections::BTreeSet<_> = claims.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 200);
    }
}
