//! `split`: one of several groups by weight, by chance or the same again for the same key.

use super::key;
use crate::config::plan::{Split, UpstreamId};
use crate::filter::RequestInfo;
use crate::upstream::balance::key_hash;
use pingora_http::RequestHeader;

/// Which of the numbers that follow from the hash of a key is used here: one that no algorithm uses.
const SPLIT: u64 = 1 << 32;

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

/// From 0 to `total - 1`, the same in every process and version. Not the key's hash itself but one
/// made from it: where the groups choose servers by the same key, each would otherwise have keys
/// for a part of its servers only.
fn draw_by_key(key: &[u8], total: u32) -> u32 {
    let (draw, _) = key_hash::scale(key_hash::nth(key_hash::of(key), SPLIT), u64::from(total));
    draw as u32
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
