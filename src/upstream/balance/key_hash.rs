//! The hash of a request's key, and what else is drawn from it. Asked by `http` once per request
//! and by the algorithms that choose by key.
//!
//! It is XXH3 (64 bits, seed 0; Collet, <https://xxhash.com>), the same in every process, on every
//! machine and in every version, so that replicas and restarts send a key to the same server.
//! Hence it cannot be secret: somebody who may choose keys can choose many that meet at one server.
//! What helps against that is a bound on the server's load (`max_load` of `consistent_hash`), not
//! another hash.

use std::net::SocketAddr;
use twox_hash::XxHash3_64;

/// 2^64 over the golden ratio: the steps of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key: all 64 bits depend on all of its bytes.
pub fn of(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// The hash of a server's address, from which its places in tables follow.
pub fn of_address(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    let (ip, port) = bytes.split_at_mut(16);
    ip.copy_from_slice(&match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(ip) => ip.octets(),
    });
    port.copy_from_slice(&address.port().to_be_bytes());
    of(&bytes)
}

/// The nth number that follows from a hash, as if drawn by chance: SplitMix64 (Steele, Lea, Flood:
/// "Fast splittable pseudorandom number generators", OOPSLA 2014), whose mixer is Stafford's.
pub fn nth(hash: u64, nth: u64) -> u64 {
    let mut mixed = hash.wrapping_add(nth.wrapping_add(1).wrapping_mul(STEP));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A hash as a number from 0 to `range - 1`, and the part of the hash that has not been used for
/// it, from 0 to 2^64 - 1 (Lemire: "Fast random integer generation in an interval", 2019).
pub fn scale(hash: u64, range: u64) -> (u64, u64) {
    let product = u128::from(hash) * u128::from(range);
    ((product >> 64) as u64, product as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_xxh3_for_ever() {
        // as `xxhsum -H3` prints them
        assert_eq!(of(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(of(b"a"), 0xe6c6_32b6_1e96_4e1f);
        assert_eq!(of(b"abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn each_bit_of_a_key_changes_half_of_the_hash() {
        let mut random = fastrand::Rng::with_seed(7);
        for length in [1, 2, 4, 8, 15, 36, 100, 300] {
            let (mut flipped, mut tries) = (0, 0);
            for _ in 0..200 {
                let mut key: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                let before = of(&key);
                let at = random.usize(0..length);
                key[at] ^= 1 << random.u8(0..8);
                flipped += (of(&key) ^ before).count_ones();
                tries += 1;
            }
            let mean = f64::from(flipped) / f64::from(tries);
            assert!((30.0..34.0).contains(&mean), "{mean} of 64 bits change at {length} bytes");
        }
    }

    #[test]
    fn addresses_hash_by_ip_and_port() {
        let hash = |address: &str| of_address(address.parse().unwrap());
        assert_eq!(hash("127.0.0.1:80"), hash("[::ffff:127.0.0.1]:80"));
        let different = ["127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80", "[::1]:80"].map(hash);
        assert!((0..4).all(|a| (0..a).all(|b| different[a] != different[b])), "{different:x?}");
    }

    #[test]
    fn what_follows_from_a_hash_is_spread_over_the_range() {
        let mut counts = [0u32; 7];
        for draw in 0..70_000 {
            let (column, _) = scale(nth(of(b"a key"), draw), 7);
            counts[usize::try_from(column).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(scale(u64::MAX, 7).0, 6);
        assert_eq!(scale(0, 7), (0, 0));
    }
}
