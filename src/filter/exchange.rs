//! What a filter sees of one request: the heads, who asks, and a place for its own state.

use crate::config::plan;
use crate::http::Connection;
use crate::template::Placeholder;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// What is known about a request once its head has been read and its route found.
#[derive(Debug)]
pub struct RequestInfo {
    pub connection: Arc<Connection>,
    /// The client: the peer of the connection, or whom a trusted proxy names; [`NOWHERE`](crate::http::NOWHERE) on a
    /// unix socket.
    pub client: SocketAddr,
    /// Whether the client used https, towards us or towards a trusted proxy.
    pub https: bool,
    /// Lower case, without port or trailing dot; empty when there was none (HTTP/1.0).
    pub host: String,
    /// The path as it was matched, when that differs from what the client wrote.
    pub normalised_path: Option<String>,
    pub request_id: crate::http::RequestId,
    pub route: Option<Arc<plan::Route>>,
    pub started: Instant,
}

impl RequestInfo {
    /// Writes what a placeholder stands for in this request, whose head is `head`.
    pub fn fill(&self, head: &RequestHeader, placeholder: Placeholder, out: &mut String) {
        match placeholder {
            Placeholder::Scheme => out.push_str(if self.https { "https" } else { "http" }),
            Placeholder::Host => out.push_str(&self.host),
            Placeholder::Path => {
                out.push_str(self.normalised_path.as_deref().unwrap_or_else(|| head.uri.path()));
            }
            Placeholder::Query => {
                if let Some(query) = head.uri.query() {
                    out.push('?');
                    out.push_str(query);
                }
            }
            Placeholder::Uri => {
                self.fill(head, Placeholder::Path, out);
                self.fill(head, Placeholder::Query, out);
            }
            Placeholder::Method => out.push_str(head.method.as_str()),
            Placeholder::ClientIp if self.client.ip().is_unspecified() => out.push_str("unix"),
            Placeholder::ClientIp => out.push_str(&self.client.ip().to_string()),
            Placeholder::RequestId => out.push_str(self.request_id.as_str()),
        }
    }
}

/// One request and its response, as a filter sees them.
pub struct Exchange<'a> {
    session: &'a mut Session,
    info: &'a RequestInfo,
    state: &'a mut http::Extensions,
}

impl<'a> Exchange<'a> {
    /// Made by the gate for every phase of a request; open to benchmarks and to tests of filters.
    pub fn new(session: &'a mut Session, info: &'a RequestInfo, state: &'a mut http::Extensions) -> Self {
        Exchange { session, info, state }
    }

    /// The request head as the client sent it (and earlier filters changed it).
    pub fn request(&self) -> &RequestHeader {
        self.session.req_header()
    }

    /// Changes made here before the request is sent on are seen by later filters and by the server.
    pub fn request_mut(&mut self) -> &mut RequestHeader {
        self.session.req_header_mut()
    }

    /// The address of the client; behind a trusted proxy, the one it reports.
    pub fn client(&self) -> SocketAddr {
        self.info.client
    }

    /// The normalised path, the one that routes are matched on.
    pub fn path(&self) -> &str {
        match &self.info.normalised_path {
            Some(path) => path,
            None => self.session.req_header().uri.path(),
        }
    }

    /// The host asked for, lower case and without port.
    pub fn host(&self) -> &str {
        &self.info.host
    }

    /// `https` or `http`, as the client used it.
    pub fn scheme(&self) -> &'static str {
        if self.info.https { "https" } else { "http" }
    }

    pub fn request_id(&self) -> &str {
        self.info.request_id.as_str()
    }

    /// The name of the route.
    pub fn route(&self) -> Option<&str> {
        self.info.route.as_deref().map(|r| r.name.as_str())
    }

    /// The status sent to the client, once it is (in the log phase).
    pub fn response_status(&self) -> Option<http::StatusCode> {
        self.session.response_written().map(|r| r.status)
    }

    /// State of this request, by type: what a filter puts here in one phase it finds in the next.
    /// Use a type of your own, so that no other filter shares it by accident.
    pub fn state(&mut self) -> &mut http::Extensions {
        self.state
    }

    /// Writes what a placeholder stands for in this request.
    pub fn fill(&self, placeholder: Placeholder, out: &mut String) {
        self.info.fill(self.session.req_header(), placeholder, out);
    }

    pub fn info(&self) -> &RequestInfo {
        self.info
    }
}
