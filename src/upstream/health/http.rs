//! `health_check: { http: ... }`: a request whose status, and body where one is named, must be as
//! expected. Called by the watch through Pingora's `HealthCheck`, which bounds the whole of it in time.
//!
//! It speaks through Pingora's HTTP/1 client, but is not Pingora's check of the same name: that one
//! sends one `Host` to all servers of a group, takes an interim response for the answer, reads any
//! body to its end whatever its length, and loads the root certificates twice for each check.

use super::Thresholds;
use super::dial::{self, Dial};
use crate::config::plan::{BodyMatch, HttpCheck, Pattern};
use crate::config::words::StatusRange;
use crate::units::Size;
use crate::upstream::reason::UNEXPECTED;
use async_trait::async_trait;
use http::header;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::{Error, ErrorType, OkOrErr, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;

const USER_AGENT: &str = concat!("weirgate-health/", env!("CARGO_PKG_VERSION"));

/// A request that a healthy server answers as expected.
pub struct HttpHealthCheck {
    dial: Dial,
    /// Without `Host` where that is the address of each server.
    request: RequestHeader,
    statuses: Vec<StatusRange>,
    body: Option<Wanted>,
    thresholds: Thresholds,
}

/// What the body must be like, near enough to its beginning.
struct Wanted {
    what: BodyMatch,
    within: Size,
}

impl HttpHealthCheck {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(plan: &HttpCheck, dial: Dial, thresholds: Thresholds) -> Result<HttpHealthCheck, String> {
        let path = plan.path.as_str();
        let refused = |_| format!("the health check cannot ask for path {path:?}");
        let mut request =
            RequestHeader::build(plan.method.clone(), path.as_bytes(), None).map_err(refused)?;
        if let Some(host) = &plan.host {
            let refused = |_| format!("{host} cannot be sent as Host");
            request.insert_header(header::HOST, host.0.as_str()).map_err(refused)?;
        }
        for (name, value) in
            [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*"), (header::CONNECTION, "close")]
        {
            request.insert_header(name, value).map_err(|error| error.to_string())?;
        }
        for (name, value) in &plan.headers {
            request.insert_header(name, value).map_err(|error| error.to_string())?;
        }
        let body = plan.body.as_ref().map(|what| Wanted { what: what.clone(), within: plan.max_body_bytes });
        Ok(HttpHealthCheck { dial, request, statuses: plan.status.clone(), body, thresholds })
    }

    /// The request as one server gets it.
    fn request(&self, authority: &str) -> Result<Box<RequestHeader>> {
        let mut request = Box::new(self.request.clone());
        if !request.headers.contains_key(header::HOST) {
            request.insert_header(header::HOST, authority)?;
        }
        Ok(request)
    }

    fn judge_status(&self, status: u16) -> Result<()> {
        if self.statuses.iter().any(|range| range.contains(status)) {
            return Ok(());
        }
        let expected: Vec<String> = self.statuses.iter().map(StatusRange::to_string).collect();
        Error::e_explain(UNEXPECTED, format!("status {status}, expected {}", expected.join(", ")))
    }
}

#[async_trait]
impl HealthCheck for HttpHealthCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let authority = dial::authority(backend);
        let mut session = HttpSession::new(Box::new(self.dial.connect(backend).await?));
        session.write_request_header(self.request(&authority)?).await?;
        session.finish_body().await?;
        self.judge_status(final_status(&mut session).await?)?;
        match &self.body {
            Some(wanted) => wanted.find(&mut session).await,
            // the connection is not used again, so the body need not be read
            None => Ok(()),
        }
    }

    fn health_threshold(&self, success: bool) -> usize {
        self.thresholds.of(success)
    }
}

/// The status of the answer; interim responses (RFC 9110 §15.2) are passed over.
async fn final_status(session: &mut HttpSession) -> Result<u16> {
    loop {
        session.read_response().await?;
        let status = session.get_status().or_err(ErrorType::InvalidHTTPHeader, "no status")?;
        if !status.is_informational() || status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(status.as_u16());
        }
    }
}

impl Wanted {
    async fn find(&self, session: &mut HttpSession) -> Result<()> {
        match &self.what {
            BodyMatch::Contains(text) => self.find_text(text, session).await,
            BodyMatch::Regex(pattern) => self.find_match(pattern, session).await,
        }
    }

    /// Reads until the text was found, the body has ended or enough was read. Keeps no more of the
    /// body than one piece and the length of the text.
    async fn find_text(&self, text: &str, session: &mut HttpSession) -> Result<()> {
        let wanted = text.as_bytes();
        let mut left = self.within.as_usize();
        let mut window: Vec<u8> = Vec::new();
        while let Some(piece) = session.read_body_ref().await? {
            window.extend_from_slice(piece.get(..left).unwrap_or(piece));
            if memchr::memmem::find(&window, wanted).is_some() {
                return Ok(());
            }
            left = left.saturating_sub(piece.len());
            if left == 0 {
                let why = format!("body does not contain {text:?} in its first {}", self.within);
                return Error::e_explain(UNEXPECTED, why);
            }
            // what is kept may be the beginning of the text
            window.drain(..window.len().saturating_sub(wanted.len().saturating_sub(1)));
        }
        Error::e_explain(UNEXPECTED, format!("body does not contain {text:?}"))
    }

    /// Reads until the body has ended or enough was read: a pattern may be about the end.
    async fn find_match(&self, pattern: &Pattern, session: &mut HttpSession) -> Result<()> {
        let most = self.within.as_usize();
        let mut body: Vec<u8> = Vec::new();
        let mut whole = true;
        while let Some(piece) = session.read_body_ref().await? {
            body.extend_from_slice(piece.get(..most - body.len()).unwrap_or(piece));
            if body.len() >= most {
                whole = false;
                break;
            }
        }
        if pattern.0.is_match(&String::from_utf8_lossy(&body)) {
            return Ok(());
        }
        let within = if whole { String::new() } else { format!(" in its first {}", self.within) };
        let why = format!("body does not match {:?}{within}", pattern.0.as_str());
        Error::e_explain(UNEXPECTED, why)
    }
}
