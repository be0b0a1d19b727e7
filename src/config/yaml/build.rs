//! Builds the tree from the parser's events: duplicate keys, anchors, merge keys, limits, `${VAR}`.

mod entries;
mod input;
mod trouble;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::AHashSet;
use saphyr_parser::{Event, Parser, ScalarStyle, Span as Range, Tag};

use self::entries::Entries;
use self::input::Text;
use super::{Data, Entry, Expanded, Key, Node, Scalar};
use crate::config::env::{Env, expand};
use crate::config::report::{Code, FileId, Report, Sources, Span};
use crate::config::secret::{is_secret_key, quoted_length};

/// The deepest nesting, aliases included: decoding recurses.
const DEEPEST: usize = 64;
/// How many nodes aliases may stand for, so that a few lines cannot grow without end.
const MOST_ALIASED: usize = 1_000_000;
/// A key longer than this is hardly one that comes again.
const LONG_KEY: usize = 32;

/// Parses the text of `file` (already in `sources`) into a tree. Problems go to `report`; `None` when there
/// is no document or the text is not YAML.
pub fn parse(file: FileId, sources: &mut Sources, env: Env<'_>, report: &mut Report) -> Option<Node> {
    let (root, secret_lines) = Builder::new(file, sources, env, report).tree();
    for (from, to) in secret_lines {
        sources.hide_lines(file, from, to);
    }
    root
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    nodes: usize,
    depth: usize,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping { entries: Entries, key: Option<PendingKey>, merged: Vec<Node> },
}

enum PendingKey {
    Plain(Key),
    Merge,
    /// The key was refused; its value is dropped.
    Refused,
}

