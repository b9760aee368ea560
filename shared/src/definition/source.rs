//! The text of one file: byte offsets → lines, columns and excerpts that hide secrets.

use super::fault::{Excerpt, Fault};

/// A range of bytes of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Something wrong at a place of a source that the remark itself doesn't name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Remark {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// A file's name and text.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    line_starts: Vec<usize>,
    /// Characters before each multiple of [`STRIDE`] bytes, as a hostile file may be one long line.
    chars_before: Vec<usize>,
    /// Values that no excerpt may show, in the order of the text.
    secrets: Vec<Span>,
}

const STRIDE: usize = 1024;

/// No more bytes of a line to either side of a fault are looked at.
const NEAR: usize = 4096;

/// No excerpt shows more characters of a line.
const WIDEST_EXCERPT: usize = 120;

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let bytes = text.as_bytes();
        let breaks = (0..bytes.len()).filter(|&at| match bytes[at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        let line_starts = std::iter::once(0).chain(breaks.map(|at| at + 1)).collect();
        let starts_char = |byte: &&u8| (**byte as i8) >= -0x40;
        let chars_before = bytes.chunks(STRIDE).scan(0, |sum, chunk| {
            let before = *sum;
            *sum += chunk.iter().filter(starts_char).count();
            Some(before)
        });
        let chars_before = chars_before.collect();
        Self { name: name.to_owned(), text, line_starts, chars_before, secrets: Vec::new() }
    }

    pub(super) fn set_secrets(&mut self, mut secrets: Vec<Span>) {
        secrets.sort();
        self.secrets = secrets;
    }

    /// Whether no message may show what is there.
    pub(super) fn is_secret(&self, span: Span) -> bool {
        self.secrets.binary_search(&span).is_ok()
    }

    /// How many characters begin before `offset`, a character boundary.
    fn chars(&self, offset: usize) -> usize {
        let stride = (offset / STRIDE).min(self.chars_before.len().saturating_sub(1));
        let from = self.text.ceil_char_boundary(stride * STRIDE).min(offset);
        self.chars_before.get(stride).copied().unwrap_or_default() + self.text[from..offset].chars().count()
    }

    /// Line and column, both from 1; columns count characters.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset);
        (line, self.chars(offset) - self.chars(self.line_starts[line - 1]) + 1)
    }

    /// `file:line:column`, for a message that points to a second place.
    pub(super) fn named_place(&self, span: Span) -> String {
        let (line, column) = self.place(span.start);
        format!("{}:{line}:{column}", self.name)
    }

    pub(super) fn fault(&self, remark: Remark) -> Fault {
        let (line, column) = self.place(remark.span.start);
        Fault {
            file: self.name.clone(),
            line: Some(line),
            column: Some(column),
            message: remark.message,
            hint: remark.hint,
            excerpt: Some(self.excerpt(remark.span, line)),
        }
    }

    /// The span of a line's text, without its end.
    fn line(&self, number: usize) -> Span {
        let start = self.line_starts[number - 1];
        let end = self.line_starts.get(number).copied().unwrap_or(self.text.len());
        Span { start, end: start + self.text[start..end].trim_end_matches(['\r', '\n']).len() }
    }

    fn excerpt(&self, span: Span, number: usize) -> Excerpt {
        let line = self.line(number);
        let at = self.text.floor_char_boundary(span.start.min(line.end));
        let start = self.text.ceil_char_boundary(at.saturating_sub(NEAR).max(line.start));
        let line = Span { start, end: self.text.floor_char_boundary((at + NEAR).min(line.end)) };
        let shown: Vec<char> = self.without_secrets(line);
        let caret = self.text[line.start..at].chars().count();
        let marked = self.text.get(span.start..span.end.min(line.end)).map_or(0, |text| text.chars().count());
        let from = if shown.len() > WIDEST_EXCERPT { caret.saturating_sub(WIDEST_EXCERPT / 2) } else { 0 };
        let text: String = shown.iter().skip(from).take(WIDEST_EXCERPT).collect();
        let room = text.chars().count() - (caret - from).min(text.chars().count());
        Excerpt { text, caret: caret - from, width: marked.clamp(1, room.max(1)) }
    }

    /// A line's characters: secrets starred, control characters replaced, their number unchanged.
    fn without_secrets(&self, line: Span) -> Vec<char> {
        let text = &self.text[line.start..line.end];
        let mut hidden = vec![false; text.len()];
        let first = self.secrets.partition_point(|secret| secret.end <= line.start);
        for secret in self.secrets[first..].iter().take_while(|secret| secret.start < line.end) {
            let start = secret.start.max(line.start) - line.start;
            hidden[start..secret.end.min(line.end) - line.start].fill(true);
        }
        for (at, _) in text.match_indices("${env:") {
            let end = text[at..].find(['}', ' ', '"']).map_or(text.len(), |len| at + len);
            hidden[at..end].fill(false);
        }
        for (at, found) in text.match_indices("://") {
            let start = at + found.len();
            let authority =
                &text[start..start + text[start..].find(['/', ' ', '"', '\'']).unwrap_or(text.len() - start)];
            if let Some(end) = authority.rfind('@') {
                hidden[start..start + end].fill(true);
            }
        }
        text.char_indices()
            .map(|(at, c)| match c {
                _ if hidden[at] && c.is_alphanumeric() => '*',
                '\t' => ' ',
                _ if c.is_control() => '\u{fffd}',
                _ => c,
            })
            .collect()
    }

    /// Hides what follows the first colon of the line at `offset` if that line is below a key that holds
    /// secrets, as far as indentation tells: for texts whose structure can't be read.
    pub(super) fn hide_line_if_secret(&mut self, offset: usize) {
        let (number, _) = self.place(offset);
        let line = self.line(number);
        let mut indent = usize::MAX;
        for number in (1..=number).rev() {
            let text = &self.text[self.line_starts[number - 1]..self.line(number).end];
            let own = text.len() - text.trim_start().len();
            if text.trim().is_empty() || own >= indent {
                continue;
            }
            indent = own;
            let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
            if words.any(holds_secrets) {
                let start = line.start + self.text[line.start..line.end].find(':').unwrap_or(0);
                self.secrets = vec![Span { start, end: line.end }];
                return;
            }
        }
    }
}

