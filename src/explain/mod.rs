//! What the gate would do with a request, and why: `weirgate explain`. Nothing is sent; the head is
//! judged by the edge, routed by the router and answered by the same functions as a real one.
//!
//! In reading order: `question` (method, URL and headers become a head), `listener` (where it would
//! come in), [`Explainer::explain`], `text` (how it is shown).

mod listener;
mod question;
mod text;

pub use question::Question;

use crate::config::plan::{self, Action, Listener, Plan, Retry, Split, UpstreamTimeouts};
use crate::edge;
use crate::filter::{FilterPlan, Phases};
use crate::http::Reject;
use crate::http::explain::{Prospect, explain};
use crate::http::route::{Explained, Held, Router, Why, host_words, path_words};
use crate::units::Time;
use serde::Serialize;
use std::sync::Arc;

/// Answers questions about one configuration.
pub struct Explainer<'a> {
    plan: &'a Plan,
    router: Router,
}

/// What becomes of a request. As JSON, the fields are the keys; what does not apply is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub request: Request,
    pub listener: Entrance,
    /// The gate answers with this itself: the request is malformed, or has no route.
    pub refused: Option<Refused>,
    /// The listener sends it to https first.
    pub redirect_https: Option<Redirect>,
    pub route: Option<Taken>,
    /// Those of the listener, then those of the route, as requests pass them; responses pass them in
    /// reverse.
    pub filters: Vec<Step>,
    pub action: Option<Does>,
    /// Routes that it nearly took.
    pub lost: Vec<Lost>,
}

/// The request as the gate sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    pub method: String,
    /// `https` or `http`, as the client used it.
    pub scheme: &'static str,
    /// Lower case, without port.
    pub host: String,
    /// As routes see it.
    pub path: String,
    /// As the client wrote it, when that is another spelling.
    pub written: Option<String>,
    /// As servers see it, when it is not as written.
    pub forwarded: Option<String>,
    pub query: Option<String>,
    pub client: String,
    /// The peer is a trusted proxy: what it says of the client is believed.
    pub trusted: bool,
}

/// The listener it comes in at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entrance {
    pub name: String,
    pub address: String,
    pub tls: bool,
    /// Others that would do as well.
    pub others: Vec<String>,
    /// How it was found, when that is not plain.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub status: u16,
    /// As in the access log.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redirect {
    pub status: u16,
    pub to: String,
}

/// The route that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    pub name: String,
    pub host: String,
    pub path: String,
    /// All of them hold.
    pub conditions: Vec<Held>,
}

/// A filter on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub filter: &'static str,
    /// `listener web` or `route api`.
    pub of: String,
    pub request: bool,
    pub response: bool,
}

/// What is done in the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    Upstream(Group),
    Split { key: Option<crate::config::file::Key>, groups: Vec<Share> },
    Redirect(Redirect),
    Respond { status: u16, body: String },
}

/// One of the groups of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// In percent.
    pub share: f64,
    #[serde(flatten)]
    pub group: Group,
}

/// The group that a request goes to, with what is in effect for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    pub upstream: String,
    pub balance: String,
    /// Servers with an address of their own; others may be discovered.
    pub servers: Vec<String>,
    pub timeouts: Timeouts,
    pub retry: Retries,
}

/// Of the route, or else of the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeouts {
    pub connect: Time,
    pub response: Time,
    pub first_byte: Option<Time>,
    #[serde(rename = "try")]
    pub one_try: Option<Time>,
    pub request: Option<Time>,
    pub tunnel: Time,
}

/// Of the route, or else of the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retries {
    /// Tries in all.
    pub attempts: u16,
    /// As under `retry.when`.
    pub when: Vec<String>,
    /// Whether this method is tried again once it may have reached a server.
    pub repeats: bool,
    pub within: Option<Time>,
    pub hedge: bool,
}

