//! Texts of a job with `{{ … }}` templates and `${env:NAME}` references → what a handler uses.
//!
//! Values of the environment are put in after the template was rendered, in the place of marks that nobody can
//! guess: a run's input can't name a variable, a value can't hold a template, and no error text shows one.

use std::collections::BTreeMap;

use reveille_shared::template::{Engine, RenderError};
use serde_json::{Value, json};

use super::env::{Piece, Variables, pieces};
use super::{Run, RunFailure};

/// Renders the texts of one run.
pub(crate) struct Renderer<'a> {
    engine: Engine,
    variables: &'a Variables,
    mark: String,
}

/// What templates know of a run.
pub(crate) fn context(run: &Run) -> Value {
    json!({
        "input": run.input,
        "scheduled_for": run.scheduled_for.to_string(),
        "fired_at": run.accepted_at.to_string(),
        "work_request_id": run.id.to_string(),
        "attempt": run.attempt,
        "job": run.job,
        "namespace": run.namespace,
        "schedule": run.schedule,
    })
}

/// Marks, and the values that take their place.
type Marked = Vec<(String, String)>;

impl<'a> Renderer<'a> {
    pub(crate) fn new(run: &Run, variables: &'a Variables) -> Self {
        let engine = Engine::new(&context(run));
        Self { engine, variables, mark: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// Renders a text in which only templates have a meaning. `field` names it in error texts.
    pub(crate) fn template(&self, field: &str, text: &str) -> Result<String, RunFailure> {
        self.engine.render(text).map_err(|error| failure(field, &error))
    }

    /// Renders a text in which templates and references to variables have a meaning.
    pub(crate) fn text(&self, field: &str, text: &str) -> Result<String, RunFailure> {
        let mut marked = Marked::new();
        let source = self.mark(field, text, &mut marked)?;
        Ok(fill(self.template(field, &source)?, &marked))
    }

    /// Renders arguments, and leaves the program as it is written.
    pub(crate) fn argv(&self, field: &str, argv: &[String]) -> Result<Vec<String>, RunFailure> {
        let render = |(index, text): (usize, &String)| match index {
            0 => Ok(text.clone()),
            _ => self.template(&format!("{field}[{index}]"), text),
        };
        argv.iter().enumerate().map(render).collect()
    }

    /// Renders the variables of an environment.
    pub(crate) fn env(&self, env: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, RunFailure> {
        env.iter().map(|(name, value)| Ok((name.clone(), self.text(&format!("env.{name}"), value)?))).collect()
    }

    /// Renders every text within a JSON value; keys stay as they are.
    pub(crate) fn json(&self, field: &str, value: &Value) -> Result<Value, RunFailure> {
        let mut marked = Marked::new();
        let source = self.mark_json(field, value, &mut marked)?;
        let rendered = self.engine.render_json(&source).map_err(|error| failure(field, &error))?;
        Ok(if marked.is_empty() { rendered } else { fill_json(rendered, &marked) })
    }

    /// Puts marks in the place of references.
    fn mark(&self, field: &str, text: &str, marked: &mut Marked) -> Result<String, RunFailure> {
        let mut source = String::with_capacity(text.len());
        for piece in pieces(field, text)? {
            match piece {
                Piece::Text(text) => source.push_str(text),
                Piece::Variable(name) => {
                    let value = self.variables.referred(field, name)?;
                    let mark = format!("<{}:{}>", self.mark, marked.len());
                    source.push_str(&mark);
                    marked.push((mark, value));
                }
            }
        }
        Ok(source)
    }

    fn mark_json(&self, field: &str, value: &Value, marked: &mut Marked) -> Result<Value, RunFailure> {
        Ok(match value {
            Value::String(text) => Value::String(self.mark(field, text, marked)?),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(at, item)| self.mark_json(&format!("{field}[{at}]"), item, marked))
                    .collect::<Result<_, _>>()?
            }
            Value::Object(members) => {
                let marked = members
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.mark_json(&format!("{field}.{key}"), item, marked)?)));
                Value::Object(marked.collect::<Result<_, RunFailure>>()?)
            }
            other => other.clone(),
        })
    }
}

fn failure(field: &str, error: &RenderError) -> RunFailure {
    RunFailure::fatal(format!("{field}{} can't be rendered: {}", error.at, error.reason)).code("Template")
}

