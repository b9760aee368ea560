//! Walks a tree along the table of keys and remarks on everything that doesn't fit.

use super::nearest::{did_you_mean, nearest};
use super::node::{Key, Kind, MOST_REMARKS, Node, short};
use super::scalar::{Plain, meaning};
use super::schema::{Choice, Object, Shape};
use super::scope::Scope;
use super::source::{Remark, Source, Span};
use super::text::{Complaint, Text, no_references};
use crate::template::{self, Mistake};

/// Remarks on one file as they are found.
pub(super) struct Checker<'a> {
    pub(super) source: &'a Source,
    pub(super) remarks: &'a mut Vec<Remark>,
}

impl Checker<'_> {
    /// Checks the value of `key` against its shape.
    pub(super) fn check(&mut self, shape: &Shape, node: &Node, key: &Key) {
        if self.remarks.len() >= MOST_REMARKS {
            if self.remarks.len() == MOST_REMARKS {
                let remark = Remark::new(node.span, "this file has too many faults: from here it is not checked");
                self.remarks.push(remark.hint("correct the first ones"));
            }
            return;
        }
        match (shape, &node.kind) {
            (Shape::Map { .. }, Kind::Scalar { text, plain: true }) if meaning(text) == Plain::Null => {}
            (_, Kind::Scalar { text, plain: true })
                if !matches!(shape, Shape::Json { .. }) && meaning(text) == Plain::Null =>
            {
                let remark = Remark::new(node.span, format!("`{}` has no value", short(&key.text)));
                self.remarks.push(remark.hint(format!("write {}, or remove the key", shape.expected())));
            }
            (Shape::Text(kind), Kind::Scalar { text, plain }) => self.text(*kind, text, *plain, node, key),
            (Shape::Integer { min, max }, Kind::Scalar { text, plain }) => {
                self.integer(*min, *max, text, *plain, node, key);
            }
            (Shape::Boolean, Kind::Scalar { text, plain: true }) if matches!(meaning(text), Plain::Bool(_)) => {}
            (Shape::Choice(choice), Kind::Scalar { text, .. }) => self.choice(choice, text, node, key),
            (Shape::Object(object), Kind::Map(entries)) => self.object(object, entries, key),
            (Shape::Map { keys, values }, Kind::Map(entries)) => {
                for (name, value) in entries.iter() {
                    if self.remarks.len() > MOST_REMARKS {
                        return;
                    }
                    if let Err(complaint) = keys.check(&name.text) {
                        self.complain(name.span, &name.text, complaint);
                    }
                    self.check(values, value, name);
                }
            }
            (Shape::List { items, least }, Kind::List(nodes)) => {
                if nodes.len() < *least {
                    let remark = Remark::new(node.span, format!("`{}` is empty", short(&key.text)));
                    self.remarks.push(remark.hint(format!("write {}, or remove the key", shape.expected())));
                }
                for item in nodes.iter() {
                    self.check(items, item, &Key { text: key.text.clone(), span: item.span });
                }
            }
            (Shape::Either { shapes, .. }, kind) if shapes.iter().any(|shape| shape.takes(kind)) => {
                let takes: Vec<_> = shapes.iter().filter(|shape| shape.takes(kind)).collect();
                // Of a number and a text, what is written tells which.
                let is_integer = |shape: &&&Shape| matches!(shape, Shape::Integer { .. }) == is_number(kind);
                let meant = if takes.len() > 1 { takes.iter().find(is_integer) } else { None };
                match meant {
                    Some(shape) => self.check(shape, node, key),
                    None => takes.iter().for_each(|shape| self.check(shape, node, key)),
                }
            }
            (Shape::Json { references, templates }, _) => self.json(*references, *templates, node),
            (Shape::JsonObject { templates }, Kind::Map(_)) => self.json(false, *templates, node),
            (_, kind) => {
                let found = describe(kind);
                let remark = Remark::new(node.span, format!("`{}` can't be {found}", short(&key.text)));
                let hint = match shape {
                    Shape::Either { hint, .. } => (*hint).to_owned(),
                    _ => format!("write {}", shape.expected()),
                };
                self.remarks.push(remark.hint(hint));
            }
        }
    }

    /// Checks the keys of a map and their values; `owner` is the key that the map belongs to.
    pub(super) fn object(&mut self, object: &Object, entries: &[(Key, Node)], owner: &Key) {
        let mut meant = Vec::new();
        for (key, value) in entries {
            if self.remarks.len() > MOST_REMARKS {
                return;
            }
            if let Some(known) = object.key(&key.text) {
                self.check(&known.shape, value, key);
            } else if object.later.contains(&&*key.text) {
                self.not_yet(key.span, &key.text);
            } else {
                meant.extend(self.unknown(object, key));
            }
        }
        let there = |name: &str| entries.iter().any(|(key, _)| &*key.text == name) || meant.contains(&name);
        for missing in object.keys.iter().filter(|key| key.required && !there(key.name)) {
            let message = format!("`{}` lacks the key `{}`", short(&owner.text), missing.name);
            self.remarks.push(Remark::new(owner.span, message).hint(format!("write {}", missing.shape.expected())));
        }
        if object.one_of.is_empty() {
            return;
        }
        let words = object.one_of.join(", ");
        let hint = format!("write exactly one of {words}");
        let mut found = entries.iter().filter(|(key, _)| object.one_of.contains(&&*key.text));
        if found.next().is_none() && !object.one_of.iter().any(|name| there(name)) {
            let message = format!("`{}` has none of {words}", short(&owner.text));
            self.remarks.push(Remark::new(owner.span, message).hint(&hint));
        }
        for (key, _) in found {
            let message = format!("`{}` is one too many in `{}`", short(&key.text), short(&owner.text));
            self.remarks.push(Remark::new(key.span, message).hint(&hint));
        }
    }

    /// Remarks on a key that nothing knows, and returns the one that was probably meant.
    fn unknown(&mut self, object: &Object, key: &Key) -> Option<&'static str> {
        let names: Vec<&'static str> = object.keys.iter().map(|key| key.name).collect();
        let (message, hint) = if &*key.text == "<<" {
            let hint = "use `defaults`, or an alias for the whole value";
            ("merge keys are not part of YAML 1.2".to_owned(), hint.to_owned())
        } else {
            let known = format!("a {} may have: {}", object.name, names.join(", "));
            let later = object.later.iter().copied();
            let hint = match object.instead.iter().find(|(word, _)| *word == &*key.text) {
                Some((_, hint)) => (*hint).to_owned(),
                None => did_you_mean(&key.text, names.iter().copied().chain(later), &known),
            };
            (format!("unknown key `{}`", short(&key.text)), hint)
        };
        self.remarks.push(Remark::new(key.span, message).hint(hint));
        // A merge may have brought what is missing.
        if &*key.text == "<<" { object.one_of.first().copied() } else { nearest(&key.text, names) }
    }

    fn not_yet(&mut self, span: Span, word: &str) {
        let remark = Remark::new(span, format!("`{word}` is not supported yet"));
        self.remarks.push(remark.hint("a later version of Reveille brings it; remove it until then"));
    }

    fn text(&mut self, kind: Text, text: &str, plain: bool, node: &Node, key: &Key) {
        let found = match meaning(text) {
            _ if !plain => None,
            Plain::Bool(_) => Some("a boolean"),
            Plain::Number(_) | Plain::Doubtful(_) => Some("a number"),
            Plain::Null | Plain::YesNo | Plain::Text => None,
        };
        if let Some(found) = found {
            let message = format!("`{}` must be text, and this is {found}", short(&key.text));
            let hint = match kind {
                Text::Duration | Text::Size => format!("write {}, with its unit", kind.expected()),
                Text::Rate | Text::UniqueSpan | Text::Condition | Text::Figure => format!("write {}", kind.expected()),
                _ => "put quotes around it".to_owned(),
            };
            self.remarks.push(Remark::new(node.span, message).hint(hint));
        } else if let Err(complaint) = kind.check(text) {
            self.complain(node.span, text, complaint);
        } else if matches!(kind, Text::Condition | Text::Figure) {
            for Mistake { range, message, hint } in template::mistakes_of_condition(text, &Scope::Answer.variables()) {
                self.complain(node.span, text, Complaint { range: Some(range), message, hint });
            }
        } else if let Some(scope) = kind.templates() {
            self.templates(scope, text, node);
        }
    }

    fn integer(&mut self, min: i64, max: i64, text: &str, plain: bool, node: &Node, key: &Key) {
        let expected = Shape::Integer { min, max }.expected();
        let value = match meaning(text) {
            Plain::Number(number) if plain => number.as_i64().or(number.is_u64().then_some(i64::MAX)),
            _ => None,
        };
        let message = match value {
            Some(value) if (min..=max).contains(&value) && text.parse::<i64>().is_ok() => return,
            Some(_) => format!("`{}` is out of range", short(&key.text)),
            None => format!("`{}` must be a whole number", short(&key.text)),
        };
        let unquoted = if plain { "" } else { ", without quotes" };
        self.remarks.push(Remark::new(node.span, message).hint(format!("write {expected}{unquoted}")));
    }

    fn choice(&mut self, choice: &Choice, text: &str, node: &Node, key: &Key) {
        if choice.words.contains(&text) {
        } else if choice.later.contains(&text) {
            self.not_yet(node.span, text);
        } else {
            let message = format!("`{}` is not a value of `{}`", short(text), short(&key.text));
            let expected = format!("write {}", Choice::expected(choice));
            let hint = did_you_mean(text, choice.words.iter().copied(), &expected);
            self.remarks.push(Remark::new(node.span, message).hint(hint));
        }
    }

    fn json(&mut self, references: bool, scope: Scope, node: &Node) {
        if self.remarks.len() >= MOST_REMARKS {
            return;
        }
        match &node.kind {
            Kind::Scalar { text, plain } => {
                let reason = match meaning(text) {
                    Plain::YesNo if *plain => {
                        "old YAML readers take it for a boolean: write true or false, or put quotes around it"
                    }
                    Plain::Doubtful(reason) if *plain => reason,
                    _ => {
                        self.reference(references, text, node);
                        return self.templates(scope, text, node);
                    }
                };
                let remark = Remark::new(node.span, "the meaning of this value is doubtful");
                self.remarks.push(remark.hint(if reason.contains("quotes") {
                    reason.to_owned()
                } else {
                    format!("{reason}; put quotes around what shall be text")
                }));
            }
            Kind::List(items) => items.iter().for_each(|item| self.json(references, scope, item)),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| self.json(references, scope, value)),
        }
    }

    fn reference(&mut self, references: bool, text: &str, node: &Node) {
        let checked = if references { Text::Environment.check(text) } else { no_references(text) };
        if let Err(complaint) = checked {
            self.complain(node.span, text, complaint);
        }
    }

    /// Remarks on templates that could never be rendered.
    fn templates(&mut self, scope: Scope, text: &str, node: &Node) {
        for Mistake { range, message, hint } in template::mistakes(text, &scope.variables()) {
            let hidden = self.source.is_secret(node.span);
            let message = if hidden { "this template can't be rendered".to_owned() } else { message };
            self.complain(node.span, text, Complaint { range: Some(range), message, hint });
        }
    }

    /// Points at the part of a scalar that a complaint is about.
    pub(super) fn complain(&mut self, span: Span, text: &str, complaint: Complaint) {
        let Complaint { range, message, hint } = complaint;
        let written = self.source.text.get(span.start..span.end).unwrap_or_default();
        let skip = usize::from(written.starts_with(['"', '\'']));
        let as_read = written.get(skip..).is_some_and(|written| written.starts_with(text));
        let span = match range {
            Some(range) if as_read => {
                Span { start: span.start + skip + range.start, end: span.start + skip + range.end }
            }
            _ => span,
        };
        self.remarks.push(Remark::new(span, message).hint(hint));
    }
}