/// A route that it did not take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lost {
    pub route: String,
    pub why: String,
    /// The conditions that do not hold.
    pub conditions: Vec<Held>,
}

impl<'a> Explainer<'a> {
    pub fn new(plan: &'a Plan) -> Explainer<'a> {
        Explainer { plan, router: Router::build(&plan.routes) }
    }

    /// # Errors
    /// When the question makes no request, or no listener would get it; in words for who asked.
    pub fn explain(&self, question: &Question) -> Result<Explanation, String> {
        let target = question.target()?;
        let (listener, entrance) = listener::choose(self.plan, question, &target)?;
        let head = target.head(question, listener);
        let client = question.client.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        let judged = edge::judge_head(&head.bytes, &listener.limits);
        let prospect = match (judged, head.parsed) {
            (Ok(()), Some(parsed)) => explain(self.plan, &self.router, listener, &parsed, client),
            (Ok(()), None) => Prospect::refused(Reject::BadRequest("malformed request target"), client),
            (Err(reject), _) => Prospect::refused(reject, client),
        };
        Ok(self.told(question, &target, (listener, entrance), prospect))
    }

    fn told(
        &self,
        question: &Question,
        target: &question::Target,
        (listener, entrance): (&Arc<Listener>, Entrance),
        prospect: Prospect,
    ) -> Explanation {
        let route = prospect.routed.taken.and_then(|at| self.router.route(at));
        let reply = prospect.reply.as_ref();
        let redirect = reply.and_then(|reply| {
            let location = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"location"))?;
            let to = String::from_utf8_lossy(location.1.as_bytes()).into_owned();
            Some(Redirect { status: reply.status.as_u16(), to })
        });
        let refused = prospect
            .refused
            .map(|reject| Refused { status: reject.status().as_u16(), reason: reject.reason() });
        let action =
            route.filter(|_| refused.is_none() && !prospect.to_https).map(|route| match &route.action {
                Action::Upstream(id) => Does::Upstream(self.group(*id, route, &question.method)),
                Action::Split(split) => self.split(split, route, &question.method),
                Action::Redirect { status, .. } => {
                    let to = redirect.as_ref().map_or_else(String::new, |redirect| redirect.to.clone());
                    Does::Redirect(Redirect { status: *status, to })
                }
                Action::Respond(respond) => {
                    let body =
                        reply.map_or_else(String::new, |r| String::from_utf8_lossy(&r.body).into_owned());
                    Does::Respond { status: respond.status, body }
                }
            });
        let malformed = refused.is_some() && prospect.path.is_empty();
        Explanation {
            request: request(question, target, &prospect),
            listener: entrance,
            redirect_https: redirect.filter(|_| prospect.to_https),
            filters: if malformed { Vec::new() } else { steps(listener, route) },
            action,
            lost: self.lost(&prospect.routed),
            route: route.map(|route| Taken {
                name: route.name.clone(),
                host: host_words(&route.matcher),
                path: path_words(&route.matcher.path),
                conditions: prospect.held,
            }),
            refused,
        }
    }

    fn group(&self, id: plan::UpstreamId, route: &plan::Route, method: &str) -> Group {
        let Some(group) = self.plan.upstreams.get(id.0) else { return Group::unknown() };
        Group {
            upstream: group.name.clone(),
            balance: group.balance.to_string(),
            servers: group.servers.iter().map(|server| server.address.to_string()).collect(),
            timeouts: Timeouts::from(group.timeouts.with(route.timeouts)),
            retry: Retries::new(&route.retry.unwrap_or(group.retry), method),
        }
    }

    fn split(&self, split: &Split, route: &plan::Route, method: &str) -> Does {
        let mut before = 0;
        let groups = split.groups.iter().map(|(sum, id)| {
            let weight = sum - std::mem::replace(&mut before, *sum);
            let share = f64::from(weight) * 100.0 / f64::from(split.total.max(1));
            Share { share, group: self.group(*id, route, method) }
        });
        Does::Split { key: split.key.clone(), groups: groups.collect() }
    }

    fn lost(&self, routed: &Explained) -> Vec<Lost> {
        let lost = routed.lost.iter().filter_map(|lost| {
            let route = self.router.route(lost.route)?;
            let (why, conditions) = match &lost.why {
                Why::Conditions(failed) => (String::new(), failed.clone()),
                Why::LessSpecific(why) => (format!("less specific: {why}"), Vec::new()),
                Why::Host => (format!("it is for {}", host_words(&route.matcher)), Vec::new()),
                Why::Path(why) => {
                    (format!("it is for {}: {why}", path_words(&route.matcher.path)), Vec::new())
                }
            };
            let why = conditions.first().map_or(why, text::failed);
            Some(Lost { route: route.name.clone(), why, conditions })
        });
        lost.collect()
    }
}