/// A finished node with how many nodes it holds and how deep it is.
#[derive(Clone)]
struct Measured {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Builder<'a> {
    file: FileId,
    sources: &'a Sources,
    env: Env<'a>,
    report: &'a mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Measured>,
    /// Keys so far: most come again and again.
    names: AHashSet<Arc<str>>,
    /// Of mappings that are complete, for others.
    room: Vec<Vec<Entry>>,
    aliased: usize,
    root: Option<Node>,
    documents: usize,
    /// The first and the last of lines that are never shown.
    secret_lines: Vec<(u32, u32)>,
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl<'a> Builder<'a> {
    fn new(file: FileId, sources: &'a Sources, env: Env<'a>, report: &'a mut Report) -> Self {
        Builder {
            file,
            sources,
            env,
            report,
            open: Vec::new(),
            anchors: HashMap::new(),
            names: AHashSet::new(),
            room: Vec::new(),
            aliased: 0,
            root: None,
            documents: 0,
            secret_lines: Vec::new(),
        }
    }

    /// The tree, unless there is none, and the lines of secrets, in any case.
    fn tree(mut self) -> (Option<Node>, Vec<(u32, u32)>) {
        let text = self.sources.text(self.file);
        let mut parser = Parser::new(Text::new(text.strip_prefix('\u{feff}').unwrap_or(text)));
        while let Some(next) = parser.next_event() {
            let goes_on = match next {
                Ok((event, range)) => self.event(event, range),
                Err(error) => {
                    self.syntax_error(&error);
                    false
                }
            };
            if !goes_on {
                return (None, self.secret_lines);
            }
        }
        (self.root, self.secret_lines)
    }

    /// Takes one event; `false` ends the parse, with the reason reported.
    fn event(&mut self, event: Event<'_>, range: Range) -> bool {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => true,
            Event::DocumentStart(_) => self.document(range),
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), range)
            }
            Event::Alias(anchor) => self.alias(anchor, range),
            Event::SequenceStart(anchor, tag) => {
                self.open(OpenKind::Sequence(Vec::new()), anchor, tag.as_deref(), range)
            }
            Event::MappingStart(anchor, tag) => {
                let entries = Entries::within(self.room.pop().unwrap_or_default());
                let kind = OpenKind::Mapping { entries, key: None, merged: Vec::new() };
                self.open(kind, anchor, tag.as_deref(), range)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn document(&mut self, range: Range) -> bool {
        self.documents += 1;
        if self.documents > 1 {
            let span = self.span(range);
            self.report
                .error(Code::MultipleDocuments, span, "a second YAML document begins here")
                .help("keep one document for each file and bring others in with include");
            return false;
        }
        true
    }

    /// The place of an event, cut to its first line.
    fn span(&self, range: Range) -> Span {
        let (line, column) = (count(range.start.line()), count(range.start.col()).saturating_add(1));
        let len = if range.end.line() == range.start.line() {
            count(range.end.col().saturating_sub(range.start.col()))
        } else {
            let text = self.sources.line(self.file, line).unwrap_or_default().trim_end();
            count(text.chars().count()).saturating_sub(column - 1)
        };
        Span { file: self.file, line, column, len }
    }

    /// The place of a scalar; for a quoted one the parser counts what follows the quote, too.
    fn scalar_span(&self, style: ScalarStyle, range: Range) -> Span {
        let span = self.span(range);
        let quote = match style {
            ScalarStyle::SingleQuoted => '\'',
            ScalarStyle::DoubleQuoted => '"',
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => return span,
        };
        let line = self.sources.line(self.file, span.line).unwrap_or_default();
        let start = line.char_indices().nth(range.start.col()).map_or(line.len(), |(at, _)| at);
        let tail = line.get(start..).unwrap_or_default();
        let quoted = tail.get(..quoted_length(tail, quote)).unwrap_or_default();
        Span { len: count(quoted.chars().count()), ..span }
    }

    fn open(&mut self, kind: OpenKind, anchor: usize, tag: Option<&Tag>, range: Range) -> bool {
        let span = Span { len: 1, ..self.span(range) };
        self.check_tag(tag, span);
        if self.open.len() >= DEEPEST {
            self.too_deep(span);
            return false;
        }
        self.open.push(Open { span, anchor, nodes: 1, depth: 1, kind });
        true
    }

    fn too_deep(&mut self, span: Span) {
        self.report.error(Code::TooComplex, span, format!("nested more than {DEEPEST} levels deep"));
    }

    /// Whether the tag forces text. Tags of the core schema are understood, others refused.
    fn check_tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let core = ["str", "int", "float", "bool", "null", "seq", "map"].contains(&tag.suffix.as_str());
        let known = tag.is_yaml_core_schema() && core || tag.handle.is_empty() && tag.suffix == "!";
        if !known {
            self.report
                .error(Code::BadTag, span, format!("the tag {tag} means nothing here"))
                .help("remove the tag, or quote the text if it begins with !");
        }
        !core || tag.suffix == "str"
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        range: Range,
    ) -> bool {
        let span = self.scalar_span(style, range);
        let is_text = self.check_tag(tag, span);
        let plain = matches!(style, ScalarStyle::Plain) && !is_text;
        if self.wants_key() {
            let merge = plain && text == "<<";
            let name = self.name(text);
            return self.key(Key { name, span }, merge);
        }
        self.hide_if_secret(range);
        let scalar = self.expand(text, plain, span);
        let node = Node { span, data: scalar.map_or(Data::Pruned, |scalar| Data::Scalar(Arc::new(scalar))) };
        self.finish(Measured { node, nodes: 1, depth: 0 }, anchor)
    }

    /// `None` when a variable in it is in error, which is reported.
    fn expand(&mut self, text: &str, plain: bool, span: Span) -> Option<Scalar> {
        match expand(text, self.env) {
            Ok(None) => Some(Scalar::new(text.to_owned(), plain)),
            Ok(Some(expanded)) => {
                for (value, shown) in &expanded.values {
                    self.report.conceal(value, shown);
                }
                let before = Expanded { raw: text.to_owned(), values: expanded.values };
                Some(Scalar { text: expanded.text, plain, expanded: Some(Box::new(before)) })
            }
            Err(errors) => {
                for error in errors {
                    self.env_error(&error, span);
                }
                None
            }
        }
    }

    /// The further lines of a multi-line secret are never shown.
    fn hide_if_secret(&mut self, range: Range) {
        let key = self.open.last().and_then(|open| match &open.kind {
            OpenKind::Mapping { key: Some(PendingKey::Plain(key)), .. } => Some(key),
            OpenKind::Mapping { .. } | OpenKind::Sequence(_) => None,
        });
        if let Some(key) = key.filter(|key| is_secret_key(&key.name)) {
            // a block scalar ends where the next line begins
            let last = range.end.line().saturating_sub(usize::from(range.end.col() == 0));
            self.secret_lines.push((key.span.line.saturating_add(1), count(last)));
        }
    }

    fn wants_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(&open.kind, OpenKind::Mapping { key: None, .. }))
    }

    /// The text of a key, shared with those that are the same.
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name: Arc<str> = text.into();
        if text.len() <= LONG_KEY {
            self.names.insert(name.clone());
        }
        name
    }

    fn key(&mut self, key: Key, merge: bool) -> bool {
        let Some(Open { kind: OpenKind::Mapping { entries, key: pending, .. }, .. }) = self.open.last_mut()
        else {
            return true;
        };
        if merge {
            *pending = Some(PendingKey::Merge);
        } else if let Some(first) = entries.find(&key.name) {
            self.report
                .error(Code::DuplicateKey, key.span, format!("the key \"{}\" is written twice", key.name))
                .related(first, "first written here");
            *pending = Some(PendingKey::Refused);
        } else {
            *pending = Some(PendingKey::Plain(key));
        }
        true
    }

    fn alias(&mut self, anchor: usize, range: Range) -> bool {
        let span = self.span(range);
        let Some(target) = self.anchors.get(&anchor).cloned() else {
            self.report.error(Code::BadAlias, span, "this alias stands inside the value it refers to");
            return false;
        };
        self.aliased = self.aliased.saturating_add(target.nodes);
        if self.aliased > MOST_ALIASED {
            let message = format!("aliases expand to more than {MOST_ALIASED} nodes");
            self.report.error(Code::TooComplex, span, message);
            return false;
        }
        if self.open.len() + target.depth > DEEPEST {
            self.too_deep(span);
            return false;
        }
        match target.node.as_scalar() {
            Some(scalar) if self.wants_key() => {
                let name = scalar.text.as_str().into();
                self.key(Key { name, span }, false)
            }
            Some(_) | None => self.finish(target, 0),
        }
    }

    fn close(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return true };
        let node = match open.kind {
            OpenKind::Sequence(items) => Node::sequence(open.span, items),
            OpenKind::Mapping { mut entries, merged, .. } => {
                for source in merged {
                    self.merge(&mut entries, &source);
                }
                // there may be a hundred thousand: each as large as it has to be
                let exact = entries.all.drain(..).collect();
                self.room.push(entries.all);
                Node::mapping(open.span, exact)
            }
        };
        self.finish(Measured { node, nodes: open.nodes, depth: open.depth }, open.anchor)
    }

    /// `<<`: takes the entries of a mapping, or of a list of them, that are not there yet.
    fn merge(&mut self, entries: &mut Entries, source: &Node) {
        let sources = match &source.data {
            Data::Sequence(items) => items.as_slice(),
            Data::Mapping(_) | Data::Scalar(_) | Data::Pruned => std::slice::from_ref(source),
        };
        for node in sources {
            if !matches!(node.data, Data::Mapping(_)) {
                self.report
                    .error(Code::BadAlias, node.span, "<< takes a mapping or a list of mappings")
                    .help("define it with an anchor, as in base: &base { ... }, and write <<: *base");
            }
            for entry in node.entries() {
                if entries.find(&entry.key.name).is_none() {
                    entries.push(entry.clone());
                }
            }
        }
    }

    /// Hands a finished node to the collection it stands in.
    fn finish(&mut self, done: Measured, anchor: usize) -> bool {
        if anchor > 0 {
            self.anchors.insert(anchor, done.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(done.node);
            return true;
        };
        open.nodes = open.nodes.saturating_add(done.nodes);
        open.depth = open.depth.max(done.depth + 1);
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(done.node),
            OpenKind::Mapping { entries, key, merged, .. } => match key.take() {
                Some(PendingKey::Plain(name)) => entries.push(Entry { key: name, value: done.node }),
                Some(PendingKey::Merge) => merged.push(done.node),
                Some(PendingKey::Refused) => {}
                None => {
                    *key = Some(PendingKey::Refused);
                    let message = "a list or mapping cannot be a key";
                    self.report
                        .error(Code::BadKey, done.node.span, message)
                        .help("quote text that begins with { or [");
                }
            },
        }
        true
    }
}
