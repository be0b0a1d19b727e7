//! The texts a configuration was read from, and places in them.

/// A file among the [`Sources`]. The default is the first one, which is the main file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A place in a file. Lines and columns count from 1, columns and `len` in characters. A line of 0 means the
/// file as a whole; the default is the main file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub file: FileId,
    pub line: u32,
    pub column: u32,
    /// Characters on the first line; 0 marks a point.
    pub len: u32,
}

impl Span {
    /// The file as a whole.
    pub const fn file(file: FileId) -> Span {
        Span { file, line: 0, column: 0, len: 0 }
    }

    /// Whether a line is known.
    pub const fn is_known(self) -> bool {
        self.line > 0
    }
}

/// File names and texts.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    /// Byte offset of each line's start.
    starts: Vec<usize>,
    /// Lines (from 1) that are wholly secret: the continuation of a multi-line secret.
    secret_lines: Vec<(u32, u32)>,
}

impl Sources {
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> FileId {
        let text = text.into();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Source { name: name.into(), text, starts, secret_lines: Vec::new() });
        id
    }

    fn get(&self, file: FileId) -> Option<&Source> {
        self.files.get(usize::try_from(file.0).ok()?)
    }

    /// The name as the user gave it; empty when the file is unknown.
    pub fn name(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| source.name.as_str())
    }

    /// The names of all files, the main file first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|source| source.name.as_str())
    }

    pub fn text(&self, file: FileId) -> &str {
        self.get(file).map_or("", |source| source.text.as_str())
    }

    /// A line (from 1) without its end, as written.
    pub fn line(&self, file: FileId, line: u32) -> Option<&str> {
        let source = self.get(file)?;
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let start = *source.starts.get(index)?;
        let end = source.starts.get(index + 1).map_or(source.text.len(), |next| next - 1);
        source.text.get(start..end).map(|text| text.strip_suffix('\r').unwrap_or(text))
    }

    /// Marks lines `from..=to` as wholly secret; rendering never shows them.
    pub fn hide_lines(&mut self, file: FileId, from: u32, to: u32) {
        let source = usize::try_from(file.0).ok().and_then(|index| self.files.get_mut(index));
        if let Some(source) = source
            && from <= to
        {
            source.secret_lines.push((from, to));
        }
    }

    /// Whether a line was hidden by [`Sources::hide_lines`].
    pub fn is_hidden(&self, file: FileId, line: u32) -> bool {
        let hidden =
            |source: &Source| source.secret_lines.iter().any(|(from, to)| (*from..=*to).contains(&line));
        self.get(file).is_some_and(hidden)
    }

    /// `conf/edge.yaml:12:15`, or only the name when the line is unknown.
    pub fn locate(&self, span: Span) -> String {
        let name = self.name(span.file);
        if span.is_known() { format!("{name}:{}:{}", span.line, span.column) } else { name.to_owned() }
    }
}
