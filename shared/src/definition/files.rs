//! Reads the texts of a file or folder: all that this module does with the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::fault::{Fault, Faults};
use super::node::MOST_BYTES;
use super::source::{Remark, Source, Span};

/// Bytes of all files of a folder.
pub const MOST_BYTES_IN_ALL: usize = 64 << 20;

/// Reads the file, or each `*.yaml` and `*.yml` of the folder in the order of their names, and gives each to `take`
/// with the name that faults show. Hidden files are left out, as editors and Kubernetes keep their own things in them.
pub(super) fn read(path: &Path, faults: &mut Faults, mut take: impl FnMut(&Path, &str, &str)) {
    let shown = path.display().to_string();
    let paths = match list(path) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            faults.push_file(
                &shown,
                "does not exist",
                "create the folder and put a schedule file like hello.yaml into it",
            );
            return;
        }
        Err(error) => {
            faults.push_file(&shown, format!("can't be read: {error}"), "let this user read the folder and its files");
            return;
        }
    };
    if paths.is_empty() {
        faults.push_file(&shown, "holds no schedule file", "put a file that ends in .yaml or .yml into this folder");
    }
    let mut room = MOST_BYTES_IN_ALL;
    for path in paths {
        let shown = path.display().to_string();
        let Some(text) = read_text(&path, &shown, faults) else { continue };
        let Some(left) = room.checked_sub(text.len()) else {
            let message = format!("with this file the folder is larger than {MOST_BYTES_IN_ALL} bytes");
            faults.push_file(&shown, message, "split the folder, or remove what is not in use");
            break;
        };
        room = left;
        take(&path, &shown, &text);
    }
}

/// The text of one file.
pub(super) fn read_text(path: &Path, shown: &str, faults: &mut Faults) -> Option<String> {
    match read_bytes(path) {
        Ok(bytes) if bytes.len() > MOST_BYTES => {
            let message = format!("the file is larger than {MOST_BYTES} bytes");
            faults.push_file(shown, message, "split it into several files");
            None
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                faults.push(|| not_utf8(shown, &error));
                None
            }
        },
        Err(error) => {
            faults.push_file(shown, format!("can't be read: {error}"), "let this user read the file, or remove it");
            None
        }
    }
}

fn not_utf8(shown: &str, error: &FromUtf8Error) -> Fault {
    let mut source = Source::new(shown, &String::from_utf8_lossy(error.as_bytes()));
    let marked = if error.as_bytes().starts_with("\u{feff}".as_bytes()) { "\u{feff}".len() } else { 0 };
    let start = error.utf8_error().valid_up_to().saturating_sub(marked);
    source.hide_line_if_secret(start);
    let remark = Remark::new(Span { start, end: start }, "this byte is not UTF-8");
    source.fault(remark.hint("save the file with the encoding UTF-8"))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.metadata()?.is_dir() {
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
