//! Texts → definitions, again and again: a text that is as it was is not parsed again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::Path;

use super::across::{Across, Findings};
use super::fault::Faults;
use super::file::File;
use super::files;
use super::merge::Merged;
use super::model::Definitions;
use super::outline::Outline;
use super::source::{Source, Span};

/// Reads a folder, and remembers of each file what is needed to read it again quickly.
///
/// It holds the definitions once, the names of each file, and no texts.
#[derive(Debug, Default)]
pub struct Reader {
    /// The texts of the last reading.
    texts: Vec<Text>,
    /// Their names; none of a text that can't be read.
    outlines: Vec<Option<Outline>>,
    /// What was read when nothing was wrong, last.
    merged: Merged,
    /// What texts define that were read since.
    pending: Merged,
    /// How many texts were parsed so far.
    count: u32,
    parsed: usize,
    /// The texts are not all that there is: jobs may be defined elsewhere.
    partial: bool,
}

/// What is remembered of a text.
#[derive(Debug)]
struct Text {
    name: String,
    hash: blake3::Hash,
    /// No other text has it.
    number: u32,
    /// Whether something is wrong with it in itself.
    faulty: bool,
    revision: Option<u64>,
}

/// A reading that is under way.
struct Reading {
    /// What is remembered of the reading before, by name.
    known: HashMap<String, (Text, Option<Outline>)>,
    /// Texts with something wrong in themselves, by their number in the list.
    at_fault: HashMap<usize, File>,
}

/// The text of this number in the list once more, if there still is one.
type Again<'a> = &'a dyn Fn(usize) -> Option<String>;

impl Reader {
    /// A reader of texts that are not all that there is: jobs that they name and don't define may be defined elsewhere.
    #[must_use]
    pub fn of_part() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// Reads a file, or every `*.yaml` and `*.yml` of a folder (not of folders within it). Gives the same as
    /// [`read_path`](super::read_path).
    ///
    /// # Errors
    /// Everything that is wrong with any of the files. Then [`Reader::definitions`] stay what they were.
    pub fn read(&mut self, path: &Path) -> Result<&Definitions, Faults> {
        let mut faults = Faults::default();
        let mut reading = self.begin();
        let mut paths = Vec::new();
        files::read(path, &mut faults, |path, name, text| {
            self.look(&mut reading, name, text);
            paths.push((path.to_owned(), name.to_owned()));
        });
        let again = |index: usize| {
            let (path, name) = paths.get(index)?;
            files::read_text(path, name, &mut Faults::default())
        };
        self.finish(reading, faults, &again)
    }

    /// Reads texts, each with the name that faults show. Gives the same as [`read_texts`](super::read_texts).
    ///
    /// # Errors
    /// Everything that is wrong with any of the texts. Then [`Reader::definitions`] stay what they were.
    pub fn read_texts(&mut self, texts: &[(String, String)]) -> Result<&Definitions, Faults> {
        let mut reading = self.begin();
        for (name, text) in texts {
            self.look(&mut reading, name, text);
        }
        self.finish(reading, Faults::default(), &|index| texts.get(index).map(|(_, text)| text.clone()))
    }

    /// What was read when nothing was wrong, last; empty before that.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.merged.definitions
    }

    /// The same, for those who read no more.
    #[must_use]
    pub fn into_definitions(self) -> Definitions {
        self.merged.definitions
    }

    /// How many texts the last reading parsed: those that were new or changed, and those at fault.
    #[must_use]
    pub fn parsed(&self) -> usize {
        self.parsed
    }

    fn begin(&mut self) -> Reading {
        self.parsed = 0;
        let known = mem::take(&mut self.texts).into_iter().zip(mem::take(&mut self.outlines));
        let known = known.map(|known| (known.0.name.clone(), known)).collect();
        Reading { known, at_fault: HashMap::new() }
    }

    /// Parses a text if it is new.
    fn look(&mut self, reading: &mut Reading, name: &str, text: &str) {
        let hash = blake3::hash(text.as_bytes());
        if let Some((text, outline)) = reading.known.remove(name).filter(|(known, _)| known.hash == hash) {
            self.texts.push(text);
            self.outlines.push(outline);
            return;
        }
        self.parsed += 1;
        self.count += 1;
        let mut file = File::read(name, text);
        let (outline, built) = (file.outline(), file.build());
        let (faulty, revision) = (built.is_none(), built.as_ref().and_then(|built| built.revision));
        match built {
            Some(built) => self.pending.push(self.count, built),
            None => drop(reading.at_fault.insert(self.texts.len(), file.without_tree())),
        }
        self.texts.push(Text { name: name.to_owned(), hash, number: self.count, faulty, revision });
        self.outlines.push(outline);
    }

    /// Judges the texts, of which there are no others unless there are `faults`.
    fn finish(&mut self, mut reading: Reading, mut faults: Faults, again: Again<'_>) -> Result<&Definitions, Faults> {
        let complete = faults.is_empty();
        let sources: RefCell<HashMap<usize, Source>> = RefCell::default();
        let place = |file: usize, span: Span| {
            let mut sources = sources.borrow_mut();
            let text = || Source::new(&self.texts[file].name, &again(file).unwrap_or_default());
            sources.entry(file).or_insert_with(text).named_place(span)
        };
        let mut findings = Findings::new();
        let outlines = self.outlines.iter().map(Option::as_ref).collect();
        let across = Across::new(outlines, complete, self.partial, &mut findings, &place);
        across.check_names(&mut findings);
        across.check_chains(&mut findings, &place);
        across.check_queues(&mut findings, &place);
        let mut between: HashMap<usize, Vec<_>> = HashMap::new();
        for (file, remark) in findings {
            between.entry(file).or_default().push(remark);
        }
        for (index, text) in self.texts.iter().enumerate() {
            let between = between.remove(&index).unwrap_or_default();
            if !text.faulty && between.is_empty() {
                continue;
            }
            let file = reading.at_fault.remove(&index).or_else(|| {
                self.parsed += 1;
                let now = again(index).filter(|now| blake3::hash(now.as_bytes()) == text.hash)?;
                let mut file = File::read(&text.name, &now);
                file.build();
                Some(file)
            });
            match file {
                Some(file) => file.tell(between, &mut faults),
                None => faults.push_file(&text.name, "was changed while it was read", "read it again"),
            }
        }
        let texts: HashSet<u32> = self.texts.iter().map(|text| text.number).collect();
        self.pending.retain(&texts);
        faults.into_result()?;
        self.merged.retain(&texts);
        self.merged.take(&mut self.pending);
        let definitions = &mut self.merged.definitions;
        definitions.revision = self.texts.iter().map(|text| text.revision).max().flatten();
        across.calendars.fill_all(&mut definitions.schedules);
        Ok(definitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_changes_under_the_readers_eyes_is_not_judged() {
        let mut reader = Reader::default();
        let mut reading = reader.begin();
        let text = "version: 1\nschedules: { s: { every: 5s, trigger: nobody } }\n";
        reader.look(&mut reading, "a.yaml", text);
        let again = |_| Some(text.replace("nobody", "somebody"));
        let faults = reader.finish(reading, Faults::default(), &again).unwrap_err();
        assert_eq!(faults.to_string(), "a.yaml: was changed while it was read\n   = read it again");
    }
}
