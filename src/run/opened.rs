//! What has to be there before the process serves, opened and put together. Called by `server`.

use super::control::Desk;
use super::doorplate::Doorplate;
use super::files::Files;
use super::handover::Takeover;
use super::office::Office;
use super::overseer::{Overseer, Standing};
use super::picture;
use super::reload::{Running, Source};
use super::server::{EdgeService, server_conf, workers};
use super::signals::{Ending, Signals};
use super::snapshot::Groups;
use super::status::{Loaded, Status};
use super::upgrade::{ByHand, Program, Upgrade};
use crate::acme::{self, Keepers};
use crate::admin::Admin;
use crate::config::plan::Plan;
use crate::config::{Checked, Comparable};
use crate::edge::Edge;
use crate::http::Live;
use crate::l4;
use crate::observe::{AccessLog, Metrics, Recent, Tracer, events};
use crate::upstream::Registry;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// So many reloads may be waiting.
const ASKS: usize = 16;

/// Those who serve: at the edge, in the background, and the one who says when it is over.
pub struct Staff {
    pub front: EdgeService,
    pub back: Office,
    pub signals: Signals,
}

/// What has to be there before anything is started: what fails, fails here, and as the user who started it.
pub struct Opened {
    pub registry: Registry,
    pub certificates: acme::Registry,
    pub edge: Edge,
    pub admin: Admin,
    pub running: Running,
    pub doorplate: Doorplate,
}

impl Opened {
    /// Sockets, logs and groups. Clients can connect, and wait to be accepted.
    pub fn open(plan: Arc<Plan>, takeover: &Takeover) -> Result<Opened, String> {
        let goods = takeover.goods();
        for (descriptor, why) in &goods.closed {
            events::socket_of_no_use(*descriptor, why);
        }
        let metrics = Metrics::new();
        metrics.resume(goods.counts);
        let registry = Registry::counting(metrics.clone());
        registry.resume(goods.servers);
        let certificates = acme::Registry::counting(metrics.clone());
        let (for_admin, sockets) = goods.sockets.into_iter().partition(|inherited| {
            !inherited.udp && plan.admin.as_ref().is_some_and(|admin| admin.address == inherited.address)
        });
        let admin = Admin::new(for_admin);
        let edge = Edge::with(workers(&plan.server), sockets, certificates.clone(), metrics.clone());
        edge.inherit_tickets(goods.tickets);
        let listeners = edge.prepare(&plan.listeners).map_err(|e| e.to_string())?;
        let prepared = admin.prepare(plan.admin.as_ref())?;
        let access_log = AccessLog::open(&plan.access_log).map_err(|e| e.to_string())?.map(Arc::new);
        let tracer = plan.tracing.as_ref().map(|plan| Tracer::open(plan, &metrics)).transpose()?;
        let groups = Groups::build(&plan, &[], &registry)?;
        let site = groups.site(&plan, &[], None).logging(access_log.clone()).tracing(tracer.clone());
        let flows = groups.flows(&plan, &[], None, &registry)?.logging(access_log.clone());
        let doorplate = Doorplate::put_up(&plan.server, takeover)?;
        groups.take_over();
        edge.commit(listeners, Duration::from_secs(plan.server.grace_period_seconds));
        admin.commit(prepared);
        let running = Running {
            groups: groups.all,
            access_log,
            tracer,
            site: Arc::new(Live::from_pointee(site)),
            flows: Arc::new(l4::Live::from_pointee(flows)),
            current: Arc::new(ArcSwap::new(plan.clone())),
            metrics,
            plan,
        };
        Ok(Opened { registry, certificates, edge, admin, running, doorplate })
    }

    /// Whoever has a part in serving it, with what they tell each other by. The configuration was read at that time.
    pub fn staff(
        self,
        source: Source,
        (begun, checked): (SystemTime, &Checked),
        program: Program,
        takeover: &Takeover,
    ) -> Staff {
        let Opened { registry, certificates, edge, admin, running, doorplate } = self;
        let (plan, site, current) = (running.plan.clone(), running.site.clone(), running.current.clone());
        let (served, serving) = oneshot::channel();
        let (known, discovered) = oneshot::channel();
        let (asks, asked) = mpsc::channel(ASKS);
        let (successor, succeeded) = watch::channel(None);
        let (recent, standing) = (Arc::new(Recent::default()), Standing::default());
        let by_hand = ByHand::default();
        let front = EdgeService {
            edge: edge.clone(),
            live: site.clone(),
            flows: running.flows.clone(),
            conf: Arc::new(server_conf(&plan.server)),
            challenges: certificates.challenges().clone(),
            recent: recent.clone(),
            begin: Some((discovered, served)),
            threads: Arc::default(),
        };
        let loaded = Loaded::new(source.path(), Comparable::new(checked, Some(&plan)));
        let status = Arc::new(Status::new(loaded, certificates.clone()));
        picture::show(&running, &edge, &status, &certificates);
        let desk = Desk { asks: asks.clone(), status: status.clone(), current: current.clone() };
        let overseer = Overseer {
            standing: standing.clone(),
            metrics: running.metrics.clone(),
            recent,
            edge: edge.clone(),
            site: site.clone(),
            desk: desk.clone(),
            by_hand: by_hand.clone(),
        };
        let signals = Signals {
            edge: edge.clone(),
            asks: asks.clone(),
            succeeded: succeeded.clone(),
            site,
            current,
            ending: Arc::new(Ending::default()),
            standing: standing.clone(),
        };
        let back = Office {
            upgrade: Upgrade::new(
                program,
                (edge.clone(), admin.clone()),
                (registry.clone(), by_hand),
                successor,
                &plan.server,
            ),
            overseer: Arc::new(overseer),
            desk,
            admin,
            standing,
            status,
            keepers: Keepers::new(certificates, succeeded),
            files: Files::of(checked, begun, plan.server.reload_on_change),
            source,
            registry,
            edge,
            running,
            asks: (asks, asked),
            doorplate,
            takeover: takeover.clone(),
            known,
            serving,
        };
        Staff { front, back, signals }
    }
}
