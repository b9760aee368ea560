//! `known_hosts` files: which keys a host may show. Nothing is ever added to them, and no host passes unknown.

use std::io;
use std::path::PathBuf;

use aws_lc_rs::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

use crate::handlers::RunFailure;
use crate::handlers::env::Variables;

/// For all users of the machine.
const OF_MACHINE: &str = "/etc/ssh/ssh_known_hosts";

/// The algorithms of host keys, best first. RSA is not among them: the one implementation that there is for it leaks
/// secrets by its timing.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// What is known of one host.
#[derive(Debug)]
pub(super) struct KnownHost {
    /// As the files write it: `host`, or `[host]:port`.
    name: String,
    files: Vec<PathBuf>,
    keys: Vec<KnownKey>,
}

#[derive(Debug)]
struct KnownKey {
    /// File and line.
    place: String,
    key: PublicKey,
    is_revoked: bool,
}

impl KnownHost {
    /// Reads the named file, or the usual ones of the worker's user and machine, of which either may be absent.
    pub(super) async fn load(
        host: &str,
        port: u16,
        named: Option<&str>,
        variables: &Variables,
    ) -> Result<Self, RunFailure> {
        let files = match named {
            Some(file) => vec![PathBuf::from(file)],
            None => {
                let of_user = variables.get("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
                of_user.into_iter().chain([PathBuf::from(OF_MACHINE)]).collect()
            }
        };
        let host = host.to_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut known = Self { name, files: Vec::new(), keys: Vec::new() };
        for file in files {
            match tokio::fs::read(&file).await {
                Ok(text) => known.read(&file.display().to_string(), &String::from_utf8_lossy(&text)),
                Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let told = format!("the known hosts in {} can't be read: {error}", file.display());
                    return Err(RunFailure::fatal(told).code("SshKnownHosts"));
                }
            }
            known.files.push(file);
        }
        Ok(known)
    }

    /// Keeps the keys of this host. Lines that are none are left out, as OpenSSH does it; those of authorities too.
    fn read(&mut self, file: &str, text: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let Ok(entry) = line.parse::<Entry>() else { continue };
            let is_revoked = match entry.marker() {
                None => false,
                Some(Marker::Revoked) => true,
                Some(Marker::CertAuthority) => continue,
            };
            if matches(entry.host_patterns(), &self.name) {
                let key = entry.public_key().clone();
                self.keys.push(KnownKey { place: format!("{file}:{number}"), key, is_revoked });
            }
        }
    }

    /// Which keys the host is asked for: those that are known, and others only if none is.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let is_known = |algorithm: &Algorithm| self.usable().any(|known| known.key.algorithm() == *algorithm);
        let (mut known, others): (Vec<_>, Vec<_>) = ALGORITHMS.into_iter().partition(is_known);
        known.extend(others);
        known
    }

    fn usable(&self) -> impl Iterator<Item = &KnownKey> {
        self.keys.iter().filter(|known| !known.is_revoked && ALGORITHMS.contains(&known.key.algorithm()))
    }

    /// Whether the host may show this key.
    pub(super) fn judge(&self, shown: &PublicKey) -> Result<(), RunFailure> {
        let same = |known: &&KnownKey| known.key.key_data() == shown.key_data();
        if let Some(revoked) = self.keys.iter().filter(|known| known.is_revoked).find(same) {
            let told = format!("{} shows {}, which is revoked by {}", self.name, named(shown), revoked.place);
            return Err(RunFailure::fatal(told).code("SshHostKeyRevoked"));
        }
        if self.usable().any(|known| same(&known)) {
            return Ok(());
        }
        let known: Vec<_> = self.usable().map(|known| format!("{} at {}", named(&known.key), known.place)).collect();
        Err(if known.is_empty() { self.unknown(shown) } else { self.changed(shown, &known.join(", ")) })
    }

    fn unknown(&self, shown: &PublicKey) -> RunFailure {
        let bare = PublicKey::from(shown.key_data().clone());
        let line = format!("{} {}", self.name, bare.to_openssh().unwrap_or_default());
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        let others = match &self.keys[..] {
            [] => String::new(),
            [known, ..] => format!(" {} has a key of it, but not one that can be used: ed25519 or ecdsa.", known.place),
        };
        let told = format!(
            "the host {} is not known: it shows {}.{others} If `ssh-keygen -lf` on the host says the same of its key, add \
             this line to {}: {line}",
            self.name,
            named(shown),
            files.join(" or "),
        );
        RunFailure::fatal(told).code("SshUnknownHost")
    }

    fn changed(&self, shown: &PublicKey, known: &str) -> RunFailure {
        let told = format!(
            "the host {} shows another key than the known one: {}; known is {known}. Someone may stand between, or the host \
             was set up anew: compare with `ssh-keygen -lf` on the host, and replace the line if it is right",
            self.name,
            named(shown),
        );
        RunFailure::fatal(told).code("SshHostKeyChanged")
    }
}

