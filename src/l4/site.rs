//! Where flows go: the compiled part of a configuration. Built whole by `run::snapshot`, swapped whole on reload, read
//! by every flow once.

use crate::config::plan::{self, Flows, ListenerId, Plan};
use crate::observe::AccessLog;
use crate::upstream::dialer::Dialer;
use crate::upstream::{Group, Registry};
use std::collections::HashMap;
use std::sync::Arc;

/// The site that is served now.
pub type Live = arc_swap::ArcSwap<Site>;

/// Everything that a flow is to know when it begins.
#[derive(Default)]
pub struct Site {
    /// By the id of the listener.
    targets: HashMap<ListenerId, Vec<Arc<Target>>, ahash::RandomState>,
    pub access_log: Option<Arc<AccessLog>>,
}

/// Where the flows of a listener go.
pub struct Target {
    pub group: Arc<Group>,
    pub flows: Flows,
    pub dialer: Dialer,
}

impl Site {
    /// Compiles the plan. What was there `before` is kept where nothing has changed, and for listeners that have
    /// `departed`: somebody may have been let in.
    ///
    /// # Errors
    /// In words for the operator, when servers cannot be connected to as it is written.
    pub fn build(
        plan: &Plan,
        departed: &[Arc<plan::Listener>],
        (groups, registry): (&[Arc<Group>], &Registry),
        before: Option<&Site>,
    ) -> Result<Site, String> {
        let mut site = Site::default();
        let known = |id| before.and_then(|site| site.targets.get(&id)).into_iter().flatten();
        for listener in departed {
            site.targets.insert(listener.id, known(listener.id).cloned().collect());
        }
        for listener in &plan.listeners {
            let target = |name: &Arc<str>| {
                let group = groups.iter().find(|group| group.name() == &**name);
                let group = group.ok_or_else(|| format!("there is no upstream \"{name}\""))?;
                let same = known(listener.id).find(|known| known.is(group, listener.flows())).cloned();
                same.map_or_else(|| Target::build(group, listener.flows(), registry), Ok)
            };
            let targets: Vec<_> = listener.passes_to().map(target).collect::<Result<_, String>>()?;
            if !targets.is_empty() {
                site.targets.insert(listener.id, targets);
            }
        }
        Ok(site)
    }

    /// With what is written about flows.
    #[must_use]
    pub fn logging(self, access_log: Option<Arc<AccessLog>>) -> Site {
        Site { access_log, ..self }
    }

    /// Where connections of a listener go that are for this group; or the only place there is, when the listener has had
    /// another one until now. `None` when it is none of these.
    pub fn target(&self, listener: ListenerId, upstream: &str) -> Option<&Arc<Target>> {
        let targets = self.targets.get(&listener)?;
        let only = || targets.first().filter(|_| targets.len() == 1);
        targets.iter().find(|target| target.group.name() == upstream).or_else(only)
    }
}

impl Target {
    fn build(group: &Arc<Group>, flows: Flows, registry: &Registry) -> Result<Arc<Target>, String> {
        let dialer = Dialer::build(group.plan(), registry)
            .map_err(|why| format!("upstream \"{}\": {why}", group.name()))?;
        Ok(Arc::new(Target { group: group.clone(), flows, dialer }))
    }

    fn is(&self, group: &Arc<Group>, flows: Flows) -> bool {
        Arc::ptr_eq(&self.group, group) && self.flows == flows
    }
}
