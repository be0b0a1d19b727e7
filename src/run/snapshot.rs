//! Plan -> the compiled parts that the rooms read. Built whole, so that it can be swapped whole.

use crate::config::plan::Plan;
use crate::http::{Live, Site};
use crate::observe::AccessLog;
use crate::upstream::{Group, Registry};
use std::sync::Arc;

/// The compiled parts of one configuration.
pub struct Snapshot {
    pub groups: Vec<Arc<Group>>,
    pub site: Arc<Live>,
}

impl Snapshot {
    /// The state of servers comes from the registry, which outlives configurations.
    ///
    /// # Errors
    /// In words for the operator, when a group cannot be built.
    pub fn build(
        plan: &Plan,
        registry: &Registry,
        access_log: Option<Arc<AccessLog>>,
    ) -> Result<Snapshot, String> {
        let groups: Vec<_> =
            plan.upstreams.iter().map(|u| Group::build(u.clone(), registry)).collect::<Result<_, _>>()?;
        let site = Site::build(plan, groups.clone(), access_log);
        Ok(Snapshot { groups, site: Arc::new(Live::from_pointee(site)) })
    }
}
