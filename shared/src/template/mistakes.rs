//! What can be told to be wrong with a template before it is ever rendered.

use std::ops::Range;

use minijinja::context;

use super::{LANGUAGE, is_template, reason, time};

/// Something wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {hint}")]
pub struct Mistake {
    /// The bytes of the text that are at fault.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Often meant filters of the language.
const USUAL_FILTERS: [&str; 14] = [
    "default", "first", "float", "int", "items", "join", "last", "length", "lower", "replace", "round", "tojson",
    "trim", "upper",
];

/// Says whether a text can be a template, whatever it is given.
///
/// # Errors
/// The first breach of the language's rules.
pub fn check(text: &str) -> Result<(), Mistake> {
    compile(text).map(drop)
}

/// All that is wrong with a template that knows the variables `known` and nothing else.
#[must_use]
pub fn mistakes(text: &str, known: &[&str]) -> Vec<Mistake> {
    if !is_template(text) {
        return Vec::new();
    }
    let template = match compile(text) {
        Ok(template) => template,
        Err(mistake) => return vec![mistake],
    };
    let unknown = template.undeclared_variables(false);
    let is_global = |name: &str| LANGUAGE.globals().any(|(global, _)| global == name);
    let words = words(text);
    let place = |name: &str| words.iter().find(|word| word.role == Role::Variable && &text[word.range.clone()] == name);
    let variables = unknown.iter().filter(|name| !known.contains(&name.as_str()) && !is_global(name)).map(|name| {
        let range = place(name).map_or(0..text.len(), |word| word.range.clone());
        let known_ones = format!("known here are {}", known.join(", "));
        Mistake { range, message: format!("there is no variable `{name}`"), hint: hint(name, known, &known_ones) }
    });
    let filters = words.iter().filter(|word| word.role == Role::Filter).filter_map(|word| {
        let name = &text[word.range.clone()];
        let candidates = time::NAMES.iter().chain(&USUAL_FILTERS).copied().collect::<Vec<_>>();
        let otherwise = format!("for times there are {}; for the rest Jinja's usual ones", time::NAMES.join(", "));
        (!is_filter(name)).then(|| Mistake {
            range: word.range.clone(),
            message: format!("there is no filter `{name}`"),
            hint: hint(name, &candidates, &otherwise),
        })
    });
    let mut found: Vec<_> = variables.chain(filters).collect();
    found.sort_by_key(|mistake| mistake.range.start);
    found
}

fn compile(text: &str) -> Result<minijinja::Template<'_, '_>, Mistake> {
    LANGUAGE.template_from_str(text).map_err(|error| {
        let range = error.range().unwrap_or_default();
        let range = text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end);
        let range = if range.is_empty() { 0..text.len() } else { range };
        let hint = "write {{ expression }}; put braces that shall stay between {% raw %} and {% endraw %}";
        Mistake { range, message: format!("not a valid template: {}", reason(&error)), hint: hint.to_owned() }
    })
}

fn is_filter(name: &str) -> bool {
    let known = LANGUAGE.compile_expression("name is filter").and_then(|test| test.eval(context!(name)));
    known.is_ok_and(|known| known.is_true())
}

fn hint(word: &str, candidates: &[&str], otherwise: &str) -> String {
    crate::definition::did_you_mean(word, candidates.iter().copied(), otherwise)
}

/// A name in a template.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    range: Range<usize>,
    role: Role,
}

#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// After a `|`.
    Filter,
    /// After a `.`.
    Member,
    /// Or a keyword.
    Variable,
}

/// The names in the code of a text that is a valid template, which is all that the engine does not tell.
fn words(text: &str) -> Vec<Word> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|start| at + start) {
        at = start + 2;
        match bytes.get(start + 1) {
            Some(b'#') => at = text[at..].find("#}").map_or(text.len(), |end| at + end + 2),
            Some(b'{') => at = code(text, at, "}}", &mut words),
            Some(b'%') => {
                let first = words.len();
                at = code(text, at, "%}", &mut words);
                if words.get(first).is_some_and(|word| &text[word.range.clone()] == "raw") {
                    at = text[at..].find("endraw").map_or(text.len(), |end| at + end);
                }
            }
            _ => at = start + 1,
        }
    }
    words
}

