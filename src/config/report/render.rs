//! Shows a [`Report`]: as text for people, as JSON for editors. Values from the environment and the values
//! of secret keys are taken out here, so that no emitter has to remember it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Diagnostic, Report, Severity, Sources, Span};
use crate::config::secret::{MASK, mask_line};

/// Longer source lines are cut around the caret.
const WIDEST_LINE: usize = 140;

impl Report {
    /// All problems with their source lines and carets, and a last line that counts them:
    ///
    /// ```text
    /// conf/edge.yaml:12:15: error[E014]: route "api" uses unknown upstream "apo"; did you mean "api"?
    ///    |
    /// 12 |     upstream: apo
    ///    |               ^^^
    ///    = help: ...
    ///
    /// 1 error
    /// ```
    ///
    /// Empty when there is no problem.
    pub fn render_text(&self, sources: &Sources) -> String {
        let sorted = self.sorted();
        let mut out = String::new();
        for diagnostic in &sorted {
            self.render_one(&mut out, diagnostic, sources);
            out.push('\n');
        }
        let number = |severity| sorted.iter().filter(|d| d.severity == severity).count();
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match (number(Severity::Error), number(Severity::Warning)) {
            (0, 0) => {}
            (errors, 0) => out.push_str(&plural(errors, "error")),
            (0, warnings) => out.push_str(&plural(warnings, "warning")),
            (errors, warnings) => {
                out.push_str(&plural(errors, "error"));
                out.push_str(", ");
                out.push_str(&plural(warnings, "warning"));
            }
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }

    /// An object with `errors`, `warnings` (counts) and `diagnostics`, a list of objects with `file`, `line`,
    /// `column`, `end_column` (from 1, in characters, the end exclusive), `severity`, `code`, `title`,
    /// `message`, `help` (or null) and `related`. A problem of a whole file stands at 1:1.
    pub fn render_json(&self, sources: &Sources) -> Value {
        let sorted = self.sorted();
        let diagnostics: Vec<Value> = sorted.iter().map(|d| self.json_one(d, sources)).collect();
        let number = |severity| sorted.iter().filter(|d| d.severity == severity).count();
        json!({
            "errors": number(Severity::Error),
            "warnings": number(Severity::Warning),
            "diagnostics": diagnostics,
        })
    }

    fn json_one(&self, diagnostic: &Diagnostic, sources: &Sources) -> Value {
        let mut object = json_place(diagnostic.span, sources);
        let related: Vec<Value> = diagnostic
            .related
            .iter()
            .map(|(span, text)| {
                let mut place = json_place(*span, sources);
                place.insert("message".into(), self.conceal_in(text).into());
                Value::Object(place)
            })
            .collect();
        object.insert("severity".into(), diagnostic.severity.as_str().into());
        object.insert("code".into(), diagnostic.code.as_str().into());
        object.insert("title".into(), diagnostic.code.title().into());
        object.insert("message".into(), self.conceal_in(&diagnostic.message).into());
        object.insert("help".into(), diagnostic.help.as_deref().map(|h| self.conceal_in(h)).into());
        object.insert("related".into(), related.into());
        Value::Object(object)
    }

    fn render_one(&self, out: &mut String, diagnostic: &Diagnostic, sources: &Sources) {
        let place = sources.locate(diagnostic.span);
        let colon = if place.is_empty() { "" } else { ": " };
        let (severity, code) = (diagnostic.severity.as_str(), diagnostic.code.as_str());
        let message = self.conceal_in(&diagnostic.message);
        // writing to a String cannot fail
        let _ = writeln!(out, "{place}{colon}{severity}[{code}]: {}", printable(&message));
        let spans = std::iter::once(diagnostic.span).chain(diagnostic.related.iter().map(|(span, _)| *span));
        let gutter = spans.map(|span| span.line.to_string().len()).max().unwrap_or(1);
        render_line(out, diagnostic.span, sources, gutter);
        for (span, text) in &diagnostic.related {
            let text = self.conceal_in(text);
            let _ = writeln!(out, "{:gutter$} = {}: {}", "", sources.locate(*span), printable(&text));
            render_line(out, *span, sources, gutter);
        }
        for line in diagnostic.help.iter().flat_map(|help| help.lines()) {
            let _ = writeln!(out, "{:gutter$} = help: {}", "", printable(&self.conceal_in(line)));
        }
    }

    fn conceal_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, shown) in &self.concealed {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), shown);
            }
        }
        text
    }
}

fn json_place(span: Span, sources: &Sources) -> serde_json::Map<String, Value> {
    let (line, column) = (span.line.max(1), span.column.max(1));
    let mut place = serde_json::Map::new();
    place.insert("file".into(), sources.name(span.file).into());
    place.insert("line".into(), line.into());
    place.insert("column".into(), column.into());
    place.insert("end_column".into(), column.saturating_add(span.len).into());
    place
}

/// The source line under a gutter, and a caret for each character of the span.
fn render_line(out: &mut String, span: Span, sources: &Sources, gutter: usize) {
    let Some(line) = sources.line(span.file, span.line) else { return };
    let masked = if sources.is_hidden(span.file, span.line) { MASK.into() } else { mask_line(line) };
    let start = usize::try_from(span.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let (shown, start, width) = cut(&printable(&masked), start);
    let carets = usize::try_from(span.len).unwrap_or(1).clamp(1, width.saturating_sub(start).max(1));
    let _ = writeln!(out, "{:gutter$} |", "");
    let _ = writeln!(out, "{:>gutter$} | {}", span.line, shown.trim_end());
    let _ = writeln!(out, "{:gutter$} | {:start$}{}", "", "", "^".repeat(carets));
}

/// Cuts a long line to a window around `start`; returns it with the new start and the window's width.
fn cut(line: &str, start: usize) -> (String, usize, usize) {
    let width = line.trim_end().chars().count();
    let start = start.min(width);
    if width <= WIDEST_LINE {
        return (line.to_owned(), start, width);
    }
    let from = start.saturating_sub(WIDEST_LINE / 2).min(width - WIDEST_LINE);
    let window: String = line.chars().skip(from).take(WIDEST_LINE).collect();
    let (before, after) =
        (if from > 0 { "…" } else { "" }, if from + WIDEST_LINE < width { "…" } else { "" });
    (format!("{before}{window}{after}"), start - from + before.chars().count(), WIDEST_LINE + 1)
}

/// One column for each character: a tab becomes a space, and what could drive a terminal a question mark.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}
