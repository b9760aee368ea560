//! Texts with wildcards: `*` and `?` stay within a part of a path or host name, `**` does not.

use std::fmt;

/// A pattern for whole texts. Upper and lower case differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    /// What `*` and `?` do not stand for.
    separator: Option<char>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// This character.
    Just(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`
    All,
}

impl Pattern {
    /// A pattern whose parts are parted by `separator`, if by any.
    #[must_use]
    pub fn new(text: &str, separator: Option<char>) -> Self {
        let mut tokens = Vec::new();
        for letter in text.chars() {
            match (letter, tokens.last()) {
                ('*', Some(Token::All)) => {}
                ('*', Some(Token::Some)) => *tokens.last_mut().unwrap_or(&mut Token::All) = Token::All,
                ('*', _) => tokens.push(Token::Some),
                ('?', _) => tokens.push(Token::One),
                (letter, _) => tokens.push(Token::Just(letter)),
            }
        }
        Self { text: text.to_owned(), tokens, separator }
    }

    /// What is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for one text only: its own.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Just(_)))
    }

    /// Whether it is `**`: any text at all.
    #[must_use]
    pub fn is_anything(&self) -> bool {
        self.tokens == [Token::All]
    }

    /// Whether it begins with a wildcard.
    #[must_use]
    pub fn begins_wild(&self) -> bool {
        !matches!(self.tokens.first(), None | Some(Token::Just(_)))
    }

    /// Whether the whole of `text` fits. Takes time in proportion to the product of the lengths, whatever they hold.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let end = self.tokens.len();
        let mut at = vec![false; end + 1];
        self.reach(0, &mut at);
        for letter in text.chars() {
            let mut next = vec![false; end + 1];
            let within = Some(letter) != self.separator;
            for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| at[*index]) {
                match token {
                    Token::Just(own) if *own == letter => self.reach(index + 1, &mut next),
                    Token::One if within => self.reach(index + 1, &mut next),
                    Token::Some if within => self.reach(index, &mut next),
                    Token::All => self.reach(index, &mut next),
                    Token::Just(_) | Token::One | Token::Some => {}
                }
            }
            at = next;
        }
        at[end]
    }

    /// Marks a place, and those behind it that need no further character.
    fn reach(&self, index: usize, at: &mut [bool]) {
        at[index] = true;
        if matches!(self.tokens.get(index), Some(Token::Some | Token::All)) && !at[index + 1] {
            self.reach(index + 1, at);
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern, Some('/')).matches(text)
    }

    #[test]
    fn wildcards_stay_within_a_part_unless_doubled() {
        for (pattern, good, bad) in [
            ("/usr/bin/*", &["/usr/bin/rsync", "/usr/bin/"][..], &["/usr/bin/a/b", "/usr/local/bin/a"][..]),
            ("/srv/**", &["/srv/a/b", "/srv/"], &["/srv", "/srvx/a"]),
            ("/srv/**/run", &["/srv/a/run", "/srv/a/b/run"], &["/srv/run", "/srv/a/runs"]),
            ("backup-?", &["backup-a", "backup-ä"], &["backup-", "backup-ab", "backup-/"]),
            ("**", &["", "a/b"], &[]),
            ("*", &["", "ab"], &["a/b"]),
            ("a", &["a"], &["A", "", "aa"]),
            ("", &[""], &["a"]),
        ] {
            good.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text}"));
            bad.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text}"));
        }
        assert!(Pattern::new("a*", None).matches("a/b/c"));
    }

    #[test]
    fn many_wildcards_take_no_longer() {
        let pattern = "*a".repeat(50);
        assert!(!Pattern::new(&pattern, None).matches(&"a".repeat(5_000).replace("aa", "ab")));
    }

    /// The plain definition, which takes its time.
    fn slowly(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', '*', rest @ ..] => (0..=text.len()).any(|at| slowly(rest, &text[at..])),
            ['*', rest @ ..] => {
                let part = text.iter().position(|letter| *letter == '/').unwrap_or(text.len());
                (0..=part).any(|at| slowly(rest, &text[at..]))
            }
            ['?', rest @ ..] => text.first().is_some_and(|letter| *letter != '/') && slowly(rest, &text[1..]),
            [own, rest @ ..] => text.first() == Some(own) && slowly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_plain_definition_says(pattern in "[ab/*?]{0,7}", text in "[ab/]{0,8}") {
            let [slow, own]: [Vec<char>; 2] = [&pattern, &text].map(|text| text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), slowly(&slow, &own));
        }

        #[test]
        fn a_text_without_wildcards_matches_itself_alone(text in "[a-c/.]{0,6}", other in "[a-c/.]{0,6}") {
            prop_assert_eq!(matches(&text, &other), text == other);
        }
    }
}
