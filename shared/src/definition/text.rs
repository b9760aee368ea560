//! The kinds of text that a definition holds, and what makes one of them wrong.

use std::ops::Range;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::days;
use super::limits;
use super::node::short;
use super::policy;
use super::remote;
use super::scope::Scope;
use crate::due;
use crate::duration::HumanDuration;
use crate::fan_out::Tolerance;
use crate::name;

/// A kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// For people.
    Free,
    /// Of a job, schedule, namespace or queue.
    Name,
    /// Of a registered Rust function.
    Function,
    /// A duration longer than zero.
    Duration,
    /// A number of bytes.
    Size,
    /// Checked where the time zone is known.
    Cron,
    /// An IANA time zone.
    Timezone,
    /// With an offset.
    Timestamp,
    /// Of a calendar.
    CalendarName,
    /// A date, a weekday, or a range of them.
    Day,
    /// The same, or the name of a calendar.
    DayOrCalendar,
    /// An absolute http or https URL; may hold `${env:NAME}`.
    Url,
    /// May hold `${env:NAME}`, but no line break.
    Header,
    /// May hold `${env:NAME}`.
    Environment,
    /// Program or argument: holds no `${env:NAME}`.
    Argument,
    /// Holds neither `${env:NAME}` nor templates.
    Folder,
    /// The path of a file, from the root; as `Folder` else.
    File,
    /// The name or address of a host: holds templates and no `${env:NAME}`.
    Host,
    /// Of another host: holds neither.
    User,
    /// For a shell: holds neither, as what they bring would be read as code.
    Shell,
    /// Nothing but `${env:NAME}`.
    Reference,
    /// How many starts within what span.
    Rate,
    /// For how long a run stands for its equals.
    UniqueSpan,
    /// Tells runs apart: holds templates and no `${env:NAME}`.
    Key,
    /// Gives the inputs of children: holds templates and no `${env:NAME}`.
    Inputs,
    /// How many children of a hundred may fail.
    Share,
    /// An absolute http or https URL with templates over an answer, and no `${env:NAME}`: it is stored.
    OperationUrl,
    /// An expression over the answer to a question, without `{{ }}`: true or false.
    Condition,
    /// The same, for a number.
    Figure,
    HeaderName,
    VariableName,
}

/// What is wrong with a text, and with which of its bytes if not with all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) range: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) hint: String,
}

pub(super) fn complaint(message: impl Into<String>, hint: impl Into<String>) -> Complaint {
    Complaint { range: None, message: message.into(), hint: hint.into() }
}

const NAME: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";
const DURATION: &str = "^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const DAY: &str = "^([0-9]{4}-[0-9]{2}-[0-9]{2}(/[0-9]{4}-[0-9]{2}-[0-9]{2})?|[A-Za-z]{3}(-[A-Za-z]{3})?)$";
const REFERENCE: &str = "^\\$\\{env:[A-Za-z_][A-Za-z0-9_]*\\}$";
const HEADER: &str = "^[-A-Za-z0-9!#$%&'*+.^_`|~]+$";
const RATE: &str = "^[0-9]{1,5}/([smhd]|[0-9]+[0-9dhms]*)$";
const SHARE: &str = "^[0-9]{1,3}(\\.[0-9]{1,2})?%$";
const UNIQUE_SPAN: &str = "^(waiting|running|[0-9]+[0-9dhms]*)$";
const LONGEST_FREE: usize = 1_000;

