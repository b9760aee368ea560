//! Which role each request needs, and how far it reaches.
//!
//! What is not listed needs a viewer to be read and an operator to be done, in one namespace. So a new path is never open by
//! mistake; what needs an admin must be said here.

use axum::http::Method;
use reveille_shared::access::{Reach, Role, Rule};

/// What needs no key, as it tells nothing of anybody's, and what is below it.
const OPEN: [&str; 4] = ["/", "/livez", "/readyz", "/openapi.json"];
const OPEN_BELOW: [&str; 2] = ["/ui/", "/errors/"];

/// Whether a path needs no key.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || OPEN_BELOW.iter().any(|begin| path.starts_with(begin))
}

/// Of a path that begins so: the role that is needed to read, the one to do something, and the reach.
const RULES: [(&str, Role, Role, Reach); 11] = [
    ("/v1/definitions:plan", Role::Viewer, Role::Viewer, Reach::Namespace),
    ("/v1/definitions:apply", Role::Admin, Role::Admin, Reach::Namespace),
    ("/v1/keys", Role::Admin, Role::Admin, Reach::Namespace),
    ("/v1/audit", Role::Admin, Role::Admin, Reach::Namespace),
    ("/v1/webhooks", Role::Admin, Role::Admin, Reach::Namespace),
    ("/v1/whoami", Role::Viewer, Role::Viewer, Reach::Jobs),
    ("/v1/workers", Role::Viewer, Role::Admin, Reach::Everywhere),
    ("/v1/queues", Role::Viewer, Role::Admin, Reach::Everywhere),
    ("/v1/refusedEvents", Role::Viewer, Role::Admin, Reach::Everywhere),
    ("/metrics", Role::Viewer, Role::Admin, Reach::Everywhere),
    ("/v1/jobs", Role::Viewer, Role::Operator, Reach::Jobs),
];
/// Segments of paths of runs, in any dialect.
const RUNS: [&str; 2] = ["workRequests", "operations"];

/// What a request asks of a key.
pub(crate) fn rule(method: &Method, path: &str) -> Rule {
    let does_something = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if !does_something.contains(method) {
        // No path takes it: the answer says which methods it takes.
        return Rule { role: Role::Viewer, reach: Reach::Jobs };
    }
    let is_under =
        |begin: &str| path.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']));
    let is_of_runs = path.split(['/', ':']).any(|segment| RUNS.contains(&segment));
    let unlisted = if is_of_runs { Reach::Jobs } else { Reach::Namespace };
    let found = RULES.iter().find(|(begin, ..)| is_under(begin));
    let (_, read, act, reach) = found.copied().unwrap_or(("", Role::Viewer, Role::Operator, unlisted));
    let reads = matches!(*method, Method::GET | Method::HEAD);
    // Waiting changes nothing.
    let waits = path.contains("/operations/") && path.ends_with(":wait");
    Rule { role: if reads || waits { read } else { act }, reach }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_the_first_rule_that_fits() {
        let is = |method, path: &str, role, reach| {
            assert_eq!(rule(&method, path), Rule { role, reach }, "{method} {path}");
        };
        is(Method::GET, "/v1/jobs", Role::Viewer, Reach::Jobs);
        is(Method::POST, "/v1/jobs/a/trigger", Role::Operator, Reach::Jobs);
        is(Method::DELETE, "/v1/workRequests/x", Role::Operator, Reach::Jobs);
        is(Method::POST, "/v1/workRequests:cancel", Role::Operator, Reach::Jobs);
        is(Method::POST, "/v1/schedules/a:pause", Role::Operator, Reach::Namespace);
        is(Method::POST, "/v1/definitions:plan", Role::Viewer, Reach::Namespace);
        is(Method::POST, "/v1/definitions:apply", Role::Admin, Reach::Namespace);
        is(Method::GET, "/v1/keys", Role::Admin, Reach::Namespace);
        is(Method::GET, "/v1/keysmith", Role::Viewer, Reach::Namespace);
        is(Method::GET, "/v1/workRequests", Role::Viewer, Reach::Jobs);
        is(Method::GET, "/v1/queues", Role::Viewer, Reach::Everywhere);
        is(Method::GET, "/20160918/workRequests", Role::Viewer, Reach::Jobs);
        is(Method::POST, "/v1/a/operations/x:cancel", Role::Operator, Reach::Jobs);
        is(Method::POST, "/v1/a/operations/x:wait", Role::Viewer, Reach::Jobs);
    }
}
