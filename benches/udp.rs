//! `cargo bench --bench udp`: what it costs to pass a datagram on, beside nginx's stream module. One worker on one core; a
//! server that sends everything back and the clients are on the others. What is compared is the processor time of the proxy
//! for each datagram that it has passed on, in either direction. Called by `make bench`.

#[path = "common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use common::machine::{Cores, kernel, processor, today};
use common::process::{Cpu, Running};
use common::programs::{Program, free_addresses, launch, save};
use common::table::{markdown, median};

/// Where Debian has the module, if it is not part of the program.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

#[derive(Parser)]
#[command(name = "udp", about = "Datagrams passed on by weirgate and by nginx stream")]
struct Args {
    /// Given by `cargo bench`; without it (as under `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Of each round.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Another binary than the one that was built with this.
    #[arg(long)]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/udp-DATE.md.
    #[arg(long)]
    save: bool,
}

/// What the clients do.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    what: &'static str,
    clients: usize,
    /// Sent at once, before an answer is waited for.
    burst: usize,
    bytes: usize,
    /// Every question comes from a port of its own.
    fresh: bool,
}

const WORKS: [Work; 3] = [
    Work { name: "game", what: "64 sessions, 64 bytes", clients: 64, burst: 4, bytes: 64, fresh: false },
    Work {
        name: "bulk",
        what: "8 sessions, 1200 bytes, 12 at once",
        clients: 8,
        burst: 12,
        bytes: 1200,
        fresh: false,
    },
    Work {
        name: "dns",
        what: "a session for each question, 64 bytes",
        clients: 16,
        burst: 1,
        bytes: 64,
        fresh: true,
    },
];

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        common::skipped("udp");
        return Ok(());
    }
    let text = report(&args)?;
    print!("{text}");
    if args.save {
        let path = save(common::results_dir().join(format!("udp-{}.md", today())), &text)?;
        println!("\nsaved as {}", path.display());
    }
    Ok(())
}

fn report(args: &Args) -> Result<String> {
    let cores = Cores::allowed()?;
    let (own, others) = cores.split();
    others.pin_thread();
    let mut text = format!(
        "# Datagrams, {}\n\n{}, {} cores, Linux {}. One worker on one core; server and clients on the others. A round is {} \
         s; medians of {}.\n",
        today(),
        processor(),
        cores.count(),
        kernel(),
        args.seconds,
        args.rounds
    );
    let mut programs = vec![Program::Weirgate];
    match Program::Nginx.missing() {
        None => programs.push(Program::Nginx),
        Some(why) => writeln!(text, "\nnginx is left out: {why:#}")?,
    }
    for work in WORKS {
        writeln!(text, "\n## {}: {}\n\n{}", work.name, work.what, measure(work, &programs, &own, args)?)?;
    }
    Ok(text)
}

/// The rounds of one kind of work, the programs in turn.
fn measure(work: Work, programs: &[Program], own: &Cores, args: &Args) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let echo = Echo::start()?;
    let mut proxies = Vec::new();
    for program in programs {
        proxies.push(Proxy::start(*program, work, echo.at, (&dir.path().join(program.name()), own), args)?);
    }
    for _ in 0..args.rounds {
        for proxy in &mut proxies {
            let before = Cpu::of(&proxy.running.pids()?)?;
            let (asked, answered) = load(proxy.at, work, Duration::from_secs(args.seconds));
            let used = Cpu::of(&proxy.running.pids()?)?.since(before);
            ensure!(answered > 0, "{} has answered nothing", proxy.program.name());
            let passed = (2 * answered) as f64;
            let seconds = (used.user + used.system).as_secs_f64();
            proxy.micros.push(seconds * 1e6 / passed);
            proxy.user.push(used.user.as_secs_f64() * 1e6 / passed);
            proxy.rate.push(passed / args.seconds as f64);
            proxy.lost.push(100.0 * (asked - answered) as f64 / asked as f64);
            proxy.running.check_alive()?;
        }
    }
    let first = proxies.first().map(|proxy| proxy.micros.clone()).unwrap_or_default();
    let rows: Vec<_> = proxies
        .iter()
        .map(|proxy| {
            let ratio = first.iter().zip(&proxy.micros).map(|(ours, its)| ours / its).collect();
            [
                proxy.program.name().to_owned(),
                format!("{:.2}", median(proxy.micros.clone())),
                format!("{:.2}", median(proxy.user.clone())),
                format!("{:.0}", 1e6 / median(proxy.micros.clone())),
                format!("{:.0}", median(proxy.rate.clone())),
                format!("{:.2}", median(proxy.lost.clone())),
                format!("{:.2}", median(ratio)),
            ]
        })
        .collect();
    let columns =
        ["", "CPU µs/datagram", "user", "datagrams/CPU s", "datagrams/s", "% lost", "weirgate / this"];
    Ok(markdown(columns, &rows, 1))
}

