//! What would break clients of an earlier contract: what they may send is not taken any more, or what they read is gone.
//!
//! `scheduler/contract.json` is the contract that clients have been promised. To add to it is free; who must break it says so in
//! the changelog and takes the new one for the old with `ACCEPT_CONTRACT=1`.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

/// Schemas within schemas are followed so far; theirs refer to themselves.
const DEEPEST: usize = 12;

/// Two documents that are compared.
struct Contracts<'a> {
    old: &'a Value,
    new: &'a Value,
    breaks: BTreeSet<String>,
}

/// Everything in which the new contract breaks the old one. What was promised until a sunset may be gone after it.
fn breaks(old: &Value, new: &Value, now: Timestamp) -> BTreeSet<String> {
    let mut contracts = Contracts { old, new, breaks: BTreeSet::new() };
    for (path, methods) in members(&old["paths"]) {
        for (method, operation) in members(methods) {
            let place = format!("{} {path}", method.to_uppercase());
            match new["paths"][path].get(method) {
                Some(now) => contracts.operation(&place, operation, now),
                None if sunset(operation).is_some_and(|sunset| sunset <= now) => {}
                None => contracts.note(&place, "is gone"),
            }
        }
    }
    contracts.breaks
}

impl Contracts<'_> {
    fn note(&mut self, place: &str, what: &str) {
        self.breaks.insert(format!("{place} {what}"));
    }

    fn operation(&mut self, place: &str, old: &Value, new: &Value) {
        if old["operationId"] != new["operationId"] {
            self.note(place, "has another operationId");
        }
        let named = |operation: &Value, name: &Value, place: &Value| {
            items(&operation["parameters"]).find(|one| one["name"] == *name && one["in"] == *place).cloned()
        };
        for parameter in items(&old["parameters"]) {
            let place = format!("{place} {} {}", parameter["in"], parameter["name"]);
            match named(new, &parameter["name"], &parameter["in"]) {
                None => self.note(&place, "is gone"),
                Some(now) => {
                    if now["required"] == true && parameter["required"] != true {
                        self.note(&place, "is required now");
                    }
                    self.takes(&place, &parameter["schema"], &now["schema"], 0);
                }
            }
        }
        for parameter in items(&new["parameters"]).filter(|parameter| parameter["required"] == true) {
            if named(old, &parameter["name"], &parameter["in"]).is_none() {
                self.note(place, &format!("requires {} {}", parameter["in"], parameter["name"]));
            }
        }
        if new["requestBody"]["required"] == true && old["requestBody"]["required"] != true {
            self.note(place, "requires a body now");
        }
        for (kind, content) in members(&old["requestBody"]["content"]) {
            match new["requestBody"]["content"].get(kind) {
                None => self.note(place, &format!("does not take {kind} any more")),
                Some(now) => self.takes(&format!("{place} body"), &content["schema"], &now["schema"], 0),
            }
        }
        for (status, response) in members(&old["responses"]) {
            let place = format!("{place} {status}");
            let Some(now) = new["responses"].get(status) else {
                self.note(&place, "is gone");
                continue;
            };
            for (header, _) in members(&response["headers"]).filter(|(header, _)| now["headers"].get(header).is_none())
            {
                self.note(&place, &format!("has no header {header} any more"));
            }
            for (kind, content) in members(&response["content"]) {
                match now["content"].get(kind) {
                    None => self.note(&place, &format!("is not {kind} any more")),
                    Some(now) => self.gives(&place, &content["schema"], &now["schema"], 0),
                }
            }
        }
    }

    /// What clients send: all that was good must be good.
    fn takes(&mut self, place: &str, old: &Value, new: &Value, depth: usize) {
        let (old, new) = (resolved(self.old, old), resolved(self.new, new));
        if depth > DEEPEST || old == new {
            return;
        }
        if !kinds(old).is_subset(&kinds(new)) && !kinds(new).is_empty() {
            self.note(place, &format!("takes {:?} only, not {:?}", kinds(new), kinds(old)));
        }
        let words = |schema: &Value| items(&schema["enum"]).map(ToString::to_string).collect::<BTreeSet<_>>();
        if !new["enum"].is_null() && (old["enum"].is_null() || !words(old).is_subset(&words(new))) {
            self.note(place, "takes fewer words");
        }
        for (bound, is_upper) in [
            ("maximum", true),
            ("maxLength", true),
            ("maxItems", true),
            ("minimum", false),
            ("minLength", false),
            ("minItems", false),
        ] {
            if let Some(now) = new[bound].as_f64() {
                let is_wider = old[bound].as_f64().is_some_and(|then| if is_upper { now >= then } else { now <= then });
                if !is_wider {
                    self.note(place, &format!("has a narrower {bound}"));
                }
            }
        }
        for rule in ["pattern", "format", "const", "not"] {
            if !new[rule].is_null() && new[rule] != old[rule] {
                self.note(place, &format!("has another {rule}"));
            }
        }
        let required = |schema: &Value| items(&schema["required"]).map(ToString::to_string).collect::<BTreeSet<_>>();
        for name in required(new).difference(&required(old)) {
            self.note(place, &format!("requires {name} now"));
        }
        for (name, member) in members(&old["properties"]) {
            match new["properties"].get(name) {
                None if new["additionalProperties"] == false => {
                    self.note(place, &format!("does not take {name} any more"))
                }
                None => {}
                Some(now) => self.takes(&format!("{place}.{name}"), member, now, depth + 1),
            }
        }
        self.takes(&format!("{place}[]"), &old["items"], &new["items"], depth + 1);
        self.alternatives(place, old, new, depth, Self::takes);
    }

    /// What clients read: all that was there must be there, and be what it was.
    fn gives(&mut self, place: &str, old: &Value, new: &Value, depth: usize) {
        let (old, new) = (resolved(self.old, old), resolved(self.new, new));
        if depth > DEEPEST || old == new {
            return;
        }
        if !kinds(new).is_subset(&kinds(old)) && !kinds(old).is_empty() {
            self.note(place, &format!("is {:?}, not {:?}", kinds(new), kinds(old)));
        }
        let required = |schema: &Value| items(&schema["required"]).map(ToString::to_string).collect::<BTreeSet<_>>();
        for name in required(old).difference(&required(new)) {
            self.note(place, &format!("may lack {name} now"));
        }
        for (name, member) in members(&old["properties"]) {
            match new["properties"].get(name) {
                None => self.note(place, &format!("has no {name} any more")),
                Some(now) => self.gives(&format!("{place}.{name}"), member, now, depth + 1),
            }
        }
        self.gives(&format!("{place}[]"), &old["items"], &new["items"], depth + 1);
        self.alternatives(place, old, new, depth, Self::gives);
    }

    /// Members that are one of several, or all of them at once: compared in their order.
    fn alternatives(
        &mut self,
        place: &str,
        old: &Value,
        new: &Value,
        depth: usize,
        compare: fn(&mut Self, &str, &Value, &Value, usize),
    ) {
        for word in ["oneOf", "anyOf", "allOf"] {
            let (then, now) = (items(&old[word]).count(), items(&new[word]).count());
            if now < then {
                self.note(place, &format!("has fewer {word}"));
            }
            for (old, new) in items(&old[word]).zip(items(&new[word])) {
                compare(self, place, old, new, depth + 1);
            }
        }
    }
}

