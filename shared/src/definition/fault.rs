//! What is wrong with a text, told as a compiler does.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

/// One thing that is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file as it was named to the reader.
    pub file: String,
    /// Counted from 1; none if the whole file is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Counted from 1, in characters; none if the whole file is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What was expected, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// The line at fault, without secrets, and which of its characters to point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) caret: usize,
    pub(super) width: usize,
}

/// Everything that is wrong with a set of files; never empty when it is returned as an error.
///
/// Its JSON form is the list of faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    dropped: usize,
}

/// No more faults are printed, so that the first of them stay on the screen.
const MOST_PRINTED: usize = 50;

/// No more faults are kept, so that a hostile file can't fill the memory.
const MOST_KEPT: usize = 1_000;

impl Faults {
    pub(super) fn push(&mut self, fault: impl FnOnce() -> Fault) {
        if self.list.len() < MOST_KEPT {
            self.list.push(fault());
        } else {
            self.dropped += 1;
        }
    }

    /// A fault of a whole file.
    pub(super) fn push_file(&mut self, file: &str, message: impl Into<String>, hint: impl Into<String>) {
        let (file, message, hint) = (file.to_owned(), message.into(), Some(hint.into()));
        self.push(|| Fault { file, line: None, column: None, message, hint, excerpt: None });
    }

    /// `Ok` if there are none.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.list.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The faults in the order of files and lines; the first thousand if there are more.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }

    /// How many there are, also of those that [`Faults::iter`] leaves out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len() + self.dropped
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The text for people: each fault with its line and a caret; `colour` adds ANSI escapes.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for (index, fault) in self.list.iter().take(MOST_PRINTED).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            fault.render(&Paint(colour), &mut text);
        }
        let more = self.len() - self.list.len().min(MOST_PRINTED);
        if more > 0 {
            let _ = write!(text, "\nand {more} more\n");
        }
        text
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Faults {}

impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.list)
    }
}

struct Paint(bool);

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The text for people, without colour: of some lines, without the last line end.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.render(&Paint(false), &mut text);
        f.write_str(text.trim_end())
    }
}

impl Fault {
    fn render(&self, paint: &Paint, out: &mut String) {
        let mut place = self.file.clone();
        if let (Some(line), Some(column)) = (self.line, self.column) {
            let _ = write!(place, ":{line}:{column}");
        }
        let _ = writeln!(out, "{}: {}", paint.wrap("1", &place), paint.wrap("1;31", &self.message));
        let number = self.line.map(|line| line.to_string()).unwrap_or_default();
        let margin = " ".repeat(number.len());
        if let Some(Excerpt { text, caret, width }) = &self.excerpt {
            let bar = paint.wrap("34", "|");
            let _ = writeln!(out, "  {} {bar} {text}", paint.wrap("34", &number));
            let carets = paint.wrap("1;31", &"^".repeat(*width));
            let _ = writeln!(out, "  {margin} {bar} {}{carets}", " ".repeat(*caret));
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  {margin} {} {hint}", paint.wrap("34", "="));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(count: usize) -> Faults {
        let mut faults = Faults::default();
        for number in 0..count {
            faults.push_file(&format!("{number}.yaml"), "is bad", "make it good");
        }
        faults
    }

    #[test]
    fn prints_the_first_and_counts_the_rest() {
        let text = faults(MOST_KEPT + 7).to_string();
        assert!(text.starts_with("0.yaml: is bad\n   = make it good\n\n1.yaml"), "{text}");
        assert!(text.ends_with(&format!("and {} more", MOST_KEPT + 7 - MOST_PRINTED)), "{text}");
        assert!(!faults(MOST_PRINTED).to_string().contains("more"));
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        assert!(faults(1).render(true).contains("\x1b["));
        assert!(!faults(1).render(false).contains('\x1b'));
    }

    #[test]
    fn json_is_the_list() {
        let json = serde_json::to_value(faults(1)).unwrap();
        assert_eq!(json, serde_json::json!([{"file": "0.yaml", "message": "is bad", "hint": "make it good"}]));
    }
}
