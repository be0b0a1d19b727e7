//! Problems with a configuration, each with its place, a stable code and words that say the fix.
//!
//! Everything under `config` writes into one [`Report`], so that a user sees every problem at once; `check`,
//! a refused start and a refused reload print it. Rendering is in `render.rs`, the codes in `codes.rs`.

mod codes;
mod examples;
mod render;
mod sources;

pub use codes::{Code, Severity};
pub use examples::Example;
pub use sources::{FileId, Sources, Span};

/// One problem. Made by [`Report::error`] and [`Report::warning`].
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: Code,
    pub span: Span,
    /// One line: what is wrong, with the fix when it is short.
    pub message: String,
    /// A further line that says how to mend it.
    pub help: Option<String>,
    /// Other places that belong to the problem, each with its own words.
    pub related: Vec<(Span, String)>,
}

impl Diagnostic {
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    pub fn related(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.related.push((span, text.into()));
        self
    }
}

/// The problems found so far, in the order in which they were found; shown in the order of their places.
#[derive(Clone, Debug, Default)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    /// Values that came from the environment, with the spelling shown in their place.
    concealed: Vec<(String, String)>,
}

impl Report {
    pub fn new() -> Report {
        Report::default()
    }

    /// Records a problem that refuses the configuration.
    pub fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, span, message.into())
    }

    /// Records a problem that is shown and does not refuse the configuration.
    pub fn warning(&mut self, code: Code, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, code, span, message.into())
    }

    fn push(&mut self, severity: Severity, code: Code, span: Span, message: String) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        let fresh = Diagnostic { severity, code, span, message, help: None, related: Vec::new() };
        self.diagnostics.push(fresh);
        &mut self.diagnostics[at]
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many problems of this severity there are, counting what is reported twice once.
    pub fn count(&self, severity: Severity) -> usize {
        self.sorted().iter().filter(|d| d.severity == severity).count()
    }

    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Everything recorded, in the order of recording.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Takes over what another report holds.
    pub fn append(&mut self, other: Report) {
        self.diagnostics.extend(other.diagnostics);
        self.concealed.extend(other.concealed);
    }

    /// From now on `value` is never rendered; `shown` stands in its place. Short values are left alone: they
    /// hide nothing, and replacing each `80` would garble unrelated messages.
    pub fn conceal(&mut self, value: &str, shown: &str) {
        const SHORTEST: usize = 8;
        let entry = (value.to_owned(), shown.to_owned());
        if value.chars().count() >= SHORTEST && !self.concealed.contains(&entry) {
            self.concealed.push(entry);
        }
    }

    /// What is never rendered, and what stands in its place.
    pub fn concealed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.concealed.iter().map(|(value, shown)| (value.as_str(), shown.as_str()))
    }

    /// Ordered by file and place, each problem once.
    fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        all.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.span.file, d.span.line, d.span.column, d.severity, d.code);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        all.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
        all
    }
}

/// The candidate that a misspelt word most likely meant, if one is close enough.
pub fn suggest<'a, S: AsRef<str> + ?Sized + 'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let wanted = word.to_lowercase().replace('-', "_");
    let length = wanted.chars().count();
    let allowed = match length {
        0 | 1 => return None,
        2..=3 => 1,
        4..=6 => 2,
        _ => 3,
    };
    let mut best: Option<(usize, f64, &'a str)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        let folded = candidate.to_lowercase().replace('-', "_");
        let distance = strsim::damerau_levenshtein(&wanted, &folded);
        let likeness = strsim::jaro_winkler(&wanted, &folded);
        // a word cut short or drawn out (`timeout` for `timeouts`, `cert` for `certificates`) is meant too
        let prefix = length >= 4 && (folded.starts_with(&wanted) || wanted.starts_with(&folded));
        let close = distance <= allowed && distance * 2 <= length.max(2) || prefix && folded.len() >= 3;
        let better = best.is_none_or(|(d, l, _)| distance < d || (distance == d && likeness > l));
        if close && better {
            best = Some((distance, likeness, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}

#[cfg(test)]
mod tests;
