//! stub
use serde_json::Value;
pub struct Engine(Value);
impl Engine {
    pub fn new(context: Value) -> Self {
        Self(context)
    }
    pub fn render_json(&self, _: &str, value: &Value) -> Result<Value, String> {
        Ok(value.clone())
    }
}
pub fn has_templates(_: &Value) -> bool {
    false
}
