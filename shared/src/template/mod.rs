//! `{{ … }}` templates: texts and JSON values → the same with values in place of expressions.
//!
//! The language is Jinja's. What a template does not know is an error, never an empty text. It knows no clock and no
//! environment: all that it sees is the context that it is given. Beside the usual filters there are some for times
//! (`date`, `timezone`, `plus`, `minus`, `start_of`, `timestamp`, see `time`).

mod condition;
mod mistakes;
mod time;
mod words;

use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Template, UndefinedBehavior};
use serde_json::Value;

pub use self::mistakes::{Mistake, check, mistakes, mistakes_of_condition};

/// How many instructions one text may take: enough for loops over an input, not for a runaway one.
const FUEL: u64 = 100_000;

/// The most bytes that come out of one text, or of all texts of one JSON value.
pub const MOST_BYTES: usize = 1 << 20;

/// The engine without a context: the same for all.
static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut language = Environment::new();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    language.set_auto_escape_callback(|_| AutoEscape::None);
    language.set_fuel(Some(FUEL));
    // For the name of what is undefined.
    language.set_debug(true);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    language.set_syntax(syntax.expect("the delimiters are the usual ones"));
    time::add_filters(&mut language);
    // With it, loops could nest values deeper than the stack is.
    language.remove_global("namespace");
    language
});

/// Renders templates with one context.
#[derive(Debug)]
pub struct Engine {
    context: minijinja::Value,
}

