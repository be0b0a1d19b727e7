//! A chain of filters, sorted by phase once so that a request calls only what takes part.

use super::{Exchange, Filter, FilterPlan, Flow, Phases};
use bytes::Bytes;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};
use std::sync::Arc;

type Filters = Box<[Arc<dyn Filter>]>;

/// The filters of one listener and route, in the order each phase calls them.
#[derive(Default)]
pub struct Chain {
    request: Filters,
    request_body: Filters,
    upstream_request: Filters,
    response: Filters,
    response_body: Filters,
    response_trailers: Filters,
    log: Filters,
}

impl Chain {
    /// The listener's filters stand before the route's; responses pass all in reverse.
    pub fn new<'a>(plans: impl Iterator<Item = &'a FilterPlan> + Clone) -> Self {
        let of = |phase: Phases| -> Vec<Arc<dyn Filter>> {
            let filters = plans.clone().map(|p| p.filter.clone());
            filters.filter(|f| f.phases().contains(phase)).collect()
        };
        let reversed = |phase| of(phase).into_iter().rev().collect();
        Chain {
            request: of(Phases::REQUEST).into(),
            request_body: of(Phases::REQUEST_BODY).into(),
            upstream_request: of(Phases::UPSTREAM_REQUEST).into(),
            response: reversed(Phases::RESPONSE),
            response_body: reversed(Phases::RESPONSE_BODY),
            response_trailers: reversed(Phases::RESPONSE_TRAILERS),
            log: reversed(Phases::LOG),
        }
    }

    pub async fn request(&self, ex: &mut Exchange<'_>) -> Flow {
        for filter in &self.request {
            let flow = match filter.request(ex) {
                Flow::Wait => filter.request_async(ex).await,
                flow @ (Flow::Continue | Flow::Answer(_) | Flow::Refuse(..)) => flow,
            };
            match flow {
                // a filter that still wants to wait after waiting has nothing to say
                Flow::Continue | Flow::Wait => {}
                Flow::Answer(_) | Flow::Refuse(..) => return flow,
            }
        }
        Flow::Continue
    }

    pub fn request_body(
        &self,
        ex: &mut Exchange<'_>,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), (http::StatusCode, &'static str)> {
        self.request_body.iter().try_for_each(|filter| filter.request_body(ex, body, end))
    }

    pub fn upstream_request(&self, ex: &mut Exchange<'_>, head: &mut RequestHeader) {
        for filter in &self.upstream_request {
            filter.upstream_request(ex, head);
        }
    }

    pub fn response(&self, ex: &mut Exchange<'_>, head: &mut ResponseHeader) {
        for filter in &self.response {
            filter.response(ex, head);
        }
    }

    pub fn response_body(&self, ex: &mut Exchange<'_>, body: &mut Option<Bytes>, end: bool) {
        for filter in &self.response_body {
            filter.response_body(ex, body, end);
        }
    }

    /// What is to be sent as the end of the body in place of the trailers.
    pub fn response_trailers(&self, ex: &mut Exchange<'_>, trailers: &mut HeaderMap) -> Option<Bytes> {
        self.response_trailers.iter().find_map(|filter| filter.response_trailers(ex, trailers))
    }

    pub fn log(&self, ex: &mut Exchange<'_>) {
        for filter in &self.log {
            filter.log(ex);
        }
    }

    /// Whether any filter takes part in this phase.
    pub fn has(&self, phase: Phases) -> bool {
        let filters = match phase {
            Phases::REQUEST => &self.request,
            Phases::REQUEST_BODY => &self.request_body,
            Phases::UPSTREAM_REQUEST => &self.upstream_request,
            Phases::RESPONSE => &self.response,
            Phases::RESPONSE_BODY => &self.response_body,
            Phases::RESPONSE_TRAILERS => &self.response_trailers,
            Phases::LOG => &self.log,
            Phases(_) => return false,
        };
        !filters.is_empty()
    }
}
