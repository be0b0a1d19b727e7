//! The story: a crowd comes, the gate is reloaded many times, the crowd goes; another one comes, the gate is replaced many
//! times, and goes.

use super::crowd::{Crowd, PATIENCE, Seen, Target};
use super::server;
use super::vitals::{Vitals, is_alive};
use super::websockets::{Conversations, Sent};
use crate::harness::{Authority, Gate, RawServer, Request};
use std::time::{Duration, Instant};

/// How long a process that was replaced waits for its connections. Longer than a download takes.
const GRACE: Duration = Duration::from_secs(5);
/// Between two upgrades: several old processes are about at a time.
const BETWEEN_UPGRADES: Duration = Duration::from_millis(1500);
/// Between two reloads.
const BETWEEN_RELOADS: Duration = Duration::from_millis(50);
/// Reloads before anything is measured, which leave behind what is kept for ever.
const WARM_UP: usize = 8;
/// The clock of the one who closes, and of the one who notices.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub reloads: usize,
    pub upgrades: usize,
    pub websockets: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Told {
    pub reloads: Chapter,
    pub upgrades: Chapter,
    /// Those of WebSockets that were closed before the time their process had.
    pub too_early: Vec<Duration>,
    /// From the command to its answer.
    pub reload_times: Vec<Duration>,
    pub upgrade_times: Vec<Duration>,
}

/// One crowd, and what the process at its end held when nobody was there.
#[derive(Debug)]
pub struct Chapter {
    pub seen: Vec<Seen>,
    /// WebSockets that were sent away with 1001.
    pub sent_away: usize,
    pub took: Duration,
    pub before: Vitals,
    pub after: Vitals,
}

impl Chapter {
    pub fn failures(&self) -> Vec<&str> {
        self.seen.iter().flat_map(|seen| &seen.failed).map(String::as_str).collect()
    }
}