/// A proxy, and what was measured of it.
struct Proxy {
    program: Program,
    at: SocketAddr,
    running: Running,
    micros: Vec<f64>,
    user: Vec<f64>,
    rate: Vec<f64>,
    lost: Vec<f64>,
}

impl Proxy {
    fn start(
        program: Program,
        work: Work,
        origin: SocketAddr,
        (dir, cores): (&Path, &Cores),
        args: &Args,
    ) -> Result<Proxy> {
        let [at] = free_addresses()?;
        let conf = match program {
            Program::Weirgate => weirgate(at, origin, work),
            Program::Nginx | Program::Haproxy => nginx(dir, at, origin, work),
        };
        let command = program.command(&conf, dir, args.weirgate.as_deref())?;
        let running = launch(command, dir, cores, || {
            let client = client(at)?;
            client.send(b"there?")?;
            client.recv(&mut [0; 16]).context("no answer")?;
            Ok(())
        })?;
        let none = Vec::new;
        Ok(Proxy { program, at, running, micros: none(), user: none(), rate: none(), lost: none() })
    }
}

fn weirgate(at: SocketAddr, origin: SocketAddr, work: Work) -> String {
    let responses = if work.fresh { ", responses: 1" } else { "" };
    format!(
        "server: {{ threads: 1 }}
log: {{ access: {{ to: \"off\" }} }}
listeners: [{{ name: udp, address: \"{at}\", udp: {{ upstream: origin{responses} }} }}]
upstreams: {{ origin: {{ servers: [\"{origin}\"] }} }}
"
    )
}

fn nginx(dir: &Path, at: SocketAddr, origin: SocketAddr, work: Work) -> String {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};") } else { String::new() };
    let responses = if work.fresh { "proxy_responses 1;" } else { "" };
    // SAFETY: geteuid cannot fail and takes nothing.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
    format!(
        "{module}
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 32768; }}
stream {{
    access_log off;
    upstream origin {{ server {origin}; }}
    server {{ listen {at} udp; proxy_pass origin; proxy_timeout 60s; {responses} }}
}}
",
        dir = dir.display()
    )
}

/// Sends everything back, on a thread of its own.
struct Echo {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Result<Echo> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (at, stop) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut room = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut room) {
                    socket.send_to(room.get(..length).unwrap_or_default(), client).ok();
                }
            }
        });
        Ok(Echo { at, stop, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn client(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// How many datagrams were sent, and how many answers came.
fn load(at: SocketAddr, work: Work, lasts: Duration) -> (u64, u64) {
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let until = Instant::now() + lasts;
    // a thread has several clients, so that bursts of many come together
    let threads = work.clients.div_ceil(16);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let open = || (0..work.clients / threads).filter_map(|_| client(at).ok()).collect::<Vec<_>>();
                let (question, mut room) = (vec![7; work.bytes], vec![0; 2048]);
                let mut clients = open();
                while Instant::now() < until {
                    if work.fresh {
                        clients = open();
                    }
                    let mut sent = 0;
                    for client in &clients {
                        sent += (0..work.burst).filter(|_| client.send(&question).is_ok()).count() as u64;
                    }
                    let mut came = 0;
                    for client in &clients {
                        came += (0..work.burst).take_while(|_| client.recv(&mut room).is_ok()).count() as u64;
                    }
                    asked.fetch_add(sent, Ordering::Relaxed);
                    answered.fetch_add(came, Ordering::Relaxed);
                }
            });
        }
    });
    (asked.into_inner(), answered.into_inner())
}
