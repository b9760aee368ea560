//! Texts of a command on another host, and what makes one of them wrong.

use super::scope::Scope;
use super::text::{Complaint, complaint};

/// The name or address of a host, as far as templates let one see.
pub(super) fn host(text: &str) -> Result<(), Complaint> {
    if text.contains("{{") || text.contains("{%") {
        return Ok(());
    }
    if let Some((_, host)) = text.split_once('@') {
        return Err(complaint("a host with a user", format!("write the user in `user`, and `{host}` here")));
    }
    if text.contains("://") || text.contains('/') {
        return Err(complaint("not a host", "write its name or address alone, like db1.internal"));
    }
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if !is_address && text.contains([':', '[', ']']) {
        return Err(complaint("not a host", "write the port in `port`, and an IPv6 address without brackets"));
    }
    let is_name = !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if is_address || is_name {
        return Ok(());
    }
    Err(complaint("not the name of a host", "use ASCII letters, digits, dots and hyphens"))
}

pub(super) fn user(text: &str) -> Result<(), Complaint> {
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()) && !text.contains("{{") {
        return Ok(());
    }
    Err(complaint("not the name of a user", "write it without spaces and templates"))
}

/// A file of the worker.
pub(super) fn file(text: &str) -> Result<(), Complaint> {
    if text.starts_with('/') {
        return Ok(());
    }
    Err(complaint("not a whole path", "begin it with /: neither ~ nor the worker's current folder is looked at"))
}

/// A text for a shell. Braces of other programs' templates are left to them.
pub(super) fn shell(text: &str) -> Result<(), Complaint> {
    if text.trim().is_empty() {
        return Err(complaint("an empty command", "write what is to run"));
    }
    for (start, opening) in text.match_indices("{{") {
        let after = text[start + opening.len()..].trim_start_matches(['-', '+', ' ', '\t', '\n']);
        let word = &after[..after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())];
        if Scope::Run.variables().contains(&word) {
            let end = text[start..].find("}}").map_or(text.len(), |end| start + end + 2);
            let hint = "the shell would read its value as code: write it in `env` and \"$NAME\" here, or the command as a list";
            return Err(Complaint { range: Some(start..end), ..complaint("a template in a text for a shell", hint) });
        }
    }
    Ok(())
}

/// A secret's place in the worker's environment; never repeats what stands there instead.
pub(super) fn reference(text: &str) -> Result<(), Complaint> {
    let name = text.strip_prefix("${env:").and_then(|rest| rest.strip_suffix('}'));
    if name.is_some_and(|name| !name.contains(['{', '}'])) {
        return Ok(());
    }
    Err(complaint("a secret in a definition", "write ${env:NAME} alone, which the worker resolves and nobody stores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in ["db1", "db1.internal", "10.0.0.1", "::1", "fe80::1", "a_b", "{{ input.host }}.internal"] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in ["", "me@db1", "db1:22", "[::1]", "ssh://db1", "db 1", "-oProxyCommand=x", "dä", "a/b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert_eq!(host("me@db1").unwrap_err().hint, "write the user in `user`, and `db1` here");
    }

    #[test]
    fn a_text_for_a_shell_holds_no_template_of_ours() {
        for good in ["uptime", "docker ps --format '{{.Names}} {{ .Image }}'", "echo \"$A\" ${B}", "echo {{a,b},c}"] {
            assert_eq!(shell(good), Ok(()), "{good}");
        }
        assert_eq!(shell("dump {{ input.db }}").unwrap_err().range, Some(5..19));
        assert!(shell("x {{- job }}").is_err() && shell(" ").is_err());
    }

    #[test]
    fn a_secret_is_only_named() {
        assert_eq!(reference("${env:A_1}"), Ok(()));
        for bad in ["", "hunter2", "x${env:A}", "${env:A}x", "${env:A}${env:B}"] {
            assert!(reference(bad).is_err_and(|complaint| !complaint.message.contains("hunter2")), "{bad}");
        }
        assert!(user("deploy").is_ok() && user("a b").is_err() && user("").is_err() && user("{{ job }}").is_err());
    }
}
