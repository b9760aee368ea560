//! YAML text → a tree of nodes that know their place, within limits that a hostile text can't break.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, options};

use super::source::{Remark, Source, Span, holds_secrets};

/// Bytes of one file.
pub const MOST_BYTES: usize = 1 << 20;
/// Maps and lists within one another.
pub const MOST_DEPTH: usize = 64;
/// Keys, values, maps and lists of one file.
pub const MOST_NODES: usize = 100_000;
/// Nodes that aliases (`*name`) repeat in one file.
pub const MOST_ALIASED: usize = 10_000;

/// Remarks on one file, after which it is checked no further.
pub(super) const MOST_REMARKS: usize = 1_000;

/// A value and where it stands. Cheap to clone, as an alias shares what it repeats.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
    /// This node and all below it.
    size: usize,
    /// 0 for a scalar.
    height: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `plain` if it is not quoted and may thus be more than text.
    Scalar {
        text: Rc<str>,
        plain: bool,
    },
    List(Rc<[Node]>),
    Map(Rc<[(Key, Node)]>),
}

/// A key of a map: text as it is written.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: Rc<str>,
    pub(super) span: Span,
}

impl Node {
    /// The entries, if this is a map.
    pub(super) fn entries(&self) -> &[(Key, Node)] {
        if let Kind::Map(entries) = &self.kind { entries } else { &[] }
    }

    /// The items, if this is a list; else the node itself as the only one.
    pub(super) fn one_or_many(&self) -> &[Node] {
        if let Kind::List(items) = &self.kind { items } else { std::slice::from_ref(self) }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(known, _)| &*known.text == key).map(|(_, value)| value)
    }

    /// The written text, if this is a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        if let Kind::Scalar { text, .. } = &self.kind { Some(text) } else { None }
    }
}

/// What reading one text yields; the remarks go with a tree if the text could be understood all the same.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) root: Option<Node>,
    pub(super) remarks: Vec<Remark>,
}

/// Reads a text. Also notes in the source which of its values are secrets.
pub(super) fn parse(source: &mut Source) -> Tree {
    let mut builder = Builder::default();
    let failure = builder.run(source).err();
    source.set_secrets(builder.secrets);
    let mut tree = Tree { root: builder.root, remarks: builder.remarks };
    if let Some(remark) = failure {
        source.hide_line_if_secret(remark.span.start);
        tree = Tree { root: None, remarks: vec![remark] };
    }
    tree
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    aliased: usize,
    documents: usize,
    remarks: Vec<Remark>,
    secrets: Vec<Span>,
}

/// A map or list whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    secret: bool,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, pending: Option<Key>, first: HashMap<Rc<str>, Span> },
}

impl Open {
    /// The key whose value is being read, if this is a map.
    fn at(&self) -> &str {
        match &self.content {
            Content::Map { pending: Some(key), .. } => &key.text,
            _ => "",
        }
    }
}

impl Builder {
    fn run(&mut self, source: &Source) -> Result<(), Remark> {
        refuse_what_is_no_text(source)?;
        let options =
            options! { flow_nesting_limit: MOST_DEPTH, block_nesting_limit: MOST_DEPTH, emit_comments: false };
        for event in Parser::new_from_str_with_options(&source.text, options) {
            let (event, span) = event.map_err(|error| syntax_remark(&error, source))?;
            let tag = event.tag().is_some();
            let span = Span {
                start: span.start.byte_offset().unwrap_or_default(),
                end: span.end.byte_offset().unwrap_or_default(),
            };
            if tag && self.remarks.len() < MOST_REMARKS {
                let remark = Remark::new(span, "tags are not supported");
                self.remarks.push(remark.hint("remove the `!…`; put quotes around what shall be text"));
            }
            self.take(event, span, source)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span, source: &Source) -> Result<(), Remark> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let remark = Remark::new(span, "a second document in one file");
                    return Err(remark.hint("write it into a file of its own"));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                self.count(span)?;
                if text.contains('\0') && self.remarks.len() < MOST_REMARKS {
                    let remark = Remark::new(span, "the character U+0000 can't stand in a text");
                    self.remarks
                        .push(remark.hint("remove the escape: databases and operating systems take it for the end"));
                }
                let kind = Kind::Scalar { text: text.into(), plain: style == ScalarStyle::Plain };
                self.done(Node { span, kind, size: 1, height: 0 }, anchor, source)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(span, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), pending: None, first: HashMap::new() };
                self.open(span, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(source)?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let remark = Remark::new(span, "this alias repeats the very value that it is part of");
                    return Err(remark.hint("write the value out"));
                };
                self.aliased = self.aliased.saturating_add(node.size);
                if self.aliased > MOST_ALIASED {
                    let remark = Remark::new(span, format!("aliases repeat more than {MOST_ALIASED} values"));
                    return Err(remark.hint("write the values out, or use fewer aliases"));
                }
                self.refuse_depth(self.open.len() + node.height, span)?;
                self.done(node, 0, source)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Remark> {
        self.count(span)?;
        self.refuse_depth(self.open.len() + 1, span)?;
        let secret = self.open.last().is_some_and(|parent| {
            let below = matches!(&parent.content, Content::Map { pending: Some(key), .. } if holds_secrets(&key.text));
            parent.secret || below
        });
        self.open.push(Open { span, anchor, secret, content });
        Ok(())
    }