/// Adds the names from `at` to the end of the code, and returns where that is.
fn code(text: &str, mut at: usize, end: &str, words: &mut Vec<Word>) -> usize {
    let bytes = text.as_bytes();
    let (mut open, mut before) = (0_usize, b' ');
    while let Some(&byte) = bytes.get(at) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        match byte {
            _ if open == 0 && bytes[at..].starts_with(end.as_bytes()) => return at + end.len(),
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
                    words.push(Word { range: at..at + len, role });
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
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["input", "scheduled_for", "namespace"];

    fn told(text: &str) -> Vec<(&str, String, String)> {
        mistakes(text, &KNOWN).into_iter().map(|found| (&text[found.range], found.message, found.hint)).collect()
    }

    #[test]
    fn good_templates_have_no_mistakes() {
        for text in [
            "plain { } }} text",
            "{{ input.nope.whatever['x'] | default('y') | upper }}",
            "{% for item in input.items %}{{ loop.index }} {{ item }}{% else %}none{% endfor %}",
            "{% set x = input %}{{ x }}{% if x is defined and not x %}{% endif %}",
            "{% raw %}{{ nope | nope }}{% endraw %}{# {{ nope | nope }} #}",
            "{{ scheduled_for | timezone('Europe/Berlin') | plus('1d') | date('%H|%M') }}",
            "{{ {'a': '}}', \"b\\\"|x\": 1e5}[namespace] }} {{ range(3) | join(',') }}",
            "{{ dict(a=1)\n|\n tojson }}",
        ] {
            assert_eq!(told(text), [], "{text}");
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn every_unknown_name_is_told_where_it_is() {
        let found =
            told("{{ inptu.input | dat }} {% if schedule %}{{ 'inptu' }}{{ x.schedule | upperr('|x') }}{% endif %}");
        let short: Vec<_> = found.iter().map(|(at, message, hint)| (*at, message.as_str(), hint.as_str())).collect();
        assert_eq!(
            short,
            [
                ("inptu", "there is no variable `inptu`", "did you mean `input`?"),
                ("dat", "there is no filter `dat`", "did you mean `date`?"),
                ("schedule", "there is no variable `schedule`", "known here are input, scheduled_for, namespace"),
                ("x", "there is no variable `x`", "known here are input, scheduled_for, namespace"),
                ("upperr", "there is no filter `upperr`", "did you mean `upper`?"),
            ]
        );
    }

    #[test]
    fn a_breach_of_the_syntax_is_told_where_it_is() {
        for (text, at, message) in [
            ("a {{ input. }}", "}}", "unexpected end of variable block, expected identifier or integer"),
            ("ä {{ input + * 2 }} b", "*", "unexpected `*`"),
            ("ä {{ 'x }}", "ä {{ 'x }}", "unexpected end of string"),
            ("{% if input %}x", "x", "unexpected end of input, expected end of block"),
            ("{% nope %}", "nope", "unknown statement nope"),
            ("{{ input", "input", "unexpected end of input, expected end of variable block"),
            ("docker inspect -f {{.State.Running}}", ".", "unexpected `.`"),
        ] {
            let mistake = check(text).unwrap_err();
            assert_eq!(&text[mistake.range.clone()], at, "{text}");
            assert_eq!(mistake.message, format!("not a valid template: syntax error: {message}"), "{text}");
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        let pieces =
            ["{{", "}}", "{%", "%}", "{#", "#}", "'", "\"", "\\", "raw", "endraw", "|", ".", "ä", " ", "(", "}", "x"];
        for length in 0..4000_usize {
            let text: String =
                (0..12).map(|n| pieces[(length * 31 + n * (length % 17 + 1) * 7) % pieces.len()]).collect();
            let _ = words(&text);
            for mistake in mistakes(&text, &KNOWN) {
                assert!(text.get(mistake.range).is_some(), "{text}");
            }
        }
    }
}