/// Configurations that differ in nearly everything. One in four begins a new era of the listeners' connections.
fn configuration(turn: usize) -> String {
    let (balance, more, log) = match turn % 2 {
        0 => ("round_robin", "", "even"),
        _ => ("least_connections", ", $other", "odd"),
    };
    let (extra, headers) = match turn % 4 {
        3 => ("  - { name: extra, address: $extra }\n", 60),
        _ => ("", 64),
    };
    let grace = GRACE.as_secs();
    format!(
        "server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: {grace}, blocking_threads_ttl_seconds: 1 }}
log: {{ access: {{ format: json, to: {{ file: $dir/{log}.log }} }} }}
listeners:
{extra}  - {{ name: web, address: $web, limits: {{ max_header_bytes: {headers}KB }} }}
  - name: secure
    address: $secure
    protocols: [h1, h2]
    tls: {{ certificates: [{{ cert: $dir/{log}.crt, key: $dir/{log}.key }}] }}
routes:
  - {{ path: /chat, upstream: lasting }}
  - {{ path: /download, upstream: lasting }}
  - {{ path: /upload, upstream: lasting }}
  - {{ name: turn{turn}, path: /, upstream: quick, filters: [{{ headers: {{ response: {{ set: {{ X-Turn: \"{turn}\" }} }} }} }}] }}
upstreams:
  lasting: {{ servers: [$lasting], timeouts: {{ idle: 1s }} }}
  quick:
    servers: [$quick{more}]
    balance: {balance}
    timeouts: {{ idle: 1s }}
    health_check: {{ http: {{ path: /healthz }}, interval: 1s }}
"
    )
}

struct Stage {
    gate: Gate,
    target: Target,
    _servers: [RawServer; 3],
}

impl Stage {
    fn set_up(websockets: usize) -> Stage {
        let servers = ["lasting", "quick", "other"].map(server::start);
        let [lasting, quick, other] = &servers;
        let authority = Authority::new();
        let builder = Gate::with(&[lasting, quick, other]);
        for name in ["even", "odd"] {
            authority.issue_into(builder.dir(), name, &["gate.test"]);
        }
        let gate = builder.start(&configuration(0));
        let target = Target {
            plain: gate.at("web"),
            secure: gate.at("secure"),
            tls: authority.client("gate.test"),
            websockets,
        };
        Stage { gate, target, _servers: servers }
    }

    /// Everybody is there.
    fn gather(&self) -> Crowd {
        let crowd = Crowd::gather(&self.target);
        let deadline = Instant::now() + PATIENCE;
        while !crowd.is_busy(self.target.websockets) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        crowd
    }

    /// Until the next configuration is in use; how long the command took.
    fn reload(&mut self, turn: usize) -> Duration {
        let began = Instant::now();
        let reloaded = self.gate.reload(&configuration(turn));
        let took = began.elapsed();
        assert_eq!(reloaded.code, Some(0), "turn {turn}: {}", reloaded.stderr);
        self.expect(turn);
        took
    }

    fn expect(&self, turn: usize) {
        let answer = self.gate.ask(&Request::get("/small"));
        assert_eq!(answer.header("x-turn"), Some(turn.to_string()), "turn {turn}");
    }

    fn upgrade(&mut self, turn: usize) -> Upgraded {
        self.gate.rewrite(&configuration(turn));
        let began = Instant::now();
        let id = self.gate.upgrade();
        let done = Instant::now();
        self.expect(turn);
        Upgraded { began, done, id }
    }
}

struct Upgraded {
    began: Instant,
    done: Instant,
    /// Of the new process.
    id: u32,
}

/// What the process holds when everybody has gone: as soon as that does not change any more, or, when it is to be the
/// same as something, is the same.
fn settled(id: u32, before: Option<&Vitals>) -> Vitals {
    const STEADY: usize = 12;
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut steady) = (None, 0);
    loop {
        let now = Vitals::of(id).expect("the process");
        let key = (now.threads, now.open());
        let good = before.is_none_or(|before| (before.threads, before.open()) == key);
        steady = if good && last == Some(key) { steady + 1 } else { 0 };
        if steady >= STEADY || Instant::now() > deadline {
            return now;
        }
        last = Some(key);
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Tells it all.
pub fn tell(scale: Scale) -> Told {
    let mut stage = Stage::set_up(scale.websockets);
    let crowd = stage.gather();
    (1..=WARM_UP).for_each(|turn| _ = stage.reload(turn));
    crowd.disperse();
    let before = settled(stage.gate.id(), None);

    let mut turn = WARM_UP;
    let began = Instant::now();
    let crowd = stage.gather();
    let mut reload_times = Vec::new();
    for _ in 0..scale.reloads {
        turn += 1;
        reload_times.push(stage.reload(turn));
        std::thread::sleep(BETWEEN_RELOADS);
    }
    let ended = crowd.disperse();
    let took = began.elapsed();
    // the configuration at the end is like the one before
    let even = (turn / 4 + 1) * 4;
    stage.reload(even);
    let after = settled(stage.gate.id(), Some(&before));
    let reloads = chapter(ended, took, before, after).0;

    let (upgrades, upgraded) = replace(&mut stage, scale, even, &reloads.after);
    let (upgrades, sent) = upgrades;
    let too_early = sent.iter().filter_map(|sent| too_early(*sent, &upgraded)).collect();
    let upgrade_times = upgraded.iter().map(|one| one.done - one.began).collect();
    Told { reloads, upgrades, too_early, reload_times, upgrade_times }
}

fn replace(
    stage: &mut Stage,
    scale: Scale,
    mut turn: usize,
    before: &Vitals,
) -> ((Chapter, Vec<Sent>), Vec<Upgraded>) {
    let began = Instant::now();
    let crowd = stage.gather();
    let mut ids = vec![stage.gate.id()];
    let mut upgraded = Vec::new();
    for _ in 0..scale.upgrades {
        // the last configuration is like the one before, too
        turn += 4;
        upgraded.push(stage.upgrade(turn));
        std::thread::sleep(BETWEEN_UPGRADES);
    }
    ids.extend(upgraded.iter().map(|one| one.id));
    let last = ids.pop().expect("a process");
    let deadline = Instant::now() + GRACE + PATIENCE;
    stage.gate.exit();
    while ids.iter().any(|id| *id != stage.gate.id() && is_alive(*id)) {
        assert!(Instant::now() < deadline, "processes that were replaced go on: {ids:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = crowd.disperse();
    let took = began.elapsed();
    let after = settled(last, Some(before));
    (chapter(ended, took, before.clone(), after), upgraded)
}

fn chapter(
    (mut seen, conversations): (Vec<Seen>, Conversations),
    took: Duration,
    before: Vitals,
    after: Vitals,
) -> (Chapter, Vec<Sent>) {
    let Conversations { echoes, sent_away, failed } = conversations;
    seen.push(Seen { kind: "WebSocket frames", clients: 1, done: echoes, failed });
    (Chapter { seen, sent_away: sent_away.len(), took, before, after }, sent_away)
}

/// How much too early, if it was: its process could go on for [`GRACE`] after the upgrade that replaced it began.
fn too_early(sent: Sent, upgraded: &[Upgraded]) -> Option<Duration> {
    // in the moment of an upgrade it may have come to either process
    let due = upgraded.iter().find(|one| one.done > sent.came).map(|one| one.began + GRACE);
    match due {
        Some(due) => due.checked_duration_since(sent.left + TICK).filter(|early| !early.is_zero()),
        // nobody was replaced afterwards
        None => Some(GRACE),
    }
}
