//! The OpenAPI document of the base paths: that of the core, once more for each of the others.

use serde_json::{Map, Value, json};

use super::{CANCELING, CORE, WITH_ITEMS};

/// The way to one work request.
const ONE: &str = "/workRequests/{id}";

/// Adds to the document what the other base paths have in common with the core, and with each other.
pub(crate) fn complete(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    let core: Map<_, _> = paths
        .iter()
        .filter(|(path, _)| path.starts_with(CORE))
        .map(|(path, own)| (path.clone(), own.clone()))
        .collect();
    let Some(cancel) = paths.get(&format!("{}{ONE}", CANCELING[0])).map(|own| own["delete"].clone()) else { return };
    for base in CANCELING {
        let named = |mut operation: Value| {
            let id = operation["operationId"].as_str().unwrap_or_default();
            operation["operationId"] = format!("{id}{}", base.replace('/', "")).into();
            operation
        };
        for (path, operations) in &core {
            let mut get = named(operations["get"].clone());
            let schema = &mut get["responses"]["200"]["content"]["application/json"]["schema"];
            if base == WITH_ITEMS && schema["type"] == "array" {
                *schema = json!({"type": "object", "required": ["items"], "properties": {"items": schema.clone()}});
            }
            let path = path.replacen(CORE, base, 1);
            let mut others = json!({ "get": get });
            if path.ends_with(ONE) {
                others["delete"] = named(cancel.clone());
            }
            paths.insert(path, others);
        }
    }
}
