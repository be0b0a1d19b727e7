//! What is done about each question of `routes`.

use super::answer::{Answer, answer, error, json};
use super::routes::{Call, Names};
use super::view::{Live, Overview, Ready};
use super::{Change, Process, Readiness, Unchanged, openapi, page};
use crate::config::plan;
use crate::observe::metrics::CONTENT_TYPE;
use http::StatusCode;
use serde::Deserialize;
use std::num::NonZeroU16;

/// So many routes are in an overview.
const ROUTES: usize = 300;

/// Something that is asked, by somebody who may.
pub struct Question<'a> {
    pub call: Call,
    pub names: Names,
    pub query: &'a str,
    pub body: String,
    /// The terms on which it is.
    pub admin: &'a plan::Admin,
    /// A certificate was shown.
    pub certificate: bool,
}

impl Question<'_> {
    /// Does what is asked.
    pub async fn answered(self, process: &dyn Process) -> Answer {
        let ok = StatusCode::OK;
        match self.call {
            Call::Page => answer(ok, "text/html; charset=utf-8", page::PAGE),
            Call::Script => answer(ok, "text/javascript; charset=utf-8", page::SCRIPT),
            Call::Style => answer(ok, "text/css; charset=utf-8", page::STYLE),
            Call::Icon => answer(ok, "image/svg+xml", page::ICON),
            Call::OpenApi => json(ok, &openapi::document()),
            Call::Live => json(ok, &Live { live: true }),
            Call::Ready => ready(process.readiness()),
            Call::Metrics => answer(ok, CONTENT_TYPE, process.metrics()),
            Call::Overview => json(ok, &self.overview(process)),
            Call::Config => json(ok, &process.status()),
            Call::Listeners => json(ok, &process.listeners()),
            Call::Routes => json(ok, &process.routes(usize::MAX).0),
            Call::Upstreams => json(ok, &process.upstreams()),
            Call::Upstream => self.upstream(process),
            Call::Certificates => json(ok, &process.certificates()),
            Call::Failures => json(ok, &process.failures(self.after())),
            Call::Reload => match process.reload().await {
                Ok(reloaded) => json(ok, &reloaded),
                Err(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why),
            },
            Call::Check | Call::Diff => self.judge(process).await,
            Call::Weight => match serde_json::from_str::<Weight>(&self.body) {
                Ok(Weight { weight }) => self.change(process, Change::Weight(weight)),
                Err(why) => error(
                    StatusCode::BAD_REQUEST,
                    &format!("the body is to be {{\"weight\": 1 to 65535}}: {why}"),
                ),
            },
            Call::Drain => self.change(process, Change::Drain),
            Call::Undrain => self.change(process, Change::Undrain),
            Call::Eject => self.change(process, Change::Eject),
            Call::Restore => self.change(process, Change::Restore),
        }
    }

    fn overview(&self, process: &dyn Process) -> Overview {
        let (routes, routes_total) = process.routes(ROUTES);
        let last = process.failures(0).failures.last().map_or(0, |failure| failure.number);
        Overview {
            state: process.readiness().as_str(),
            status: process.status(),
            token: self.admin.token.is_some(),
            listeners: process.listeners(),
            routes,
            routes_total,
            upstreams: process.upstreams(),
            last_failure: last,
        }
    }

    fn upstream(&self, process: &dyn Process) -> Answer {
        let name = self.names.first().map(String::as_str).unwrap_or_default();
        match process.upstreams().into_iter().find(|upstream| upstream.name == name) {
            Some(upstream) => json(StatusCode::OK, &upstream),
            None => error(StatusCode::NOT_FOUND, &format!("there is no upstream \"{name}\"")),
        }
    }

    /// The number in `?after=`.
    fn after(&self) -> u64 {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.strip_prefix("after="));
        pairs.next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// A configuration can name any file that the process can read, and a report shows lines of it.
    async fn judge(self, process: &dyn Process) -> Answer {
        let known = self.admin.token.is_some() || self.certificate || self.admin.address.ip().is_none();
        if !known {
            let why = "a configuration can name any file, and the answer would show lines of it to whoever can \
                       connect: set admin.token, and send it";
            return error(StatusCode::FORBIDDEN, why);
        }
        let diff = self.call == Call::Diff;
        match process.judge(self.body).await {
            Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
            Ok((judged, _)) if !diff => json(StatusCode::OK, &judged),
            Ok((_, Some(difference))) => json(StatusCode::OK, &difference),
            Ok((judged, None)) => error(StatusCode::UNPROCESSABLE_ENTITY, &judged.text),
        }
    }

    fn change(&self, process: &dyn Process, change: Change) -> Answer {
        let (Some(upstream), Some(server)) = (self.names.first(), self.names.get(1)) else {
            return error(StatusCode::NOT_FOUND, "no server is named");
        };
        match process.change(upstream, server, change) {
            Ok(server) => json(StatusCode::OK, &server),
            Err(Unchanged::Unknown(why)) => error(StatusCode::NOT_FOUND, &why),
            Err(Unchanged::Refused(why)) => error(StatusCode::CONFLICT, &why),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weight {
    weight: NonZeroU16,
}

fn ready(readiness: Readiness) -> Answer {
    let ready = readiness == Readiness::Ready;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Ready { ready, state: readiness.as_str() })
}