/// A key for people: its algorithm and fingerprint.
pub(super) fn named(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.fingerprint(HashAlg::Sha256))
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let fits = |pattern: &str| glob(pattern.to_lowercase().as_bytes(), name.as_bytes());
            let is_excluded = patterns.iter().any(|pattern| pattern.strip_prefix('!').is_some_and(fits));
            !is_excluded && patterns.iter().any(|pattern| fits(pattern))
        }
    }
}

/// `*` stands for any text, `?` for any one character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < text.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == text[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => match &mut star {
                // The last star stands for one character more.
                Some((pattern, text)) => {
                    *text += 1;
                    at = (*pattern + 1, *text);
                }
                None => return false,
            },
        }
    }
    pattern[at.0..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPUu9VLPDYNLbrdvW0wBmoWa0+1ckWANDPlXGqiiqWMArR2fbsfYw1gN0ya3O4mAZDD5QS0tWW/SlmnL9xvzvAY=";

    fn known(name: &str, text: &str) -> KnownHost {
        let mut known = KnownHost { name: name.into(), files: vec!["kh".into()], keys: Vec::new() };
        known.read("kh", text);
        known
    }

    fn code(name: &str, text: &str) -> String {
        known(name, text).judge(&ONE.parse().unwrap()).err().map_or("ok".into(), |failure| failure.code)
    }

    #[test]
    fn lines_name_hosts_in_many_ways() {
        for (name, hosts) in [
            ("db1", "db1"),
            ("db1", "DB1,10.0.0.1"),
            ("db1", "10.0.0.1,db?"),
            ("db1.internal", "*.internal,!db2.internal"),
            ("[db1]:2222", "[db1]:2222"),
            // What `ssh-keygen -H` makes of `example.com`.
            ("example.com", "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak="),
        ] {
            assert_eq!(code(name, &format!("# a remark\n\n{hosts}\t {ONE} me@here\n")), "ok", "{name} {hosts}");
        }
        for (name, hosts) in [
            ("db1", "db2"),
            ("db1", "[db1]:2222"),
            ("[db1]:2222", "db1"),
            ("db2.internal", "*.internal,!db2.internal"),
            ("db1", "#db1"),
            ("example.org", "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak="),
            ("db1", "@cert-authority db1"),
        ] {
            assert_eq!(code(name, &format!("{hosts} {ONE}\n")), "SshUnknownHost", "{name} {hosts}");
        }
    }

    #[test]
    fn another_key_is_a_change_and_says_where() {
        let text = format!("nonsense\ndb1 {OTHER}\n");
        assert_eq!(code("db1", &format!("{text}db1 {ONE}")), "ok", "one of several");
        let failure = known("db1", &text).judge(&ONE.parse().unwrap()).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("SshHostKeyChanged", false));
        for part in ["kh:2", "ssh-ed25519 SHA256:", "ssh-keygen -lf"] {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
        assert_eq!(code("db1", &format!("db1 {ECDSA}")), "SshHostKeyChanged", "a host with that key would show it");
        assert_eq!(code("db1", &format!("db1 {ONE}\n@revoked * {ONE}\n")), "SshHostKeyRevoked");
    }

    #[test]
    fn an_unknown_host_says_what_to_add() {
        let failure = known("[db1]:2222", "").judge(&ONE.parse().unwrap()).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("SshUnknownHost", false));
        assert!(failure.message.ends_with(&format!("to kh: [db1]:2222 {ONE}")), "{}", failure.message);
    }

    #[test]
    fn a_host_is_asked_for_the_key_that_is_known() {
        assert_eq!(known("db1", &format!("db1 {ECDSA}")).algorithms()[0], ALGORITHMS[1]);
        assert_eq!(known("db1", "").algorithms(), ALGORITHMS);
    }

    #[tokio::test]
    async fn a_named_file_must_be_there_and_the_usual_ones_need_not() {
        let home = Variables::of(&[("HOME", "/nonexistent")]);
        assert!(KnownHost::load("db1", 22, None, &home).await.is_ok());
        let failure = KnownHost::load("db1", 22, Some("/nonexistent/kh"), &home).await.unwrap_err();
        assert!(failure.code == "SshKnownHosts" && failure.message.contains("/nonexistent/kh"), "{failure:?}");
    }
}
