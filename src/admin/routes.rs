//! What there is to ask, and who may: one table, from which requests are answered and the OpenAPI document is made.

use super::guard::Access;
use super::view;
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Something that can be asked.
pub struct Route {
    pub method: Method,
    /// With `{name}` for what may be any segment.
    pub path: &'static str,
    pub access: Access,
    pub call: Call,
    /// What it is for, in one line.
    pub about: &'static str,
    /// The shape of the answer, if it is JSON.
    pub answer: Option<fn(&mut SchemaGenerator) -> Schema>,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Page,
    Script,
    Style,
    Icon,
    OpenApi,
    Live,
    Ready,
    Metrics,
    Overview,
    Config,
    Reload,
    Check,
    Diff,
    Listeners,
    Routes,
    Upstreams,
    Upstream,
    Certificates,
    Failures,
    Weight,
    Drain,
    Undrain,
    Eject,
    Restore,
}

/// What stands in the place of `{name}` in a path.
pub type Names = Vec<String>;

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn get(path: &'static str, access: Access, call: Call, about: &'static str) -> Route {
    Route { method: Method::GET, path, access, call, about, answer: None }
}

const fn probe(
    path: &'static str,
    call: Call,
    about: &'static str,
    answer: fn(&mut SchemaGenerator) -> Schema,
) -> Route {
    Route { method: Method::GET, path, access: Access::Anybody, call, about, answer: Some(answer) }
}

const fn look(
    path: &'static str,
    call: Call,
    about: &'static str,
    answer: fn(&mut SchemaGenerator) -> Schema,
) -> Route {
    Route { method: Method::GET, path, access: Access::Read, call, about, answer: Some(answer) }
}

const fn change(
    path: &'static str,
    call: Call,
    about: &'static str,
    answer: fn(&mut SchemaGenerator) -> Schema,
) -> Route {
    Route { method: Method::POST, path, access: Access::Write, call, about, answer: Some(answer) }
}

pub static ROUTES: [Route; 24] = [
    get("/", Access::Page, Call::Page, "The dashboard."),
    get("/app.js", Access::Page, Call::Script, "Its program."),
    get("/app.css", Access::Page, Call::Style, "Its looks."),
    get("/icon.svg", Access::Page, Call::Icon, "Its icon."),
    get("/v1/openapi.json", Access::Read, Call::OpenApi, "This document."),
    get("/metrics", Access::Read, Call::Metrics, "What there is to count, for Prometheus."),
    probe("/v1/live", Call::Live, "Whether the process lives.", shape::<view::Live>),
    probe(
        "/v1/ready",
        Call::Ready,
        "Whether clients are to be sent here; 503 when not.",
        shape::<view::Ready>,
    ),
    look("/v1/overview", Call::Overview, "All that a page shows, in one answer.", shape::<view::Overview>),
    look(
        "/v1/config",
        Call::Config,
        "Which configuration is in use, since when, and what was refused last.",
        shape::<serde_json::Value>,
    ),
    look("/v1/listeners", Call::Listeners, "Where connections are accepted.", shape::<Vec<view::Listener>>),
    look(
        "/v1/routes",
        Call::Routes,
        "Which requests go where, in the order of the file.",
        shape::<Vec<view::Route>>,
    ),
    look(
        "/v1/upstreams",
        Call::Upstreams,
        "Groups and their servers, and why each is what it is.",
        shape::<Vec<view::Upstream>>,
    ),
    look("/v1/upstreams/{upstream}", Call::Upstream, "One group.", shape::<view::Upstream>),
    look(
        "/v1/certificates",
        Call::Certificates,
        "What is shown to clients, and when it ends.",
        shape::<Vec<view::Certificate>>,
    ),
    look(
        "/v1/errors",
        Call::Failures,
        "Requests that failed of late, after the number in `after`.",
        shape::<view::Failures>,
    ),
    change(
        "/v1/config/reload",
        Call::Reload,
        "Reads the configuration again; 422 with the report when it is refused.",
        shape::<view::Reloaded>,
    ),
    change("/v1/config/check", Call::Check, "Looks at the configuration in the body.", shape::<view::Judged>),
    change(
        "/v1/config/diff",
        Call::Diff,
        "What the configuration in the body would change; 422 when it has mistakes.",
        shape::<view::Difference>,
    ),
    change(
        "/v1/upstreams/{upstream}/servers/{server}/weight",
        Call::Weight,
        "Gives a server the `weight` in the body.",
        shape::<view::Server>,
    ),
    change(
        "/v1/upstreams/{upstream}/servers/{server}/drain",
        Call::Drain,
        "No new sessions for a server.",
        shape::<view::Server>,
    ),
    change(
        "/v1/upstreams/{upstream}/servers/{server}/undrain",
        Call::Undrain,
        "New sessions for it again.",
        shape::<view::Server>,
    ),
    change(
        "/v1/upstreams/{upstream}/servers/{server}/eject",
        Call::Eject,
        "No requests for it for a while, by the rules of `outlier`.",
        shape::<view::Server>,
    ),
    change(
        "/v1/upstreams/{upstream}/servers/{server}/restore",
        Call::Restore,
        "Ends its ejection.",
        shape::<view::Server>,
    ),
];

/// The route for this request, and what stands in the places of its path.
///
/// # Errors
/// The status when there is none.
pub fn find(method: &Method, path: &str) -> Result<(&'static Route, Names), StatusCode> {
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    let mut status = StatusCode::NOT_FOUND;
    for route in &ROUTES {
        let Some(names) = fit(route.path, path) else { continue };
        if route.method == asked {
            return Ok((route, names));
        }
        status = StatusCode::METHOD_NOT_ALLOWED;
    }
    Err(status)
}

fn fit(template: &str, path: &str) -> Option<Names> {
    let mut names = Names::new();
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(names),
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {
                names.push(decoded(segment)?);
            }
            (Some(same), Some(segment)) if same == segment => {}
            (Some(_), _) | (None, Some(_)) => return None,
        }
    }
}

/// With `%2F` and the like as what they stand for (RFC 3986 §2.1).
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_call_and_names() {
        let (route, names) =
            find(&Method::POST, "/v1/upstreams/a%20b/servers/unix:%2Frun%2Fa.sock/drain").unwrap();
        assert_eq!((route.call, names), (Call::Drain, vec!["a b".to_owned(), "unix:/run/a.sock".to_owned()]));
        assert_eq!(find(&Method::HEAD, "/metrics").unwrap().0.call, Call::Metrics);
        for (path, status) in [
            ("/v1/upstreams//servers/x/drain", StatusCode::NOT_FOUND),
            ("/v1/upstreams/a/servers/%zz/drain", StatusCode::NOT_FOUND),
            ("/v1/upstreams/a/servers/%f", StatusCode::NOT_FOUND),
            ("/v1/live/", StatusCode::NOT_FOUND),
            ("/v1/live", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            assert_eq!(find(&Method::POST, path).err(), Some(status), "{path}");
        }
    }
}
