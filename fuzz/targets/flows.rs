//! The table of UDP sessions, against a plain list of them: datagrams of a few clients, answers, ends and time, in any order.

use std::time::{Duration, Instant};
use weirgate::config::file::{OnServerDown, ProxyHeader};
use weirgate::config::plan::Sessions;
use weirgate::l4::udp::table::{Id, Table};

/// What the table should know.
struct Known {
    id: Id,
    key: u8,
    rules: Sessions,
    /// Whether its client finds it.
    bound: bool,
    datagrams: (u64, u64),
    last: Instant,
}

impl Known {
    fn over(&self) -> bool {
        let Some(responses) = self.rules.responses else { return false };
        let asked = self.rules.requests.is_none_or(|most| self.datagrams.0 >= most);
        asked && self.datagrams.0 > 0 && self.datagrams.1 >= responses * self.datagrams.0
    }
}

pub fn run(data: &[u8]) {
    let mut table: Table<u8, usize> = Table::default();
    let mut known: Vec<Known> = Vec::new();
    let mut gone: Vec<Id> = Vec::new();
    let mut now = Instant::now();
    for step in data.chunks_exact(2).take(4096) {
        let (what, which) = (step[0], step[1]);
        now += Duration::from_millis(u64::from(what >> 4));
        match what & 0b11 {
            0 => arrives(&mut table, &mut known, which, now),
            1 if !known.is_empty() => {
                let at = usize::from(which) % known.len();
                let count = u64::from(which >> 5) + 1;
                known[at].datagrams.1 += count;
                known[at].last = now;
                let over = table.answered(known[at].id, (count, 10 * count), now);
                assert_eq!(over.is_some(), known[at].over());
                if over.is_some() {
                    ends(&mut table, &mut known, at, &mut gone);
                }
            }
            2 if !known.is_empty() => {
                let at = usize::from(which) % known.len();
                ends(&mut table, &mut known, at, &mut gone);
            }
            _ => now += Duration::from_millis(u64::from(which)),
        }
        // nobody is overlooked for long: whoever is idle is found at once, and nobody else
        while let Some(id) = table.idle(now) {
            let at = known.iter().position(|flow| flow.id == id).expect("a flow that is known");
            assert!(known[at].last + known[at].rules.idle <= now, "it was used a moment ago");
            ends(&mut table, &mut known, at, &mut gone);
        }
        assert!(known.iter().all(|flow| flow.last + flow.rules.idle > now), "one is overlooked");
        assert!(known.is_empty() || table.next_look().is_some_and(|look| look > now));
        assert_eq!((table.len(), table.ids().len()), (known.len(), known.len()));
    }
    for flow in &known {
        let same = table.get(flow.id).expect("it is there");
        assert_eq!((same.key, same.datagrams), (flow.key, flow.datagrams));
    }
    assert!(gone.iter().all(|id| table.get(*id).is_none()), "an id of old means another flow");
}

/// A few datagrams of one of eight clients.
fn arrives(table: &mut Table<u8, usize>, known: &mut Vec<Known>, which: u8, now: Instant) {
    let key = which & 0b111;
    let expected = known.iter().find(|flow| flow.key == key && flow.bound).map(|flow| flow.id);
    assert_eq!(table.find(&key), expected);
    let id = expected.unwrap_or_else(|| {
        let rules = rules(which);
        let id = table.begin(key, rules, known.len(), now);
        known.push(Known { id, key, rules, bound: true, datagrams: (0, 0), last: now });
        id
    });
    let flow = known.iter_mut().find(|flow| flow.id == id).expect("it is known");
    let room = table.room(id);
    assert!(room > 0, "what is found has room");
    let count = room.min(u64::from(which >> 6) + 1);
    flow.datagrams.0 += count;
    flow.last = now;
    flow.bound = flow.rules.requests.is_none_or(|most| flow.datagrams.0 < most);
    let over = table.forwarded(id, (count, 10 * count), now);
    assert_eq!(over.is_some(), flow.over());
    if over.is_some() {
        assert!(table.end(id).is_some());
        known.retain(|flow| flow.id != id);
    }
}

fn ends(table: &mut Table<u8, usize>, known: &mut Vec<Known>, at: usize, gone: &mut Vec<Id>) {
    let flow = known.remove(at);
    let ended = table.end(flow.id).expect("it is there");
    assert_eq!((ended.key, ended.datagrams), (flow.key, flow.datagrams));
    assert!(table.end(flow.id).is_none());
    gone.push(flow.id);
}

fn rules(which: u8) -> Sessions {
    Sessions {
        idle: Duration::from_millis(20 + 50 * u64::from(which >> 3 & 0b11)),
        requests: (which & 0b100000 != 0).then_some(u64::from(which >> 6) + 1),
        responses: (which & 0b10000 != 0).then_some(u64::from(which >> 6)),
        on_server_down: OnServerDown::Keep,
        proxy_header: ProxyHeader::Every,
    }
}
