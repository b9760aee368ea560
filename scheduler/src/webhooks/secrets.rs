//! What signs deliveries, and how it is kept: encrypted (AES-256-GCM, RFC 5116) under a key that only configuration knows.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use reveille_shared::store::Sealed;
use uuid::Uuid;

const KEY: usize = 32;
/// How many bytes tell by which key something is encrypted.
const KEY_ID: usize = 4;
/// Bytes of a secret: the specification asks for 24 to 64.
const SECRET: usize = 32;
const PREFIX: &str = "whsec_";

/// A text that is not shown.
#[derive(Clone)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// What signs the deliveries of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningSecret(Vec<u8>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

impl SigningSecret {
    /// A fresh one.
    pub(crate) fn generate() -> Self {
        Self(random::<SECRET>().to_vec())
    }

    /// As its owner is shown it, once.
    pub(crate) fn shown(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(&self.0))
    }

    /// What signs.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn of_shown(text: &str) -> Self {
        Self(BASE64.decode(text.strip_prefix(PREFIX).unwrap()).unwrap())
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system has randomness, or nothing here could go on");
    bytes
}

/// Why something can't be encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// The key that it was encrypted by is not configured.
    #[error("it is encrypted by a key that this scheduler does not have: add that one to REVEILLE_SECRET_KEY")]
    UnknownKey,
    /// It is not what was encrypted.
    #[error("it is damaged, or of another webhook")]
    Damaged,
}

/// Why a text gives no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKeys {
    /// There is none in it.
    #[error("holds no key: expected 32 bytes in base64, as `openssl rand -base64 32` makes them")]
    Empty,
    /// So-and-so-manieth is none.
    #[error("key {0} is not 32 bytes in base64, as `openssl rand -base64 32` makes them")]
    Malformed(usize),
}

/// The keys that encrypt secrets. The first one does, all others only decrypt.
pub(crate) struct SecretKeys(Vec<SecretKey>);

struct SecretKey {
    id: [u8; KEY_ID],
    key: RandomizedNonceKey,
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeys({} of them)", self.0.len())
    }
}

impl FromStr for SecretKeys {
    type Err = InvalidKeys;

    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let texts = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|text| !text.is_empty());
        let key = |(number, text): (usize, &str)| {
            let bytes = BASE64.decode(text).ok().filter(|bytes| bytes.len() == KEY);
            bytes.and_then(|bytes| SecretKey::new(&bytes)).ok_or(InvalidKeys::Malformed(number))
        };
        let keys = (1..).zip(texts).map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidKeys::Empty) } else { Ok(Self(keys)) }
    }
}

impl SecretKey {
    fn new(bytes: &[u8]) -> Option<Self> {
        let hash = blake3::derive_key("reveille 2026 name of a key that encrypts secrets", bytes);
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&hash[..KEY_ID]);
        Some(Self { id, key: RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()? })
    }
}

impl SecretKeys {
    /// The keys in a file, one a line.
    pub(crate) fn of_file(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        text.parse().with_context(|| file.display().to_string())
    }

    /// The same; if there is no such file, a key is made that nobody else may read. For a folder of this process alone.
    pub(crate) fn of_own_file(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            // Whole or not at all, whenever this process dies.
            let new = file.with_extension("new");
            write_for_owner(&new, &format!("{}\n", BASE64.encode(random::<KEY>())))
                .and_then(|()| std::fs::rename(&new, file))
                .with_context(|| format!("can't make {}", file.display()))?;
        }
        Self::of_file(file)
    }

    /// Encrypts the secret of this webhook.
    pub(crate) fn seal(&self, webhook: Uuid, secret: &SigningSecret) -> Sealed {
        let SecretKey { id, key } = &self.0[0];
        let mut text = secret.0.clone();
        let nonce = key.seal_in_place_append_tag(Aad::from(webhook.as_bytes()), &mut text);
        let nonce = nonce.expect("so short a text can be encrypted under any key");
        Sealed([id.as_slice(), nonce.as_ref(), &text].concat())
    }

    /// Decrypts it.
    pub(crate) fn open(&self, webhook: Uuid, Sealed(sealed): &Sealed) -> Result<SigningSecret, SealError> {
        let (id, rest) = sealed.split_at_checked(KEY_ID).ok_or(SealError::Damaged)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let known = self.0.iter().find(|known| known.id == id).ok_or(SealError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = text.to_vec();
        let opened = known.key.open_in_place(nonce, Aad::from(webhook.as_bytes()), &mut text);
        Ok(SigningSecret(opened.map_err(|_| SealError::Damaged)?.to_vec()))
    }

    /// All that sign now: the webhook's secret, and the one before as long as it is good.
    pub(crate) fn signing(
        &self,
        webhook: Uuid,
        secret: &Sealed,
        old: Option<&(Sealed, Timestamp)>,
        now: Timestamp,
    ) -> Result<Vec<SigningSecret>, SealError> {
        let old = old.filter(|(_, until)| *until > now).map(|(old, _)| old);
        std::iter::once(secret).chain(old).map(|sealed| self.open(webhook, sealed)).collect()
    }

    /// The same encrypted by the first key, if it was by another one.
    pub(crate) fn renewed(&self, webhook: Uuid, sealed: &Sealed) -> Result<Option<Sealed>, SealError> {
        if sealed.0.starts_with(&self.0[0].id) {
            return Ok(None);
        }
        Ok(Some(self.seal(webhook, &self.open(webhook, sealed)?)))
    }
}

