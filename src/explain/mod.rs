//! What the gate would do with a request, and why: `weirgate explain`. Nothing is sent; the head is
//! judged by the edge, routed by the router and answered by the same functions as a real one.
//!
//! In reading order: `question` (method, URL and headers become a head), `listener` (where it would
//! come in), [`Explainer::explain`], `group` (what is in effect for it there), `text` (how it is shown).

mod group;
mod listener;
mod question;
mod text;

pub use group::{Group, Retries, Timeouts, Tls, Trusted};
pub use question::Question;

use crate::config::plan::{self, Action, Listener, Plan, Split, UpstreamId};
use crate::edge;
use crate::filter::{FilterPlan, Phases};
use crate::http::Reject;
use crate::http::explain::{Prospect, explain};
use crate::http::route::{Explained, Held, Router, Why, host_words, path_words};
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
    /// It takes datagrams, and no connections.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub udp: bool,
    /// Connections are passed on whole: there are no requests.
    pub passes_to: Option<Passed>,
    /// Others that would do as well.
    pub others: Vec<String>,
    /// How it was found, when that is not plain.
    pub note: Option<String>,
}

/// The group that connections are passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Passed {
    pub upstream: String,
    pub balance: String,
    /// Servers with an address of their own; others may be discovered.
    pub servers: Vec<String>,
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
    Upstream(Box<Group>),
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
        if entrance.passes_to.is_some() {
            // nobody reads it
            let nothing = Prospect::refused(Reject::Internal, client);
            let told = self.told(question, &target, (listener, entrance), nothing);
            return Ok(Explanation { refused: None, ..told });
        }
        let judged = edge::judge_head(&head.bytes, &listener.limits);
        let prospect = match (judged, head.parsed) {
            (Ok(()), Some(parsed)) => {
                let who = (client, question.certificate.as_ref());
                explain(self.plan, &self.router, listener, &parsed, who)
            }
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
        let action = route.filter(|_| refused.is_none() && !prospect.to_https).and_then(|route| match &route
            .action
        {
            Action::Upstream(id) => {
                self.group(*id, route, &question.method).map(|group| Does::Upstream(Box::new(group)))
            }
            Action::Split(split) => Some(self.split(split, route, &question.method)),
            Action::Redirect { .. } => redirect.clone().map(Does::Redirect),
            Action::Respond(respond) => {
                let body = reply.map_or_else(String::new, |r| String::from_utf8_lossy(&r.body).into_owned());
                Some(Does::Respond { status: respond.status, body })
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

    fn group(&self, id: UpstreamId, route: &plan::Route, method: &str) -> Option<Group> {
        self.plan.upstreams.get(id.0).map(|group| Group::new(group, route, method))
    }

    fn split(&self, split: &Split, route: &plan::Route, method: &str) -> Does {
        let share = |(weight, id): (u32, UpstreamId)| {
            let share = f64::from(weight) * 100.0 / f64::from(split.total.max(1));
            Some(Share { share, group: self.group(id, route, method)? })
        };
        Does::Split { key: split.key.clone(), groups: split.weights().filter_map(share).collect() }
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
