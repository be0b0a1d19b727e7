//! Error pages, resolved: their files are read.

use crate::config::words::StatusRange;
use crate::template::Template;
use bytes::Bytes;

/// What is answered instead of the gate's own reply with one of these statuses.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorPage {
    pub statuses: Vec<StatusRange>,
    pub shows: Shows,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Shows {
    File { content: Bytes, content_type: http::HeaderValue },
    Text { text: Template, content_type: http::HeaderValue },
    Redirect(Template),
}

impl ErrorPage {
    pub fn is_for(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(status))
    }
}
