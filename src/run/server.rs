//! The process: sockets first, then Pingora's server with our two services on it, the edge (a
//! thread per worker) and what goes on in the background for servers.

use super::background::Background;
use super::handover::Takeover;
use super::office::Office;
use super::opened::{Opened, Staff};
use super::reload::Source;
use super::signals;
use super::upgrade::Program;
use crate::acme::Challenges;
use crate::clock;
use crate::config::plan::Plan;
use crate::config::{Checked, file};
use crate::edge::{self, Edge};
use crate::http::{Live, Opener, Proxy, Refuser};
use crate::l4;
use crate::memory;
use crate::observe::{Recent, events};
use async_trait::async_trait;
use log::error;
use nix::unistd::{Group, User};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora_core::services::Service;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Serves until the process is told to stop, or until another one has taken its place. The configuration was
/// read at that time.
///
/// # Errors
/// In words for the operator: an address in use, a file that cannot be opened. Nothing was served then.
pub fn run(
    source: Source,
    (begun, checked, plan): (SystemTime, Checked, Plan),
    takeover: &Takeover,
) -> Result<(), String> {
    install_crypto();
    let _held = signals::hold();
    let program = Program::this().map_err(|why| format!("the program cannot find itself: {why}"))?;
    let opened = Opened::open(Arc::new(plan), takeover)?;
    let (edge, admin, doorplate) = (opened.edge.clone(), opened.admin.clone(), opened.doorplate.clone());
    let (site, current) = (opened.running.site.clone(), opened.running.current.clone());
    let Staff { front, back, signals } = opened.staff(source, (begun, &checked), program, takeover);
    // as typed, with its places and texts, it is several times as large as the plan
    drop(checked);
    memory::give_back();

    let (threads, ending) = (front.threads.clone(), signals.ending.clone());
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&current.load().server));
    server.add_service(front);
    server.add_service(BackService(Some(back)));
    server.run(RunArgs { shutdown_signal: Box::new(signals) });

    // told already, unless the end was asked for at once
    edge.shut_down();
    if !ending.is_at_once() {
        join(&threads, Duration::from_secs(current.load().server.graceful_shutdown_timeout_seconds));
    }
    if let Some(log) = &site.load().access_log {
        log.flush();
    }
    if let Some(tracer) = &site.load().tracer {
        tracer.finish();
    }
    admin.close();
    doorplate.take_down();
    events::stopped(ending.cut());
    Ok(())
}

/// aws-lc-rs before anything else touches TLS: Pingora would install ring, which lacks X25519MLKEM768.
fn install_crypto() {
    // an error means that one is installed already, by a program that embeds us: theirs stands
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}

pub fn workers(server: &file::Server) -> usize {
    match server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// The group given, or that of the user: a daemon that gives up root gives up its group as well.
fn group(server: &file::Server) -> Option<String> {
    if let Some(group) = &server.group {
        return Some(group.value.clone());
    }
    let user = User::from_name(&server.user.as_ref()?.value).ok()??;
    Group::from_gid(user.gid).ok()?.map(|group| group.name)
}

/// Our keys as Pingora's. The grace period is ours: Pingora would sleep through all of it.
pub fn server_conf(server: &file::Server) -> ServerConf {
    let path = |p: &Path| p.to_string_lossy().into_owned();
    ServerConf {
        threads: 1,
        work_stealing: false,
        daemon: server.daemon,
        error_log: server.error_log.as_deref().map(path),
        pid_file: server.pid_file.as_deref().map(path).unwrap_or_default(),
        user: server.user.as_ref().map(|u| u.value.clone()),
        group: group(server),
        working_directory: server.working_directory.as_ref().map(|w| w.value.clone()),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(server.graceful_shutdown_timeout_seconds),
        client_bind_to_ipv4: server.client_bind_to_ipv4.iter().map(ToString::to_string).collect(),
        client_bind_to_ipv6: server.client_bind_to_ipv6.iter().map(ToString::to_string).collect(),
        upstream_keepalive_pool_size: server.upstream_keepalive_pool_size,
        max_retries: server.max_retries,
        max_blocking_threads: server.max_blocking_threads,
        blocking_threads_ttl_seconds: server.blocking_threads_ttl_seconds,
        // deadlines of a second and more by the runtime's timers: Pingora's own are cheap where many share one, read the
        // clock two or three times for each, and keep it until it has passed
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        ..ServerConf::default()
    }
}

pub type Threads = Arc<parking_lot::Mutex<Vec<JoinHandle<()>>>>;

/// Accepts and serves connections, on threads of its own: a connection, its requests and the
/// connections to servers they use stay on one thread.
pub struct EdgeService {
    pub edge: Edge,
    pub live: Arc<Live>,
    pub flows: Arc<l4::Live>,
    pub conf: Arc<ServerConf>,
    pub challenges: Arc<Challenges>,
    pub recent: Arc<Recent>,
    /// Told when the servers that have to be discovered are known, or are not going to be soon; and whom to
    /// tell when connections are served.
    pub begin: Option<(oneshot::Receiver<()>, oneshot::Sender<()>)>,
    pub threads: Threads,
}

#[async_trait]
impl Service for EdgeService {
    async fn start_service(&mut self, _fds: Option<ListenFds>, mut stop: ShutdownWatch, _per_fd: usize) {
        let Some((discovered, served)) = self.begin.take() else { return };
        // connections wait in the sockets' queues meanwhile
        tokio::select! {
            _ = stop.changed() => return,
            // an error means that nobody is looking
            _ = discovered => {}
        }
        let shares = self.edge.shares();
        let workers = shares.len();
        // reads the authorities of the system: once for all
        let opener = Arc::new(Opener::new(&self.conf));
        for (index, share) in shares.into_iter().enumerate() {
            match self.worker((index, share), opener.clone()) {
                Ok(thread) => self.threads.lock().push(thread),
                Err(why) => error!("worker {index} could not be started: {why}"),
            }
        }
        events::starting(workers);
        // nobody may be waiting
        served.send(()).ok();
        stop.changed().await.ok();
    }

    fn name(&self) -> &str {
        "edge"
    }
}

impl EdgeService {
    fn worker(
        &self,
        (index, share): (usize, edge::Share),
        opener: Arc<Opener>,
    ) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_unpark(clock::awake)
            .build()?;
        let of_all = (self.live.clone(), self.challenges.clone(), self.recent.clone());
        let app = Arc::new(Proxy::application(of_all, opener, &self.conf)?);
        let refuser = Arc::new(Refuser::new(self.live.clone()));
        let worker = edge::Worker { app, refuser, flows: self.flows.clone(), share };
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let _keeping = memory::keep_blocks();
            runtime.block_on(edge::serve(worker));
        })
    }
}

/// Waits for the workers to end, not forever.
fn join(threads: &Threads, patience: Duration) {
    let deadline = Instant::now() + patience;
    for thread in threads.lock().drain(..) {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() && thread.join().is_err() {
            error!("a worker ended with a panic");
        }
    }
}

/// What goes on beside requests.
struct BackService(Option<Office>);

#[async_trait]
impl Service for BackService {
    async fn start_service(&mut self, _fds: Option<ListenFds>, mut stop: ShutdownWatch, _per_fd: usize) {
        let Some(office) = self.0.take() else { return };
        let background = Background::new(stop.clone());
        tokio::select! {
            () = office.work(background) => {}
            // an error means that the server has gone
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    fn name(&self) -> &str {
        "office"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
