//! Conditions: expressions without `{{ }}` that are true or false, and figures: the same that are numbers.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind};

use super::{Engine, LANGUAGE, RenderError, reason, words};

impl Engine {
    /// Whether a condition is true. What is neither true nor false is an error, as is what the context lacks: nobody
    /// shall take a text like `"false"` for a yes.
    ///
    /// # Errors
    /// If it is no expression, or needs what the context lacks, or takes too much, or gives no truth value.
    pub fn holds(&self, condition: &str) -> Result<bool, RenderError> {
        self.judge(condition).map_err(|error| RenderError { at: String::new(), reason: reason(&error) })
    }

    /// The number that a figure gives. A text of digits is none: `body.progress | float` makes one of it.
    ///
    /// # Errors
    /// Those of [`Engine::holds`], and if it gives no number.
    pub fn number(&self, figure: &str) -> Result<f64, RenderError> {
        self.measure(figure).map_err(|error| RenderError { at: String::new(), reason: reason(&error) })
    }

    fn judge(&self, condition: &str) -> Result<bool, Error> {
        let value = self.value_of(condition)?;
        match value.kind() {
            ValueKind::Bool => Ok(value.is_true()),
            kind => Err(fault(format!("it is neither true nor false, but of the kind {kind}"))),
        }
    }

    fn measure(&self, figure: &str) -> Result<f64, Error> {
        let value = self.value_of(figure)?;
        match value.kind() {
            ValueKind::Number => f64::try_from(value),
            kind => Err(fault(format!("it is no number, but of the kind {kind}"))),
        }
    }

    fn value_of(&self, expression: &str) -> Result<minijinja::Value, Error> {
        words::of_condition(expression).map_err(|what| fault(what.to_owned()))?;
        let value = LANGUAGE.compile_expression(expression)?.eval(self.context.clone())?;
        if value.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, format!("`{}` is undefined", expression.trim())));
        }
        Ok(value)
    }
}

fn fault(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn engine() -> Engine {
        Engine::new(&json!({
            "status": 200,
            "body": {"state": "done", "count": 3, "ok": true, "no": "false", "none": null, "list": ["hunter2"]},
            "work_request_id": "w",
        }))
    }

    #[test]
    fn conditions_are_true_or_false() {
        for (condition, expected) in [
            ("status == 200 and body.state == 'done'", true),
            ("status in [404, 410]", false),
            ("200 <= status", true),
            ("-1 < status", true),
            ("body.ok", true),
            ("not body.ok", false),
            ("body.nope is defined", false),
            ("status == 404 and body.nope.nope", false),
            ("body.count | int > 2", true),
            ("body.list | length == 1", true),
            ("{'a': status}['a'] == 200", true),
            ("'}} {{' == '}} {{'", true),
            (" true ", true),
        ] {
            assert_eq!(engine().holds(condition), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn what_is_no_truth_value_is_an_error() {
        for (condition, why) in [
            ("body.no", "it is neither true nor false, but of the kind string"),
            ("body.none", "it is neither true nor false, but of the kind none"),
            ("status", "it is neither true nor false, but of the kind number"),
            ("body.list", "it is neither true nor false, but of the kind sequence"),
            ("body.nope", "`body.nope` is undefined"),
            ("body.nope.nope", "`body.nope` is undefined"),
            ("nope == 1", "`nope` is undefined"),
            ("body.nope == 'done'", "`body.nope` is undefined"),
            ("status ==", "syntax error: unexpected end of input, expected expression"),
            ("", "syntax error: unexpected end of input, expected expression"),
            ("{{ status == 200 }}", "syntax error: unexpected `}`, expected `:`"),
            ("body.list[0] + 1", "tried to use + operator on unsupported types string and number"),
        ] {
            let told = engine().holds(condition).map_err(|error| error.to_string());
            assert_eq!(told, Err(why.to_owned()), "{condition}");
        }
    }

    #[test]
    fn figures_are_numbers() {
        for (figure, expected) in [
            ("body.count", Ok(3.0)),
            ("body.count / 4 * 100", Ok(75.0)),
            ("'12.5' | float", Ok(12.5)),
            ("body.ok", Err("it is no number, but of the kind bool")),
            ("body.state", Err("it is no number, but of the kind string")),
            ("body.nope", Err("`body.nope` is undefined")),
        ] {
            assert_eq!(engine().number(figure).map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn runaway_conditions_end() {
        for (condition, why) in [
            ("not ".repeat(600) + "status == 200", "a condition of more than 2000 bytes"),
            ("-".repeat(600) + "status == 200", "an expression of more than 500 words and signs"),
            ("'x' * 999999999999 == ''".to_owned(), "repeated string is too large"),
            ("range(999999999) | length == 1".to_owned(), "range has too many elements"),
        ] {
            assert_eq!(engine().holds(&condition).unwrap_err().reason, why);
        }
    }
}
