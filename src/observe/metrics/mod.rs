//! What is counted and measured, for Prometheus: [`Metrics::render`] is the page that is scraped. `run` holds one for the
//! life of the process, so that counters go on across reloads. See decision 034 and docs/metrics.md.

mod families;
mod text;

use text::Text;

/// The type of what [`Metrics::render`] returns: the text format of Prometheus, version 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that a process has counted. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics;

impl Metrics {
    pub fn new() -> Metrics {
        Metrics
    }

    /// All of it as it is now, as a body of [`CONTENT_TYPE`]. Walks through every server: for a scrape, not for a request.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.family(&families::BUILD_INFO).sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_which_program_this_is() {
        let page = Metrics::new().render();
        let line = format!("\nweirgate_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&line), "{page}");
    }
}