fn request(question: &Question, target: &question::Target, prospect: &Prospect) -> Request {
    let (written, query) = target.path_and_query();
    Request {
        method: question.method.clone(),
        scheme: if prospect.client.https { "https" } else { "http" },
        host: prospect.host.clone(),
        written: (written != prospect.path).then(|| written.to_string()),
        path: prospect.path.clone(),
        forwarded: prospect.rewritten.clone(),
        query: query.map(str::to_string),
        client: prospect.client.addr.to_string(),
        trusted: prospect.client.trusted,
    }
}

fn steps(listener: &Listener, route: Option<&Arc<plan::Route>>) -> Vec<Step> {
    let step = |filter: &FilterPlan, of: String| {
        let phases = filter.filter.phases();
        let any = |of: &[Phases]| of.iter().any(|phase| phases.contains(*phase));
        Step {
            filter: filter.key,
            of,
            request: any(&[Phases::REQUEST, Phases::REQUEST_BODY, Phases::UPSTREAM_REQUEST]),
            response: any(&[Phases::RESPONSE, Phases::RESPONSE_BODY]),
        }
    };
    let of_listener = listener.filters.iter().map(|f| step(f, format!("listener {}", listener.name)));
    let of_route =
        route.into_iter().flat_map(|r| r.filters.iter().map(|f| step(f, format!("route {}", r.name))));
    of_listener.chain(of_route).collect()
}

impl Group {
    /// `check` sees to it that there is none.
    fn unknown() -> Group {
        let timeouts = UpstreamTimeouts::from(&crate::config::file::Timeouts::default());
        let retry = Retry::from(&crate::config::file::Retry::default());
        Group {
            upstream: String::new(),
            balance: String::new(),
            servers: Vec::new(),
            timeouts: Timeouts::from(timeouts),
            retry: Retries::new(&retry, ""),
        }
    }
}

impl From<UpstreamTimeouts> for Timeouts {
    fn from(plan: UpstreamTimeouts) -> Self {
        Timeouts {
            connect: Time(plan.connect),
            response: Time(plan.response),
            first_byte: plan.first_byte.map(Time),
            one_try: plan.one_try.map(Time),
            request: plan.request.map(Time),
            tunnel: Time(plan.tunnel),
        }
    }
}

impl Retries {
    fn new(retry: &Retry, method: &str) -> Retries {
        let named = [(retry.on_connect, "connect"), (retry.on_reset, "reset"), (retry.on_timeout, "timeout")];
        let words = named.into_iter().filter(|(on, _)| *on).map(|(_, word)| word.to_string());
        let statuses = (400..600).filter(|status| retry.on_status.contains(*status)).map(|s| s.to_string());
        let idempotent =
            http::Method::from_bytes(method.as_bytes()).is_ok_and(|method| method.is_idempotent());
        Retries {
            attempts: retry.attempts,
            when: words.chain(statuses).collect(),
            repeats: retry.non_idempotent || idempotent,
            within: retry.within.map(Time),
            hedge: retry.hedge.is_some(),
        }
    }
}
