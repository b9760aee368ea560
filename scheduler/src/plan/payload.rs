//! What runs are given: templates in inputs → values.

use reveille_shared::template::{Engine, has_templates};
use reveille_shared::work_request::RunError;
use serde_json::Value;

/// Renders an input. One that can't be rendered makes a run that is recorded and FAILED, with the reason.
pub(super) fn render(input: &Value, context: impl FnOnce() -> Value) -> (Value, Option<RunError>) {
    if !has_templates(input) {
        return (input.clone(), None);
    }
    match Engine::new(&context()).render_json(input) {
        Ok(rendered) => (rendered, None),
        Err(error) => {
            let message = format!("input{} can't be rendered: {}", error.at, error.reason);
            (input.clone(), Some(RunError::new("Template", message)))
        }
    }
}
