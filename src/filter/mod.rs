//! Filters: what happens to a request on its way in and to its response on the way out.
//!
//! A filter is two types in one file: its Settings (what users write under its key in YAML) and
//! its behaviour ([`Filter`]). The catalogue knows all Settings types; `config::check` decodes and
//! builds them, `http::proxy` calls the built chain in the callbacks.
//!
//! A filter of your own needs the two types and one line, [`Catalogue::register`]; see
//! `examples/own_filter.rs`.

mod catalogue;
mod chain;
mod exchange;
pub mod grpc_web;
pub mod headers;
pub mod hsts;
pub mod ip;

pub use catalogue::{Catalogue, FilterPlan};
pub use chain::Chain;
pub use exchange::{Exchange, RequestInfo};

use async_trait::async_trait;
use bytes::Bytes;
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What users write under a filter's key, and how it becomes a filter.
///
/// Derive `Deserialize` with `deny_unknown_fields`, so that a misspelt key is an error with its
/// place; the doc comments of the fields become the documentation in the JSON Schema.
pub trait FilterSettings:
    DeserializeOwned + Serialize + JsonSchema + PartialEq + Debug + Send + Sync + 'static
{
    /// The key in YAML: `- KEY: { ... }`.
    const KEY: &'static str;
    type Filter: Filter;

    /// Builds the filter, once per place it is used in the configuration.
    ///
    /// # Errors
    /// A message for the operator, shown with file and line; text after a newline says the fix.
    fn build(&self) -> Result<Self::Filter, String>;
}

/// What a filter decided about a request.
pub enum Flow {
    /// On to the next filter.
    Continue,
    /// Answer now; the response passes the response side of the whole chain.
    Answer(Answer),
    /// Refuse with a short reply of the gate's own (text or JSON by `Accept`). The reason is for
    /// the access log only, never for the client.
    Refuse(http::StatusCode, &'static str),
    /// This filter must wait for something: call [`Filter::request_async`].
    Wait,
}

/// A whole response made by a filter.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: http::StatusCode,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub body: Bytes,
}

impl Answer {
    /// A `text/plain` answer.
    pub fn text(status: http::StatusCode, body: impl Into<Bytes>) -> Self {
        let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
        Answer { status, headers: vec![(http::header::CONTENT_TYPE, plain)], body: body.into() }
    }
}

/// The phases a filter takes part in; the others cost it nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    pub const NONE: Phases = Phases(0);
    pub const REQUEST: Phases = Phases(1);
    pub const REQUEST_BODY: Phases = Phases(2);
    pub const UPSTREAM_REQUEST: Phases = Phases(4);
    pub const RESPONSE: Phases = Phases(8);
    pub const RESPONSE_BODY: Phases = Phases(16);
    pub const LOG: Phases = Phases(32);
    pub const RESPONSE_TRAILERS: Phases = Phases(64);
    pub const ALL: Phases = Phases(127);

    /// These and those.
    pub const fn and(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }

    pub const fn contains(self, phase: Phases) -> bool {
        self.0 & phase.0 == phase.0
    }
}

/// The behaviour of a filter. Requests pass the filters of a chain as written, responses in reverse.
///
/// Every method has a default that does nothing. One value serves all requests at once; what
/// belongs to one request is kept in [`Exchange::state`].
#[async_trait]
pub trait Filter: Send + Sync + 'static {
    /// The phases to call this filter in. Naming only what is needed saves the calls.
    fn phases(&self) -> Phases {
        Phases::ALL
    }

    /// The request head has arrived and its route is known. Nothing has been sent anywhere.
    fn request(&self, _ex: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }

    /// As [`Filter::request`], for filters that wait; called when that returned [`Flow::Wait`].
    async fn request_async(&self, _ex: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }

    /// A piece of the request body, which may be changed, or taken to swallow it. `end` is set with the last.
    /// A retried request passes its body again.
    ///
    /// # Errors
    /// Refuses the request with this status and reason for the log.
    fn request_body(
        &self,
        _ex: &mut Exchange<'_>,
        _body: &mut Option<Bytes>,
        _end: bool,
    ) -> Result<(), (http::StatusCode, &'static str)> {
        Ok(())
    }

    /// The head that is about to be sent to a server; called anew for every try.
    fn upstream_request(&self, _ex: &mut Exchange<'_>, _head: &mut RequestHeader) {}

    /// The head of the response, a server's or the gate's own.
    fn response(&self, _ex: &mut Exchange<'_>, _head: &mut ResponseHeader) {}

    /// A piece of the response body of a server, which may be changed. `end` is set with the last.
    fn response_body(&self, _ex: &mut Exchange<'_>, _body: &mut Option<Bytes>, _end: bool) {}

    /// The trailers of the response of a server, after its body. HTTP/1.1 clients and servers have none here. What is
    /// returned is sent as the end of the body in their place, past the other filters.
    fn response_trailers(&self, _ex: &mut Exchange<'_>, _trailers: &mut http::HeaderMap) -> Option<Bytes> {
        None
    }

    /// The request is over, whatever became of it.
    fn log(&self, _ex: &mut Exchange<'_>) {}
}
