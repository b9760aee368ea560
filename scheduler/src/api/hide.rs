//! Values that are not shown, as people write secrets there: of headers, of the environment, and passwords in URLs.

use reveille_shared::definition::{ChangedMember, changed_members};
use serde_json::{Map, Value};

const HIDDEN: &str = "***";
/// In place of a value that has changed.
const HIDDEN_OTHER: &str = "*** (another value)";

/// What differs between two definitions of a job, or two stored forms of one.
pub(crate) fn changes_of_job<T: serde::Serialize>(old: &T, new: &T) -> Vec<ChangedMember> {
    let mut changes = changed_members(old, new);
    secrets(&mut changes);
    changes
}

/// Hides what is secret in changes of a job; those of a schedule hold nothing of the kind.
pub(crate) fn secrets(changes: &mut [ChangedMember]) {
    changes.iter_mut().filter(|changed| changed.member == "handler").for_each(hide);
}

fn hide(ChangedMember { from, to, .. }: &mut ChangedMember) {
    for (kind, secrets) in [("http", "headers"), ("command", "env")] {
        let old = secret(from, kind, secrets).cloned().unwrap_or_default();
        for (name, value) in secret(to, kind, secrets).into_iter().flatten() {
            let other = old.get(name).is_some_and(|old| old != value);
            *value = Value::from(if other { HIDDEN_OTHER } else { HIDDEN });
        }
        secret(from, kind, secrets).into_iter().flatten().for_each(|(_, value)| *value = Value::from(HIDDEN));
    }
    for handler in [from, to] {
        if let Some(Value::String(url)) = handler.as_mut().and_then(|handler| handler.pointer_mut("/http/url")) {
            *url = without_credentials(url);
        }
    }
}

fn secret<'a>(handler: &'a mut Option<Value>, kind: &str, secrets: &str) -> Option<&'a mut Map<String, Value>> {
    handler.as_mut()?.get_mut(kind)?.get_mut(secrets)?.as_object_mut()
}

/// A URL with its user and password replaced.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        for (url, shown) in [
            ("https://u:p@host/a@b", "https://***@host/a@b"),
            ("https://u:p@q@host?x", "https://***@host?x"),
            ("https://host/a@b", "https://host/a@b"),
            ("{{ input.url }}", "{{ input.url }}"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn changes_tell_that_a_secret_is_another_one_and_not_which() {
        let job = |url: &str, token: &str| json!({"handler": {"http": {"url": url, "headers": {"Authorization": token, "Accept": "a/b"}}}});
        let [changed] = &changes_of_job(&job("http://u:p@h/1", "old"), &job("http://u:q@h/2", "new"))[..] else {
            panic!("one member differs")
        };
        assert_eq!(
            changed.from,
            Some(json!({"http": {"url": "http://***@h/1", "headers": {"Authorization": "***", "Accept": "***"}}}))
        );
        assert_eq!(
            changed.to,
            Some(json!({"http": {"url": "http://***@h/2",
                "headers": {"Authorization": "*** (another value)", "Accept": "***"}}}))
        );
    }
}
