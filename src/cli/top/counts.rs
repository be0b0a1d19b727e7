//! Rates, shares of errors and response times, from two looks at the page that Prometheus reads. As the dashboard has them.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// Looks that shares and times are taken over, so that few requests do not jump about.
const LOOKS: usize = 10;

/// Points of a sparkline.
pub const POINTS: usize = 60;

/// Whose numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Of {
    All,
    Route(String),
    Upstream(String),
    Server(String, String),
}

/// What was counted until now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    all: f64,
    /// Answered with 5xx, or not at all.
    bad: f64,
    /// The ends of buckets, and how many requests took no longer, by end.
    buckets: Vec<(f64, f64)>,
}

impl Counted {
    fn add(&mut self, number: f64, bad: bool) {
        self.all += number;
        self.bad += if bad { number } else { 0.0 };
    }

    fn at(&self, end: f64) -> f64 {
        self.buckets.iter().find(|(known, _)| *known == end).map_or(0.0, |(_, count)| *count)
    }
}

/// All that is on a page.
pub type Page = HashMap<Of, Counted>;

/// Reads the page; lines that are not of interest, or not understood, are left out.
pub fn read(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines() {
        take(&mut page, line);
    }
    for counted in page.values_mut() {
        counted.buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    }
    page
}

fn take(page: &mut Page, line: &str) -> Option<()> {
    let (name, rest) = line.strip_prefix("weirgate_")?.split_once('{')?;
    let (labels, number) = rest.rsplit_once("} ")?;
    let wanted: &[&str] = match name {
        "requests_total" => &[],
        "route_requests_total" | "route_request_duration_seconds_bucket" => &["route"],
        "upstream_requests_total" | "upstream_request_duration_seconds_bucket" | "upstream_flows_total" => {
            &["upstream"]
        }
        "server_requests_total" | "server_first_byte_duration_seconds_bucket" | "server_flows_total" => {
            &["upstream", "server"]
        }
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let labels = labels_of(labels);
    let label = |name: &str| labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let of = match wanted {
        [] => Of::All,
        ["route"] => Of::Route(label("route")?),
        ["upstream"] => Of::Upstream(label("upstream")?),
        _ => Of::Server(label("upstream")?, label("server")?),
    };
    let counted = page.entry(of).or_default();
    match label("le") {
        Some(end) => {
            let end = if end == "+Inf" { f64::INFINITY } else { end.parse().ok()? };
            counted.buckets.push((end, number));
        }
        None => {
            let word = ["code", "result", "end"].iter().find_map(|name| label(name))?;
            counted.add(number, ["5xx", "none", "failed", "refused"].contains(&word.as_str()));
        }
    }
    Some(())
}

/// `a="b",c="d"`, with `\"`, `\\` and `\n` in values.
fn labels_of(text: &str) -> Vec<(&str, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c)) => value.push(c),
                    None => {}
                },
                c => value.push(c),
            }
        }
        labels.push((name, value));
        rest = after.get(end..).unwrap_or_default().trim_start_matches(',');
    }
    labels
}

/// What is shown of one of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    history: VecDeque<(Instant, Counted)>,
    /// Per second; `None` before the second look.
    pub rate: Option<f64>,
    /// Rates of the last looks, the newest last.
    pub rates: VecDeque<f64>,
    /// The share of errors, of the last ten looks.
    pub share: Option<f64>,
    /// In seconds, of the last ten looks.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl Numbers {
    fn take(&mut self, counted: &Counted, now: Instant) {
        if self.history.back().is_some_and(|(_, last)| counted.all < last.all) {
            // another process, which counts from the beginning
            self.history.clear();
        }
        let before = self.history.back().map(|(at, last)| (now.saturating_duration_since(*at), last.all));
        if let Some((passed, all)) = before.filter(|(passed, _)| !passed.is_zero()) {
            let rate = (counted.all - all) / passed.as_secs_f64();
            self.rate = Some(rate);
            self.rates.push_back(rate);
            if self.rates.len() > POINTS {
                self.rates.pop_front();
            }
        }
        self.history.push_back((now, counted.clone()));
        if self.history.len() > LOOKS {
            self.history.pop_front();
        }
        let Some((_, first)) = self.history.front() else { return };
        let requests = counted.all - first.all;
        self.share = Some(if requests > 0.0 { (counted.bad - first.bad) / requests } else { 0.0 });
        self.p50 = quantile(counted, first, 0.5);
        self.p99 = quantile(counted, first, 0.99);
    }
}

