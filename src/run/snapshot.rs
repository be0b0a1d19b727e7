//! Plan -> the compiled parts that the rooms read. Built whole beside the one in use, so that it can be swapped
//! whole, or dropped without a trace.

use crate::config::plan::{self, Plan};
use crate::http::Site;
use crate::http::route::Router;
use crate::l4;
use crate::observe::Metrics;
use crate::upstream::{Group, Registry};
use std::collections::HashMap;
use std::sync::Arc;

/// The groups of one configuration.
pub struct Groups {
    /// In the order of the plan.
    pub all: Vec<Arc<Group>>,
    /// Those that were not there before, with the one whose place they take.
    pub fresh: Vec<(Arc<Group>, Option<Arc<Group>>)>,
    metrics: Metrics,
}

impl Groups {
    /// A group that says the same as before is the one before. The state of servers comes from the registry,
    /// which outlives configurations.
    ///
    /// # Errors
    /// In words for the operator, when a group cannot be built.
    pub fn build(plan: &Plan, before: &[Arc<Group>], registry: &Registry) -> Result<Groups, String> {
        let known: HashMap<&str, &Arc<Group>> = before.iter().map(|group| (group.name(), group)).collect();
        let all = Vec::with_capacity(plan.upstreams.len());
        let mut groups = Groups { all, fresh: Vec::new(), metrics: registry.metrics().clone() };
        for upstream in &plan.upstreams {
            let before = known.get(upstream.name.as_str()).copied();
            if let Some(same) = before.filter(|before| before.plan() == upstream) {
                groups.all.push(same.clone());
                continue;
            }
            let group = Group::prepare(upstream.clone(), registry, before.map(Arc::as_ref))
                .map_err(|why| format!("upstream \"{}\": {why}", upstream.name))?;
            groups.all.push(group.clone());
            groups.fresh.push((group, before.cloned()));
        }
        Ok(groups)
    }

    /// Puts the new ones to work.
    pub fn take_over(&self) {
        for (group, before) in &self.fresh {
            group.take_over(before.as_deref());
        }
    }

    /// Where connections go that are passed on whole.
    ///
    /// # Errors
    /// In words for the operator, when servers cannot be connected to.
    pub fn flows(
        &self,
        plan: &Plan,
        departed: &[Arc<plan::Listener>],
        before: Option<&l4::Site>,
        registry: &Registry,
    ) -> Result<l4::Site, String> {
        l4::Site::build(plan, departed, (&self.all, registry), before)
    }

    /// What of `before` is the same is used on.
    pub fn site(&self, plan: &Plan, departed: &[Arc<plan::Listener>], before: Option<&Site>) -> Site {
        let router = match before {
            Some(before) => before.router.followed_by(&plan.routes),
            None => Router::build(&plan.routes),
        };
        Site::build(plan, departed, self.all.clone(), router).counting(&self.metrics, before)
    }
}
