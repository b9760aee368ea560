//! The text of an API key: `rvl_PREFIX_SECRET`.
//!
//! The prefix is public: it stands in lists and logs and finds the key in the store. The secret has 256 random bits, so that a
//! plain hash of it is as good as a slow one: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

/// What all keys begin with, for those who search files for leaked ones.
const MARK: &str = "rvl";
/// Characters of the prefix: 50 bits, so that no two keys of one store have the same.
const PREFIX: usize = 10;
/// Characters of the secret.
const SECRET: usize = 52;
/// Without characters that are taken for others.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A key as its holder has it. Its text is shown once; neither `Debug` nor `Display` tell the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText {
    prefix: String,
    secret: String,
}

/// The text is not of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: keys look like {MARK}_PREFIX_SECRET")]
pub struct MalformedKey;

impl KeyText {
    /// A fresh key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { prefix: random(PREFIX)?, secret: random(SECRET)? })
    }

    /// A fresh key with the prefix of this one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn with_prefix(prefix: &str) -> Result<Self, getrandom::Error> {
        Ok(Self { prefix: prefix.to_owned(), secret: random(SECRET)? })
    }

    /// The public part.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is kept of the secret. Hashes are compared in constant time.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(self.secret.as_bytes())
    }

    /// The whole text, for its holder only.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{MARK}_{}_{}", self.prefix, self.secret)
    }
}

/// Random characters: each takes five bits of a random byte, so that all are equally likely.
fn random(length: usize) -> Result<String, getrandom::Error> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}

impl FromStr for KeyText {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<Self, MalformedKey> {
        let (prefix, secret) =
            text.strip_prefix(MARK).and_then(|rest| rest.strip_prefix('_')?.split_once('_')).ok_or(MalformedKey)?;
        let fits = |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        if !fits(prefix, PREFIX) || !fits(secret, SECRET) {
            return Err(MalformedKey);
        }
        Ok(Self { prefix: prefix.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({})", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_its_secret_shows_nowhere_else() {
        let key = KeyText::generate().unwrap();
        let text = key.reveal();
        assert_eq!(text.len(), MARK.len() + PREFIX + SECRET + 2);
        assert_eq!(text.parse(), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(&text[text.len() - SECRET..]));
        let other = KeyText::with_prefix(key.prefix()).unwrap();
        assert!(other.prefix() == key.prefix() && other.hash() != key.hash());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = KeyText::generate().unwrap().reveal();
        let upper = good.to_uppercase();
        for text in ["", "rvl", "rvl__", &good[1..], &good[..good.len() - 1], &format!("{good}a"), &upper, "rvl_ü_ü"]
        {
            assert_eq!(text.parse::<KeyText>(), Err(MalformedKey), "{text}");
        }
    }
}
