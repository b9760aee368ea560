//! What happens to runs, posted to whoever has subscribed (<https://www.standardwebhooks.com>). In reading order:
//!
//! - [`matching`]: pass: entries of histories → deliveries, one for each subscriber who wants it.
//! - [`sending`]: pass: deliveries that are due → posts, and what comes of them.
//! - [`poster`]: one post; [`signature`]: what makes it believable; [`verdict`]: what follows it.
//! - [`targets`]: which addresses may be posted to.
//! - [`secrets`]: what signs, and how it is kept.

pub mod matching;
pub(crate) mod poster;
pub(crate) mod secrets;
pub mod sending;
mod signature;
pub(crate) mod targets;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use reveille_shared::clock::Clock;
use reveille_shared::duration::HumanDuration;

use self::poster::Poster;
pub use self::secrets::Hidden;
use self::secrets::SecretKeys;
pub use self::targets::Allowed;

/// How long a delivery is tried unless something else is said, in seconds.
const PATIENCE: u64 = 3 * 24 * 3600;

/// What a scheduler is told about webhooks.
#[derive(Debug, Clone, clap::Args)]
pub struct WebhookSettings {
    /// Encrypts the webhooks' secrets in the database: 32 bytes in base64, as `openssl rand -base64 32` makes them. Several,
    /// separated by commas, are a rotation: the first encrypts, all decrypt
    #[arg(long, env = "REVEILLE_SECRET_KEY", hide_env_values = true, value_name = "KEYS")]
    pub secret_key: Option<Hidden>,

    /// A file with such keys, one a line; --secret-key is stronger
    #[arg(long, env = "REVEILLE_SECRET_KEY_FILE", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,

    /// Private targets that webhooks may have nevertheless, separated by commas: host names, addresses or networks such as
    /// 10.1.0.0/16
    #[arg(long, env = "REVEILLE_WEBHOOK_ALLOW", default_value = "", hide_default_value = true, value_name = "TARGETS")]
    pub webhook_allow: Allowed,

    /// How long a delivery is tried, and how long a webhook may take nothing until it is disabled
    #[arg(long, env = "REVEILLE_WEBHOOK_PATIENCE", default_value_t = HumanDuration::from_secs(PATIENCE), value_name = "DURATION")]
    pub webhook_patience: HumanDuration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        let webhook_patience = HumanDuration::from_secs(PATIENCE);
        Self { secret_key: None, secret_key_file: None, webhook_allow: Allowed::default(), webhook_patience }
    }
}

/// What API and passes share.
#[derive(Debug)]
pub struct Webhooks {
    /// What encrypts secrets, if this process knows it.
    pub(crate) keys: Option<SecretKeys>,
    /// Makes posts.
    pub(crate) poster: Poster,
    /// How long a delivery is tried.
    pub(crate) patience: jiff::SignedDuration,
}

impl Webhooks {
    /// What these settings say. Where everything is in one process, `embedded`, a key that is not there yet is made.
    ///
    /// # Errors
    /// A key is malformed, or its file can't be read or made; no text holds a key.
    pub fn new(settings: &WebhookSettings, clock: Arc<dyn Clock>, embedded: bool) -> anyhow::Result<Arc<Self>> {
        let own = settings.secret_key.as_ref().filter(|Hidden(text)| !text.trim().is_empty());
        let keys = match (own, &settings.secret_key_file) {
            (Some(Hidden(text)), _) => Some(text.parse().context("REVEILLE_SECRET_KEY")?),
            (None, Some(file)) if embedded => Some(SecretKeys::of_own_file(file)?),
            (None, Some(file)) => Some(SecretKeys::of_file(file)?),
            (None, None) => None,
        };
        let poster = Poster::new(settings.webhook_allow.clone(), clock).context("can't set up webhooks")?;
        Ok(Arc::new(Self { keys, poster, patience: settings.webhook_patience.signed() }))
    }
}
