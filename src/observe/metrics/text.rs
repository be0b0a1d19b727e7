//! The text format of Prometheus, version 0.0.4 ("Exposition formats", prometheus.io): lines of a name, labels and a
//! value, those of one name together behind what it means.

use super::families::Family;
use super::histogram::{self, Sums};
use std::fmt::{Display, Write};

/// A page that grows.
#[derive(Debug, Default)]
pub struct Text(String);

/// The labels of something, written once for all of its samples.
#[derive(Debug, Clone, Default)]
pub struct Labels(String);

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

impl Labels {
    pub fn new(labels: &[(&str, &str)]) -> Labels {
        let mut text = String::new();
        for label in labels {
            push_label(&mut text, *label);
        }
        Labels(text)
    }
}

impl Samples<'_> {
    pub fn sample(&mut self, of: &Labels, value: impl Display) {
        self.with(of, &[], value);
    }

    /// With further labels.
    pub fn with(&mut self, of: &Labels, more: &[(&str, &str)], value: impl Display) {
        self.line("", of, more, value);
    }

    pub fn histogram(&mut self, of: &Labels, sums: &Sums) {
        for (bucket, count) in sums.cumulative.iter().enumerate() {
            let end = histogram::bound(bucket).map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.line("_bucket", of, &[("le", &end)], count);
        }
        self.line("_sum", of, &[], histogram::seconds(sums.sum));
        self.line("_count", of, &[], sums.count());
    }

    fn line(&mut self, part: &str, of: &Labels, more: &[(&str, &str)], value: impl Display) {
        let Family { name, kind, help } = self.family;
        if !std::mem::replace(&mut self.begun, true) {
            // a String takes everything, here and below
            writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
        }
        self.text.push_str(name);
        self.text.push_str(part);
        if !of.0.is_empty() || !more.is_empty() {
            self.text.push('{');
            self.text.push_str(&of.0);
            more.iter().for_each(|label| push_label(self.text, *label));
            // the comma behind the last label
            self.text.pop();
            self.text.push('}');
        }
        writeln!(self.text, " {value}").ok();
    }
}

fn push_label(text: &mut String, (name, value): (&str, &str)) {
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        // a label may be any text; three characters have to be written otherwise
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push_str("\",");
}

#[cfg(test)]
mod tests {
    use super::super::cells::Cells;
    use super::super::families::{BUILD_INFO, ROUTE_DURATION};
    use super::*;
    use std::time::Duration;

    #[test]
    fn labels_may_be_anything() {
        let mut text = Text::default();
        let labels = Labels::new(&[("a", "b\"c\\d\ne"), ("f", "ü")]);
        let mut samples = text.family(&BUILD_INFO);
        samples.sample(&labels, 1.5);
        samples.with(&Labels::default(), &[("g", "h")], 2);
        samples.sample(&Labels::default(), 3);
        let page = text.into_string();
        let name = BUILD_INFO.name;
        let lines = format!("{name}{{a=\"b\\\"c\\\\d\\ne\",f=\"ü\"}} 1.5\n{name}{{g=\"h\"}} 2\n{name} 3\n");
        assert!(page.ends_with(&lines), "{page}");
        assert_eq!(page.matches("# TYPE").count(), 1);
    }

    #[test]
    fn a_histogram_has_all_its_parts() {
        let cells = Cells::new(histogram::PLACES);
        histogram::Mark::from(Duration::from_millis(3)).record(cells.shard(), 0);
        let mut text = Text::default();
        text.family(&ROUTE_DURATION).histogram(&Labels::new(&[("route", "a")]), &Sums::of(&cells, 0));
        let page = text.into_string();
        for line in [
            "_bucket{route=\"a\",le=\"0.002\"} 0",
            "_bucket{route=\"a\",le=\"0.005\"} 1",
            "_bucket{route=\"a\",le=\"+Inf\"} 1",
            "_sum{route=\"a\"} 0.003",
            "_count{route=\"a\"} 1",
        ] {
            assert!(page.contains(&format!("{}{line}\n", ROUTE_DURATION.name)), "{line}: {page}");
        }
    }

    #[test]
    fn what_has_no_samples_is_not_there() {
        let mut text = Text::default();
        text.family(&BUILD_INFO);
        assert_eq!(text.into_string(), "");
    }
}
