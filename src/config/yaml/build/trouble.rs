//! What is said of text that is not YAML, and of variables that cannot be put in: with the place that a reader would
//! point at, which is not always the one where the parser gave up.

use super::{Builder, count};
use crate::config::env::EnvError;
use crate::config::report::{Code, Span};
use saphyr_parser::ScanError;

impl Builder<'_> {
    pub(super) fn env_error(&mut self, error: &EnvError, span: Span) {
        // point at the variable itself when it can be found on the scalar's first line
        let needle = error.needle();
        let line = self.sources.line(self.file, span.line).unwrap_or_default();
        let skip = usize::try_from(span.column.saturating_sub(1)).unwrap_or(0);
        let tail: String = line.chars().skip(skip).collect();
        let place = tail.find(&needle).and_then(|at| tail.get(..at)).map_or(span, |before| Span {
            column: span.column.saturating_add(count(before.chars().count())),
            len: count(needle.chars().count()),
            ..span
        });
        match error {
            EnvError::Unset { name } => self
                .report
                .error(Code::EnvUnset, place, format!("the environment variable {name} is not set"))
                .help(format!("set it, or give a default: ${{{name}:-default}}")),
            EnvError::Syntax { .. } => self
                .report
                .error(Code::EnvSyntax, place, "a variable is not written as ${VAR} or ${VAR:-default}")
                .help("for a literal ${ write $${"),
        };
    }

    pub(super) fn syntax_error(&mut self, error: &ScanError) {
        let mark = error.marker();
        let (line, column) = (count(mark.line()).max(1), count(mark.col()).saturating_add(1));
        let span = Span { file: self.file, line, column, len: 1 };
        let text = self.sources.line(self.file, line).unwrap_or_default().to_owned();
        let info = error.info();
        let tab = info.contains("tab").then(|| self.tab_after(line)).flatten();
        let (code, span, message) = match tab {
            Some(place) => (Code::Syntax, place, "a tab is used for indentation".to_owned()),
            None if info.contains("unknown anchor") => {
                let message = "this alias refers to an anchor that is not defined before it";
                (Code::BadAlias, span, message.to_owned())
            }
            None => (Code::Syntax, span, format!("this is not valid YAML: {info}")),
        };
        let help = if tab.is_some() {
            "YAML is indented with spaces"
        } else if code == Code::BadAlias {
            "define the anchor with &name on an earlier value; quote text that begins with *"
        } else if text.contains("${") {
            "inside { } or [ ] a variable needs quotes: \"${VAR}\""
        } else if info.contains("mapping values are not allowed") {
            "quote text that holds a colon and a space, or check the indentation"
        } else {
            "check the indentation and the quotes here and on the line before"
        };
        self.report.error(code, span, message).help(help);
    }

    /// The first tab in an indentation, on `line` or soon after: the parser may complain about the scalar
    /// before it.
    fn tab_after(&self, line: u32) -> Option<Span> {
        const NEAR: u32 = 20;
        (line..line.saturating_add(NEAR)).find_map(|line| {
            let text = self.sources.line(self.file, line)?;
            let indent = text.get(..text.len() - text.trim_start().len())?;
            let column = count(indent.find('\t')?).saturating_add(1);
            Some(Span { file: self.file, line, column, len: 1 })
        })
    }
}
