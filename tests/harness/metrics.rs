//! What a gate says about itself at `$admin`, for Prometheus.

use super::eventually;
use super::gate::Gate;
use super::http_client::{Client, Request};
use std::collections::BTreeMap;

/// A page, sample by sample: the name with its labels as they are written, and the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub text: String,
    pub samples: BTreeMap<String, f64>,
}

impl Page {
    #[track_caller]
    pub fn of(text: String) -> Page {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        Page { text, samples }
    }

    pub fn get(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// Samples that begin so.
    pub fn beginning(&self, with: &str) -> Vec<&str> {
        self.samples.keys().map(String::as_str).filter(|name| name.starts_with(with)).collect()
    }
}

impl Gate {
    /// What is on the page now.
    #[track_caller]
    pub fn metrics(&self) -> Page {
        let response = Client::connect(self.at("admin")).ask(&Request::get("/metrics").host("localhost"));
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(
            response.header("content-type").as_deref(),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        Page::of(response.text())
    }

    /// Waits until the page says this: a request is counted when it has ended, a moment after its answer.
    #[track_caller]
    pub fn measures(&self, sample: &str, value: f64) {
        let mut last = None;
        let deadline = std::time::Instant::now() + super::PATIENCE;
        loop {
            let page = self.metrics();
            if page.get(sample) == Some(value) {
                return;
            }
            last = page.get(sample).or(last);
            assert!(
                std::time::Instant::now() < deadline,
                "{sample} never was {value}, but {last:?} in\n{}",
                page.text
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until the page has no sample of this beginning any more.
    #[track_caller]
    pub fn measures_no_more(&self, beginning: &str) {
        eventually(&format!("{beginning} disappears"), || self.metrics().beginning(beginning).is_empty());
    }
}
