//! A new configuration takes the place of the one in use: read, checked, built whole beside it, and swapped; or
//! refused, and nothing has changed. Asked by signals, by the watch over its files and through the control socket.

use super::aside::{Aside, aside};
use super::background::{Background, Care};
use super::files::Files;
use super::frozen;
use super::notify;
use super::snapshot::Groups;
use super::status::{Loaded, Refused, Status};
use super::upgrade::Upgrade;
use crate::acme::Keepers;
use crate::admin::{self, Admin, view};
use crate::config::plan::{self, ListenerIds, Plan};
use crate::config::{self, Change, Checked};
use crate::edge::{self, Edge};
use crate::filter::Catalogue;
use crate::http::{Live, Site};
use crate::l4;
use crate::observe::{AccessLog, Metrics, Tracer, events, process_log};
use crate::upstream::{Group, Registry};
use arc_swap::ArcSwap;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// How often what was replaced is looked at, until no request uses it any more.
const RETIRE: Duration = Duration::from_millis(20);

/// Where the configuration comes from.
#[derive(Clone)]
pub struct Source {
    /// As it was given.
    pub file: PathBuf,
    pub catalogue: Arc<Catalogue>,
    /// The directory the process was started in, where relative paths begin. A daemon has left it.
    pub root: PathBuf,
}

impl Source {
    /// Wherever the process is.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.file)
    }

    pub fn check(&self) -> Checked {
        self.check_after(&[])
    }

    /// Of these routes, those that are the same are taken.
    fn check_after(&self, before: &[Arc<plan::Route>]) -> Checked {
        self.at_root(|| config::check_file_after(&self.file, &self.catalogue, before))
    }

    /// As if this were the text of its file.
    fn check_text(&self, text: &str) -> Checked {
        self.at_root(|| config::check_text(&self.file, text, &self.catalogue))
    }

    /// Where relative paths begin.
    fn at_root<T>(&self, work: impl FnOnce() -> T) -> T {
        let left = std::env::current_dir().ok().filter(|now| *now != self.root);
        if left.is_some() {
            std::env::set_current_dir(&self.root).ok();
        }
        let done = work();
        if let Some(now) = left {
            std::env::set_current_dir(now).ok();
        }
        done
    }
}

/// What is in use, and swapped by a reload.
pub struct Running {
    pub plan: Arc<Plan>,
    pub groups: Vec<Arc<Group>>,
    pub access_log: Option<Arc<AccessLog>>,
    pub tracer: Option<Arc<Tracer>>,
    pub site: Arc<Live>,
    pub flows: Arc<l4::Live>,
    /// The plan for those who look at it now and then.
    pub current: Arc<ArcSwap<Plan>>,
    /// For as long as the process lives.
    pub metrics: Metrics,
}

/// What somebody wants, who may want to know what became of it. One after the other: an upgrade hands over the
/// sockets that are there, which a reload opens and closes.
pub enum Ask {
    Reload {
        /// In words: `SIGHUP`.
        by: String,
        answer: Option<oneshot::Sender<Answer>>,
    },
    /// Looks at a configuration, and changes nothing.
    Judge { text: String, answer: oneshot::Sender<Result<Judgement, String>> },
    /// Answered with the process id of the new process.
    Upgrade { answer: oneshot::Sender<Result<u32, String>> },
}

/// What is found, and what it would change, where it could be used.
pub type Judgement = (view::Judged, Option<view::Difference>);

/// What became of a reload, or the report of why it was refused.
pub type Answer = Result<Applied, String>;

/// A configuration that is in use now, or was already.
#[derive(Debug, Default)]
pub struct Applied {
    pub changes: Vec<Change>,
    /// One line each.
    pub warnings: Vec<String>,
}

pub struct Reloader {
    pub source: Source,
    pub registry: Registry,
    pub edge: Edge,
    pub admin: Admin,
    pub background: Background,
    pub keepers: Keepers,
    pub running: Running,
    pub ids: ListenerIds,
    /// Listeners that are no longer in the plan, while there are connections of theirs.
    pub departed: Vec<Arc<plan::Listener>>,
    pub status: Arc<Status>,
    pub watched: watch::Sender<Arc<Files>>,
    pub upgrade: Upgrade,
}

/// Everything that a reload has made and nobody uses yet. Dropped, it leaves no trace.
struct Built {
    plan: Arc<Plan>,
    groups: Groups,
    cares: Vec<Care>,
    listeners: edge::Prepared,
    admin: admin::Prepared,
    access_log: Option<Arc<AccessLog>>,
    tracer: Option<Arc<Tracer>>,
    site: Site,
    flows: l4::Site,
}

/// What was read.
struct Read {
    /// Without its plan.
    checked: Checked,
    /// The very one that is running when it says the same; `None` when there are mistakes.
    plan: Option<Arc<Plan>>,
    ids: ListenerIds,
}