/// Puts values in the place of their marks.
fn fill(text: String, marked: &Marked) -> String {
    marked.iter().fold(text, |text, (mark, value)| text.replace(mark, value))
}

fn fill_json(value: Value, marked: &Marked) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, marked)),
        Value::Array(items) => items.into_iter().map(|item| fill_json(item, marked)).collect(),
        Value::Object(members) => members.into_iter().map(|(key, item)| (key, fill_json(item, marked))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::tests::run_with;

    fn render(input: Value, text: &str) -> Result<String, RunFailure> {
        let (run, _notes) = run_with(input);
        let variables = Variables::of(&[("TOKEN", "s3cret {{ input }}"), ("EMPTY", "")]);
        Renderer::new(&run, &variables).text("body", text)
    }

    #[test]
    fn renders_the_run_and_the_environment() {
        assert_eq!(render(json!({"day": "mon"}), "{{ input.day }}-{{ attempt }}-{{ job }}").unwrap(), "mon-1-test");
        assert_eq!(render(json!({}), "{{ scheduled_for }}").unwrap(), "2026-01-02T03:04:05Z");
        assert_eq!(render(json!({}), "{{ fired_at | timestamp }}").unwrap(), "1767323046");
        assert_eq!(
            render(json!({}), "{{ schedule is none }}{{ namespace }}{{ work_request_id | length }}").unwrap(),
            "Truedefault36"
        );
        assert_eq!(render(json!({"a": "<&>"}), "{{ input.a }}").unwrap(), "<&>", "nothing is escaped");
        assert_eq!(render(json!({}), "[${env:EMPTY}] $5 {x}\n").unwrap(), "[] $5 {x}\n");
    }

    #[test]
    fn a_value_is_no_template_and_an_input_names_no_variable() {
        assert_eq!(render(json!({}), "Bearer ${env:TOKEN}").unwrap(), "Bearer s3cret {{ input }}");
        assert_eq!(render(json!({"x": "${env:TOKEN}"}), "{{ input.x }}").unwrap(), "${env:TOKEN}");
        assert_eq!(render(json!({}), "{% if attempt > 5 %}${env:TOKEN}{% endif %}.").unwrap(), ".");
    }

    #[test]
    fn a_failing_template_names_the_field_and_shows_no_value() {
        for text in ["${env:TOKEN} {{ input.nope }}", "{{ input. }}${env:TOKEN}", "{{ nope }}", "{% for %}"] {
            let failure = render(json!({}), text).unwrap_err();
            assert!(!failure.retryable && failure.code == "Template", "{failure:?}");
            assert!(failure.message.starts_with("body ") && !failure.message.contains("s3cret"), "{failure:?}");
        }
        let failure = render(json!({}), "${env:ABSENT}").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("MissingEnvironment", false));
        assert!(failure.message.contains("ABSENT"));
    }

    #[test]
    fn a_runaway_template_ends() {
        let failure =
            render(json!({}), "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}");
        assert_eq!(failure.unwrap_err().code, "Template");
    }

    #[test]
    fn nested_values_keep_their_shape() {
        let (run, _notes) = run_with(json!({"n": 7}));
        let variables = Variables::of(&[("TOKEN", "s3cret {{ input }}")]);
        let renderer = Renderer::new(&run, &variables);
        let body = json!({"a": [1, "{{ input.n }}", {"b": null}], "{{ k }}": true});
        assert_eq!(renderer.json("body", &body).unwrap(), json!({"a": [1, 7, {"b": null}], "{{ k }}": true}));
        let failure = renderer.json("body", &json!({"a": [1, "{{ nope }}"]})).unwrap_err();
        assert!(failure.message.starts_with("body.a[1] "), "{failure:?}");
        let failure = renderer.json("body", &json!({"a": ["${env:ABSENT}"]})).unwrap_err();
        assert!(failure.message.starts_with("body.a[0] ") && failure.message.contains("ABSENT"), "{failure:?}");
        let body = json!({"a": "x ${env:TOKEN}", "b": "{{ {'c': ['${env:TOKEN}', input.n]} }}"});
        let expected = json!({"a": "x s3cret {{ input }}", "b": {"c": ["s3cret {{ input }}", 7]}});
        assert_eq!(renderer.json("body", &body).unwrap(), expected);
    }
}