fn write_for_owner(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key(byte: u8) -> String {
        BASE64.encode([byte; KEY])
    }

    fn keys(text: &str) -> SecretKeys {
        text.parse().unwrap()
    }

    #[test]
    fn a_secret_is_shown_as_the_specification_has_it() {
        let (one, other) = (SigningSecret::generate(), SigningSecret::generate());
        assert_ne!(one, other);
        assert_eq!(one.shown().len(), PREFIX.len() + 44);
        assert_eq!(SigningSecret::of_shown(&one.shown()), one);
    }

    #[test]
    fn what_is_sealed_opens_only_for_its_webhook_and_by_its_key() {
        let (webhook, secret, mine) = (Uuid::new_v4(), SigningSecret::generate(), keys(&key(1)));
        let sealed = mine.seal(webhook, &secret);
        assert_ne!(sealed, mine.seal(webhook, &secret), "each time with a fresh nonce");
        assert!(!sealed.0.windows(SECRET).any(|window| window == secret.bytes()));
        assert_eq!(mine.open(webhook, &sealed), Ok(secret));
        assert_eq!(mine.open(Uuid::new_v4(), &sealed), Err(SealError::Damaged));
        assert_eq!(keys(&key(2)).open(webhook, &sealed), Err(SealError::UnknownKey));
        for at in KEY_ID..sealed.0.len() {
            let mut bent = sealed.clone();
            bent.0[at] ^= 1;
            assert_eq!(mine.open(webhook, &bent), Err(SealError::Damaged), "byte {at}");
        }
        for short in 0..KEY_ID + NONCE_LEN {
            assert_eq!(mine.open(webhook, &Sealed(sealed.0[..short].to_vec())), Err(SealError::Damaged));
        }
    }

    #[test]
    fn after_a_rotation_the_first_key_encrypts_and_the_others_decrypt() {
        let (webhook, secret) = (Uuid::new_v4(), SigningSecret::generate());
        let old = keys(&key(1)).seal(webhook, &secret);
        let both = keys(&format!("{},{}", key(2), key(1)));
        assert_eq!(both.open(webhook, &old), Ok(secret.clone()));
        let new = both.renewed(webhook, &old).unwrap().unwrap();
        assert_eq!(keys(&key(2)).open(webhook, &new), Ok(secret));
        assert_eq!(both.renewed(webhook, &new), Ok(None));
        assert_eq!(keys(&key(3)).renewed(webhook, &old), Err(SealError::UnknownKey));
    }

    #[test]
    fn malformed_keys_are_counted_and_not_shown() {
        for (text, error) in [
            (String::new(), InvalidKeys::Empty),
            (" ,\n".to_owned(), InvalidKeys::Empty),
            ("hunter2".to_owned(), InvalidKeys::Malformed(1)),
            (format!("{}, {}", key(1), BASE64.encode([0; KEY - 1])), InvalidKeys::Malformed(2)),
        ] {
            let refused = SecretKeys::from_str(&text).unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("hunter2"));
        }
        let shown = format!("{:?} {:?}", keys(&format!("{}\n{}\n", key(1), key(2))), Hidden("hunter2".into()));
        assert_eq!(shown, "SecretKeys(2 of them) Hidden(…)");
    }

    #[test]
    fn an_own_file_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret.key");
        let (webhook, secret) = (Uuid::new_v4(), SigningSecret::generate());
        let sealed = SecretKeys::of_own_file(&file).unwrap().seal(webhook, &secret);
        assert_eq!(SecretKeys::of_own_file(&file).unwrap().open(webhook, &sealed), Ok(secret));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(SecretKeys::of_file(&folder.path().join("none")).is_err());
    }
}
