//! Which file a command really runs.
//!
//! With a policy for commands a program is looked up here, in the worker's own PATH and never in one that a job sets, and is
//! then started by the very path that was judged. Its folder is real: `..` and links on the way to it are followed. The
//! file's own name is kept, as many programs are links that go by their name: who may put a link into an allowed folder
//! may put a program there as well.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use reveille_shared::definition::policy::Pattern;

use crate::handlers::RunFailure;

/// A program that may be run, if the policy allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// From the root, with a real folder.
    pub(super) path: String,
    /// Its name, if the worker's PATH leads from that to this very file.
    pub(super) name: Option<String>,
}

impl Found {
    /// Whether a rule for programs means this one: by its path, or by its name.
    pub(super) fn fits(&self, pattern: &Pattern) -> bool {
        if pattern.text().starts_with('/') {
            return pattern.matches(&self.path);
        }
        self.name.as_ref().is_some_and(|name| pattern.matches(name))
    }
}

/// Finds what a job names, from the folder in which it runs.
pub(super) fn find(written: &str, folder: Option<&str>, path: Option<&str>) -> Result<Found, RunFailure> {
    let missing = || RunFailure::fatal(format!("there is no program {written:?} here")).code("CommandNotFound");
    let path = path.unwrap_or_default();
    if written.is_empty() {
        return Err(missing());
    }
    let file = if written.contains('/') {
        let folder = std::env::current_dir().unwrap_or_default().join(folder.unwrap_or_default());
        in_real_folder(&folder.join(written)).map_err(|_| missing())?
    } else {
        search(written, path).ok_or_else(missing)?
    };
    let name = file.file_name().and_then(|name| name.to_str());
    let is_found = name.is_some_and(|name| search(name, path).as_ref() == Some(&file));
    let name = name.filter(|_| is_found).map(str::to_owned);
    // What is no Unicode fits no pattern.
    Ok(Found { path: file.to_str().ok_or_else(missing)?.to_owned(), name })
}

/// A rule's program with the real folder, if it names one without wildcards.
pub(super) fn real(pattern: &Pattern) -> Pattern {
    let real = || {
        let (folder, name) = pattern.text().rsplit_once('/')?;
        let literal = Pattern::new(folder, Some('/')).is_literal() && !folder.is_empty();
        let folder = literal.then(|| Path::new(folder).canonicalize().ok())??;
        Some(Pattern::new(&format!("{}/{name}", folder.to_str()?.trim_end_matches('/')), Some('/')))
    };
    real().unwrap_or_else(|| pattern.clone())
}

/// The first file of this name in the folders of `path` that may be executed. Folders that depend on where one stands are
/// left out.
fn search(name: &str, path: &str) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let is_program = |file: &Path| file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    folders.map(|folder| folder.join(name)).find(|file| is_program(file)).and_then(|file| in_real_folder(&file).ok())
}

fn in_real_folder(file: &Path) -> io::Result<PathBuf> {
    match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.canonicalize()?.join(name)),
        _ => file.canonicalize(),
    }
}
