//! The names in a template, and how much of it there is: what the engine does not tell.

use std::ops::Range;

/// The most tokens of one `{{ … }}` or `{% … %}`. The engine's stack grows with what an expression nests, also by
/// operators in a row, and has no limit of its own for them.
const MOST_TOKENS: usize = 500;

/// The most tokens of all code in one text, as what one expression gives can be nested further by the next.
const MOST_IN_ALL: usize = 2_000;

/// The most `{% elif %}`, which nest as well.
const MOST_ELIFS: usize = 50;

/// The most bytes of a condition. The engine counts columns in 16 bits.
const LONGEST_CONDITION: usize = 2_000;

/// What is known of a text.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) list: Vec<Word>,
    /// Of one piece of code.
    most_tokens: usize,
    tokens: usize,
}

/// A name in a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) range: Range<usize>,
    pub(super) role: Role,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// After a `|`.
    Filter,
    /// After a `.`.
    Member,
    /// Or a keyword.
    Variable,
}

impl Words {
    /// Whether the engine can be given the text without harm.
    pub(super) fn check_size(&self, text: &str) -> Result<(), &'static str> {
        let elifs = self.list.iter().filter(|word| &text[word.range.clone()] == "elif").count();
        if self.most_tokens > MOST_TOKENS {
            Err("an expression of more than 500 words and signs")
        } else if self.tokens > MOST_IN_ALL {
            Err("a template of more than 2000 words and signs")
        } else if elifs > MOST_ELIFS {
            Err("more than 50 times elif")
        } else {
            Ok(())
        }
    }
}

/// The names in the code of a text, as the engine would read it.
pub(super) fn words(text: &str) -> Words {
    let bytes = text.as_bytes();
    let mut words = Words::default();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|start| at + start) {
        at = start + 2;
        match bytes.get(start + 1) {
            Some(b'#') => at = text[at..].find("#}").map_or(text.len(), |end| at + end + 2),
            Some(b'{') => at = code(text, at, Some("}}"), &mut words),
            Some(b'%') => {
                let first = words.list.len();
                at = code(text, at, Some("%}"), &mut words);
                if words.list.get(first).is_some_and(|word| &text[word.range.clone()] == "raw") {
                    at = text[at..].find("endraw").map_or(text.len(), |end| at + end);
                }
            }
            _ => at = start + 1,
        }
    }
    words
}

/// The names in a condition, if the engine can be given it without harm.
pub(super) fn of_condition(text: &str) -> Result<Words, &'static str> {
    if text.len() > LONGEST_CONDITION {
        return Err("a condition of more than 2000 bytes");
    }
    let mut words = Words::default();
    code(text, 0, None, &mut words);
    words.check_size(text)?;
    Ok(words)
}

/// Adds the names from `at` to the end of the code, or of the text if nothing else ends it, and returns where that is.
fn code(text: &str, mut at: usize, end: Option<&str>, words: &mut Words) -> usize {
    let bytes = text.as_bytes();
    let mut tokens = 0;
    let (mut open, mut before) = (0_usize, b' ');
    while let Some(&byte) = bytes.get(at) {
        if let Some(end) = end.filter(|end| open == 0 && bytes[at..].starts_with(end.as_bytes())) {
            return at + end.len();
        }
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        match byte {
            b'"' | b'\'' => {
                while bytes.get(at + 1).is_some_and(|next| *next != byte) {
                    at += if bytes[at + 1] == b'\\' { 2 } else { 1 };
                }
                at += 2;
            }
            _ if is_word(&byte) => {
                let len = bytes[at..].iter().take_while(|byte| is_word(byte)).count();
                let role = match before {
                    b'|' => Role::Filter,
                    b'.' => Role::Member,
                    _ => Role::Variable,
                };
                if !byte.is_ascii_digit() {
                    words.list.push(Word { range: at..at + len, role });
                }
                at += len;
            }
            _ => {
                match byte {
                    b'{' | b'(' | b'[' => open += 1,
                    b'}' | b')' | b']' => open = open.saturating_sub(1),
                    _ => {}
                }
                at += 1;
            }
        }
        if !byte.is_ascii_whitespace() {
            before = byte;
            tokens += 1;
            words.tokens += 1;
            words.most_tokens = words.most_tokens.max(tokens);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_roles() {
        let text = "a {{ b.c | d('e', f=1) }} {# g #} {%- if h is i -%} {% raw %}{{ j }}{% endraw %}";
        let roles: Vec<_> = words(text).list.into_iter().map(|word| (&text[word.range], word.role)).collect();
        let variables = ["if", "h", "is", "i", "raw"].map(|name| (name, Role::Variable));
        let first = [("b", Role::Variable), ("c", Role::Member), ("d", Role::Filter), ("f", Role::Variable)];
        assert_eq!(roles, first.into_iter().chain(variables).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_makes_it_panic() {
        let pieces =
            ["{{", "}}", "{%", "%}", "{#", "#}", "'", "\"", "\\", "raw", "endraw", "|", ".", "ä", " ", "(", "}", "x"];
        for length in 0..4000_usize {
            let text: String =
                (0..12).map(|n| pieces[(length * 31 + n * (length % 17 + 1) * 7) % pieces.len()]).collect();
            assert!(words(&text).list.iter().all(|word| text.get(word.range.clone()).is_some()), "{text}");
        }
    }
}
