//! Reads a configuration's files into one [`Document`]: size and encoding limits, `${VAR}`, `include`.
//!
//! Called by the command line, at reload, and by programs that embed the library. Paths in `include` are
//! relative to the directory of the file that includes. Every other path in a configuration (certificates,
//! log files) is relative to the working directory the process was started in: `certs/demo.crt` means the
//! same in `conf/weirgate.yaml` and in a file it includes.

mod include;
mod read;

use std::path::{Path, PathBuf};

use crate::config::report::{Code, FileId, Report, Sources, Span};
use crate::config::yaml::{self, Data, Node};

/// The largest file, in bytes.
pub const LARGEST_FILE: u64 = 16 << 20;
/// All files of a configuration together, in bytes.
pub const LARGEST_TOTAL: u64 = 64 << 20;

/// A configuration as a tree, with the texts it came from.
#[derive(Clone, Debug)]
pub struct Document {
    pub sources: Sources,
    /// Always a mapping; empty when the main file could not be read.
    pub root: Node,
    /// Every file that was read, the main file first: what a reload has to watch.
    pub files: Vec<PathBuf>,
    /// The directories that wildcards in `include` look into: a new file there changes the configuration.
    pub directories: Vec<PathBuf>,
}

/// Reads `path` and what it includes. Problems go to `report`; the document is as complete as it can be, so
/// that decoding finds further problems.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>, report: &mut Report) -> Document {
    let mut loader = Loader::new(env, report);
    let text = loader.read(path, None);
    loader.document(path, text)
}

/// As [`load`], with the main file's text given; `name` stands for its path, from which includes are found.
pub fn load_str(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Document {
    let mut loader = Loader::new(env, report);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = loader.add(Path::new(name), text.to_owned());
    loader.document(Path::new(name), Some(file))
}

struct Loader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    report: &'a mut Report,
    sources: Sources,
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    /// Files reached so far by their canonical path, with the place that included them.
    reached: Vec<(PathBuf, Span)>,
    total: u64,
}

impl<'a> Loader<'a> {
    fn new(env: &'a dyn Fn(&str) -> Option<String>, report: &'a mut Report) -> Loader<'a> {
        Loader {
            env,
            report,
            sources: Sources::default(),
            files: Vec::new(),
            directories: Vec::new(),
            reached: Vec::new(),
            total: 0,
        }
    }

    fn add(&mut self, path: &Path, text: String) -> FileId {
        self.files.push(path.to_owned());
        self.sources.add(path.display().to_string(), text)
    }

    fn document(mut self, path: &Path, file: Option<FileId>) -> Document {
        self.reached.push((canonical(path), Span::default()));
        let root = match file {
            Some(file) => self.main(file, path),
            None => Node::mapping(Span::default(), Vec::new()),
        };
        let Loader { sources, files, directories, .. } = self;
        Document { sources, root, files, directories }
    }

    fn main(&mut self, file: FileId, path: &Path) -> Node {
        let problems = self.report.diagnostics().len();
        let root = self.tree(file, path, 0);
        let silent = self.report.diagnostics().len() == problems;
        if silent && root.as_ref().is_none_or(|root| root.entries().is_empty()) {
            self.report
                .error(Code::EmptyFile, Span::file(file), "the configuration is empty")
                .help("write at least one listener, and routes with their upstreams");
        }
        root.unwrap_or_else(|| Node::mapping(Span::file(file), Vec::new()))
    }

    /// A file's tree with its includes merged in; `None` when it is empty or was refused.
    fn tree(&mut self, file: FileId, path: &Path, depth: usize) -> Option<Node> {
        let root = yaml::parse(file, &mut self.sources, self.env, self.report)?;
        if root.is_null() {
            return None;
        }
        match &root.data {
            Data::Mapping(_) => Some(self.include_into(root, path, depth)),
            Data::Scalar(_) | Data::Sequence(_) | Data::Pruned => {
                self.report
                    .error(Code::WrongType, root.span, "a configuration is a mapping of keys")
                    .help("begin with a key such as listeners: or upstreams:");
                None
            }
        }
    }
}

/// The one spelling by which a file is recognised; the path itself when it has none.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