/// Of the requests since `before`: within the bucket in which this share of them ends, as if they were spread in it evenly.
fn quantile(now: &Counted, before: &Counted, share: f64) -> Option<f64> {
    let since = |(end, count): &(f64, f64)| (*end, count - before.at(*end));
    let all = now.buckets.last().map(since).map(|(_, count)| count).filter(|all| *all > 0.0)?;
    let wanted = all * share;
    let (mut low, mut below) = (0.0, 0.0);
    for (end, count) in now.buckets.iter().map(since) {
        if count >= wanted {
            let within = (wanted - below) / (count - below).max(1.0);
            return Some(if end.is_finite() { low + (end - low) * within } else { low });
        }
        (low, below) = (end, count);
    }
    None
}

/// The numbers of everything that is on the page.
#[derive(Debug, Default)]
pub struct Counts(HashMap<Of, Numbers>);

impl Counts {
    /// Takes in what was read then.
    pub fn take(&mut self, page: &Page, now: Instant) {
        self.0.retain(|of, _| page.contains_key(of));
        for (of, counted) in page {
            self.0.entry(of.clone()).or_default().take(counted, now);
        }
    }

    pub fn of(&self, of: &Of) -> Option<&Numbers> {
        self.0.get(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAGE: &str = "# HELP weirgate_route_requests_total Requests.
weirgate_requests_total{listener=\"web\",protocol=\"h1\",code=\"2xx\"} 12
weirgate_route_requests_total{route=\"a \\\"b\\\", c\\\\\",code=\"2xx\"} 10
weirgate_route_requests_total{route=\"a \\\"b\\\", c\\\\\",code=\"5xx\"} 2
weirgate_route_request_duration_seconds_bucket{route=\"a \\\"b\\\", c\\\\\",le=\"0.01\"} 6
weirgate_route_request_duration_seconds_bucket{route=\"a \\\"b\\\", c\\\\\",le=\"0.1\"} 12
weirgate_route_request_duration_seconds_bucket{route=\"a \\\"b\\\", c\\\\\",le=\"+Inf\"} 12
weirgate_server_flows_total{upstream=\"db\",server=\"10.0.0.1:5432\",protocol=\"tcp\",result=\"failed\"} 3
weirgate_build_info{version=\"1\"} 1
weirgate_route_requests_total{route=\"cut";

    fn route() -> Of {
        Of::Route("a \"b\", c\\".to_owned())
    }

    #[test]
    fn a_page_is_read_with_what_stands_in_labels() {
        let page = read(PAGE);
        assert_eq!(page.len(), 3);
        let counted = &page[&route()];
        assert_eq!((counted.all, counted.bad, counted.at(0.1)), (12.0, 2.0, 12.0));
        assert_eq!(page[&Of::Server("db".into(), "10.0.0.1:5432".into())].bad, 3.0);
        assert_eq!(page[&Of::All].all, 12.0);
    }

    #[test]
    fn rates_and_times_are_of_what_came_since() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        counts.take(&read(PAGE), start);
        assert_eq!(counts.of(&route()).unwrap().rate, None);
        assert_eq!(counts.of(&route()).unwrap().p50, None, "nothing has come since");
        let later = PAGE
            .replace("code=\"2xx\"} 10", "code=\"2xx\"} 26")
            .replace("code=\"5xx\"} 2", "code=\"5xx\"} 6")
            .replace("0.01\"} 6", "0.01\"} 16")
            .replace("0.1\"} 12", "0.1\"} 32")
            .replace("Inf\"} 12", "Inf\"} 32");
        counts.take(&read(&later), start + Duration::from_secs(2));
        let numbers = counts.of(&route()).unwrap();
        assert_eq!((numbers.rate, numbers.share), (Some(10.0), Some(0.2)));
        assert_eq!(numbers.p50, Some(0.01), "half of twenty were within ten milliseconds");
        let p99 = numbers.p99.unwrap();
        assert!((0.09..0.1).contains(&p99), "{p99}");
        // another process counts from the beginning
        counts.take(&read(PAGE), start + Duration::from_secs(3));
        let numbers = counts.of(&route()).unwrap();
        assert_eq!((numbers.rate, numbers.share), (Some(10.0), Some(0.0)));
        // and what is gone is forgotten
        counts.take(&read(""), start + Duration::from_secs(4));
        assert!(counts.of(&route()).is_none());
    }
}