/// Whether values below this key may be secrets.
pub(super) fn holds_secrets(key: &str) -> bool {
    matches!(key, "headers" | "env")
        || ["password", "passphrase", "secret", "token", "key"].iter().any(|end| key.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_every_kind_of_line_end() {
        let source = Source::new("a", "\u{feff}ä: 1\r\nb: 2\rc: ö!\n");
        let at = |needle: &str| source.place(source.text.find(needle).unwrap());
        assert_eq!((at("1"), at("2"), at("!")), ((1, 4), (2, 4), (3, 5)));
        assert_eq!(source.place(usize::MAX), (4, 1));
    }

    #[test]
    fn columns_are_right_in_a_very_long_line() {
        let text = format!("x\n{}", "aä日".repeat(3_000));
        let source = Source::new("a", &text);
        for (index, (offset, _)) in text.char_indices().enumerate().skip(2) {
            assert_eq!(source.place(offset), (2, index - 1));
        }
    }

    #[test]
    fn no_excerpt_shows_a_secret() {
        let text = "url: https://me:hunter2@host/x\nA: Bearer hunter2 ${env:TOKEN}\n";
        let mut source = Source::new("a", text);
        source.set_secrets(vec![Span { start: text.find("Bearer").unwrap(), end: text.len() }]);
        let shown = |offset| source.fault(Remark::new(Span { start: offset, end: offset }, "")).excerpt.unwrap().text;
        assert_eq!(shown(0), "url: https://**:*******@host/x");
        assert_eq!(shown(text.find("A:").unwrap()), "A: ****** ******* ${env:TOKEN}");
    }

    #[test]
    fn unreadable_text_hides_what_may_be_secret() {
        for text in ["headers:\n  Accept: a\n  Auth: \"hunter2\n", "headers: { Auth: \"hunter2\n"] {
            let mut source = Source::new("a", text);
            let offset = text.find("hunter2").unwrap();
            source.hide_line_if_secret(offset);
            let shown = source.fault(Remark::new(Span { start: offset, end: offset }, "")).excerpt.unwrap().text;
            assert!(shown.contains("*******") && !shown.contains("hunter2"), "{shown}");
        }
        let mut source = Source::new("a", "env:\n  A: b\njobs:\n  a: \"plain\n");
        source.hide_line_if_secret(20);
        assert_eq!(source.secrets, []);
    }

    #[test]
    fn long_lines_are_shown_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let fault = Source::new("a", &text).fault(Remark::new(Span { start: 5000, end: 9000 }, ""));
        let excerpt = fault.excerpt.unwrap();
        assert_eq!((excerpt.text.len(), excerpt.caret, excerpt.width), (120, 60, 60));
        assert_eq!(excerpt.text.chars().nth(excerpt.caret), Some('X'));
    }
}
