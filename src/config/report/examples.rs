//! What `weirgate explain E014` shows: a kind of problem with its cause, its mend and an example. The
//! examples stand in `examples.md`, which is part of the program.

use super::Code;
use serde_json::{Value, json};

static EXAMPLES: &str = include_str!("examples.md");

/// A mistake, and the same without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    pub wrong: &'static str,
    pub right: &'static str,
    /// They are parts of a configuration, not commands or several files.
    pub yaml: bool,
}

impl Code {
    /// Cause, mend and example, for a terminal.
    pub fn explained(self) -> String {
        let (name, severity) = (self.as_str(), self.severity().as_str());
        let mut out = format!("{name} ({severity}): {}\n\n{}\n{}\n", self.title(), self.cause(), self.mend());
        if let Some(Example { wrong, right, .. }) = self.example() {
            for (title, text) in [("Wrong", wrong), ("Right", right)] {
                out.push_str(&format!("\n{title}:\n\n"));
                text.lines().for_each(|line| out.push_str(&format!("    {line}\n")));
            }
        }
        out
    }

    /// The same for programs: `code`, `severity`, `title`, `cause`, `mend`, `wrong`, `right`.
    pub fn as_json(self) -> Value {
        let example = self.example();
        json!({
            "code": self.as_str(),
            "severity": self.severity().as_str(),
            "title": self.title(),
            "cause": self.cause(),
            "mend": self.mend(),
            "wrong": example.map(|example| example.wrong),
            "right": example.map(|example| example.right),
        })
    }

    /// Every code has one.
    pub fn example(self) -> Option<Example> {
        let mut sections = EXAMPLES.split("\n## ").skip(1);
        let section = sections.find_map(|section| section.strip_prefix(self.as_str())?.strip_prefix('\n'))?;
        let block = |kind: &str| -> Option<&'static str> {
            let (_, rest) = section.split_once(&format!("```{kind}\n"))?;
            Some(rest.split_once("\n```")?.0)
        };
        let pair = |kind: &str| Some((block(&format!("{kind} wrong"))?, block(&format!("{kind} right"))?));
        let (yaml, (wrong, right)) = match pair("yaml") {
            Some(pair) => (true, pair),
            None => (false, pair("text")?),
        };
        Some(Example { wrong, right, yaml })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check_document;
    use crate::config::load::load_str;
    use crate::config::report::Report;
    use crate::filter::Catalogue;

    /// The codes that checking this part of a configuration finds, and the report.
    fn found(part: &str) -> (Vec<Code>, String) {
        let mut text = format!("{part}\n");
        for (key, rest) in [
            ("listeners:", "listeners: [{ name: web, address: 127.0.0.1:8080 }]\n"),
            ("routes:", "routes: [{ path: /, upstream: api }]\n"),
            ("upstreams:", "upstreams: { api: { servers: [127.0.0.1:3001] } }\n"),
        ] {
            // what begins with a comment is to be empty
            if !part.lines().any(|line| line.starts_with(key)) && !part.starts_with("# listeners") {
                text.push_str(rest);
            }
        }
        let mut report = Report::new();
        let document = load_str("example.yaml", &text, &|_| None, &mut report);
        let checked = check_document(document, &Catalogue::standard(), report);
        let codes = checked.report.diagnostics().iter().map(|diagnostic| diagnostic.code).collect();
        (codes, format!("{}\n{text}", checked.report.render_text(&checked.sources)))
    }

    #[test]
    fn every_code_has_an_example_that_shows_it() {
        let mut mistakes = String::new();
        for code in Code::ALL {
            let Some(Example { wrong, right, yaml }) = code.example() else {
                panic!("no example of {} in examples.md", code.as_str());
            };
            assert!(wrong != right && !wrong.is_empty() && !right.is_empty(), "{code:?}");
            if !yaml {
                continue;
            }
            let ((shown, wrong), (left, right)) = (found(wrong), found(right));
            if !shown.contains(code) {
                mistakes.push_str(&format!("\nthe wrong example of {} is not one:\n{wrong}", code.as_str()));
            }
            if !left.is_empty() {
                mistakes.push_str(&format!("\nthe right example of {} is not:\n{right}", code.as_str()));
            }
        }
        assert!(mistakes.is_empty(), "{mistakes}");
    }

    #[test]
    fn most_examples_are_checked() {
        let checked =
            Code::ALL.iter().filter_map(|code| code.example()).filter(|example| example.yaml).count();
        assert!(checked * 2 > Code::ALL.len(), "{checked} of {}", Code::ALL.len());
    }
}
