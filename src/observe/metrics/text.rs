//! The text format of Prometheus, version 0.0.4 ("Exposition formats", prometheus.io): lines of a name, labels and a
//! value, those of one name together behind what it means.

use super::families::Family;
use std::fmt::{Display, Write};

/// A page that grows.
#[derive(Debug, Default)]
pub struct Text(String);

/// The samples of one family. Its head is written with the first, so that one without samples is not there at all.
pub struct Samples<'a> {
    text: &'a mut String,
    family: &'a Family,
    begun: bool,
}

impl Text {
    pub fn family<'a>(&'a mut self, family: &'a Family) -> Samples<'a> {
        Samples { text: &mut self.0, family, begun: false }
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.begin();
        self.text.push_str(self.family.name);
        self.labels(labels);
        // a String takes everything
        writeln!(self.text, " {value}").ok();
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let Family { name, kind, help } = self.family;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        let mut before = '{';
        for (name, value) in labels {
            self.text.push(before);
            before = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if before == ',' {
            self.text.push('}');
        }
    }
}

/// A label may be any text; three characters have to be written otherwise.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::families::BUILD_INFO;

    #[test]
    fn labels_may_be_anything() {
        let mut text = Text::default();
        text.family(&BUILD_INFO).sample(&[("a", "b\"c\\d\ne"), ("é", "ü")], 1.5);
        let page = text.into_string();
        assert!(page.ends_with("weirgate_build_info{a=\"b\\\"c\\\\d\\ne\",é=\"ü\"} 1.5\n"), "{page}");
    }

    #[test]
    fn what_has_no_samples_is_not_there() {
        let mut text = Text::default();
        text.family(&BUILD_INFO);
        assert_eq!(text.into_string(), "");
    }
}