impl Text {
    /// With its article, for "expected …".
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Free | Self::Argument | Self::Folder | Self::Header | Self::Environment | Self::Shell => "a text",
            Self::Name | Self::CalendarName | Self::HeaderName | Self::VariableName | Self::User => "a name",
            Self::File => "a path like /etc/reveille/id_ed25519",
            Self::Host => "a host like db1.internal",
            Self::Reference => "${env:NAME}",
            Self::Function => "the name of a function",
            Self::Duration => "a duration like 30s, 10m or 1h30m",
            Self::Size => "a size like 64KiB, 512MiB or 2GiB",
            Self::Rate => "a rate like 100/m",
            Self::UniqueSpan => "waiting, running, or a duration like 10m",
            Self::Inputs => "a text with a template, like \"{{ output.images }}\"",
            Self::Share => "a number, or a share like 5%",
            Self::Key => "a text with {{ templates }}, like \"{{ input.region }}\"",
            Self::Condition => "a condition like \"status == 200 and body.state == 'done'\"",
            Self::Figure => "an expression like body.progress",
            Self::OperationUrl => "an absolute URL like \"https://example.com/operations/{{ body.id }}\"",
            Self::Cron => "a cron text like \"*/5 * * * *\"",
            Self::Timezone => "an IANA time zone like Europe/Berlin",
            Self::Day => "a day like 2026-12-24, SAT or MON-FRI",
            Self::DayOrCalendar => "a day like 2026-12-24, SAT or MON-FRI or the name of a calendar",
            Self::Timestamp => "a time with an offset like 2026-12-31T23:59:00+01:00",
            Self::Url => "an absolute URL like https://example.com/run",
        }
    }

    /// What templates in it know, if it may hold any.
    pub(super) const fn templates(self) -> Option<Scope> {
        match self {
            Self::Url | Self::Header | Self::Environment | Self::Argument | Self::Host => Some(Scope::Run),
            Self::Key => Some(Scope::Key),
            Self::Inputs => Some(Scope::Children),
            Self::OperationUrl => Some(Scope::Begun),
            _ => None,
        }
    }

    /// The JSON Schema of such a text.
    pub(super) fn schema(self) -> Value {
        let pattern = match self {
            Self::Name | Self::CalendarName => NAME,
            Self::Day => DAY,
            Self::DayOrCalendar => return json!({"type": "string", "anyOf": [{"pattern": DAY}, {"pattern": NAME}]}),
            Self::Function => "^\\S{1,128}$",
            Self::Duration => DURATION,
            Self::Timestamp => "^\\d{4}-\\d\\d-\\d\\d[Tt ]\\d\\d:\\d\\d.*([Zz]|[-+]\\d\\d(:?\\d\\d)?)(\\[.*\\])?$",
            Self::OperationUrl => "^([Hh][Tt][Tt][Pp][Ss]?://|\\{\\{)",
            Self::Url => "^([Hh][Tt][Tt][Pp][Ss]?://|\\$\\{env:)",
            Self::File => "^/",
            Self::Reference => REFERENCE,
            Self::HeaderName => HEADER,
            Self::VariableName => VARIABLE,
            Self::Rate => RATE,
            Self::Share => SHARE,
            Self::Inputs => "\\{\\{",
            Self::UniqueSpan => UNIQUE_SPAN,
            Self::Free => return json!({"type": "string", "maxLength": LONGEST_FREE}),
            Self::Key => return json!({"type": "string", "minLength": 1, "maxLength": limits::LONGEST_KEY}),
            _ => return json!({"type": "string"}),
        };
        json!({"type": "string", "pattern": pattern})
    }

    /// Says what is wrong with a text of this kind.
    pub(super) fn check(self, text: &str) -> Result<(), Complaint> {
        match self {
            Self::Free if text.chars().count() > LONGEST_FREE => {
                Err(complaint(format!("a text of more than {LONGEST_FREE} characters"), "shorten it"))
            }
            Self::Free | Self::Cron => Ok(()),
            Self::Name => name(text),
            Self::Function => function(text),
            Self::Duration => duration(text),
            Self::Size => policy::read_size(text).map(drop),
            Self::Timezone => timezone(text).map(drop),
            Self::Timestamp => timestamp(text),
            Self::CalendarName => days::check_name(text),
            Self::Day => days::read_of_calendar(text).map(drop),
            Self::DayOrCalendar => days::read(text).map(drop),
            Self::Url => references(text).and_then(|()| url(text)),
            Self::Header if text.contains(['\r', '\n']) => {
                Err(complaint("a header value of several lines", "write it in one line"))
            }
            Self::Header | Self::Environment => references(text),
            // One that is wholly a template is an URL only when it is rendered.
            Self::OperationUrl if text.starts_with("{{") => no_references(text),
            Self::OperationUrl => no_references(text).and_then(|()| url(text)),
            Self::Argument | Self::Folder | Self::Condition | Self::Figure => no_references(text),
            Self::File => no_references(text).and_then(|()| remote::file(text)),
            Self::Host => no_references(text).and_then(|()| remote::host(text)),
            Self::User => no_references(text).and_then(|()| remote::user(text)),
            Self::Shell => no_references(text).and_then(|()| remote::shell(text)),
            Self::Reference => references(text).and_then(|()| remote::reference(text)),
            Self::Inputs => no_references(text).and_then(|()| inputs(text)),
            Self::Share => share(text),
            Self::Rate => limits::rate(text).map(drop),
            Self::UniqueSpan => limits::unique_span(text).map(drop),
            Self::Key => limits::key(text),
            Self::HeaderName => {
                matching(text, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b), "header")
            }
            Self::VariableName if text.starts_with(|c: char| c.is_ascii_digit()) => {
                Err(complaint(format!("`{}` is not a variable name", short(text)), "start it with a letter or _"))
            }
            Self::VariableName => matching(text, |b| b.is_ascii_alphanumeric() || b == b'_', "variable"),
        }
    }
}