impl Shape {
    /// With its article, for "write …".
    fn expected(&self) -> String {
        match self {
            Self::Text(kind) => kind.expected().to_owned(),
            Self::Integer { min, max } if min == max => format!("{min}"),
            Self::Integer { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(choice) => Choice::expected(choice),
            Self::Object(object) => {
                let names: Vec<_> = object.keys.iter().map(|key| key.name).collect();
                format!("a map with keys of {}", names.join(", "))
            }
            Self::Map { .. } | Self::JsonObject { .. } => "a map of keys and values".to_owned(),
            Self::List { items, .. } => format!("a list, each item {}", items.expected()),
            Self::Either { shapes: [one, other], .. } => format!("{}, or {}", one.expected(), other.expected()),
            Self::Json { .. } => "any value".to_owned(),
        }
    }

    /// Whether a node of this kind is of this shape as far as one can see from outside.
    fn takes(&self, kind: &Kind) -> bool {
        if let Self::Either { shapes, .. } = self {
            return shapes.iter().any(|shape| shape.takes(kind));
        }
        match kind {
            Kind::Scalar { .. } => {
                matches!(self, Self::Text(_) | Self::Integer { .. } | Self::Boolean | Self::Choice(_))
            }
            Kind::List(_) => matches!(self, Self::List { .. }),
            Kind::Map(_) => matches!(self, Self::Object(_) | Self::Map { .. } | Self::JsonObject { .. }),
        }
    }
}

impl Choice {
    fn expected(&self) -> String {
        format!("one of {}", self.words.join(", "))
    }
}

fn is_number(kind: &Kind) -> bool {
    matches!(kind, Kind::Scalar { text, plain: true } if matches!(meaning(text), Plain::Number(_)))
}

fn describe(kind: &Kind) -> &'static str {
    match kind {
        Kind::Scalar { text, plain: true } => match meaning(text) {
            Plain::Bool(_) => "a boolean",
            Plain::Number(_) | Plain::Doubtful(_) => "a number",
            Plain::Null | Plain::YesNo | Plain::Text => "a text",
        },
        Kind::Scalar { .. } => "a text",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}
