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
    for ChangedMember { member, from, to } in changes {
        let (maps, urls): (&[&str], &[&str]) = match member.as_str() {
            "handler" => (
                &["/http/headers", "/http/cancel/headers", "/command/env", "/ssh/env"],
                &["/http/url", "/http/cancel/url", "/http/follow/url"],
            ),
            "verify" => (&["/how/http/headers", "/how/command/env"], &["/how/http/url"]),
            _ => continue,
        };
        maps.iter().for_each(|at| hide(from, to, at));
        for at in urls {
            for url in [&mut *from, &mut *to].into_iter().filter_map(|value| value.as_mut()?.pointer_mut(at)) {
                *url = url.as_str().map(without_credentials).into();
            }
        }
    }
}

/// Hides the values of a map, and tells which of them are others than before.
fn hide(from: &mut Option<Value>, to: &mut Option<Value>, at: &str) {
    let old = map(from, at).cloned().unwrap_or_default();
    for (name, value) in map(to, at).into_iter().flatten() {
        let other = old.get(name).is_some_and(|old| old != value);
        *value = Value::from(if other { HIDDEN_OTHER } else { HIDDEN });
    }
    map(from, at).into_iter().flatten().for_each(|(_, value)| *value = Value::from(HIDDEN));
}

fn map<'a>(value: &'a mut Option<Value>, at: &str) -> Option<&'a mut Map<String, Value>> {
    value.as_mut()?.pointer_mut(at)?.as_object_mut()
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

    #[test]
    fn the_environment_of_a_remote_command_is_not_shown() {
        let job = |value: &str| json!({"handler": {"ssh": {"host": "db1", "env": {"A": value, "B": "hunter1"}}}});
        let [changed] = &changes_of_job(&job("hunter2"), &job("hunter3"))[..] else { panic!("one member differs") };
        assert_eq!(changed.to, Some(json!({"ssh": {"host": "db1", "env": {"A": "*** (another value)", "B": "***"}}})));
        assert!(!format!("{changed:?}").contains("hunter"), "{changed:?}");
    }

    #[test]
    fn what_verifies_and_what_cancels_shows_no_secret_either() {
        let call = |token: &str| json!({"url": format!("http://u:{token}@h"), "headers": {"A": token}});
        let job = |token: &str| {
            json!({
                "handler": {"http": {"url": "http://h", "cancel": call(token), "follow": {"url": format!("http://u:{token}@h")}}},
                "verify": {"how": {"http": call(token)}, "timeout": "10s"},
            })
        };
        let command = json!({
            "handler": {"http": {"url": "http://h"}},
            "verify": {"how": {"command": {"argv": ["v"], "env": {"A": "hunter2"}}}, "timeout": "10s"},
        });
        let shown = |value: &str| json!({"url": "http://***@h", "headers": {"A": value}});
        let changes = changes_of_job(&job("hunter2"), &job("hunter3"));
        let [handler, verify] = &changes[..] else { panic!("two members differ: {changes:?}") };
        assert_eq!(
            handler.from,
            Some(json!({"http": {"url": "http://h", "cancel": shown("***"), "follow": {"url": "http://***@h"}}}))
        );
        assert_eq!(verify.to, Some(json!({"how": {"http": shown("*** (another value)")}, "timeout": "10s"})));
        let told = format!("{changes:?} {:?}", changes_of_job(&job("hunter3"), &command));
        assert!(!told.contains("hunter"), "{told}");
    }
}
