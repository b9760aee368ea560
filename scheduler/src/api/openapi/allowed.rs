//! Which methods a path takes, by the document: the router's own word is not true where a thing and its verbs are behind one route.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use serde_json::Value;

/// Each path of the document, and its methods.
static METHODS: LazyLock<Vec<(String, BTreeSet<String>)>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&super::text(super::api().into_openapi())).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let methods =
        |methods: &Value| methods.as_object().into_iter().flatten().map(|(name, _)| name.to_uppercase()).collect();
    paths.map(|(path, of)| (path.clone(), methods(of))).collect()
});

/// What a path takes, for the header `Allow`; none if the document has no such path.
pub(crate) fn allowed(path: &str) -> Option<HeaderValue> {
    let mut methods: BTreeSet<&str> = BTreeSet::new();
    for (_, taken) in METHODS.iter().filter(|(template, _)| is_of(template, path)) {
        methods.extend(taken.iter().map(String::as_str));
    }
    if methods.contains("GET") {
        methods.insert("HEAD");
    }
    let listed = methods.into_iter().collect::<Vec<_>>().join(",");
    if listed.is_empty() { None } else { HeaderValue::try_from(listed).ok() }
}

/// Whether a path is one of those that a template stands for.
pub(super) fn is_of(template: &str, path: &str) -> bool {
    let (mut expected, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return true,
            (Some(expected), Some(given)) if is_segment_of(expected, given) => {}
            _ => return false,
        }
    }
}

fn is_segment_of(expected: &str, given: &str) -> bool {
    let Some(named) = expected.strip_prefix('{') else { return expected == given };
    match named.split_once('}').map(|(_, verb)| verb) {
        Some("") => !given.is_empty() && !given.contains(':'),
        Some(verb) => given.ends_with(verb),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_and_its_verbs_take_different_methods() {
        for (path, methods) in [
            ("/v1/jobs", "GET,HEAD"),
            ("/v1/schedules/nightly", "GET,HEAD"),
            ("/v1/schedules/nightly:pause", "POST"),
            ("/v1/workRequests", "GET,HEAD"),
            ("/v1/workRequests:cancel", "POST"),
            ("/v1/workRequests/x", "DELETE,GET,HEAD"),
            ("/v1/workRequests/x:claim", "POST"),
            ("/v1/operations/x:wait", "POST"),
        ] {
            assert_eq!(allowed(path).unwrap(), methods, "{path}");
        }
        for path in ["/nowhere", "/v1/schedules/nightly:explode", "/v1/jobs/"] {
            assert_eq!(allowed(path), None, "{path}");
        }
    }
}
