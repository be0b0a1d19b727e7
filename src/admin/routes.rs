//! What there is to ask, and who may: one table, from which requests are answered.

use super::answer::{Answer, answer, json};
use super::guard::Access;
use super::{Process, Readiness};
use crate::observe::metrics::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::json;

/// Something that can be asked.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub call: Call,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Page,
    Live,
    Ready,
    Metrics,
}

const fn get(path: &'static str, access: Access, call: Call) -> Route {
    Route { method: Method::GET, path, access, call }
}

static ROUTES: [Route; 4] = [
    get("/", Access::Page, Call::Page),
    get("/v1/live", Access::Anybody, Call::Live),
    get("/v1/ready", Access::Anybody, Call::Ready),
    get("/metrics", Access::Read, Call::Metrics),
];

/// The route for this request.
///
/// # Errors
/// The status when there is none.
pub fn find(method: &Method, path: &str) -> Result<&'static Route, StatusCode> {
    let mut here = ROUTES.iter().filter(|route| route.path == path);
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    match here.clone().find(|route| route.method == asked) {
        Some(route) => Ok(route),
        None if here.next().is_some() => Err(StatusCode::METHOD_NOT_ALLOWED),
        None => Err(StatusCode::NOT_FOUND),
    }
}

/// Does what is asked.
pub fn call(process: &dyn Process, call: Call) -> Answer {
    match call {
        Call::Page => {
            let page = concat!("weirgate ", env!("CARGO_PKG_VERSION"), "\n\n/metrics\n/v1/live\n/v1/ready\n");
            answer(StatusCode::OK, "text/plain; charset=utf-8", page)
        }
        Call::Live => json(StatusCode::OK, &json!({ "live": true })),
        Call::Ready => {
            let readiness = process.readiness();
            let ready = readiness == Readiness::Ready;
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, &json!({ "ready": ready, "state": readiness.as_str() }))
        }
        Call::Metrics => answer(StatusCode::OK, CONTENT_TYPE, process.metrics()),
    }
}
