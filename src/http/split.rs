//! `split`: one of several groups by weight, by chance or the same again for the same key.

use super::key;
use crate::config::plan::{Split, UpstreamId};
use crate::filter::RequestInfo;
use pingora_http::RequestHeader;

/// The group for this request. Without the key it names, a request is split by chance.
pub fn choose(split: &Split, head: &RequestHeader, info: &RequestInfo) -> UpstreamId {
    let draw = match key::first(&split.key, head, info) {
        Some(key) => draw_by_key(&key, split.total),
        None => fastrand::u32(0..split.total.max(1)),
    };
    pick(split, draw)
}

/// The first group whose running sum of weights is above the draw.
fn pick(split: &Split, draw: u32) -> UpstreamId {
    let found = split.groups.iter().find(|(sum, _)| draw < *sum).or(split.groups.last());
    debug_assert!(found.is_some(), "check refuses a split without groups");
    found.map_or(UpstreamId(usize::MAX), |(_, id)| *id)
}

/// From 0 to `total - 1`, the same in every process and version: FNV-1a, finished as in
/// MurmurHash3 so that close keys are spread, then scaled (Lemire, "Fast random integer
/// generation in an interval").
fn draw_by_key(key: &[u8], total: u32) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    ((u128::from(hash) * u128::from(total)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let split = Split { key: None, groups: vec![(95, UpstreamId(0)), (100, UpstreamId(1))], total: 100 };
        let canary = (0..10_000u32)
            .filter(|i| {
                pick(&split, draw_by_key(format!("user-{i}").as_bytes(), split.total)) == UpstreamId(1)
            })
            .count();
        assert!((400..600).contains(&canary), "{canary} of 10000");
    }

    #[test]
    fn the_same_key_draws_the_same() {
        assert_eq!(draw_by_key(b"alice", 100), draw_by_key(b"alice", 100));
        assert_eq!(draw_by_key(b"alice", 1), 0);
    }
}
