//! The table of keys as a JSON Schema, with which editors complete and check.

use serde_json::{Map, Value, json};

use super::schema::{Choice, FILE, Object, Shape};

/// The JSON Schema (draft 2020-12) of a schedule file.
#[must_use]
pub fn json_schema() -> Value {
    let mut parts = Map::new();
    let mut schema = object(&FILE, &mut parts);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Reveille schedule file");
    schema["$defs"] = Value::Object(parts);
    schema
}

fn object(object: &Object, parts: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let mut schema = shape(&key.shape, parts);
        schema["description"] = json!(key.about);
        properties.insert(key.name.to_owned(), schema);
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let required: Vec<_> = object.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !object.one_of.is_empty() {
        schema["oneOf"] = object.one_of.iter().map(|name| json!({"required": [name]})).collect();
    }
    schema
}

fn shape(of: &Shape, parts: &mut Map<String, Value>) -> Value {
    match of {
        Shape::Text(kind) => kind.schema(),
        Shape::Integer { min, max } if min == max => json!({"const": min}),
        Shape::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Choice(Choice { words, .. }) => json!({"enum": words}),
        Shape::Object(part) => {
            if !parts.contains_key(part.name) {
                let schema = object(part, parts);
                parts.insert(part.name.to_owned(), schema);
            }
            json!({"$ref": format!("#/$defs/{}", part.name)})
        }
        Shape::Map { keys, values } => {
            json!({
                "type": ["object", "null"],
                "propertyNames": keys.schema(),
                "additionalProperties": shape(values, parts),
            })
        }
        Shape::List { items, least } => json!({"type": "array", "items": shape(items, parts), "minItems": least}),
        Shape::Either { shapes, .. } => json!({"anyOf": shapes.iter().map(|of| shape(of, parts)).collect::<Vec<_>>()}),
        Shape::Json { .. } => json!({}),
        Shape::JsonObject { .. } => json!({"type": "object"}),
    }
}