fn matching(text: &str, allowed: impl Fn(u8) -> bool, what: &str) -> Result<(), Complaint> {
    if !text.is_empty() && text.bytes().all(allowed) {
        return Ok(());
    }
    let marks = if what == "header" { "hyphens" } else { "_" };
    Err(complaint(format!("`{}` is not a {what} name", short(text)), format!("use ASCII letters, digits and {marks}")))
}

fn name(text: &str) -> Result<(), Complaint> {
    if name::is_name(text) {
        return Ok(());
    }
    let allowed = |c| if name::is_allowed(c) { c } else { '-' };
    let better: String = text.to_lowercase().chars().map(allowed).take(64).collect();
    let better = better.trim_start_matches(['-', '_', '.']);
    let example = if better.is_empty() { String::new() } else { format!(", for example `{better}`") };
    let hint = format!("use {}{example}", name::RULE);
    Err(complaint(format!("`{}` is not a valid name", short(text)), hint))
}

fn function(text: &str) -> Result<(), Complaint> {
    if (1..=128).contains(&text.chars().count()) && !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(complaint("not the name of a function", "use 1 to 128 characters without spaces, as registered in the worker"))
}

fn inputs(text: &str) -> Result<(), Complaint> {
    if text.contains("{{") {
        return Ok(());
    }
    Err(complaint("no template, and no list without one", "write what gives the list, like \"{{ output.images }}\""))
}

fn share(text: &str) -> Result<(), Complaint> {
    match text.parse::<Tolerance>() {
        Ok(Tolerance::OfTenThousand(_)) => Ok(()),
        _ => Err(complaint(
            format!("`{}` is not a share", short(text)),
            "write a number of children, or a share of all of them from 0% to 100%, like 5% or 0.5%",
        )),
    }
}

fn duration(text: &str) -> Result<(), Complaint> {
    match text.parse::<HumanDuration>() {
        Ok(HumanDuration::ZERO) => Err(complaint("a duration of zero", "write a longer one, like 30s")),
        Ok(_) => Ok(()),
        Err(_) => Err(complaint(
            format!("`{}` is not a duration", short(text)),
            "write it like 500ms, 30s, 10m, 1h30m or 2d: largest unit first, each once, at most 36500d",
        )),
    }
}

/// The zone's name as the database spells it.
pub(super) fn timezone(text: &str) -> Result<String, Complaint> {
    if let Some(name) = due::timezone(text).ok().and_then(|zone| zone.iana_name().map(str::to_owned)) {
        return Ok(name);
    }
    let hint = match due::nearest_timezone(text) {
        Some(zone) => format!("did you mean `{zone}`?"),
        None => "use an IANA name like UTC, Europe/Berlin or America/New_York".to_owned(),
    };
    Err(complaint(format!("the time zone `{}` does not exist", short(text)), hint))
}

fn timestamp(text: &str) -> Result<(), Complaint> {
    if text.parse::<Timestamp>().is_ok() {
        return Ok(());
    }
    if text.parse::<jiff::civil::DateTime>().is_ok() {
        let hint = "add Z for UTC, or an offset: 2026-12-31T23:59:00+01:00";
        return Err(complaint("a time without an offset is not one instant", hint));
    }
    let hint = "write it like 2026-12-31T23:59:00+01:00 or 2026-12-31T22:59:00Z";
    Err(complaint(format!("`{}` is not a time", short(text)), hint))
}

/// Never repeats the URL in a message, as it may hold a password.
fn url(text: &str) -> Result<(), Complaint> {
    if text.starts_with("${env:") {
        return Ok(());
    }
    let hint = "write it like https://example.com/run";
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    let Some((_, rest)) = rest else {
        return Err(complaint("not an absolute http or https URL", hint));
    };
    let templated = text.contains("{{");
    if text.contains(char::is_control) || !templated && text.contains(char::is_whitespace) {
        return Err(complaint("a URL with white space in it", "write a space as %20"));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            if user.split_once(':').is_some_and(|(_, password)| !password.starts_with("${env:")) {
                let hint = "write the header Authorization with ${env:NAME} in it, which is never stored";
                return Err(complaint("a password in a URL", hint));
            }
            host
        }
        None => authority,
    };
    let dynamic = templated || authority.contains("${env:");
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map(|(_, port)| port);
    if host.is_empty() || host.starts_with(':') {
        return Err(complaint("a URL without a host", hint));
    }
    if !dynamic && port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(complaint("a URL whose port is not a number up to 65535", hint));
    }
    Ok(())
}

