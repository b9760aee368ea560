//! A certificate and its key: files → what handshakes are made with, or what is wrong with them.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};

/// From when on an end that comes near is told.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Why two files are not a certificate and its key. No text holds anything of the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("can't read {}", file.display())]
    Unreadable {
        /// Which one.
        file: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is no PEM file, or a damaged one.
    #[error("{} is not a PEM file with {expected}", file.display())]
    NotPem {
        /// Which one.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// The key has a password, and nobody is there to type it.
    #[error("the key in {} has a password: write it without one, as by `openssl pkey -in OLD -out NEW`", file.display())]
    Encrypted {
        /// The key's file.
        file: PathBuf,
    },
    /// Both are good, but not each other's.
    #[error(
        "the key in {} is not that of the first certificate in {}: name the files of one pair, with the certificate itself \
         before those that vouch for it",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS can't work with them.
    #[error("the certificate in {} with the key in {} can't be used", cert.display(), key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
    /// No X.509 certificate.
    #[error("the first certificate in {} is damaged", file.display())]
    Damaged {
        /// The certificate's file.
        file: PathBuf,
    },
}

/// What the two files held when they were read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// A pair that fits, and where it was read.
pub(super) struct Certificate {
    pub(super) files: Files,
    pub(super) contents: Contents,
    pub(super) config: Arc<ServerConfig>,
    pub(super) ends: Timestamp,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    pub(super) async fn read(&self) -> Result<Contents, CertificateError> {
        let read = async |file: &PathBuf| {
            let read = tokio::fs::read(file).await;
            read.map_err(|source| CertificateError::Unreadable { file: file.clone(), source })
        };
        Ok(Contents { cert: read(&self.cert).await?, key: read(&self.key).await? })
    }

    /// Tells whether everybody on this machine can take the key.
    async fn warn(&self) {
        let mode = tokio::fs::metadata(&self.key).await.map(|file| file.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o007 != 0) {
            let file = self.key.display();
            tracing::warn!(%file, "everybody on this machine may read the private key: `chmod o= FILE`");
        }
    }
}

impl Certificate {
    /// Reads a pair for the first time.
    pub(super) async fn load(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let contents = files.read().await?;
        Self::parse(files, contents).await
    }

    /// Makes a pair of what was read.
    pub(super) async fn parse(files: Files, contents: Contents) -> Result<Self, CertificateError> {
        let not_pem =
            |file: &PathBuf, expected, source| CertificateError::NotPem { file: file.clone(), expected, source };
        let chain = CertificateDer::pem_slice_iter(&contents.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
        let chain = chain.map_err(|source| not_pem(&files.cert, "a certificate (BEGIN CERTIFICATE)", source))?;
        let ends =
            chain.first().and_then(ends).ok_or_else(|| CertificateError::Damaged { file: files.cert.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|source| {
            if contents.key.windows(9).any(|word| word == b"ENCRYPTED") {
                return CertificateError::Encrypted { file: files.key.clone() };
            }
            not_pem(&files.key, "a private key (BEGIN PRIVATE KEY)", source)
        })?;
        let unusable = |source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
            }
            source => CertificateError::Unusable { cert: files.cert.clone(), key: files.key.clone(), source },
        };
        // TLS 1.2 and 1.3: whatever is older is not built in.
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        files.warn().await;
        Ok(Self { files, contents, config: Arc::new(config), ends })
    }

    /// For operators: until when it is good.
    pub(super) fn validity(&self, now: Timestamp) -> Validity {
        let left = self.ends.duration_since(now);
        Validity { ends: self.ends, left, soon: left < SOON }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// Until when a certificate is good.
pub(super) struct Validity {
    ends: Timestamp,
    left: SignedDuration,
    /// It ends within two weeks, or has ended.
    pub(super) soon: bool,
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.ends;
        match self.left {
            left if left.is_negative() => write!(f, "the certificate has ended at {ends}: callers refuse it"),
            left if self.soon => write!(f, "the certificate ends at {ends}, in {} days", left.as_hours() / 24),
            _ => write!(f, "the certificate is good until {ends}"),
        }
    }
}

/// When a certificate ends.
fn ends(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}
