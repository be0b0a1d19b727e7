//! Checks of `tracing`: the collector that spans are sent to, and what is told of the process.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, OtlpProtocol, Tracing};
use crate::config::plan::{self, Trust};
use crate::config::report::{Code, Span};
use crate::config::secret::Secret;
use http::{HeaderName, HeaderValue, Uri, uri};
use std::sync::Arc;

const WHO: &str = "tracing";
const SERVICE_NAME: &str = "service.name";

/// Headers that the message itself has.
const OURS: [&str; 6] = ["content-type", "content-length", "transfer-encoding", "host", "te", "connection"];

impl<'a> Checker<'a> {
    /// `None` when nothing is traced.
    pub(super) fn tracing(&mut self) -> Option<Arc<plan::Tracing>> {
        let file = self.file;
        let Some(tracing) = &file.tracing else {
            if self.whole {
                self.routes_without_tracing();
            }
            return None;
        };
        let otlp = tracing.otlp.as_ref().map(|otlp| self.otlp(otlp));
        let resource = self.resource(tracing);
        let mut propagation = tracing.propagation.clone();
        propagation.dedup();
        Some(Arc::new(plan::Tracing {
            // what cannot be used was reported
            otlp: otlp.flatten(),
            resource,
            propagation,
            trust: tracing.trust,
            sampling: (&tracing.sampling).into(),
        }))
    }

    fn routes_without_tracing(&mut self) {
        let file = self.file;
        for route in file.routes.iter().filter(|route| route.tracing.is_some()) {
            self.without_effect(
                route.span,
                "this route says which traces are recorded, but nothing is traced".into(),
                "add `tracing: { otlp: {} }` to the file, or remove `tracing` of the route",
            );
        }
    }

    fn resource(&mut self, tracing: &'a Tracing) -> Vec<(String, String)> {
        if tracing.service_name.value.is_empty() {
            let message = "service_name of tracing is empty\nwrite a name such as `edge`";
            self.error(Code::InvalidValue, tracing.service_name.span, message);
        }
        let mut resource = vec![(SERVICE_NAME.to_owned(), tracing.service_name.value.clone())];
        for (name, value) in tracing.resource.iter() {
            if name.value == SERVICE_NAME {
                let message =
                    "`resource` of tracing has a service.name\nwrite it as `service_name` of tracing";
                self.error(Code::Conflict, name.span, message);
            }
            resource.push((name.value.clone(), value.clone()));
        }
        resource
    }

    /// `None` when it cannot be used; that was reported.
    fn otlp(&mut self, otlp: &'a Located<file::Otlp>) -> Option<plan::Otlp> {
        self.positive(otlp.timeout.span, "timeout of tracing.otlp", otlp.timeout.value);
        self.positive(otlp.interval.span, "interval of tracing.otlp", otlp.interval.value);
        let headers: Vec<_> =
            otlp.headers.iter().filter_map(|(name, value)| self.otlp_header(name, value)).collect();
        let endpoint = self.endpoint(otlp)?;
        if let Some(ca) = otlp.ca.as_ref().filter(|_| endpoint.scheme() == Some(&uri::Scheme::HTTP)) {
            let message = "tracing.otlp names authorities, but its endpoint is spoken to without TLS\nwrite https://, or remove `ca`";
            self.error(Code::Conflict, ca.span, message);
        }
        let trust = self.trust(WHO, otlp.span, otlp.ca.as_ref(), true).unwrap_or(Trust::System);
        Some(plan::Otlp {
            endpoint,
            protocol: otlp.protocol,
            headers,
            trust,
            timeout: otlp.timeout.value.0,
            interval: otlp.interval.value.0,
            batch_size: otlp.batch_size.get().into(),
            queue_size: otlp.queue_size.get().into(),
        })
    }

    fn endpoint(&mut self, otlp: &Located<file::Otlp>) -> Option<Uri> {
        let (default, path) = match otlp.protocol {
            OtlpProtocol::HttpProtobuf => ("http://127.0.0.1:4318", "/v1/traces"),
            OtlpProtocol::Grpc => {
                ("http://127.0.0.1:4317", "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            }
        };
        let (text, span) = match &otlp.endpoint {
            Some(endpoint) => (endpoint.value.as_str(), endpoint.span),
            None => (default, otlp.span),
        };
        match endpoint(text, path, otlp.protocol) {
            Ok(uri) => Some(uri),
            Err(why) => {
                self.error(Code::InvalidValue, span, why);
                None
            }
        }
    }

    fn otlp_header(
        &mut self,
        name: &Located<String>,
        value: &Located<Secret>,
    ) -> Option<(HeaderName, Secret)> {
        let mut wrong = |span: Span, why: &str| {
            let message = format!("header \"{}\" of tracing.otlp {why}", name.value);
            self.error(Code::InvalidValue, span, &message);
            None
        };
        let Ok(header) = name.value.parse::<HeaderName>() else {
            return wrong(name.span, "is not a header name\nuse letters, digits and -");
        };
        if OURS.contains(&header.as_str()) {
            return wrong(name.span, "is set by the gate itself\nremove it");
        }
        if HeaderValue::from_bytes(value.value.reveal()).is_err() {
            return wrong(value.span, "has a value that no header may have\nwrite it on one line");
        }
        Some((header, value.value.clone()))
    }
}

/// The whole URL. An error is in words, with its mend in the second line.
fn endpoint(text: &str, path: &str, protocol: OtlpProtocol) -> Result<Uri, &'static str> {
    const WRONG: &str =
        "the endpoint of tracing.otlp is not a URL\nwrite http://HOST:PORT or https://HOST:PORT";
    let url = text.parse::<Uri>().map_err(|_| WRONG)?;
    let scheme =
        url.scheme().filter(|scheme| **scheme == uri::Scheme::HTTP || **scheme == uri::Scheme::HTTPS);
    let (Some(_), Some(authority)) = (scheme, url.authority()) else { return Err(WRONG) };
    if authority.as_str().contains('@') {
        return Err(
            "the endpoint of tracing.otlp has a user and a password\nwrite `headers: { authorization: ... }`",
        );
    }
    let bare = matches!(url.path(), "" | "/") && url.query().is_none();
    if protocol == OtlpProtocol::Grpc && !bare {
        return Err("the endpoint of tracing.otlp has a path, which gRPC has not\nwrite http://HOST:PORT");
    }
    if !bare {
        return Ok(url);
    }
    let mut parts = url.into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| WRONG)?);
    Uri::from_parts(parts).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_there_is_none() {
        let whole =
            |text| endpoint(text, "/v1/traces", OtlpProtocol::HttpProtobuf).map(|uri| uri.to_string()).ok();
        assert_eq!(whole("http://a:4318").as_deref(), Some("http://a:4318/v1/traces"));
        assert_eq!(whole("https://a/").as_deref(), Some("https://a/v1/traces"));
        assert_eq!(whole("https://a/otlp?x=1").as_deref(), Some("https://a/otlp?x=1"));
        assert_eq!((whole("a:4318"), whole("ftp://a"), whole("http://u:p@a")), (None, None, None));
        assert!(endpoint("http://a/b", "/S/Export", OtlpProtocol::Grpc).is_err());
    }
}
