//! What can be told to be wrong with a template before it is ever rendered.

use std::collections::HashSet;
use std::ops::Range;

use minijinja::context;

use super::words::{Role, Word, Words, of_condition, words};
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

/// No more mistakes of one text are told.
const MOST_MISTAKES: usize = 20;

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
    match compile(text) {
        Ok(template) => unknown_names(text, words(text), known, &template.undeclared_variables(false)),
        Err(mistake) => vec![mistake],
    }
}

/// All that is wrong with a condition ([`Engine::holds`](super::Engine::holds)) that knows the variables `known` and
/// nothing else.
#[must_use]
pub fn mistakes_of_condition(text: &str, known: &[&str]) -> Vec<Mistake> {
    let found = match of_condition(text) {
        Ok(found) => found,
        Err(what) => return vec![too_long(text, what)],
    };
    match LANGUAGE.compile_expression(text) {
        Ok(condition) => unknown_names(text, found, known, &condition.undeclared_variables(false)),
        Err(error) => {
            let hint = match text.contains("{{") {
                true => "write the expression alone, without {{ and }}",
                false => "write it like: status == 200 and body.state == 'done'",
            };
            vec![breach(text, &error, "not a valid condition", hint)]
        }
    }
}

/// The names in a text that nothing knows; `unknown` are those that it does not define itself.
fn unknown_names(text: &str, words: Words, known: &[&str], unknown: &HashSet<String>) -> Vec<Mistake> {
    let is_global = |name: &str| LANGUAGE.globals().any(|(global, _)| global == name);
    let is_unknown = |name: &str| unknown.contains(name) && !known.contains(&name) && !is_global(name);
    let mut seen = HashSet::new();
    let found = words.list.into_iter().filter_map(|Word { range, role }| {
        let name = &text[range.clone()];
        let (kind, hint) = match role {
            Role::Variable if seen.insert(name) && is_unknown(name) => {
                ("variable", hint(name, known, &format!("known here are {}", known.join(", "))))
            }
            Role::Filter if !is_filter(name) => {
                let filters = time::NAMES.iter().chain(&USUAL_FILTERS).copied().collect::<Vec<_>>();
                let times = time::NAMES.join(", ");
                (
                    "filter",
                    hint(name, &filters, &format!("for times there are {times}; for the rest Jinja's usual ones")),
                )
            }
            _ => return None,
        };
        Some(Mistake { range, message: format!("there is no {kind} `{name}`"), hint })
    });
    found.take(MOST_MISTAKES).collect()
}

fn compile(text: &str) -> Result<minijinja::Template<'_, '_>, Mistake> {
    if let Err(what) = words(text).check_size(text) {
        return Err(too_long(text, what));
    }
    LANGUAGE.template_from_str(text).map_err(|error| {
        let hint = "write {{ expression }}; put braces that shall stay between {% raw %} and {% endraw %}";
        breach(text, &error, "not a valid template", hint)
    })
}

fn too_long(text: &str, what: &str) -> Mistake {
    let hint = "shorten it; the job itself can compute what is too long for a template".to_owned();
    Mistake { range: 0..text.len(), message: what.to_owned(), hint }
}

/// A breach of the language's rules, where the engine met it.
fn breach(text: &str, error: &minijinja::Error, what: &str, hint: &str) -> Mistake {
    let range = error.range().unwrap_or_default();
    let range = text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end);
    let range = if range.is_empty() { 0..text.len() } else { range };
    Mistake { range, message: format!("{what}: {}", reason(error)), hint: hint.to_owned() }
}

fn is_filter(name: &str) -> bool {
    let known = LANGUAGE.compile_expression("name is filter").and_then(|test| test.eval(context!(name)));
    known.is_ok_and(|known| known.is_true())
}

fn hint(word: &str, candidates: &[&str], otherwise: &str) -> String {
    crate::definition::did_you_mean(word, candidates.iter().copied(), otherwise)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Engine;
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
    fn mistakes_of_conditions_are_told_where_they_are() {
        let known = ["status", "body", "input"];
        let usual = "write it like: status == 200 and body.state == 'done'";
        let without_braces = "write the expression alone, without {{ and }}";
        for (text, expected) in [
            ("status == 200 and body.state | lower in ['done', input.x] and range(3)", vec![]),
            ("'{{' ~ '{% x' == body", vec![]),
            ("{'a': status}.a == 200", vec![]),
            (
                "-staus and output.x | lowr",
                vec![
                    ("staus", "there is no variable `staus`", "did you mean `status`?"),
                    ("output", "there is no variable `output`", "known here are status, body, input"),
                    ("lowr", "there is no filter `lowr`", "did you mean `lower`?"),
                ],
            ),
            ("ä status = 200", vec![("ä", "not a valid condition: syntax error: unexpected character", usual)]),
            (
                "status = 200",
                vec![("=", "not a valid condition: syntax error: unexpected input after expression", usual)],
            ),
            (
                "{{ status == 200 }}",
                vec![("}", "not a valid condition: syntax error: unexpected `}`, expected `:`", without_braces)],
            ),
            (
                "",
                vec![("", "not a valid condition: syntax error: unexpected end of input, expected expression", usual)],
            ),
            (
                "status ==",
                vec![(
                    "==",
                    "not a valid condition: syntax error: unexpected end of input, expected expression",
                    usual,
                )],
            ),
            (
                "body == 'x",
                vec![("body == 'x", "not a valid condition: syntax error: unexpected end of string", usual)],
            ),
            (
                "status }} {{ body",
                vec![("}}", "not a valid condition: syntax error: unexpected input after expression", without_braces)],
            ),
        ] {
            let found = mistakes_of_condition(text, &known);
            let told: Vec<_> =
                found.iter().map(|it| (&text[it.range.clone()], it.message.as_str(), it.hint.as_str())).collect();
            assert_eq!(told, expected, "{text}");
        }
        let message = |text: String| mistakes_of_condition(&text, &known).remove(0).message;
        assert_eq!(message("-".repeat(501) + "1"), "an expression of more than 500 words and signs");
        assert_eq!(message("not ".repeat(100_000) + "status"), "a condition of more than 2000 bytes");
    }

    #[test]
    fn the_engine_is_given_nothing_too_deep_for_it() {
        let input = |repeated: &str, times: usize| format!("{{{{ {}input }}}}", repeated.repeat(times));
        for repeated in ["input ~ ", "not ", "-", "input.a[input] and ", "input and ", "[", "input|upper ~ ", "{1: "] {
            let tokens = repeated.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_').count();
            for times in [10, 40, 499 / tokens, 1_000, 100_000] {
                let text = input(repeated, times);
                let _ = (mistakes(&text, &KNOWN), Engine::new(&json!({"input": 1})).render_json(&json!(text)));
            }
            let told = check(&input(repeated, 100_000)).unwrap_err();
            assert_eq!(told.message, "an expression of more than 500 words and signs");
        }
        let elifs = |times: usize| format!("{{% if input %}}{}{{% endif %}}", "{% elif input %}x".repeat(times));
        assert_eq!(check(&elifs(50)), Ok(()));
        assert!(check(&elifs(51)).unwrap_err().message.ends_with("more than 50 times elif"));
        let nested = "{% if input %}".repeat(900);
        assert!(check(&nested).unwrap_err().message.contains("recursion"), "{:?}", check(&nested));
        let list = format!("{{{{ [{}] }}}}", "input, ".repeat(200));
        assert_eq!(check(&list), Ok(()));
    }
}
