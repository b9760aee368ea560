//! How one handler writes down, in the file that all of them share, what it does in one attempt.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use uuid::Uuid;

use crate::ledger::{Entry, What};

/// The file, opened by one handler for one attempt.
#[derive(Debug)]
pub(crate) struct Pen {
    file: File,
    id: Uuid,
    attempt: u32,
}

impl Pen {
    /// Opens it.
    pub(crate) fn open(path: &Path, id: Uuid, attempt: u32) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)?, id, attempt })
    }

    /// Adds a line, in one write: lines of several processes don't mix.
    pub(crate) fn note(&mut self, what: What) -> io::Result<()> {
        let entry = Entry::now(self.id, self.attempt, what, std::process::id());
        self.file.write_all(format!("{entry}\n").as_bytes())
    }
}
