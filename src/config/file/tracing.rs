//! `tracing`: whose trace context is taken over, which requests are traced, and where their spans go.

use crate::config::decode::Located;
use crate::config::file::Table;
use crate::config::secret::Secret;
use crate::units::{Percent, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Distributed tracing: each request has a trace, which its server is told of. Off without it: what clients say of traces
/// is passed on as it came.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// Where spans are sent. Without it there are none: traces are passed on, and their ids are in the access log.
    pub otlp: Option<Located<Otlp>>,
    /// `service.name` of the spans.
    pub service_name: Located<String>,
    /// Further attributes of the process, such as `deployment.environment.name`.
    pub resource: Table<String>,
    /// In which headers traces are told: taken from clients (the first that says something), and passed on in all of them.
    pub propagation: Vec<Propagator>,
    /// Whose traces go on here. Of others a new trace is begun.
    pub trust: TraceTrust,
    /// Which traces are recorded.
    pub sampling: Sampling,
}

impl Default for Tracing {
    fn default() -> Self {
        Tracing {
            otlp: None,
            service_name: Located::from("weirgate".to_owned()),
            resource: Table::default(),
            propagation: vec![Propagator::TraceContext],
            trust: TraceTrust::default(),
            sampling: Sampling::default(),
        }
    }
}

/// The collector that spans are sent to, over OTLP.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// `http://HOST:PORT` or `https://HOST:PORT`; over HTTP `/v1/traces` is added where there is no path. That of a
    /// collector on this machine without it: port 4318, or 4317 for gRPC.
    pub endpoint: Option<Located<String>>,
    /// `http/protobuf` or `grpc`.
    pub protocol: OtlpProtocol,
    /// Sent with every message, as what the collector wants to know you by. The values are secrets.
    pub headers: Table<Located<Secret>>,
    /// A PEM file with the authorities that have signed the certificate of the collector; those that the system trusts
    /// without it.
    pub ca: Option<Located<PathBuf>>,
    /// How long one message may take.
    pub timeout: Located<Time>,
    /// How long spans are gathered before a message is sent.
    pub interval: Located<Time>,
    /// The most requests whose spans go into one message.
    pub batch_size: NonZeroU16,
    /// The most requests whose spans wait to be sent; those of further requests are dropped, and counted.
    pub queue_size: NonZeroU16,
}

impl Default for Otlp {
    fn default() -> Self {
        Otlp {
            endpoint: None,
            protocol: OtlpProtocol::default(),
            headers: Table::default(),
            ca: None,
            timeout: Located::from(Time::secs(10)),
            interval: Located::from(Time::secs(5)),
            batch_size: NonZeroU16::MIN.saturating_add(511),
            queue_size: NonZeroU16::MIN.saturating_add(2047),
        }
    }
}

/// How OTLP is carried, in the words of `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Over HTTP/1.1.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC over HTTP/2.
    #[serde(rename = "grpc")]
    Grpc,
}

/// Headers in which a trace is told, in the words of `OTEL_PROPAGATORS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Propagator {
    /// `traceparent` and `tracestate` of the W3C.
    #[serde(rename = "tracecontext")]
    TraceContext,
    /// `b3` of Zipkin.
    #[serde(rename = "b3")]
    B3,
    /// `X-B3-TraceId` and its kin.
    #[serde(rename = "b3multi")]
    B3Multi,
}

/// Whose traces go on here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceTrust {
    /// Those of `trusted_proxies`.
    #[default]
    Proxies,
    /// Those of every client.
    Everyone,
    /// Nobody's.
    Nobody,
}

/// Which traces are recorded.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// The share of traces that are.
    pub ratio: Percent,
    /// Where a trace goes on here, whoever began it has decided.
    pub parent_based: bool,
    /// Requests that fail (5xx, or broken off) are, whatever was decided. Servers are not told.
    pub errors: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { ratio: Percent::of(100), parent_based: true, errors: false }
    }
}

/// What of tracing differs for the requests of a route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTracing {
    /// Which traces are recorded.
    pub sampling: RouteSampling,
}

/// What differs from `tracing.sampling` of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSampling {
    /// The share of traces that are recorded.
    pub ratio: Option<Percent>,
    /// Where a trace goes on here, whoever began it has decided.
    pub parent_based: Option<bool>,
    /// Requests that fail are recorded, whatever was decided.
    pub errors: Option<bool>,
}
