//! One file on its way from text to definitions.

use super::build::{self, Built};
use super::check::Checker;
use super::fault::Faults;
use super::node::{Key, Kind, Node, parse};
use super::outline::Outline;
use super::rules;
use super::schema;
use super::source::{Remark, Source, Span};

/// A text, its tree, and what is wrong with it in itself.
#[derive(Debug)]
pub(super) struct File {
    source: Source,
    root: Option<Node>,
    remarks: Vec<Remark>,
}

impl File {
    pub(super) fn read(name: &str, text: &str) -> Self {
        let mut source = Source::new(name, text);
        let tree = parse(&mut source);
        let mut remarks = tree.remarks;
        if let Some(root) = &tree.root {
            let first = Key { text: "file".into(), span: Span { start: root.span.start, end: root.span.start } };
            match &root.kind {
                Kind::Map(entries) => {
                    Checker { source: &source, remarks: &mut remarks }.object(&schema::FILE, entries, &first);
                }
                _ => remarks.push(nothing_in_it(root.span)),
            }
            remarks.append(&mut rules::check(&source, root));
        } else if remarks.is_empty() {
            remarks.push(nothing_in_it(Span::default()));
        }
        Self { source, root: tree.root, remarks }
    }

    /// Its names, if it can be read at all.
    pub(super) fn outline(&self) -> Option<Outline> {
        self.root.as_ref().map(Outline::of)
    }

    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    /// What it defines, if nothing is wrong with it.
    pub(super) fn build(&mut self) -> Option<Built> {
        let root = self.root.as_ref().filter(|_| self.remarks.is_empty())?;
        match build::build(root) {
            Ok(built) => Some(built),
            Err(error) => {
                self.remarks.push(Remark::new(root.span, format!("can't be understood: {error}")));
                None
            }
        }
    }

    /// Without what takes room and is no longer needed once it is built.
    pub(super) fn without_tree(self) -> Self {
        Self { root: None, ..self }
    }

    /// Tells what is wrong with it, also `between` it and other files.
    pub(super) fn tell(self, between: impl IntoIterator<Item = Remark>, faults: &mut Faults) {
        let mut remarks = self.remarks;
        remarks.extend(between);
        remarks.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
        // What an alias repeats is remarked on once.
        remarks.dedup();
        remarks.into_iter().for_each(|remark| faults.push(|| self.source.fault(remark)));
    }
}

fn nothing_in_it(span: Span) -> Remark {
    Remark::new(span, "no jobs and schedules here")
        .hint("begin with the line `version: 1`, then `jobs:` and `schedules:`; or remove the file")
}