/// Every `${env:` is `${env:NAME}`.
fn references(text: &str) -> Result<(), Complaint> {
    for (start, opening) in text.match_indices("${env:") {
        let after = &text[start + opening.len()..];
        let name = &after[..after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())];
        let fine = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        if !fine || !after[name.len()..].starts_with('}') {
            let end = start + opening.len() + name.len();
            return Err(Complaint {
                range: Some(start..end),
                ..complaint(
                    "a malformed reference to the environment",
                    "write ${env:NAME}, with a name of A-Z a-z 0-9 _",
                )
            });
        }
    }
    Ok(())
}

/// Where a reference would be passed on as it is written, it is refused.
pub(super) fn no_references(text: &str) -> Result<(), Complaint> {
    match text.find("${env:") {
        None => Ok(()),
        Some(start) => Err(Complaint {
            range: Some(start..start + "${env:".len()),
            ..complaint(
                "`${env:…}` is not resolved here",
                "it is in an http url, headers and body, and in the env of a command or of ssh: pass it on by those",
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert(kind: Text, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(kind.check(text), Ok(()), "{kind:?} {text:?}");
        }
        for text in bad {
            assert!(kind.check(text).is_err(), "{kind:?} {text:?} was accepted");
        }
    }

    #[test]
    fn names() {
        assert(Text::Name, &["a", "0", "a-b_c.d", &"x".repeat(64)], &["", "A", "-a", ".", "a b", "ä", &"x".repeat(65)]);
        assert_eq!(name("My Job").unwrap_err().hint.rsplit(' ').next(), Some("`my-job`"));
    }

    #[test]
    fn urls() {
        assert(
            Text::Url,
            &[
                "http://a",
                "HTTPS://a.b:8080/c?d#e",
                "https://{{ input.host }}/x",
                "${env:BASE}/x",
                "http://[::1]:80/",
                "https://${env:HOST}:${env:PORT}/",
                "http://[::1]",
                "https://me:${env:PW}@host/",
            ],
            &[
                "",
                "a",
                "/a",
                "ftp://a",
                "http:a",
                "http://",
                "http:///a",
                "http://a b",
                "http://a:b",
                "http://a:99999",
                "http://me:pw@host",
                "http://:80",
                "https://${env:}/",
                "//host",
            ],
        );
    }

    #[test]
    fn references_have_names() {
        assert(
            Text::Header,
            &["x", "$env:A", "${env:A}", "a ${env:_b1} ${env:C}", "{{ x }}"],
            &["${env:}", "${env:1}", "${env:A", "${env:a-b}", "a\nb", "${env: A}"],
        );
        assert_eq!(references("ab ${env:C-D}").unwrap_err().range, Some(3..10));
        assert(Text::Argument, &["$HOME", "{{ x }}"], &["a ${env:A}"]);
    }

    #[test]
    fn times_and_zones() {
        assert(
            Text::Timestamp,
            &["2026-12-31T23:59:00+01:00", "2026-12-31T23:59:00Z", "2026-12-31 23:59+01"],
            &["2026-12-31T23:59:00", "2026-12-31", "tomorrow", "2026-13-31T23:59:00Z", ""],
        );
        assert(Text::Timezone, &["UTC", "Europe/Berlin", "europe/berlin"], &["", "Berlin", "+01:00", "Local"]);
        assert_eq!(timezone("europe/berlin"), Ok("Europe/Berlin".to_owned()));
        assert_eq!(timezone("Europe/Berln").unwrap_err().hint, "did you mean `Europe/Berlin`?");
        assert_eq!(timezone("Tokyo").unwrap_err().hint, "did you mean `Asia/Tokyo`?");
    }

    #[test]
    fn the_rest() {
        assert(Text::Duration, &["1ms", "30s", "1h30m"], &["0s", "10", "-1s", "1w", "40000d", ""]);
        assert(Text::VariableName, &["A", "_a1"], &["", "1A", "A-B", "A=B"]);
        assert(Text::HeaderName, &["X-Api-Key"], &["", "a b", "a:", "ä"]);
        assert(Text::Function, &["billing::run"], &["", "a b", &"x".repeat(129)]);
    }
}
