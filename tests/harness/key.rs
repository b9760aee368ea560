//! The API key by which tests call: one for the whole process, made known to each database that has schedulers.

use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result};
use reveille_shared::access::{Grant, KeyText};
use reveille_shared::clock::SystemClock;
use reveille_shared::store::{NewKey, Store};

static KEY: LazyLock<KeyText> = LazyLock::new(|| KeyText::generate().expect("the system has random numbers"));

/// The text of the key, which may do everything.
#[must_use]
pub fn text() -> String {
    KEY.reveal()
}

/// Makes the key known to the database at `url`, as an operator would before anything else.
///
/// # Errors
/// The database fails.
pub async fn give(url: &str) -> Result<()> {
    let store = Store::connect(url, "harness", Arc::new(SystemClock)).await.context("opening the store")?;
    if store.key(KEY.prefix()).await?.is_none() {
        let new = NewKey { text: KEY.clone(), name: "tests".into(), grant: Grant::everything(), expires_at: None };
        store.create_key(new, ("harness", None)).await?;
    }
    Ok(())
}
