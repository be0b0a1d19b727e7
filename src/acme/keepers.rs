//! Who takes care of the certificates of a plan. Followed from plan to plan by `run`: what is wanted by both goes on
//! untouched.

use super::keeper::Keeper;
use super::{Managed, Registry};
use crate::config::plan::Plan;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The tasks of all certificates; they end when this is dropped.
pub struct Keepers {
    registry: Registry,
    /// Says the process that has taken over, which takes care of them from then on.
    succeeded: watch::Receiver<Option<u32>>,
    tasks: Vec<(Arc<Managed>, AbortHandle)>,
}

impl Keepers {
    pub fn new(registry: Registry, succeeded: watch::Receiver<Option<u32>>) -> Keepers {
        Keepers { registry, succeeded, tasks: Vec::new() }
    }

    /// Takes care of the certificates of this plan, and of no others. To be called within a tokio runtime.
    pub fn follow(&mut self, plan: &Plan) {
        let mut wanted: Vec<Arc<Managed>> = Vec::new();
        for ordered in plan.ordered() {
            let managed = self.registry.managed(ordered);
            if !wanted.iter().any(|known| Arc::ptr_eq(known, &managed)) {
                wanted.push(managed);
            }
        }
        self.tasks.retain(|(managed, task)| {
            let stays = wanted.iter().any(|wanted| Arc::ptr_eq(wanted, managed));
            if !stays {
                task.abort();
            }
            stays
        });
        self.registry.0.kept.lock().clone_from(&wanted);
        for managed in wanted {
            if !self.tasks.iter().any(|(known, _)| Arc::ptr_eq(known, &managed)) {
                let task = tokio::spawn(self.keep(managed.clone()));
                self.tasks.push((managed, task.abort_handle()));
            }
        }
    }

    fn keep(&self, managed: Arc<Managed>) -> impl Future<Output = ()> + Send + use<> {
        let keeper = Keeper::new(managed, self.registry.clone());
        let mut succeeded = self.succeeded.clone();
        async move {
            tokio::select! {
                () = keeper.keep() => {}
                // an error means that the process ends
                _ = succeeded.wait_for(Option::is_some) => {}
            }
        }
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        for (_, task) in &self.tasks {
            task.abort();
        }
    }
}
