//! YAML files → jobs and schedules, or every fault at once.
//!
//! A text goes one way: [`files`] reads it, `node` makes a tree with places of it, `check` walks the tree
//! along the table of keys in `schema`, `rules` looks at what the table can't say, and `build` fills in the
//! defaults. Of each text `outline` keeps the names, by which `across` judges what one file says of another.
//! Nothing is in force if any file has a fault. `schema` is the place to add a key; the JSON Schema for editors
//! follows by itself.

mod across;
mod build;
mod calendars;
mod check;
mod config;
mod cycles;
mod days;
mod difference;
mod digest;
mod fault;
mod file;
mod files;
mod json_schema;
mod limits;
mod merge;
pub mod model;
mod nearest;
mod node;
mod outline;
pub mod policy;
mod reader;
mod remote;
mod rules;
mod scalar;
pub mod schedule;
mod schema;
mod scope;
mod sharing;
mod source;
pub mod ssh;
mod text;

use std::path::Path;

pub use self::config::read_config;
pub use self::difference::{ChangedMember, changed_members};
pub use self::digest::{Difference, Remembered};
pub use self::fault::{Fault, Faults};
pub use self::files::MOST_BYTES_IN_ALL;
pub use self::json_schema::json_schema;
pub use self::model::*;
pub(crate) use self::nearest::did_you_mean;
pub use self::node::{MOST_ALIASED, MOST_BYTES, MOST_DEPTH, MOST_NODES};
pub use self::reader::Reader;
pub use self::schedule::*;
pub use self::sharing::{ExternalJob, external_jobs};
pub use self::ssh::{RemoteCommand, SshCall};

/// Reads a file, or every `*.yaml` and `*.yml` of a folder (not of folders within it).
///
/// # Errors
/// Everything that is wrong with any of the files; then none of them is in force.
pub fn read_path(path: &Path) -> Result<Definitions, Faults> {
    let mut reader = Reader::default();
    reader.read(path)?;
    Ok(reader.into_definitions())
}

/// Reads texts, each with the name that faults show.
///
/// # Errors
/// Everything that is wrong with any of the texts.
pub fn read_texts(texts: &[(String, String)]) -> Result<Definitions, Faults> {
    let mut reader = Reader::default();
    reader.read_texts(texts)?;
    Ok(reader.into_definitions())
}

/// Reads texts that are a part of what is in force: they may name jobs that none of them defines.
///
/// # Errors
/// Everything that is wrong with any of the texts.
pub fn read_part(texts: &[(String, String)]) -> Result<Definitions, Faults> {
    let mut reader = Reader::of_part();
    reader.read_texts(texts)?;
    Ok(reader.into_definitions())
}
