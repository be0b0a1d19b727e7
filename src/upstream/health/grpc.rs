//! `health_check: { grpc: ... }`: the standard question of gRPC,
//! `grpc.health.v1.Health/Check` (github.com/grpc/grpc/blob/master/doc/health-checking.md), asked on
//! an HTTP/2 connection of its own. Called by the watch through Pingora's `HealthCheck`, which bounds
//! the whole of it in time.

use super::Thresholds;
use super::dial::{self, Dial};
use super::proto::{self, Status};
use crate::config::file::GrpcCheck;
use crate::upstream::reason::UNEXPECTED;
use async_trait::async_trait;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::time::Duration;

const PATH: &str = "/grpc.health.v1.Health/Check";
const USER_AGENT: &str = concat!("weirgate-health/", env!("CARGO_PKG_VERSION"));
const STATUS: &str = "grpc-status";
const INVALID: &str = "the answer is not valid gRPC";
/// The header list of an answer may be this long: it has a handful of short ones.
const MAX_HEADERS: u32 = 16 * 1024;

/// A question that a healthy server answers with `SERVING`.
pub struct GrpcHealthCheck {
    dial: Dial,
    service: String,
    /// The request's message.
    message: Bytes,
    /// `None`: the address of each server.
    authority: Option<String>,
    timeout: HeaderValue,
    thresholds: Thresholds,
}

impl GrpcHealthCheck {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(
        plan: &GrpcCheck,
        dial: Dial,
        timeout: Duration,
        thresholds: Thresholds,
    ) -> Result<GrpcHealthCheck, String> {
        // at most 8 digits
        let timeout = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
        Ok(GrpcHealthCheck {
            dial,
            message: proto::request(&plan.service)
                .ok_or("the name of the service in the health check is too long")?,
            service: plan.service.clone(),
            authority: plan.authority.as_ref().map(|host| host.0.clone()),
            timeout: HeaderValue::from_str(&timeout).map_err(|error| error.to_string())?,
            thresholds,
        })
    }

    /// The request as one server gets it.
    fn request(&self, server: &str) -> Result<Request<()>> {
        let authority = self.authority.as_deref().unwrap_or(server);
        Request::post(format!("{}://{authority}{PATH}", self.dial.scheme()))
            .version(http::Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, USER_AGENT)
            .header("grpc-timeout", &self.timeout)
            .body(())
            .map_err(|error| Error::because(ErrorType::InternalError, "the health check's request", error))
    }

    async fn ask(&self, sender: SendRequest<Bytes>, server: &str) -> Result<()> {
        let mut sender = sender.ready().await.map_err(broken)?;
        let (answer, mut body) = sender.send_request(self.request(server)?, false).map_err(broken)?;
        body.send_data(self.message.clone(), true).map_err(broken)?;
        let mut answer = answer.await.map_err(broken)?;
        judge_head(&answer)?;
        self.judge_status(answer.headers())?;
        let message = message(&mut answer).await?;
        let trailers = answer.body_mut().trailers().await.map_err(broken)?.unwrap_or_default();
        if !trailers.contains_key(STATUS) && !answer.headers().contains_key(STATUS) {
            return Error::e_explain(UNEXPECTED, INVALID);
        }
        self.judge_status(&trailers)?;
        self.judge(proto::status(&message))
    }

    /// `grpc-status`, where it is: in the head of an answer without message, or in the trailers.
    fn judge_status(&self, headers: &HeaderMap) -> Result<()> {
        let Some(status) = headers.get(STATUS) else { return Ok(()) };
        let text = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
        let code = status.to_str().ok().and_then(|code| code.parse::<u8>().ok());
        let why = match code {
            Some(0) => return Ok(()),
            Some(5) if !self.service.is_empty() => {
                format!("the server does not know service {:?} (NOT_FOUND)", self.service)
            }
            Some(12) => "the server has no service grpc.health.v1.Health (UNIMPLEMENTED)".into(),
            Some(code) => {
                let text: String = text.chars().take(200).collect();
                let colon = if text.is_empty() { "" } else { ": " };
                format!("gRPC status {code} ({}){colon}{text}", proto::status_name(code))
            }
            None => INVALID.into(),
        };
        Error::e_explain(UNEXPECTED, why)
    }

    fn judge(&self, serving: Option<Status>) -> Result<()> {
        let what =
            if self.service.is_empty() { String::new() } else { format!("service {:?} is ", self.service) };
        let why = match serving {
            Some(Status::Serving) => return Ok(()),
            Some(Status::NotServing) => format!("{what}NOT_SERVING"),
            Some(Status::Unknown) => format!("{what}UNKNOWN, expected SERVING"),
            Some(Status::ServiceUnknown) => format!("{what}SERVICE_UNKNOWN, expected SERVING"),
            Some(Status::Other(n)) => format!("{what}in state {n}, expected SERVING"),
            None => INVALID.into(),
        };
        Error::e_explain(UNEXPECTED, why)
    }
}

#[async_trait]
impl HealthCheck for GrpcHealthCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let server = dial::authority(backend);
        let wire = self.dial.connect(backend).await?;
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .max_header_list_size(MAX_HEADERS)
            .handshake::<_, Bytes>(wire)
            .await
            .map_err(broken)?;
        // the connection lives no longer than the question
        tokio::select! {
            biased;
            answered = self.ask(sender, &server) => answered,
            ended = connection => match ended {
                Err(error) => Err(broken(error)),
                Ok(()) => Err(Error::new(ErrorType::ConnectionClosed)),
            },
        }
    }

    fn health_threshold(&self, success: bool) -> usize {
        self.thresholds.of(success)
    }
}

fn judge_head<T>(answer: &Response<T>) -> Result<()> {
    if answer.status() != StatusCode::OK {
        let why = format!("status {}, expected 200", answer.status().as_u16());
        return Error::e_explain(UNEXPECTED, why);
    }
    let kind = answer.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !kind.starts_with(b"application/grpc") {
        return Error::e_explain(UNEXPECTED, "the answer is not gRPC");
    }
    Ok(())
}

/// The body, which is no longer than a message of this service can be.
async fn message(answer: &mut Response<h2::RecvStream>) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    while let Some(piece) = answer.body_mut().data().await {
        let piece = piece.map_err(broken)?;
        answer.body_mut().flow_control().release_capacity(piece.len()).map_err(broken)?;
        message.extend_from_slice(&piece);
        if message.len() > proto::LONGEST {
            return Error::e_explain(UNEXPECTED, "the answer is longer than that of grpc.health.v1.Health");
        }
    }
    Ok(message)
}

/// Why an exchange over HTTP/2 broke off.
fn broken(error: h2::Error) -> Box<Error> {
    if error.is_io() {
        return match error.into_io() {
            Some(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
                Error::because(ErrorType::ConnectionClosed, "HTTP/2", io)
            }
            Some(io) => Error::because(ErrorType::ReadError, "HTTP/2", io),
            None => Error::new(ErrorType::ConnectionClosed),
        };
    }
    let why = match error.reason() {
        Some(reason) if error.is_remote() => format!("the server ended the HTTP/2 exchange with {reason:?}"),
        _ => "the answer is not valid HTTP/2".to_string(),
    };
    Error::explain(UNEXPECTED, why)
}