    fn close(&mut self, source: &Source) -> Result<(), Remark> {
        let Some(Open { span, anchor, content, .. }) = self.open.pop() else { return Ok(()) };
        let (kind, size, height) = match content {
            Content::List(items) => {
                let (size, height) = measure(items.iter());
                (Kind::List(items.into()), size, height)
            }
            Content::Map { entries, .. } => {
                let (size, height) = measure(entries.iter().map(|(_, value)| value));
                (Kind::Map(entries.into()), size, height)
            }
        };
        self.done(Node { span, kind, size, height }, anchor, source)
    }

    /// Puts a whole node where it belongs.
    fn done(&mut self, mut node: Node, anchor: usize, source: &Source) -> Result<(), Remark> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let in_limit = self.is_limit();
        let Some(Open { secret, content, .. }) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match content {
            Content::List(items) => {
                if *secret && node.text().is_some() {
                    self.secrets.push(node.span);
                }
                items.push(node);
            }
            Content::Map { entries, pending, first } => match pending.take() {
                None => {
                    let Kind::Scalar { text, .. } = &node.kind else {
                        let remark = Remark::new(node.span, "a map or list can't be a key");
                        return Err(
                            remark.hint("put quotes around a text that starts with { or [, as \"{{ … }}\" does")
                        );
                    };
                    *pending = Some(Key { text: text.clone(), span: node.span });
                }
                Some(key) => {
                    if matches!(&node.kind, Kind::Scalar { text, plain: true } if text.is_empty()) {
                        node.span = key.span;
                    } else if node.text().is_some()
                        && (*secret || holds_secrets(&key.text) && !(in_limit && &*key.text == "key"))
                    {
                        self.secrets.push(node.span);
                    }
                    if let Some(first) = first.get(&key.text) {
                        if self.remarks.len() >= MOST_REMARKS {
                            return Ok(());
                        }
                        let place = source.named_place(*first);
                        let remark = Remark::new(key.span, format!("the key `{}` is already there", short(&key.text)));
                        self.remarks.push(remark.hint(format!("it is first written at {place}: remove one of them")));
                    } else {
                        first.insert(key.text.clone(), key.span);
                        entries.push((key, node));
                    }
                }
            },
        }
        Ok(())
    }

    /// Whether the innermost open map is a limit of jobs, whose `key` is no secret.
    fn is_limit(&self) -> bool {
        match &self.open[..] {
            [file, defaults, _] => file.at() == "defaults" && matches!(defaults.at(), "concurrency" | "rate"),
            [file, _, job, _] => file.at() == "jobs" && matches!(job.at(), "concurrency" | "rate" | "unique"),
            _ => false,
        }
    }

    fn count(&mut self, span: Span) -> Result<(), Remark> {
        self.nodes += 1;
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        let remark = Remark::new(span, format!("more than {MOST_NODES} keys and values in one file"));
        Err(remark.hint("split it into several files"))
    }

    fn refuse_depth(&self, depth: usize, span: Span) -> Result<(), Remark> {
        if depth <= MOST_DEPTH { Ok(()) } else { Err(too_deep(span)) }
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Node>) -> (usize, usize) {
    children.fold((1, 1), |(size, height), child| (size + child.size, height.max(child.height + 1)))
}

fn too_deep(span: Span) -> Remark {
    Remark::new(span, format!("maps and lists nest more than {MOST_DEPTH} levels deep"))
        .hint("no schedule file needs that; is a bracket left open?")
}

/// At most 64 characters of a text, for a message.
pub(super) fn short(text: &str) -> String {
    let mut short: String = text.chars().take(64).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(64).is_some() {
        short.push('…');
    }
    short
}

fn refuse_what_is_no_text(source: &Source) -> Result<(), Remark> {
    if source.text.len() > MOST_BYTES {
        let remark = Remark::new(Span::default(), format!("the file is larger than {MOST_BYTES} bytes"));
        return Err(remark.hint("split it into several files"));
    }
    let strange = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}');
    match source.text.char_indices().find(|(_, c)| strange(*c)) {
        None => Ok(()),
        Some((start, c)) => {
            let span = Span { start, end: start + c.len_utf8() };
            let remark =
                Remark::new(span, format!("the control character U+{:04X} can't stand in a text", u32::from(c)));
            Err(remark.hint("is this a YAML file? In a quoted text write it as an escape like \"\\u0007\""))
        }
    }
}

/// The parser's complaint in our words, where it has a usual cause.
fn syntax_remark(error: &ScanError, source: &Source) -> Remark {
    let start = error.marker().byte_offset().unwrap_or_default().min(source.text.len());
    let span = Span { start, end: start };
    let (message, hint) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(span),
        ErrorKind::UnclosedQuotedScalar => ("a quote is opened and never closed", "add the closing quote"),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart => ("a tab where YAML wants spaces", "indent with spaces"),
        ErrorKind::UnknownAnchor => {
            ("no `&name` stands above for this `*name`", "put quotes around a text that starts with *")
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            ("an escape that YAML doesn't know", "use single quotes, in which a backslash is just that")
        }
        ErrorKind::UnclosedFlowCollection { .. } => ("a bracket is opened and never closed", "add the closing bracket"),
        ErrorKind::MissingAnchorOrAliasName => {
            ("a name is missing after `*` or `&`", "put quotes around a text that starts so, like cron: \"* * * * *\"")
        }
        ErrorKind::MappingValueNotAllowed => {
            ("a colon where none can be", "put quotes around a text with a colon in it")
        }
        kind => {
            let remark = Remark::new(span, format!("this is not valid YAML: {kind}"));
            return remark.hint("check indentation, colons and brackets here and in the line above; quote texts with : # { [ & * ! | > % @");
        }
    };
    Remark::new(span, message).hint(hint)
}
