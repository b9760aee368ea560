//! Where a drill keeps its logs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

/// A new folder of this name; without one, a folder that goes with the answer's guard.
pub(crate) fn open(name: Option<&Path>) -> Result<(PathBuf, TempDir)> {
    let temporary = TempDir::with_prefix("reveille-drill-")?;
    if let Some(name) = name {
        std::fs::create_dir(name)?;
    }
    Ok((name.unwrap_or(temporary.path()).canonicalize()?, temporary))
}
