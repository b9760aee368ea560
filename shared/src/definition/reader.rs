//! Texts → definitions, again and again: a text that is as it was is not parsed again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::Path;

use super::across::{Across, Findings};
use super::build::Built;
use super::fault::Faults;
use super::file::File;
use super::files;
use super::merge::Origins;
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
    definitions: Definitions,
    jobs_from: Origins,
    schedules_from: Origins,
    /// How many texts there were so far.
    count: u32,
    parsed: usize,
    /// The texts are not all that there is.
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
    /// What it defines, until that is among the definitions.
    built: Option<Built>,
}

impl Reader {
    /// A reader of texts that are not all that there is: what they name and don't define may be defined elsewhere.
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
        let texts = files::read(path, &mut faults);
        self.take(&texts, faults)
    }

    /// Reads texts, each with the name that faults show. Gives the same as [`read_texts`](super::read_texts).
    ///
    /// # Errors
    /// Everything that is wrong with any of the texts. Then [`Reader::definitions`] stay what they were.
    pub fn read_texts(&mut self, texts: &[(String, String)]) -> Result<&Definitions, Faults> {
        self.take(texts, Faults::default())
    }

    /// What was read when nothing was wrong, last; empty before that.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The same, for those who read no more.
    #[must_use]
    pub fn into_definitions(self) -> Definitions {
        self.definitions
    }

    /// How many texts the last reading parsed: those that were new or changed, and those at fault.
    #[must_use]
    pub fn parsed(&self) -> usize {
        self.parsed
    }

    /// Reads texts; `faults` are those of files that have none.
    fn take(&mut self, texts: &[(String, String)], mut faults: Faults) -> Result<&Definitions, Faults> {
        let complete = faults.is_empty() && !self.partial;
        let mut at_fault = self.parse_new(texts);
        let sources: RefCell<HashMap<usize, Source>> = RefCell::default();
        let place = |file: usize, span: Span| {
            let mut sources = sources.borrow_mut();
            let source = sources.entry(file).or_insert_with(|| Source::new(&texts[file].0, &texts[file].1));
            source.named_place(span)
        };
        let mut findings = Findings::new();
        let outlines = self.outlines.iter().map(Option::as_ref).collect();
        let across = Across::new(outlines, complete, &mut findings, &place);
        across.check_names(&mut findings);
        across.check_chains(&mut findings, &place);
        let mut between: HashMap<usize, Vec<_>> = HashMap::new();
        for (file, remark) in findings {
            between.entry(file).or_default().push(remark);
        }
        for (index, text) in self.texts.iter().enumerate() {
            let between = between.remove(&index).unwrap_or_default();
            if text.faulty || !between.is_empty() {
                let file = at_fault.remove(&index).unwrap_or_else(|| {
                    self.parsed += 1;
                    let (name, text) = &texts[index];
                    let mut file = File::read(name, text);
                    file.build();
                    file
                });
                file.tell(between, &mut faults);
            }
        }
        faults.into_result()?;
        let Definitions { revision, jobs, schedules } = &mut self.definitions;
        *revision = self.texts.iter().map(|text| text.revision).max().flatten();
        let alive: HashSet<u32> = self.texts.iter().map(|text| text.number).collect();
        let (mut new_jobs, mut new_schedules) = (Vec::new(), Vec::new());
        for text in &mut self.texts {
            if let Some(built) = text.built.take() {
                new_jobs.push((text.number, built.jobs));
                new_schedules.push((text.number, built.schedules));
            }
        }
        self.jobs_from.merge(jobs, &alive, new_jobs);
        self.schedules_from.merge(schedules, &alive, new_schedules);
        across.calendars.fill_all(schedules);
        Ok(&self.definitions)
    }

    /// Parses the texts that are new, and returns those with something wrong in themselves, by their place in the
    /// list.
    fn parse_new(&mut self, texts: &[(String, String)]) -> HashMap<usize, File> {
        self.parsed = 0;
        let known = mem::take(&mut self.texts).into_iter().zip(mem::take(&mut self.outlines));
        let mut known: HashMap<String, (Text, Option<Outline>)> =
            known.map(|known| (known.0.name.clone(), known)).collect();
        let mut at_fault = HashMap::new();
        for (index, (name, text)) in texts.iter().enumerate() {
            let hash = blake3::hash(text.as_bytes());
            if let Some((text, outline)) = known.remove(name).filter(|(known, _)| known.hash == hash) {
                self.texts.push(text);
                self.outlines.push(outline);
                continue;
            }
            self.parsed += 1;
            self.count += 1;
            let mut file = File::read(name, text);
            let built = file.build();
            self.outlines.push(file.outline());
            self.texts.push(Text {
                name: name.clone(),
                hash,
                number: self.count,
                faulty: built.is_none(),
                revision: built.as_ref().and_then(|built| built.revision),
                built,
            });
            if self.texts.last().is_some_and(|text| text.faulty) {
                at_fault.insert(index, file);
            }
        }
        at_fault
    }
}
