//! Routes and requests as tests write them; the tests by subject.

mod analysis;
mod conditions;
mod order;
mod scan;

use super::*;
use crate::config::plan::{
    Action, CertificatePart, Matcher, PathMatch, Pattern, Respond, UpstreamId, ValueMatch,
};
use crate::template::Template;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

/// A route as a test writes it: `get("/api").on("a.example.com").upstream(1)`.
struct Draft(Matcher, Action);

fn respond() -> Action {
    Action::Respond(Respond { status: 403, body: Template::default(), headers: Vec::new() })
}

fn route(path: PathMatch) -> Draft {
    Draft(Matcher { path, ..Matcher::default() }, Action::Upstream(UpstreamId(0)))
}

fn any() -> Draft {
    route(PathMatch::Any)
}

fn prefix(path: &str) -> Draft {
    route(PathMatch::Prefix(path.into()))
}

fn exact(path: &str) -> Draft {
    route(PathMatch::Exact(path.into()))
}

fn regex(pattern: &str) -> Draft {
    route(PathMatch::Regex(Pattern(Regex::new(&format!("^(?:{pattern})$")).unwrap())))
}

fn is(text: &str) -> ValueMatch {
    ValueMatch::Is(text.into())
}

impl Draft {
    fn host(mut self, host: &str) -> Self {
        self.0.hosts.push(host.parse().unwrap());
        self
    }
    fn methods(mut self, methods: &[Method]) -> Self {
        self.0.methods = methods.to_vec();
        self
    }
    fn header(mut self, name: &'static str, value: ValueMatch) -> Self {
        self.0.headers.push((HeaderName::from_static(name), value));
        self
    }
    fn query(mut self, name: &str, value: ValueMatch) -> Self {
        self.0.query.push((name.into(), value));
        self
    }
    fn cookie(mut self, name: &str, value: ValueMatch) -> Self {
        self.0.cookies.push((name.into(), value));
        self
    }
    fn client(mut self, net: &str) -> Self {
        self.0.client.push(net.parse().unwrap());
        self
    }
    fn listener(mut self, id: usize) -> Self {
        self.0.listeners.push(ListenerId(id));
        self
    }
    fn certificate(mut self, part: CertificatePart, value: ValueMatch) -> Self {
        self.0.certificate.push((part, value));
        self
    }
    fn refuses(mut self) -> Self {
        self.1 = respond();
        self
    }
}

fn plan(drafts: Vec<Draft>) -> Vec<Arc<Route>> {
    let route = |(i, draft): (usize, Draft)| Route {
        name: i.to_string(),
        matcher: draft.0,
        action: draft.1,
        error_pages: Vec::new(),
        filters: Vec::new(),
        timeouts: None,
        max_body_bytes: None,
        retry: None,
        priority_class: crate::config::file::PriorityClass::Normal,
        sampling: Default::default(),
        logged: None,
    };
    drafts.into_iter().enumerate().map(|d| Arc::new(route(d))).collect()
}

/// A request as a test writes it: `Ask::path("/api").host("a.example.com").of(&router)`.
struct Ask {
    host: String,
    path: String,
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
    client: IpAddr,
    certificate: Option<ClientCertificate>,
    listener: usize,
}

impl Ask {
    fn path(path: &str) -> Self {
        Ask {
            host: "www.example.com".into(),
            path: path.into(),
            method: Method::GET,
            headers: HeaderMap::new(),
            query: None,
            client: IpAddr::from([192, 0, 2, 1]),
            certificate: None,
            listener: 0,
        }
    }
    fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }
    fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }
    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }
    fn client(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }
    fn certificate(mut self, subject: &str, san: &[&str]) -> Self {
        let san = san.iter().map(|name| (*name).to_string()).collect();
        self.certificate = Some(ClientCertificate::made(subject, san));
        self
    }
    fn listener(mut self, id: usize) -> Self {
        self.listener = id;
        self
    }
    fn request(&self) -> RouteQuery<'_> {
        RouteQuery {
            listener: ListenerId(self.listener),
            host: &self.host,
            path: &self.path,
            method: &self.method,
            headers: &self.headers,
            query: self.query.as_deref(),
            client: self.client,
            certificate: self.certificate.as_ref(),
        }
    }
    fn of(&self, router: &Router) -> Option<usize> {
        router.position(&self.request())
    }
}

fn router(drafts: Vec<Draft>) -> Router {
    Router::build(&plan(drafts))
}
