//! The work beside requests: groups are cared for, reloads done, the control socket answered, the files watched.
//! Begun by `server` on a runtime of its own.

use super::background::Background;
use super::control::Desk;
use super::doorplate::Doorplate;
use super::expiry;
use super::files::{self, Files};
use super::handover::Takeover;
use super::notify;
use super::overseer::{Overseer, Standing};
use super::reload::{Ask, Reloader, Running, Source};
use super::status::Status;
use super::upgrade::Upgrade;
use crate::acme::Keepers;
use crate::admin::Admin;
use crate::config::plan::ListenerIds;
use crate::edge::Edge;
use crate::upstream::Registry;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What it is made of.
pub struct Office {
    pub source: Source,
    pub registry: Registry,
    pub edge: Edge,
    pub admin: Admin,
    pub overseer: Arc<Overseer>,
    pub desk: Desk,
    pub standing: Standing,
    pub running: Running,
    pub status: Arc<Status>,
    pub files: Files,
    pub upgrade: Upgrade,
    pub keepers: Keepers,
    /// Where a reload is asked for, and where that arrives.
    pub asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
    pub doorplate: Doorplate,
    pub takeover: Takeover,
    /// To be told when the servers that have to be discovered are known.
    pub known: oneshot::Sender<()>,
    /// Told when connections are served.
    pub serving: oneshot::Receiver<()>,
}

impl Office {
    /// For as long as the process serves. To be dropped at the end.
    pub async fn work(mut self, mut background: Background) {
        if let Err(why) = self.admin.serve(self.overseer) {
            log::error!("admin cannot be served: {why}");
        }
        let mut unknown = Vec::new();
        for group in &self.running.groups {
            let (care, known) = background.discover(group);
            background.adopt(care);
            unknown.push(known);
        }
        for known in unknown {
            // an error means that nobody is looking
            known.await.ok();
        }
        let groups = self.running.groups.iter();
        let unknown: Vec<&str> =
            groups.filter(|group| !group.is_complete()).map(|group| group.name()).collect();
        self.registry.forget_handed_over(&unknown);
        self.running.metrics.forget_handed_over();
        // nobody may be waiting
        self.known.send(()).ok();
        if self.serving.await.is_err() {
            return;
        }
        if let Err(why) = show(&self.doorplate, &self.takeover) {
            log::error!("the process before this one goes on, so that this one ends: {why}");
            self.upgrade.stand_back();
            return std::future::pending().await;
        }
        self.standing.ready();
        notify::ready();
        self.keepers.follow(&self.running.plan);
        let (watched, to_watch) = watch::channel(Arc::new(self.files));
        let (asks, asked) = self.asks;
        let current = self.running.current.clone();
        let reloader = Reloader {
            ids: ListenerIds::of(&self.running.plan),
            source: self.source,
            registry: self.registry,
            edge: self.edge,
            admin: self.admin,
            background,
            keepers: self.keepers,
            running: self.running,
            departed: Vec::new(),
            status: self.status,
            watched,
            upgrade: self.upgrade,
        };
        tokio::join!(
            reloader.run(asked),
            files::watch(to_watch, asks),
            expiry::watch(current),
            self.doorplate.answer(self.desk),
            notify::alive()
        );
    }
}

/// This process can be found from now on, and the one before it is told that it serves.
fn show(doorplate: &Doorplate, takeover: &Takeover) -> std::io::Result<()> {
    if takeover.is_given_up() {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    doorplate.show();
    takeover.ready().inspect_err(|_| doorplate.take_down())
}
