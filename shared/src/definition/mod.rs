//! YAML files → jobs and schedules, or every fault at once.
//!
//! A text goes one way: [`files`] reads it, `node` makes a tree with places of it, `check` walks the tree
//! along the table of keys in `schema`, `rules` looks at what the table can't say, and `build` fills in the
//! defaults. Nothing is built if any file has a fault. `schema` is the place to add a key; the JSON Schema
//! for editors follows by itself.

mod build;
mod check;
mod config;
mod difference;
mod fault;
mod files;
mod json_schema;
pub mod model;
mod nearest;
mod node;
mod rules;
mod scalar;
pub mod schedule;
mod schema;
mod source;
mod text;

use std::path::Path;

use serde_json::Value;

pub use self::config::read_config;
pub use self::difference::{ChangedMember, changed_members};
pub use self::fault::{Fault, Faults};
pub use self::files::MOST_BYTES_IN_ALL;
pub use self::json_schema::json_schema;
pub use self::model::*;
pub use self::node::{MOST_ALIASED, MOST_BYTES, MOST_DEPTH, MOST_NODES};
pub use self::schedule::*;

use self::check::Checker;
use self::node::{Key, Kind, parse};
use self::rules::{File, check_across};
use self::source::{Remark, Source, Span};

/// Reads a file, or every `*.yaml` and `*.yml` of a folder (not of folders within it).
///
/// # Errors
/// Everything that is wrong with any of the files; then none of them is in force.
pub fn read_path(path: &Path) -> Result<Definitions, Faults> {
    let mut faults = Faults::default();
    let texts = files::read(path, &mut faults);
    let complete = faults.is_empty();
    finish(&texts, complete, faults)
}

/// Reads texts, each with the name that faults show.
///
/// # Errors
/// Everything that is wrong with any of the texts.
pub fn read_texts(texts: &[(String, String)]) -> Result<Definitions, Faults> {
    finish(texts, true, Faults::default())
}

/// Reads texts that are a part of what is in force: they may name jobs that none of them defines.
///
/// # Errors
/// Everything that is wrong with any of the texts.
pub fn read_part(texts: &[(String, String)]) -> Result<Definitions, Faults> {
    finish(texts, false, Faults::default())
}

/// `complete` if the texts are all that there are, so that a job that none of them defines doesn't exist.
fn finish(texts: &[(String, String)], complete: bool, mut faults: Faults) -> Result<Definitions, Faults> {
    let mut files: Vec<File> = texts.iter().map(|(name, text)| check_file(name, text)).collect();
    check_across(&mut files, complete);
    let mut definitions = Definitions::default();
    for File { source, root, mut remarks } in files {
        if let (Some(root), true) = (&root, remarks.is_empty()) {
            let built = build::add(root, &mut definitions);
            remarks.extend(built.err().map(|error| Remark::new(root.span, format!("can't be understood: {error}"))));
        }
        remarks.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
        // What an alias repeats is remarked on once.
        remarks.dedup();
        remarks.into_iter().for_each(|remark| faults.push(|| source.fault(remark)));
    }
    faults.into_result()?;
    definitions.jobs.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    definitions.schedules.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(definitions)
}

fn check_file(name: &str, text: &str) -> File {
    let mut source = Source::new(name, text);
    let tree = parse(&mut source);
    let mut remarks = tree.remarks;
    if let Some(root) = &tree.root {
        let first = Key { text: "file".into(), span: Span { start: root.span.start, end: root.span.start } };
        match &root.kind {
            Kind::Map(entries) => {
                Checker { source: &source, remarks: &mut remarks }.object(&schema::FILE, entries, &first)
            }
            _ => remarks.push(nothing_in_it(root.span)),
        }
    } else if remarks.is_empty() {
        remarks.push(nothing_in_it(Span::default()));
    }
    let mut file = File { source, root: tree.root, remarks };
    file.check_rules();
    file
}

fn nothing_in_it(span: Span) -> Remark {
    Remark::new(span, "no jobs and schedules here")
        .hint("begin with the line `version: 1`, then `jobs:` and `schedules:`; or remove the file")
}

impl Definitions {
    /// A fingerprint of the content: equal definitions have equal ones, whatever files and order they come from.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut json = serde_json::to_value(self).unwrap_or(Value::Null);
        json.sort_all_objects();
        blake3::hash(json.to_string().as_bytes()).to_hex().to_string()
    }
}
