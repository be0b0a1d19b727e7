//! A ring of points, of which each server has many: the data structure of consistent hashing, in
//! which a key belongs to the server whose point comes first after it (Karger et al.: "Consistent
//! hashing and random trees", STOC 1997; points by weight as in libketama, Jones 2007).
//!
//! The points of a server follow from its address alone, and their number from its weight: a server
//! that comes takes keys from others, one that goes gives its own to them, and no other key moves.
//! Where the weights of a group add up to more than 3,276, all have fewer points, in proportion to
//! that sum: there as many keys of others may move, at most, as the server itself had.

use super::key_hash;
use super::members::Member;

/// Points per unit of weight, as in nginx and libketama. Shares then differ from the weights by 8%
/// (one standard deviation, for a server of weight 1).
const POINTS: u64 = 160;
/// The most points of a ring: four megabytes, and some milliseconds to make. With 10,000 servers
/// of the same weight each has 52, and shares differ by 14%.
const MOST: u64 = 1 << 19;
/// About so many points are looked through to find one.
const PER_BUCKET: u64 = 4;

/// Who owns which part of the hashes.
#[derive(Debug, PartialEq, Eq)]
pub struct Ring {
    /// In order. A point is its position, a 32-bit number, before the index of its server.
    points: Box<[u64]>,
    /// Where the points begin of each of the equal parts into which the positions are divided.
    starts: Box<[u32]>,
    /// A position without its lowest bits, this many, is the number of its part.
    shift: u32,
}

impl Ring {
    /// Of servers in any order that is the same in all replicas.
    pub fn new(members: &[Member]) -> Ring {
        let counts = counts(members);
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let buckets = (total / PER_BUCKET).next_power_of_two().max(2);
        let shift = 32 - buckets.trailing_zeros();

        let mut starts = vec![0u32; buckets as usize + 1];
        for_each_point(members, &counts, |point| starts[(point >> 32 >> shift) as usize + 1] += 1);
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }

        let mut points = vec![0; total as usize];
        let mut ends = starts.clone();
        for_each_point(members, &counts, |point| {
            let end = &mut ends[(point >> 32 >> shift) as usize];
            points[*end as usize] = point;
            *end += 1;
        });
        for bounds in starts.windows(2) {
            points[bounds[0] as usize..bounds[1] as usize].sort_unstable();
        }
        // where two servers have the same position, their order among the members has decided
        for point in &mut points {
            let place = (*point & u64::from(u32::MAX)) as usize;
            *point = *point >> 32 << 32 | u64::from(members[place].index);
        }
        Ring { points: points.into(), starts: starts.into(), shift }
    }

    /// The place of the first point at or after a hash.
    pub fn place(&self, hash: u64) -> usize {
        let bucket = (hash >> 32 >> self.shift) as usize;
        let bound = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        let (start, end) = (bound(bucket), bound(bucket + 1));
        let position = hash >> 32 << 32;
        let before = self.points.get(start..end).unwrap_or_default().iter().take_while(|p| **p < position);
        start + before.count()
    }

    /// The server whose point is at this place, going round; `None` when there are no points.
    pub fn owner(&self, place: usize) -> Option<usize> {
        let point =
            self.points.get(place).or_else(|| self.points.get(place.checked_rem(self.points.len())?))?;
        Some((*point & u64::from(u32::MAX)) as usize)
    }
}

/// How many points each server has: at least one.
fn counts(members: &[Member]) -> Vec<u32> {
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let points = (weights * POINTS).min(MOST);
    let count = |member: &Member| {
        // of a fraction the address decides, so that together small weights have their share
        let chance = member.seed & 0xffff;
        let exact = ((points * u64::from(member.weight)) << 16) / weights.max(1);
        ((exact + chance) >> 16).max(1) as u32
    };
    members.iter().map(count).collect()
}

/// All points: positions before places in `members`.
fn for_each_point(members: &[Member], counts: &[u32], mut with: impl FnMut(u64)) {
    for ((place, member), count) in (0u64..).zip(members).zip(counts) {
        for nth in 0..*count {
            with(key_hash::nth(member.seed, u64::from(nth)) >> 32 << 32 | place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u16]) -> Vec<Member> {
        let member = |(index, weight): (u32, &u16)| Member {
            index,
            weight: *weight,
            seed: key_hash::nth(7, u64::from(index)),
        };
        (0..).zip(weights).map(member).collect()
    }

    #[test]
    fn the_first_point_at_or_after_a_hash_is_found() {
        for weights in [&[1][..], &[1, 1, 1], &[5, 1, 1], &[1; 300], &[60_000, 1]] {
            let ring = Ring::new(&members(weights));
            assert!(ring.points.is_sorted());
            let mut hashes: Vec<u64> = (0..1_000).map(|nth| key_hash::nth(9, nth)).collect();
            let edges = ring.points.iter().take(50).map(|point| *point >> 32 << 32);
            hashes.extend(edges.flat_map(|edge| [edge, edge | 1, edge.wrapping_sub(1)]));
            hashes.extend([0, u64::MAX]);
            for hash in hashes {
                let expected = ring.points.iter().position(|point| point >> 32 >= hash >> 32);
                assert_eq!(ring.place(hash), expected.unwrap_or(ring.points.len()), "{hash:x}");
            }
        }
    }

    #[test]
    fn the_ring_goes_round() {
        let ring = Ring::new(&members(&[1, 1]));
        assert_eq!(ring.points.len(), 320);
        assert_eq!(ring.owner(320), ring.owner(0));
        assert_eq!(Ring::new(&[]).owner(0), None);
    }

    #[test]
    fn points_are_by_weight_and_not_too_many() {
        assert_eq!(counts(&members(&[1, 5])), [160, 800]);
        let counts = counts(&members(&[60_000, 30_000, 1]));
        assert!(counts[0].abs_diff(counts[1] * 2) < 3 && counts[2] > 0, "{counts:?}");
        let many = Ring::new(&members(&[1; 10_000]));
        assert!(many.points.len().abs_diff(1 << 19) < 1_000, "{}", many.points.len());
    }
}
