//! What the admin address sees and controls of this process: the answers to `admin`'s questions, from those who know.
//! Made by `server`.

use super::control::Desk;
use super::expiry;
use super::looks;
use super::reload::Ask;
use super::upgrade::ByHand;
use crate::admin::{Change, Process, Readiness, Unchanged, view};
use crate::edge::Edge;
use crate::http::Live;
use crate::observe::{Metrics, Recent};
use crate::upstream::membership::is_leaving;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether clients are to be sent here. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<AtomicU8>);

const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Standing {
    /// Connections are served. One that drains already goes on with that.
    pub fn ready(&self) {
        self.0.fetch_or(READY, Ordering::AcqRel);
    }

    /// The end has begun.
    pub fn draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }

    fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            bits if bits & DRAINING != 0 => Readiness::Draining,
            bits if bits & READY != 0 => Readiness::Ready,
            _ => Readiness::Starting,
        }
    }
}

/// Who is asked.
pub struct Overseer {
    pub standing: Standing,
    pub metrics: Metrics,
    pub recent: Arc<Recent>,
    pub edge: Edge,
    pub site: Arc<Live>,
    pub desk: Desk,
    pub by_hand: ByHand,
}

#[async_trait]
impl Process for Overseer {
    fn readiness(&self) -> Readiness {
        self.standing.readiness()
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn status(&self) -> Value {
        self.desk.told()
    }

    fn listeners(&self) -> Vec<view::Listener> {
        self.edge.listeners().iter().map(|listening| looks::listener(listening)).collect()
    }

    fn routes(&self, most: usize) -> (Vec<view::Route>, usize) {
        let plan = self.desk.current.load();
        let routes = plan.routes.iter().take(most).map(|route| looks::route(route, &plan));
        (routes.collect(), plan.routes.len())
    }

    fn upstreams(&self) -> Vec<view::Upstream> {
        self.site.load().groups.iter().map(|group| looks::upstream(group)).collect()
    }

    fn certificates(&self) -> Vec<view::Certificate> {
        let plan = self.desk.current.load();
        let mut all = expiry::certificates(&plan);
        all.extend(looks::ordered(&plan, &self.desk.status.ordered()));
        all
    }

    fn failures(&self, after: u64) -> view::Failures {
        let (later, missed) = self.recent.after(after);
        view::Failures { failures: later.iter().map(|failure| looks::failure(failure)).collect(), missed }
    }

    async fn reload(&self) -> Result<view::Reloaded, String> {
        self.desk.reload("the admin address").await
    }

    async fn judge(&self, text: String) -> Result<(view::Judged, Option<view::Difference>), String> {
        self.desk.pass_on(|answer| Ask::Judge { text, answer }).await
    }

    fn change(&self, upstream: &str, server: &str, change: Change) -> Result<view::Server, Unchanged> {
        let another =
            || Unchanged::Refused("another process is taking over: ask again in a moment".to_owned());
        let _changing = self.by_hand.may_change().ok_or_else(another)?;
        let site = self.site.load();
        let group = site.groups.iter().find(|group| group.name() == upstream);
        let group =
            group.ok_or_else(|| Unchanged::Unknown(format!("there is no upstream \"{upstream}\"")))?;
        let servers = group.servers();
        let found = servers.iter().find(|found| found.endpoint.name() == server);
        let unknown = || Unchanged::Unknown(format!("upstream \"{upstream}\" has no server {server}"));
        let found = found.ok_or_else(unknown)?;
        let address = found.endpoint.address();
        match change {
            Change::Weight(weight) => {
                group.set_weight(address, weight).map_err(Unchanged::Refused)?;
            }
            Change::Drain => {
                group.drain(address, true);
            }
            Change::Undrain if is_leaving(found) => {
                let why = "it is no longer named by the configuration or by discovery, and leaves";
                return Err(Unchanged::Refused(why.to_owned()));
            }
            Change::Undrain => {
                group.drain(address, false);
            }
            Change::Eject => {
                group.eject_by_hand(found).map_err(Unchanged::Refused)?;
            }
            Change::Restore => {
                group.restore_by_hand(found);
            }
        }
        Ok(looks::server(found))
    }
}
