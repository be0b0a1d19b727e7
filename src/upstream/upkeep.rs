//! What a group needs done beside its requests: new tables when the state of a server has changed,
//! servers warmed up, drained ones let go. Called by `run::server` from a background service.

use super::group::Group;
use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often servers are looked at while they warm up or leave.
const PACE: Duration = Duration::from_millis(100);

/// Keeps these groups until the shutdown, or until it is dropped. To be called within a tokio
/// runtime that serves no requests.
pub async fn watch(groups: Vec<Arc<Group>>, mut shutdown: ShutdownWatch) {
    let mut tasks = JoinSet::new();
    for group in groups {
        tasks.spawn(keep(group));
    }
    // a watch whose other end is gone will never say so
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn keep(group: Arc<Group>) {
    let mut news = group.changes().subscribe();
    loop {
        news.mark_unchanged();
        group.refresh();
        let busy = group.tend(Instant::now());
        let pause = async {
            match busy {
                true => tokio::time::sleep(PACE).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            // the sender lives in the group
            _ = news.changed() => {}
            () = pause => {}
        }
    }
}