/// Why a template can't be rendered. Shows what is written in the template, and no value of the context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RenderError {
    /// Which text of a JSON value it is, like `.steps[2]`; empty for the value itself and for a text.
    pub at: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Engine {
    /// An engine whose templates know the members of `context`.
    #[must_use]
    pub fn new(context: &Value) -> Self {
        Self { context: minijinja::Value::from(Serde(context)) }
    }

    /// Renders a text.
    ///
    /// # Errors
    /// If it is no template, or needs what the context lacks, or takes or gives too much.
    pub fn render(&self, text: &str) -> Result<String, RenderError> {
        self.text(text, &mut MOST_BYTES.clone())
            .map_err(|error| RenderError { at: String::new(), reason: reason(&error) })
    }

    /// Renders every text within a JSON value; keys stay as they are. A text that is one expression and nothing else
    /// becomes that expression's value: a number, say, and not its digits.
    ///
    /// # Errors
    /// The same as those of [`Engine::render`]; the first one that is met.
    pub fn render_json(&self, value: &Value) -> Result<Value, RenderError> {
        if !has_templates(value) {
            return Ok(value.clone());
        }
        let mut room = MOST_BYTES;
        self.json(value, &mut room).map_err(|Failed { mut at, error }| {
            at.reverse();
            RenderError { at: at.concat(), reason: reason(&error) }
        })
    }

    fn json(&self, value: &Value, room: &mut usize) -> Result<Value, Failed> {
        match value {
            Value::String(text) => match only_expression(text)? {
                Some(expression) => Ok(self.evaluate(expression, room)?),
                None => Ok(Value::String(self.text(text, room)?)),
            },
            Value::Array(items) => {
                let rendered = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.json(item, room).map_err(|failed| failed.within(format!("[{index}]"))));
                rendered.collect()
            }
            Value::Object(members) => {
                let rendered = members.iter().map(|(key, item)| {
                    let item = self.json(item, room).map_err(|failed| failed.within(format!(".{key}")))?;
                    Ok((key.clone(), item))
                });
                Ok(Value::Object(rendered.collect::<Result<_, Failed>>()?))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }

    fn text(&self, text: &str, room: &mut usize) -> Result<String, Error> {
        if !is_template(text) {
            return Ok(text.to_owned());
        }
        let mut out = Limited { bytes: Vec::new(), room };
        load(text)?.render_captured_to(self.context.clone(), &mut out)?;
        String::from_utf8(out.bytes).map_err(|_| Error::new(ErrorKind::WriteFailure, "the result is no text"))
    }

    fn evaluate(&self, expression: &str, room: &mut usize) -> Result<Value, Error> {
        let value = LANGUAGE.compile_expression(expression)?.eval(self.context.clone())?;
        if value.is_undefined() {
            // Only where something is written out does the language complain.
            return Err(Error::new(ErrorKind::UndefinedError, format!("`{}` is undefined", expression.trim())));
        }
        let mut out = Limited { bytes: Vec::new(), room };
        let no_json = |error: serde_json::Error| match error.is_io() {
            true => Error::from(ErrorKind::WriteFailure),
            false => Error::new(ErrorKind::BadSerialization, "the result is no JSON value"),
        };
        serde_json::to_writer(&mut out, &value).map_err(no_json)?;
        serde_json::from_slice(&out.bytes).map_err(no_json)
    }
}

/// Whether anything in a JSON value would be rendered.
#[must_use]
pub fn has_templates(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_templates),
        Value::Object(members) => members.values().any(has_templates),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_template(text: &str) -> bool {
    text.match_indices('{').any(|(at, _)| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Gives a text to the engine, if that can do no harm.
fn load(text: &str) -> Result<Template<'_, '_>, Error> {
    words::words(text).check_size(text).map_err(|what| Error::new(ErrorKind::InvalidOperation, what))?;
    LANGUAGE.template_from_str(text)
}

/// The expression, if the text is `{{ expression }}` and nothing else.
fn only_expression(text: &str) -> Result<Option<&str>, Error> {
    let Some(inside) = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")) else { return Ok(None) };
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside);
    words::words(text).check_size(text).map_err(|what| Error::new(ErrorKind::InvalidOperation, what))?;
    Ok(LANGUAGE.compile_expression(inside).is_ok().then_some(inside))
}

/// An error and, from the inside out, where in a JSON value it is.
struct Failed {
    at: Vec<String>,
    error: Error,
}

impl Failed {
    fn within(mut self, step: String) -> Self {
        self.at.push(step);
        self
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { at: Vec::new(), error }
    }
}

/// Takes bytes as long as there is room.
struct Limited<'a> {
    bytes: Vec<u8>,
    room: &'a mut usize,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.room = self.room.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too long"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's complaint without values.
fn reason(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        (ErrorKind::WriteFailure, _) => format!("the result is longer than {MOST_BYTES} bytes"),
        (ErrorKind::InvalidOperation, Some(detail)) if detail.starts_with("unable to calculate") => {
            "the result of a calculation is too large".to_owned()
        }
        (ErrorKind::UndefinedError | ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn engine() -> Engine {
        Engine::new(&json!({
            "input": {"n": 7, "day": "mon", "list": [1, 2], "big": u64::MAX, "none": null, "secret": "hunter2"},
            "job": "a",
        }))
    }

    #[test]
    fn texts_are_rendered_and_nothing_is_escaped() {
        let engine = Engine::new(&json!({"a": "<&>", "o": {"k": [1, "x"]}}));
        let render = |text| engine.render(text).unwrap();
        assert_eq!(render("{{ a }}!\n"), "<&>!\n");
        assert_eq!(render("{% for n in o.k %}{{ n }},{% endfor %}"), "1,x,");
        assert_eq!(render("{x} $5 }} ${y}"), "{x} $5 }} ${y}");
        assert_eq!(render("{% raw %}{{ a }}{% endraw %}{# gone #}"), "{{ a }}");
    }

    #[test]
    fn a_single_expression_in_json_keeps_its_type() {
        let rendered = engine().render_json(&json!({
            "number": "{{ input.n }}",
            "sum": "{{- input.n + 1 -}}",
            "text": "{{ input.n }} ",
            "two": "{{ input.n }}{{ input.n }}",
            "object": {"nested": ["{{ input }}", 1]},
            "braces": "{{ {\"a\": {\"b\": input.n}} }}",
            "quoted": "{{ '}} and {{' }}",
            "big": "{{ input.big }}",
            "null": "{{ input.none }}",
            "list": "{{ input.list | map('string') }}",
            "{{ job }}": "plain",
        }));
        let expected = json!({
            "number": 7,
            "sum": 8,
            "text": "7 ",
            "two": "77",
            "object": {"nested": [
                {"n": 7, "day": "mon", "list": [1, 2], "big": u64::MAX, "none": null, "secret": "hunter2"}, 1,
            ]},
            "braces": {"a": {"b": 7}},
            "quoted": "}} and {{",
            "big": u64::MAX,
            "null": null,
            "list": ["1", "2"],
            "{{ job }}": "plain",
        });
        assert_eq!(rendered, Ok(expected));
    }

    #[test]
    fn an_error_names_its_place_and_what_is_missing_but_no_value() {
        let fails = |value: Value| engine().render_json(&value).unwrap_err();
        let error = fails(json!({"a": [1, {"b": "x {{ input.nope }}"}]}));
        assert_eq!((error.at.as_str(), error.reason.as_str()), (".a[1].b", "`input.nope` is undefined"));
        assert_eq!(fails(json!("{{ nope }}")).to_string(), "`nope` is undefined");
        for text in [
            "{{ input.secret + 1 }}",
            "{{ input.secret | int }}",
            "{{ input.secret | date }}",
            "{{ input.secret.x.y }}",
            "{{ input.secret() }}",
            "{{ input.secret | nope }}",
            "{{ input.big * input.big * input.big }}",
            "{{ input.secret is divisibleby(input.secret) or nope }}",
            "x{{ input.secret | timezone(input.secret) }}",
            "{{ input[input.secret] }}",
            "{{ '2026-01-01T00:00:00Z' | plus(input.secret) }}",
            "{{ '2026-01-01T00:00:00Z' | date(input.secret ~ '%') }}",
        ] {
            for text in [text.to_owned(), format!(" {text}")] {
                let error = fails(json!(text)).to_string();
                assert!(!error.contains("hunter2") && !error.contains("18446744073709551615"), "{text}: {error}");
            }
        }
    }

    #[test]
    fn runaway_templates_end() {
        let loops = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(engine().render(loops).unwrap_err().reason.contains("steps"));
        for text in
            ["{{ 'x' * 2000000 }}", "{{ [0] * 9000000 }}", "{% for a in range(2000) %}{{ 'x' * 999 }}{% endfor %}"]
        {
            let told = engine().render_json(&json!([text])).unwrap_err();
            assert_eq!(told.to_string(), "the result is longer than 1048576 bytes", "{text}");
        }
        let many = vec!["{{ 'x' * 1000 }}"; 2_000];
        assert!(engine().render_json(&json!(many)).is_err(), "the limit is for all texts of a value");
    }

    #[test]
    fn values_that_nest_deep_do_no_harm() {
        let nest = |levels: usize, times: usize| {
            let step = format!("{{% set x = {}x{} %}}", "[".repeat(levels), "]".repeat(levels));
            format!("{{% set x = 1 %}}{}", step.repeat(times))
        };
        for text in [nest(1, 300), nest(35, 26), nest(70, 13)] {
            let printed = engine().render(&format!("{text}{{{{ x }}}}")).unwrap();
            assert!(printed.len() > 600, "{printed}");
            let _ = engine().render(&format!("{text}{{{{ x | tojson }}}}"));
        }
        assert!(engine().render(&nest(1, 10_000)).unwrap_err().reason.contains("words and signs"));
        let deep = "[".repeat(140) + &"]".repeat(140);
        assert_eq!(engine().render_json(&json!(format!("{{{{ {deep} }}}}"))).unwrap_err().at, "");
        // What is made in one round of a loop is gone in the next.
        let rounds = "{% set x = 1 %}{% for i in range(3) %}{% set x = [x] %}{{ x }}{% endfor %}{{ x }}";
        assert_eq!(engine().render(rounds).unwrap(), "[1][1][1]1");
        assert!(engine().render("{{ namespace(x=1) }}").is_err());
    }

    #[test]
    fn what_holds_no_template_is_told_at_once() {
        for value in [json!("a {b} }} %}"), json!({"{{ a }}": 1}), json!([1, null, {"a": ["{"]}])] {
            assert!(!has_templates(&value), "{value}");
        }
        for value in [json!("{{ a"), json!({"a": [1, "{% x"]}), json!("{# x #}")] {
            assert!(has_templates(&value), "{value}");
        }
    }
}
