//! Records as the messages of OTLP, with the attributes of OpenTelemetry's semantic conventions for HTTP spans (1.37) and
//! some of our own under `weirgate.`. Pure; called by `exporter`.

use super::context::{Flags, SpanId};
use super::record::{Record, Request, Try};
use crate::config::plan::{PathMatch, Route};
use bytes::Bytes;
use http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use prost::Message;
use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The methods that are told by their names (RFC 9110 and PATCH); what clients make up is no name of a span.
const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];
const OTHER: &str = "_OTHER";

/// The process, as its spans have it.
pub(super) fn resource(attributes: &[(String, String)]) -> Resource {
    let mut all = Attributes::default();
    for (name, value) in attributes {
        all.text(name, value.clone());
    }
    all.text("service.version", env!("CARGO_PKG_VERSION"));
    all.text("telemetry.sdk.name", "weirgate");
    all.text("telemetry.sdk.language", "rust");
    Resource { attributes: all.0, ..Resource::default() }
}

/// One message, encoded.
pub(super) fn message(resource: &Resource, records: Vec<Record>) -> Bytes {
    let scope = InstrumentationScope {
        name: "weirgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = records.into_iter().flat_map(spans).collect();
    let spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
}

/// That of the request, and then one for each try.
fn spans(record: Record) -> Vec<Span> {
    let Record { trace, span, flags, parent, link, state, began, request, tries } = record;
    let bare = |id: SpanId, parent: Option<SpanId>, remote: bool, after: Duration, took: Duration| Span {
        trace_id: trace.bytes().to_vec(),
        span_id: id.bytes().to_vec(),
        parent_span_id: parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default(),
        trace_state: state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default().to_owned(),
        flags: flag_bits(flags, remote),
        start_time_unix_nano: nanos(began + after),
        end_time_unix_nano: nanos(began + after + took),
        ..Span::default()
    };
    let mut all = Vec::with_capacity(1 + tries.len());
    let upstream = request.upstream.clone();
    let of_request = bare(span, parent, parent.is_some(), Duration::ZERO, request.took);
    let links = link.map(|(trace, span)| Link {
        trace_id: trace.bytes().to_vec(),
        span_id: span.bytes().to_vec(),
        ..Link::default()
    });
    all.push(Span { links: links.into_iter().collect(), ..request_span(of_request, request) });
    for (id, one) in tries {
        let bare = bare(id, Some(span), false, one.after, one.took);
        all.push(try_span(bare, one, upstream.as_deref()));
    }
    all
}

fn flag_bits(flags: Flags, remote: bool) -> u32 {
    let remote = if remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    u32::from(flags.sampled)
        | u32::from(flags.random) << 1
        | SpanFlags::ContextHasIsRemoteMask as u32
        | remote
}

fn nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn request_span(bare: Span, request: Request) -> Span {
    let mut attributes = Attributes::default();
    let method = attributes.method(&request.method);
    let route = request.route.as_deref().map(pattern);
    let name = match &route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let status = match request.failed {
        true => failed(request.error.unwrap_or_default()),
        false => Status::default(),
    };
    if request.failed {
        let status = request.grpc_status.unwrap_or(request.status);
        let kind = request.error.map_or_else(|| status.to_string().into(), Cow::Borrowed);
        attributes.text("error.type", kind);
    }
    attributes.text("url.scheme", if request.https { "https" } else { "http" });
    attributes.text("url.path", request.path);
    attributes.some("http.route", route);
    attributes.some("server.address", Some(request.host).filter(|host| !host.is_empty()));
    attributes.number("server.port", request.port);
    attributes.number("http.response.status_code", Some(request.status).filter(|status| *status > 0));
    attributes.text("network.protocol.name", "http");
    attributes.text("network.protocol.version", request.version);
    attributes.some("client.address", request.client.map(|client| client.to_string()));
    attributes.some("network.peer.address", request.peer.map(|peer| peer.ip().to_string()));
    attributes.number("network.peer.port", request.peer.map(|peer| peer.port()));
    attributes.some("user_agent.original", request.user_agent);
    attributes.number("http.request.body.size", Some(request.received).filter(|bytes| *bytes > 0));
    attributes.number("http.response.body.size", Some(request.sent).filter(|bytes| *bytes > 0));
    attributes.some("rpc.system", request.grpc_status.map(|_| "grpc"));
    attributes.number("rpc.grpc.status_code", request.grpc_status);
    attributes.text("weirgate.request_id", request.request_id);
    attributes.text("weirgate.listener", request.listener);
    attributes.some("weirgate.route", request.route.as_deref().map(|route| route.name.clone()));
    attributes.some("weirgate.upstream", request.upstream);
    attributes.time("weirgate.queue.duration", request.queued);
    attributes.number("weirgate.hedges", Some(request.hedged).filter(|hedged| *hedged > 0));
    attributes.some("weirgate.error", request.error);
    Span { name, kind: SpanKind::Server.into(), status: Some(status), attributes: attributes.0, ..bare }
}

fn try_span(bare: Span, one: Try, upstream: Option<&str>) -> Span {
    let mut attributes = Attributes::default();
    let name = attributes.method(&one.method).to_owned();
    let bad = one.status.filter(|status| *status >= 400);
    let status = match (&one.failure, bad) {
        (Some(failure), _) => failed(&failure.why),
        (None, Some(_)) => failed(""),
        (None, None) => Status::default(),
    };
    let kind = one.failure.map(|failure| failure.kind).or(bad.map(|status| status.to_string().into()));
    attributes.some("error.type", kind);
    match one.address {
        Some(address) => {
            let scheme = if one.https { "https" } else { "http" };
            attributes.text("url.full", format!("{scheme}://{}{}", one.server, one.path));
            attributes.text("server.address", address.ip().to_string());
            attributes.number("server.port", Some(address.port()));
            attributes.text("network.peer.address", address.ip().to_string());
            attributes.number("network.peer.port", Some(address.port()));
        }
        None => {
            attributes
                .text("server.address", one.server.strip_prefix("unix:").unwrap_or(&one.server).to_owned());
            attributes.text("network.transport", "unix");
        }
    }
    attributes.number("http.response.status_code", one.status);
    attributes.number("http.request.resend_count", Some(one.resends).filter(|resends| *resends > 0));
    attributes.text("network.protocol.name", "http");
    attributes.some("network.protocol.version", one.version);
    attributes.some("weirgate.upstream", upstream.map(str::to_owned));
    attributes.time("weirgate.connect.duration", one.connect);
    attributes.truth("weirgate.connection.reused", one.reused);
    attributes.time("weirgate.first_byte.duration", one.first_byte);
    attributes.some("weirgate.retry.reason", one.because);
    Span { name, kind: SpanKind::Client.into(), status: Some(status), attributes: attributes.0, ..bare }
}

fn failed(why: &str) -> Status {
    Status { message: why.to_owned(), code: StatusCode::Error.into() }
}

/// Which paths a route is for: of few values, whatever clients ask.
fn pattern(route: &Route) -> String {
    match &route.matcher.path {
        PathMatch::Any => "/".to_owned(),
        PathMatch::Prefix(path) | PathMatch::Exact(path) => path.clone(),
        PathMatch::Regex(pattern) => pattern.0.as_str().to_owned(),
    }
}

/// The attributes of one span.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn push(&mut self, key: &str, value: any_value::Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, value: impl Into<String>) {
        self.push(key, any_value::Value::StringValue(value.into()));
    }

    fn some(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: Option<impl TryInto<i64>>) {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            self.push(key, any_value::Value::IntValue(value));
        }
    }

    /// In seconds.
    fn time(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.push(key, any_value::Value::DoubleValue(value.as_secs_f64()));
        }
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.push(key, any_value::Value::BoolValue(value));
    }

    /// And what the name of the span begins with.
    fn method<'a>(&mut self, method: &'a Method) -> &'a str {
        if KNOWN.contains(method) {
            self.text("http.request.method", method.as_str());
            return method.as_str();
        }
        self.text("http.request.method", OTHER);
        self.text("http.request.method_original", method.as_str());
        "HTTP"
    }
}
