//! The files of a path as they are, for the server to read.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Name and text of the file, or of every `*.yaml` and `*.yml` of the folder that is not hidden, by name: the same files
/// that [`reveille_shared::definition::read_path`] reads, which has found no fault in them.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let unreadable = |path: &Path, error: &io::Error| Failure::Other {
        message: format!("can't read {}: {error}", path.display()),
        hint: None,
    };
    let paths = list(path).map_err(|error| unreadable(path, &error))?;
    let text = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Ok((path.display().to_string(), text))
    };
    paths.iter().map(text).collect()
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in path.read_dir()? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if yaml && !hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
