//! What can be the name of a namespace, a job, a schedule or another thing that people name.

/// The rule in words.
pub const RULE: &str = "1 to 64 of a-z 0-9 - _ . with a letter or digit first";

/// Whether `text` can be the name of something.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64 && text.starts_with(may_begin) && text.chars().all(is_allowed)
}

/// Whether a name may hold `c`.
pub(crate) fn is_allowed(c: char) -> bool {
    may_begin(c) || matches!(c, '-' | '_' | '.')
}

fn may_begin(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}
