//! The filters there are: from the key in YAML to a decoded, built filter.

use super::{Filter, FilterSettings};
use crate::config::decode::{Raw, decode_raw};
use crate::config::load::Document;
use crate::config::report::{Code, Report};
use schemars::{Schema, SchemaGenerator};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A filter as it stands in a configuration: decoded, validated and built. Two are equal when
/// their keys and settings are, so that a reload keeps the filter (and its state) as it is.
#[derive(Clone)]
pub struct FilterPlan {
    pub key: &'static str,
    settings: Arc<dyn AnySettings>,
    pub filter: Arc<dyn Filter>,
}

impl PartialEq for FilterPlan {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.settings.same(other.settings.as_any())
    }
}

impl fmt::Debug for FilterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.key, self.settings)
    }
}

trait AnySettings: fmt::Debug + Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn same(&self, other: &dyn Any) -> bool;
}

impl<S: FilterSettings> AnySettings for S {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<S>().is_some_and(|other| self == other)
    }
}

/// One kind of filter.
#[derive(Clone, Copy)]
pub struct Entry {
    pub key: &'static str,
    decode: fn(&Document, &Raw, &mut Report) -> Option<FilterPlan>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Entry {
    /// Decodes and builds the filter; `None` when problems were reported.
    pub fn decode(&self, document: &Document, raw: &Raw, report: &mut Report) -> Option<FilterPlan> {
        (self.decode)(document, raw, report)
    }

    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }
}

/// All kinds of filters that a configuration may use.
#[derive(Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::standard()
    }
}

impl Catalogue {
    /// The filters that come with weirgate.
    pub fn standard() -> Self {
        let mut all = Catalogue { entries: Vec::new() };
        all.register::<super::grpc_web::GrpcWeb>();
        all.register::<super::headers::Headers>();
        all.register::<super::hsts::Hsts>();
        all.register::<super::ip::Ip>();
        all
    }

    /// Adds a kind of filter; one with the same key is replaced.
    pub fn register<S: FilterSettings>(&mut self) {
        self.entries.retain(|e| e.key != S::KEY);
        self.entries.push(Entry { key: S::KEY, decode: decode::<S>, schema: |g| g.subschema_for::<S>() });
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn keys(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().map(|e| e.key)
    }
}

fn decode<S: FilterSettings>(document: &Document, raw: &Raw, report: &mut Report) -> Option<FilterPlan> {
    let settings: S = decode_raw(document, raw, report)?;
    match settings.build() {
        Ok(filter) => {
            Some(FilterPlan { key: S::KEY, settings: Arc::new(settings), filter: Arc::new(filter) })
        }
        Err(message) => {
            let (message, help) = match message.split_once('\n') {
                Some((message, help)) => (message.to_string(), Some(help.to_string())),
                None => (message, None),
            };
            let diagnostic = report.error(Code::InvalidFilter, raw.span(), message);
            if let Some(help) = help {
                diagnostic.help(help);
            }
            None
        }
    }
}
