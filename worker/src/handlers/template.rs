//! `{{ … }}` templates and `${env:NAME}` references → text.
//!
//! Values of the environment are put in after the template was rendered, in the place of marks that nobody can
//! guess: a run's input can't name a variable, a value can't hold a template, and no error text shows one.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde_json::Value;

use super::env::{Piece, Variables, pieces};
use super::{Run, RunFailure};

/// How many instructions one text may take: enough for loops over an input, not for a runaway one.
const FUEL: u64 = 100_000;

/// Renders the texts of one run.
pub(crate) struct Renderer<'a> {
    engine: Environment<'static>,
    context: minijinja::Value,
    variables: &'a Variables,
    mark: String,
}

impl<'a> Renderer<'a> {
    pub(crate) fn new(run: &Run, variables: &'a Variables) -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        engine.set_syntax(syntax.expect("the delimiters are the usual ones"));
        let context = context! {
            input => Serde(&run.input),
            scheduled_for => run.scheduled_for.to_string(),
            work_request_id => run.id.to_string(),
            attempt => run.attempt,
            job => run.job.as_str(),
            namespace => run.namespace.as_str(),
            schedule => run.schedule.as_deref(),
        };
        Self { engine, context, variables, mark: uuid::Uuid::new_v4().simple().to_string() }
    }

    /// Renders a text in which only templates have a meaning. `field` names it in error texts.
    pub(crate) fn template(&self, field: &str, text: &str) -> Result<String, RunFailure> {
        if !text.contains('{') {
            return Ok(text.to_owned());
        }
        self.engine.render_str(text, &self.context).map_err(|error| {
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            RunFailure::fatal(format!("{field} can't be rendered: {}{detail}", error.kind())).code("Template")
        })
    }

    /// Renders a text in which templates and references to variables have a meaning.
    pub(crate) fn text(&self, field: &str, text: &str) -> Result<String, RunFailure> {
        let mut source = String::with_capacity(text.len());
        let mut values = Vec::new();
        for piece in pieces(field, text)? {
            match piece {
                Piece::Text(text) => source.push_str(text),
                Piece::Variable(name) => {
                    let value = self.variables.get(name).ok_or_else(|| {
                        RunFailure::fatal(format!("{field} needs the variable {name}, which this worker does not have"))
                            .code("MissingEnvironment")
                    })?;
                    let mark = format!("<{}:{}>", self.mark, values.len());
                    source.push_str(&mark);
                    values.push((mark, value));
                }
            }
        }
        let mut rendered = self.template(field, &source)?;
        for (mark, value) in values {
            rendered = rendered.replace(&mark, &value);
        }
        Ok(rendered)
    }

    /// Renders every text within a JSON value; keys stay as they are.
    pub(crate) fn json(&self, field: &str, value: &Value) -> Result<Value, RunFailure> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(field, text)?),
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.json(&format!("{field}[{index}]"), item))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.json(&format!("{field}.{key}"), item)?)))
                    .collect::<Result<_, RunFailure>>()?,
            ),
            other => other.clone(),
        })
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
        let variables = Variables::of(&[]);
        let renderer = Renderer::new(&run, &variables);
        let body = json!({"a": [1, "{{ input.n }}", {"b": null}], "{{ k }}": true});
        assert_eq!(renderer.json("body", &body).unwrap(), json!({"a": [1, "7", {"b": null}], "{{ k }}": true}));
        let failure = renderer.json("body", &json!({"a": [1, "{{ nope }}"]})).unwrap_err();
        assert!(failure.message.starts_with("body.a[1] "), "{failure:?}");
    }
}