impl Read {
    fn from(source: &Source, running: &Arc<Plan>, mut ids: ListenerIds) -> Read {
        let mut checked = source.check_after(&running.routes);
        let plan = checked.plan.take().map(|mut plan| {
            plan.succeed(running, &mut ids);
            if plan == **running { running.clone() } else { Arc::new(plan) }
        });
        Read { checked, plan, ids }
    }
}

impl Reloader {
    /// Serves those who ask, one after the other, until there is nobody left who could.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        while let Some(ask) = asks.recv().await {
            // whoever has asked may have gone
            match ask {
                Ask::Reload { by, answer } => {
                    let became = self.reload(by).await;
                    if let Some(answer) = answer {
                        answer.send(became).ok();
                    }
                }
                Ask::Judge { text, answer } => {
                    answer.send(self.judge(text).await).ok();
                }
                Ask::Upgrade { answer } => {
                    answer.send(self.upgrade.run(&self.running.groups).await).ok();
                }
            }
        }
    }

    async fn judge(&self, text: String) -> Result<Judgement, String> {
        let (source, before) = (self.source.clone(), self.status.loaded());
        let running = self.running.plan.clone();
        aside(move || {
            let checked = source.check_text(&text);
            let difference = checked.plan.as_ref().map(|plan| {
                let changes = before.comparable.changes(&config::Comparable::of(&checked));
                view::Difference {
                    same: changes.is_empty(),
                    text: changes.iter().map(ToString::to_string).collect(),
                    changes: json!(changes),
                    fixed: frozen::changes(&running.server, &plan.server),
                }
            });
            let judged = view::Judged {
                ok: checked.plan.is_some(),
                text: checked.report.render_text(&checked.sources),
                report: checked.report.render_json(&checked.sources),
            };
            (judged, difference)
        })
        .await
    }

    async fn reload(&mut self, by: String) -> Answer {
        notify::reloading();
        let became = self.replace(&by).await;
        self.running.metrics.process().reloaded(became.is_ok());
        notify::reloaded(if became.is_ok() { "serving" } else { "serving; the last reload was refused" });
        if let Err(why) = &became {
            // servers that only the refused one has named
            self.registry.prune();
            events::reload_refused(&by, why);
            self.status.refuse(Refused { at: SystemTime::now(), by, why: why.clone() });
        }
        became
    }

    /// Refused, it has changed nothing.
    async fn replace(&mut self, by: &str) -> Answer {
        let (began, begun) = (SystemTime::now(), Instant::now());
        let (source, running, ids) = (self.source.clone(), self.running.plan.clone(), self.ids.clone());
        let aside = Aside::begin()?;
        let Read { checked, plan, ids } = aside.run(move || Read::from(&source, &running, ids)).await?;
        self.ids = ids;
        let warnings: Vec<String> = checked.warnings().collect();
        let Some(plan) = plan else {
            // watched all the same: the mistake may be in a file that was not before
            self.watch(&checked, began, self.running.plan.server.reload_on_change);
            return Err(checked.report.render_text(&checked.sources));
        };
        self.watch(&checked, began, plan.server.reload_on_change);
        if let Some(why) = frozen::changes(&self.running.plan.server, &plan.server) {
            return Err(why);
        }
        if Arc::ptr_eq(&plan, &self.running.plan) {
            events::reload_same(by);
            return Ok(Applied { warnings, ..Applied::default() });
        }
        let built = self.build(plan, &aside).await?;
        self.commit(built);
        let took = begun.elapsed();
        for warning in &warnings {
            log::warn!("{warning}");
        }
        let changes = self.tell(by, took, checked, &aside).await?;
        Ok(Applied { changes, warnings })
    }

    fn watch(&self, checked: &Checked, began: SystemTime, on: bool) {
        self.watched.send_replace(Arc::new(Files::of(checked, began, on)));
    }

    /// Everything that can fail.
    async fn build(&mut self, plan: Arc<Plan>, aside: &Aside) -> Result<Built, String> {
        let access_log = match plan.access_log == self.running.plan.access_log {
            true => self.running.access_log.clone(),
            false => AccessLog::open(&plan.access_log).map_err(|e| e.to_string())?.map(Arc::new),
        };
        let tracer = match plan.tracing == self.running.plan.tracing {
            true => self.running.tracer.clone(),
            false => {
                plan.tracing.as_ref().map(|plan| Tracer::open(plan, &self.running.metrics)).transpose()?
            }
        };
        let listeners = self.edge.prepare(&plan.listeners).map_err(|e| e.to_string())?;
        let admin = self.admin.prepare(plan.admin.as_ref())?;
        let departed = self.departed_from(&plan);
        let (before, registry, new) = (self.running.groups.clone(), self.registry.clone(), plan.clone());
        let (log, known) = (access_log.clone(), self.running.flows.load_full());
        let (traces, site) = (tracer.clone(), self.running.site.load_full());
        let work = move || {
            let groups = Groups::build(&new, &before, &registry)?;
            let flows = groups.flows(&new, &departed, Some(&known), &registry)?.logging(log.clone());
            let site = groups.site(&new, &departed, Some(&site)).logging(log).tracing(traces);
            Ok::<_, String>((groups, site, flows))
        };
        let (groups, site, flows) = aside.run(work).await??;
        let cares = self.discover(&groups).await;
        Ok(Built { plan, groups, cares, listeners, admin, access_log, tracer, site, flows })
    }

    /// Asks the sources of new groups, and waits for those of which nothing is known yet.
    async fn discover(&mut self, groups: &Groups) -> Vec<Care> {
        let mut cares = Vec::with_capacity(groups.fresh.len());
        let mut unknown = Vec::new();
        for (group, before) in &groups.fresh {
            let (care, known) = self.background.discover(group);
            cares.push(care);
            if !before.as_ref().is_some_and(|before| before.knows_sources_of(group.plan())) {
                unknown.push(known);
            }
        }
        for known in unknown {
            // an error means that nobody is looking
            known.await.ok();
        }
        cares
    }

    /// Nothing here can fail, and requests see all of it or nothing.
    fn commit(&mut self, built: Built) {
        let Built { plan, groups, cares, listeners, admin, access_log, tracer, site, flows } = built;
        groups.take_over();
        let old = self.running.site.swap(Arc::new(site));
        self.running.flows.store(Arc::new(flows));
        let grace = Duration::from_secs(plan.server.grace_period_seconds);
        self.edge.commit(listeners, grace);
        self.admin.commit(admin);
        for care in cares {
            self.background.adopt(care);
        }
        self.background.retain(&groups.all);
        self.keepers.follow(&plan);
        if plan.log_level != self.running.plan.log_level {
            process_log::set_level(plan.log_level);
        }
        self.departed = self.departed_from(&plan);
        self.running.groups = groups.all;
        let old_log = std::mem::replace(&mut self.running.access_log, access_log);
        let old_tracer = std::mem::replace(&mut self.running.tracer, tracer);
        self.running.current.store(plan.clone());
        self.running.plan = plan;
        let registry = self.registry.clone();
        tokio::spawn(retire(old, move || registry.prune()));
        if let Some(tracer) = old_tracer.filter(|old| !is_same(old, self.running.tracer.as_ref())) {
            // as with the log
            tokio::spawn(retire(tracer, || ()));
        }
        if let Some(log) = old_log.filter(|old| !is_same(old, self.running.access_log.as_ref())) {
            if let Some(new) = &self.running.access_log {
                new.follow(&log);
            }
            let (metrics, drops, dropped) = (self.running.metrics.clone(), log.drops(), log.dropped());
            metrics.process().log_replaced(dropped);
            // its last lines are written when it is dropped, which no request is to wait for
            let the_last = move || {
                metrics.process().log_replaced(drops.load(Ordering::Relaxed).saturating_sub(dropped));
            };
            tokio::spawn(retire(log, the_last));
        }
    }

    /// Listeners that are not in this plan, and may have connections.
    fn departed_from(&self, plan: &Plan) -> Vec<Arc<plan::Listener>> {
        let known = self.departed.iter().filter(|listener| Arc::strong_count(listener) > 1);
        let gone = |listener: &&Arc<plan::Listener>| plan.listeners.iter().all(|new| new.id != listener.id);
        known.chain(&self.running.plan.listeners).filter(gone).cloned().collect()
    }

    /// Says what has changed, in the words of the configuration.
    async fn tell(
        &self,
        by: &str,
        took: Duration,
        checked: Checked,
        aside: &Aside,
    ) -> Result<Vec<Change>, String> {
        let before = self.status.loaded();
        let file = self.source.path();
        let plan = self.running.plan.clone();
        let work = move || {
            let comparable = config::Comparable::after(&before.comparable, &checked, Some(&plan));
            let changes = before.comparable.changes(&comparable);
            (Loaded::new(file, comparable), changes)
        };
        let (loaded, changes) = aside.run(work).await?;
        events::reloaded(by, took, &loaded.hash, &changes);
        self.status.replace(loaded);
        Ok(changes)
    }
}

fn is_same<T>(old: &Arc<T>, now: Option<&Arc<T>>) -> bool {
    now.is_some_and(|now| Arc::ptr_eq(old, now))
}

/// Lets go of what was replaced when no request uses it any more, so that none has to take it apart.
async fn retire<T: Send + Sync + 'static>(replaced: Arc<T>, then: impl FnOnce() + Send + 'static) {
    while Arc::strong_count(&replaced) > 1 {
        tokio::time::sleep(RETIRE).await;
    }
    // it may have tens of thousands of pieces; an error means that the process ends
    let taken_apart = aside(move || {
        drop(replaced);
        then();
    });
    taken_apart.await.ok();
}
