//! Tasks that run beside the requests until the process ends: those of the health checks, of the
//! upkeep of groups and of the sources of servers.

use pingora_core::server::ShutdownWatch;
use tokio::task::{AbortHandle, JoinSet};

/// A task that ends when this is dropped.
pub(crate) struct Task(AbortHandle);

impl Task {
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs these until the shutdown, until all have ended, or until it is dropped. One that breaks is told
/// to `broken`, and the others go on.
pub async fn run(
    mut tasks: JoinSet<()>,
    mut shutdown: ShutdownWatch,
    broken: impl Fn(tokio::task::JoinError),
) {
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                broken(error);
            }
        }
    };
    tokio::select! {
        () = stopped(&mut shutdown) => {}
        () = all_ended => {}
    }
}

/// The shutdown was asked for. A watch whose other end is gone will never say so.
async fn stopped(shutdown: &mut ShutdownWatch) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}
