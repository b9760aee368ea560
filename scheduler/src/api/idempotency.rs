//! The caller's name for a request, under which it can be repeated: after a lost answer, too, it is done once.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use reveille_shared::store::{Earlier, IdempotencyKey};
use serde_json::Value;
use utoipa::IntoParams;

use super::ApiState;
use super::access::Caller;
use super::error::{Fault, Problem};

/// Headers that give the name, and the most characters that each may have.
const ALIASES: [(&str, usize); 3] = [("Idempotency-Key", 255), ("opc-retry-token", 64), ("Operation-Id", 255)];
/// Of an input with more members than this, or with longer names, it is not told in which of them it differs.
const MOST_MEMBERS: usize = 100;
const LONGEST_NAME: usize = 100;

/// The headers, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "declares to the OpenAPI document what `Key` reads")]
pub(crate) struct KeyHeaders {
    /// Names the request for 24 hours: repeated under the same name it is not done again, and has the same answer.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
    /// The same under the name that OCI's clients use.
    #[param(rename = "opc-retry-token", min_length = 1, max_length = 64, pattern = "^[!-~]{1,64}$")]
    opc_retry_token: Option<String>,
    /// The same under the name that Azure's clients use.
    #[param(rename = "Operation-Id", min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$")]
    operation_id: Option<String>,
}

/// The caller, and its name for the request, if it gave one.
#[derive(Debug)]
pub(crate) struct Key {
    caller: String,
    name: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?.id().to_owned();
        let (mut names, mut faults) = (Vec::new(), Vec::new());
        for (header, most) in ALIASES {
            let mut given = parts.headers.get_all(header).iter();
            let Some(value) = given.next() else { continue };
            let visible = value.to_str().ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
            match visible.filter(|name| (1..=most).contains(&name.len())) {
                Some(name) if given.next().is_none() => names.push((header, name.to_owned())),
                _ => {
                    let message = format!("must be given once, with 1 to {most} visible ASCII characters");
                    faults.push(Fault { field: header.to_owned(), message });
                }
            }
        }
        if let Some((first, name)) = names.first() {
            faults.extend(names.iter().filter(|(_, other)| other != name).map(|(header, _)| Fault {
                field: (*header).to_owned(),
                message: format!("is another name for {first}, and says something else"),
            }));
        }
        if !faults.is_empty() {
            return Err(Problem::invalid(StatusCode::BAD_REQUEST, faults));
        }
        Ok(Self { caller, name: names.into_iter().next().map(|(_, name)| name) })
    }
}

impl Key {
    /// The key of a request to `operation`: the method, and the path with its parameters. Only a request that has a name
    /// is hashed: `fields` may be of 33 MiB.
    pub(crate) fn of(
        self,
        namespace: &str,
        operation: String,
        fields: impl FnOnce() -> Fields,
    ) -> Option<IdempotencyKey> {
        let (namespace, caller) = (namespace.to_owned(), self.caller);
        self.name.map(|key| IdempotencyKey { namespace, caller, operation, key, fields: fields().0 })
    }
}

/// Hashes of what a request asks for, by name: of its meaning, not of its spelling. What was left out has none.
#[derive(Debug, Default)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), hash([&value]));
        }
        self
    }

    /// Adds a list.
    pub(crate) fn with_list<'a>(mut self, name: &str, items: Option<impl Iterator<Item = &'a Value>>) -> Self {
        if let Some(items) = items {
            self.0.insert(name.to_owned(), hash(items));
        }
        self
    }

    /// Adds an input, with a hash of each member.
    pub(crate) fn with_input(mut self, input: Option<&Value>) -> Self {
        let Some(input) = input else { return self };
        let members = input.as_object().filter(|members| {
            members.len() <= MOST_MEMBERS && members.keys().all(|name| name.chars().count() <= LONGEST_NAME)
        });
        match members {
            Some(members) => {
                self.0.insert("input".to_owned(), "by its members".to_owned());
                self.0.extend(members.iter().map(|(name, value)| (format!("input.{name}"), hash([value]))));
            }
            None => drop(self.0.insert("input".to_owned(), hash([input]))),
        }
        self
    }
}

/// Of JSON texts, whose members are in the order of their names.
fn hash<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        hasher.update(value.to_string().as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// What the same request has come to before, if it was made before.
///
/// # Errors
/// 422: another request was made under the key.
pub(crate) async fn earlier(state: &ApiState, key: Option<&IdempotencyKey>) -> Result<Option<String>, Problem> {
    let Some(key) = key else { return Ok(None) };
    match state.store.earlier(key).await? {
        None => Ok(None),
        Some(Earlier::Same(answer)) => Ok(Some(answer)),
        Some(Earlier::Other(fields)) => Err(reused(fields)),
    }
}

/// The refusal of a request whose key was used for one that differs in these fields.
pub(crate) fn reused(fields: Vec<String>) -> Problem {
    let message = format!("the key was used for another request, which differs in {}", fields.join(", "));
    let fault = |field| Fault { field, message: "differs from the request that the key was used for".to_owned() };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "IdempotencyKeyReused", message)
        .with_faults(fields.into_iter().map(fault).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spelling_is_no_difference_and_absence_is_one() {
        let fields = |text: &str| Fields::default().with_input(Some(&serde_json::from_str(text).unwrap())).0;
        assert_eq!(fields(r#"{"a": 1, "b": [2]}"#), fields(r#"{ "b":[2],"a":1 }"#));
        assert_ne!(fields(r#"{"a": 1}"#), fields(r#"{"a": "1"}"#));
        assert_ne!(fields("{}"), Fields::default().with_input(None).0);
        assert_ne!(fields(r#"{"a": null}"#), fields("{}"));
    }

    #[test]
    fn no_value_is_kept_and_many_members_are_one_hash() {
        let many: Value = (0..=MOST_MEMBERS).map(|at| (format!("m{at}"), json!("hunter2"))).collect();
        let long = json!({ "n".repeat(LONGEST_NAME + 1): "hunter2" });
        for (input, count) in [(json!({"pin": "hunter2"}), 2), (many, 1), (long, 1)] {
            let fields = Fields::default().with_input(Some(&input)).0;
            assert_eq!(fields.len(), count);
            assert!(!format!("{fields:?}").contains("hunter2"));
        }
    }
}
