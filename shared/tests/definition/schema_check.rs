//! The part of JSON Schema that Reveille's own schema uses, without patterns.

use serde_json::Value;

/// What in `document` breaks `schema`; panics at a keyword that it doesn't know.
pub(crate) fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, document, &mut found);
    found
}

/// JSON pointers to every value within `document`.
pub(crate) fn pointers(document: &Value) -> Vec<String> {
    let below = |name: &str, value: &Value| {
        let own = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        let inner = pointers(value).into_iter().map(|rest| format!("{own}{rest}")).collect::<Vec<_>>();
        std::iter::once(own).chain(inner).collect::<Vec<_>>()
    };
    match document {
        Value::Object(map) => map.iter().flat_map(|(name, value)| below(name, value)).collect(),
        Value::Array(items) => items.iter().enumerate().flat_map(|(at, item)| below(&at.to_string(), item)).collect(),
        _ => Vec::new(),
    }
}

fn check(root: &Value, schema: &Value, value: &Value, found: &mut Vec<String>) {
    let Value::Object(keywords) = schema else { panic!("not a schema: {schema}") };
    let passes = |schema: &Value| {
        let mut found = Vec::new();
        check(root, schema, value, &mut found);
        found.is_empty()
    };
    for (keyword, rule) in keywords {
        let fine = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "pattern" | "minLength" | "maxLength" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(pointer).unwrap(), value, found);
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is(value, name)),
                name => is(value, name),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|n| n >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|n| n <= rule.as_i64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "required" => value
                .as_object()
                .is_none_or(|map| rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))),
            "oneOf" => rule.as_array().unwrap().iter().filter(|schema| passes(schema)).count() == 1,
            "anyOf" => rule.as_array().unwrap().iter().any(passes),
            "items" => {
                value.as_array().into_iter().flatten().for_each(|item| check(root, rule, item, found));
                true
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, schema, value, found);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = keywords.get("properties");
                let others = value.as_object().into_iter().flatten();
                for (name, other) in others.filter(|(name, _)| known.is_none_or(|known| known.get(name).is_none())) {
                    match rule {
                        Value::Bool(false) => found.push(format!("additional {name}")),
                        rule => check(root, rule, other, found),
                    }
                }
                true
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    check(root, rule, &Value::String(name.clone()), found);
                }
                true
            }
            unknown => panic!("the keyword {unknown} is not checked here"),
        };
        if !fine {
            found.push(format!("{keyword} {rule}: {value}"));
        }
    }
}

fn is(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not checked here"),
    }
}
