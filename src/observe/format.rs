//! How a line of the access log is spelt: compiled from the configuration when a log is opened, used for every line.

use super::entry::Entry;
use super::headers::Headers;
use super::line::Line;
use super::redact::Redact;
use super::stamp::Stamp;
use super::{combined, json};
use crate::config::file::{AccessFormat, AccessLog};
use std::sync::Arc;
use std::time::SystemTime;

/// The spelling of lines, and what they keep back.
#[derive(Debug)]
pub(super) struct Format {
    spelling: Spelling,
    /// Where entries have to be looked at before they are shown.
    redact: Option<Arc<Redact>>,
}

#[derive(Debug)]
enum Spelling {
    Json(Option<Headers>),
    Combined,
    Line(Line),
}

/// Where lines are made.
#[derive(Debug, Default)]
pub(super) struct Desk {
    stamp: Stamp,
    /// For what is spelt anew.
    room: Vec<u8>,
}

impl Format {
    pub(super) fn new(plan: &AccessLog) -> Self {
        let redact = Arc::new(Redact::new(&plan.redact));
        let spelling = match &plan.format {
            AccessFormat::Json => Spelling::Json(Headers::new(&plan.headers, &redact)),
            AccessFormat::Combined => Spelling::Combined,
            AccessFormat::Template(template) => Spelling::Line(Line::new(template, &redact)),
        };
        Format { spelling, redact: Some(redact).filter(|redact| redact.looks_at_entries()) }
    }

    /// Appends one line with its newline.
    pub(super) fn push_line(&self, out: &mut Vec<u8>, desk: &mut Desk, now: SystemTime, entry: &Entry<'_>) {
        let Desk { stamp, room } = desk;
        match &self.redact {
            None => self.spelling.push_line(out, stamp, now, entry),
            Some(redact) => self.spelling.push_line(out, stamp, now, &redact.entry(entry, room)),
        }
    }
}

impl Spelling {
    fn push_line(&self, out: &mut Vec<u8>, stamp: &mut Stamp, now: SystemTime, entry: &Entry<'_>) {
        match self {
            Spelling::Json(headers) => json::push_line(out, stamp, now, entry, headers.as_ref()),
            Spelling::Combined => combined::push_line(out, stamp, now, entry),
            Spelling::Line(line) => line.push(out, stamp, now, entry),
        }
    }
}
