//! What goes on beside requests, for each group: its sources of servers are asked, its servers checked, its
//! tables kept. Begun and ended with the group, so that a reload touches those of no other. Driven by
//! `server` and `reload`, on a runtime that serves no requests.

use crate::upstream::discover::{self, Resolvers};
use crate::upstream::tasks::Task;
use crate::upstream::{Group, health, upkeep};
use pingora_core::server::ShutdownWatch;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The tasks of all groups.
pub struct Background {
    groups: HashMap<String, Care>,
    resolvers: Resolvers,
    shutdown: ShutdownWatch,
}

/// The tasks of one group; they end when this is dropped.
pub struct Care {
    group: Arc<Group>,
    _discovery: Option<Task>,
    _watch: Option<Task>,
}

impl Background {
    pub fn new(shutdown: ShutdownWatch) -> Background {
        Background { groups: HashMap::new(), resolvers: Resolvers::default(), shutdown }
    }

    /// Asks the sources of a group that is not at work yet. The second is told when they have answered, or do
    /// not for some seconds.
    pub fn discover(&mut self, group: &Arc<Group>) -> (Care, oneshot::Receiver<()>) {
        let (begun, known) = oneshot::channel();
        let discovery = discover::watch(group, &mut self.resolvers, begun, self.shutdown.clone());
        (Care { group: group.clone(), _discovery: discovery.map(Task::spawn), _watch: None }, known)
    }

    /// The group is at work: its servers are checked, and whoever cared for its predecessor stops.
    pub fn adopt(&mut self, mut care: Care) {
        let group = vec![care.group.clone()];
        let (checks, upkeep) = (
            health::watch(group.clone(), self.shutdown.clone()),
            upkeep::watch(group, self.shutdown.clone()),
        );
        care._watch = Some(Task::spawn(async {
            tokio::join!(checks, upkeep);
        }));
        self.groups.insert(care.group.name().to_owned(), care);
    }

    /// Ends the tasks of groups that are not among these.
    pub fn retain(&mut self, groups: &[Arc<Group>]) {
        let names: HashSet<&str> = groups.iter().map(|group| group.name()).collect();
        self.groups.retain(|name, _| names.contains(name.as_str()));
    }
}