/// From when on an operation may be gone, if it is deprecated and that was said.
fn sunset(operation: &Value) -> Option<Timestamp> {
    operation["x-reveille-sunset"].as_str().filter(|_| operation["deprecated"] == true)?.parse().ok()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    name.map_or(schema, |name| &document["components"]["schemas"][name])
}

fn kinds(schema: &Value) -> BTreeSet<String> {
    match &schema["type"] {
        Value::String(kind) => [kind.clone()].into(),
        Value::Array(kinds) => kinds.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
        _ => BTreeSet::new(),
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[test]
fn the_contract_is_kept() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract.json");
    let now = super::tests::document();
    if std::env::var_os("ACCEPT_CONTRACT").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let promised: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let broken = breaks(&promised, &serde_json::from_str(&now).unwrap(), SystemClock.now());
    assert!(
        broken.is_empty(),
        "clients of the promised contract would break:\n  {}\nkeep what they rely on; if that can't be, tell them in the changelog and take the new contract with\n    ACCEPT_CONTRACT=1 cargo test -p reveille-scheduler the_contract_is_kept",
        broken.into_iter().collect::<Vec<_>>().join("\n  ")
    );
}

#[test]
fn what_is_removed_or_narrowed_is_found_and_what_is_added_is_free() {
    let old = json!({
        "paths": {"/a": {"post": {
            "operationId": "a",
            "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
            "responses": {"200": {"headers": {"ETag": {}}, "content": {"application/json": {"schema": {
                "type": "object", "required": ["id"],
                "properties": {"id": {"type": "string"}, "items": {"type": "array", "items": {"type": "integer"}}},
            }}}}},
        }}},
        "components": {"schemas": {"Ask": {"type": "object", "additionalProperties": false, "properties": {
            "word": {"type": ["string", "null"], "enum": ["x", "y"]}, "name": {"type": "string", "maxLength": 9},
        }}}},
    });
    let now: Timestamp = "2026-06-30T00:00:00Z".parse().unwrap();
    assert!(breaks(&old, &old, now).is_empty());
    let at = "/paths/~1a/post";
    let ask = "/components/schemas/Ask";
    let answer = format!("{at}/responses/200/content/application~1json/schema");
    let cases: [(&str, Value, Option<&str>); 17] = [
        ("/paths", json!({}), Some("is gone")),
        (&format!("{at}/operationId"), json!("b"), Some("another operationId")),
        (&format!("{at}/parameters"), json!([]), Some("is gone")),
        (&format!("{at}/parameters/0/schema/maximum"), json!(99), Some("narrower maximum")),
        (&format!("{at}/parameters/0/schema/maximum"), json!(101), None),
        (&format!("{at}/parameters/0/required"), json!(true), Some("required now")),
        (&format!("{at}/requestBody/required"), json!(true), Some("requires a body")),
        (&format!("{ask}/properties/word/enum"), json!(["x"]), Some("fewer words")),
        (&format!("{ask}/properties/word/enum"), json!(["x", "y", "z"]), None),
        (&format!("{ask}/properties/word/type"), json!("string"), Some("takes")),
        (&format!("{ask}/properties/name/pattern"), json!("^a$"), Some("another pattern")),
        (&format!("{ask}/required"), json!(["name"]), Some("requires")),
        (&format!("{at}/responses"), json!({"202": {}}), Some("200 is gone")),
        (&format!("{at}/responses/200/headers"), json!({}), Some("no header ETag")),
        (&format!("{answer}/required"), json!([]), Some("may lack")),
        (&format!("{answer}/properties/items/items/type"), json!("string"), Some("is {\"string\"}")),
        (&format!("{answer}/properties"), json!({"id": {"type": "string"}}), Some("has no items")),
    ];
    for (pointer, value, found) in cases {
        let mut new = old.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.replace("~1", "/"), value);
        let broken = breaks(&old, &new, now);
        match found {
            None => assert!(broken.is_empty(), "{pointer}: {broken:?}"),
            Some(text) => assert!(broken.iter().any(|line| line.contains(text)), "{pointer}: {broken:?}"),
        }
    }
}

#[test]
fn what_is_deprecated_may_be_gone_after_its_sunset_and_not_before() {
    let old = json!({"paths": {"/a": {"get": {"deprecated": true, "x-reveille-sunset": "2026-06-30T00:00:00Z"}}}});
    let gone = |old: &Value, now: &str| breaks(old, &json!({"paths": {}}), now.parse().unwrap());
    assert_eq!(gone(&old, "2026-06-29T23:59:59Z"), BTreeSet::from(["GET /a is gone".to_owned()]));
    assert_eq!(gone(&old, "2026-06-30T00:00:00Z"), BTreeSet::new());
    let unmarked = json!({"paths": {"/a": {"get": {"x-reveille-sunset": "2026-06-30T00:00:00Z"}}}});
    assert_eq!(gone(&unmarked, "2026-07-01T00:00:00Z").len(), 1);
}
