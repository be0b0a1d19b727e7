//! `include`: finds the files and merges their trees. Lists are appended, maps merged by name; what two files
//! both define is an error that names both places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Loader, canonical};
use crate::config::report::{Code, Span};
use crate::config::yaml::{Data, Entry, Key, Node};

/// How deep files may include files.
const DEEPEST_INCLUDE: usize = 16;
/// How many files one configuration may consist of.
const MOST_FILES: usize = 4096;

impl Loader<'_> {
    /// Takes `include` out of a file's root and merges in the files it names, in the order written; the
    /// matches of a wildcard in alphabetical order.
    pub(super) fn include_into(&mut self, mut root: Node, path: &Path, depth: usize) -> Node {
        let Data::Mapping(shared) = &mut root.data else { return root };
        if !shared.iter().any(|entry| &*entry.key.name == "include") {
            return root;
        }
        let entries = Arc::make_mut(shared);
        let included: Vec<Entry> = entries.extract_if(.., |entry| &*entry.key.name == "include").collect();
        let mut entries = std::mem::take(entries);
        let directory = path.parent().unwrap_or(Path::new(""));
        for include in &included {
            for (file, span) in self.find(&include.value, directory) {
                if let Some(tree) = self.follow(&file, span, depth + 1) {
                    self.merge(&mut entries, &tree);
                }
            }
        }
        Node::mapping(root.span, entries)
    }

    /// The files an `include` names, each with the place of its pattern.
    fn find(&mut self, include: &Node, directory: &Path) -> Vec<(PathBuf, Span)> {
        let patterns = match &include.data {
            Data::Sequence(items) => items.as_slice(),
            Data::Scalar(_) | Data::Mapping(_) | Data::Pruned => std::slice::from_ref(include),
        };
        let mut found = Vec::new();
        for pattern in patterns.iter().filter(|pattern| !pattern.is_null() && !pattern.is_pruned()) {
            match pattern.as_scalar() {
                Some(scalar) => self.matches(&scalar.text, pattern.span, directory, &mut found),
                None => {
                    self.report
                        .error(
                            Code::IncludeShape,
                            pattern.span,
                            "include takes paths, or globs such as conf.d/*.yaml",
                        )
                        .help("write include: conf.d/*.yaml or include: [a.yaml, b.yaml]");
                }
            }
        }
        found
    }

    fn matches(&mut self, pattern: &str, span: Span, directory: &Path, found: &mut Vec<(PathBuf, Span)>) {
        let full = directory.join(pattern);
        if !pattern.contains(['*', '?', '[']) {
            if full.exists() {
                found.push((full, span));
            } else {
                let message = format!("the included file {} does not exist", full.display());
                let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
                let help = format!(
                    "paths in include are relative to the including file, here to {}",
                    place.display()
                );
                self.report.error(Code::IncludeMissing, span, message).help(help);
            }
            return;
        }
        self.watch(&full);
        // the directory is taken literally, whatever characters its name has
        let base = glob::Pattern::escape(&directory.to_string_lossy());
        let full = Path::new(&base).join(pattern);
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        match glob::glob_with(&full.to_string_lossy(), options) {
            Ok(paths) => {
                // an unreadable directory is an Err here, and reported below
                for path in paths {
                    match path {
                        Ok(path) if path.is_dir() => {}
                        Ok(path) => found.push((path, span)),
                        Err(error) => {
                            let message = format!("include cannot read {}", error.path().display());
                            self.report
                                .error(Code::FileUnreadable, span, message)
                                .help(error.error().to_string());
                        }
                    }
                }
            }
            Err(error) => {
                let message = format!("include has a malformed glob: {}", error.msg);
                self.report.error(Code::IncludeShape, span, message);
            }
        }
    }

    /// Remembers the directory in which new matches would appear.
    fn watch(&mut self, pattern: &Path) {
        let fixed: PathBuf =
            pattern.iter().take_while(|part| !part.to_string_lossy().contains(['*', '?', '['])).collect();
        if !self.directories.contains(&fixed) {
            self.directories.push(fixed);
        }
    }

    /// Reads one included file, unless it was reached before.
    fn follow(&mut self, path: &Path, span: Span, depth: usize) -> Option<Node> {
        let identity = canonical(path);
        if let Some((_, first)) = self.reached.iter().find(|(reached, _)| *reached == identity) {
            let first = *first;
            let message = format!("{} is included a second time", path.display());
            let diagnostic = self.report.error(Code::IncludeTwice, span, message);
            if first.is_known() {
                diagnostic.related(first, "first included here");
            } else {
                diagnostic.help("it is the main file; narrow the pattern so that it does not include itself");
            }
            return None;
        }
        if depth > DEEPEST_INCLUDE || self.reached.len() >= MOST_FILES {
            let message = format!("more than {DEEPEST_INCLUDE} levels of include, or {MOST_FILES} files");
            self.report.error(Code::IncludeTwice, span, message);
            return None;
        }
        self.reached.push((identity, span));
        let file = self.read(path, Some(span))?;
        self.tree(file, path, depth)
    }

    /// Merges an included root into `entries`.
    fn merge(&mut self, entries: &mut Vec<Entry>, tree: &Node) {
        for entry in tree.entries() {
            let Some(ours) = entries.iter_mut().find(|ours| ours.key.name == entry.key.name) else {
                entries.push(entry.clone());
                continue;
            };
            if ours.value.is_null() {
                *ours = entry.clone();
                continue;
            }
            match (&mut ours.value.data, &entry.value.data) {
                (_, _) if entry.value.is_null() => {}
                (Data::Sequence(items), Data::Sequence(more)) => {
                    Arc::make_mut(items).extend(more.iter().cloned());
                }
                (Data::Mapping(names), Data::Mapping(more)) => {
                    let names = Arc::make_mut(names);
                    // a set, because ten thousand upstreams are looked up here
                    let known: std::collections::HashMap<Arc<str>, Span> =
                        names.iter().map(|named| (named.key.name.clone(), named.key.span)).collect();
                    for named in more.iter() {
                        match known.get(&named.key.name) {
                            Some(first) => self.conflict(&named.key, *first),
                            None => names.push(named.clone()),
                        }
                    }
                }
                (_, _) => {
                    let first = ours.key.span;
                    self.conflict(&entry.key, first);
                }
            }
        }
    }

    fn conflict(&mut self, second: &Key, first: Span) {
        self.report
            .error(Code::IncludeConflict, second.span, format!("\"{}\" is defined in two files", second.name))
            .related(first, "first defined here");
    }
}
