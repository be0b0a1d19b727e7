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
use std::ops::Range;

/// Points per unit of weight, as in nginx and libketama. Shares then differ from the weights by 8%
/// (one standard deviation, for a server of weight 1).
const POINTS: u64 = 160;
/// The most points of a ring: four megabytes, and some milliseconds to make. With 10,000 servers
/// of the same weight each has 52, and shares differ by 14%.
const MOST: u64 = 1 << 19;
/// About so many points are looked through to find one.
const PER_BUCKET: u64 = 4;

/// A server that is no longer there.
const GONE: u32 = u32::MAX;

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
    /// Of servers in the order of their addresses.
    pub fn new(members: &[Member]) -> Ring {
        let counts = counts(members);
        let shift = shift(&counts);
        let starts = starts(shift, points_of(members, &counts));
        let mut points = vec![0; starts.last().map_or(0, |total| *total as usize)];
        let mut ends = starts.clone();
        points_of(members, &counts).for_each(|point| {
            let end = &mut ends[(point >> 32 >> shift) as usize];
            points[*end as usize] = point;
            *end += 1;
        });
        for bounds in starts.windows(2) {
            points[bounds[0] as usize..bounds[1] as usize].sort_unstable();
        }
        Ring::of(points, starts, shift, members)
    }

    /// The same as [`Ring::new`], made from the ring of the servers that were there `before`: where few
    /// of many have changed there is next to nothing to be put in order.
    pub fn renewed(&self, before: &[Member], members: &[Member]) -> Ring {
        let counts = counts(members);
        let Difference { mut come, mut gone, places } = Difference::of(before, (members, &counts));
        if come.len() + gone.len() > self.points.len() / 4 {
            return Ring::new(members);
        }
        come.sort_unstable();
        gone.sort_unstable();
        let (mut come, mut gone) = (come.into_iter().peekable(), gone.into_iter().peekable());
        let mut points = Vec::with_capacity(self.points.len() + come.len());
        for point in &self.points {
            let place = places[index_of(*point)];
            let point = position_of(*point) | u64::from(place);
            if place == GONE || gone.next_if_eq(&point).is_some() {
                continue;
            }
            while let Some(new) = come.next_if(|new| *new < point) {
                points.push(new);
            }
            points.push(point);
        }
        points.extend(come);
        let shift = shift(&counts);
        let starts = starts(shift, points.iter().copied());
        Ring::of(points, starts, shift, members)
    }

    /// Of points with places among the members, in order: where two servers have the same position, these
    /// have decided.
    fn of(mut points: Vec<u64>, starts: Vec<u32>, shift: u32, members: &[Member]) -> Ring {
        // close together, as they are looked up in no order
        let indices: Vec<u32> = members.iter().map(|member| member.index).collect();
        for point in &mut points {
            *point = position_of(*point) | u64::from(indices[index_of(*point)]);
        }
        Ring { points: points.into(), starts: starts.into(), shift }
    }

    /// The place of the first point at or after a hash.
    pub fn place(&self, hash: u64) -> usize {
        let bucket = (hash >> 32 >> self.shift) as usize;
        let bound = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        let (start, end) = (bound(bucket), bound(bucket + 1));
        let position = position_of(hash);
        let before = self.points.get(start..end).unwrap_or_default().iter().take_while(|p| **p < position);
        start + before.count()
    }

    /// The server whose point is at this place, going round; `None` when there are no points.
    pub fn owner(&self, place: usize) -> Option<usize> {
        let point =
            self.points.get(place).or_else(|| self.points.get(place.checked_rem(self.points.len())?))?;
        Some(index_of(*point))
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
fn points_of(members: &[Member], counts: &[u32]) -> impl Iterator<Item = u64> {
    let members = (0u32..).zip(members).zip(counts);
    members.flat_map(|((place, member), count)| (0..*count).map(move |nth| point(member, nth, place)))
}

fn point(member: &Member, nth: u32, place: u32) -> u64 {
    position_of(key_hash::nth(member.seed, u64::from(nth))) | u64::from(place)
}

fn position_of(point: u64) -> u64 {
    point >> 32 << 32
}

fn index_of(point: u64) -> usize {
    (point & u64::from(u32::MAX)) as usize
}

/// How much shorter a position is made to be the number of its part.
fn shift(counts: &[u32]) -> u32 {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let parts = (total / PER_BUCKET).next_power_of_two().max(2);
    32 - parts.trailing_zeros()
}

/// Where each part begins, and where the last one ends.
fn starts(shift: u32, points: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut starts = vec![0u32; (1 << (32 - shift)) + 1];
    points.for_each(|point| starts[(point >> 32 >> shift) as usize + 1] += 1);
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    starts
}

/// What is different in the ring of other members.
#[derive(Default)]
struct Difference {
    /// Points that come: positions before places among the members of now.
    come: Vec<u64>,
    /// Points that go, of members who stay.
    gone: Vec<u64>,
    /// Where somebody with an index of before is among those of now, if still there.
    places: Vec<u32>,
}

impl Difference {
    fn of(before: &[Member], (members, counts): (&[Member], &[u32])) -> Difference {
        let mut different = Difference { places: vec![GONE; before.len()], ..Difference::default() };
        let mut earlier = before.iter().zip(self::counts(before)).peekable();
        for ((place, member), count) in (0u32..).zip(members).zip(counts) {
            while earlier.next_if(|(was, _)| was.address < member.address).is_some() {}
            let had = earlier.next_if(|(was, _)| was.address == member.address);
            let points = |range: Range<u32>| range.map(move |nth| point(member, nth, place));
            let had = had.map_or(0, |(was, had)| {
                different.places[was.index as usize] = place;
                had
            });
            different.come.extend(points(had..*count));
            different.gone.extend(points(*count..had));
        }
        different
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn members(weights: &[u16]) -> Vec<Member> {
        let member = |(index, weight): (u32, &u16)| Member {
            index,
            address: SocketAddr::from((Ipv4Addr::from_bits(index), 80)),
            weight: *weight,
            seed: key_hash::nth(7, u64::from(index)),
        };
        (0..).zip(weights).map(member).collect()
    }

    #[test]
    fn renewed_it_is_as_if_made_anew() {
        let mut random = fastrand::Rng::with_seed(7);
        for count in [0, 1, 3, 100, 3_000] {
            for changes in [0, 1, 2, 50] {
                let weights: Vec<u16> = (0..count).map(|_| random.u16(1..4)).collect();
                let before = members(&weights);
                let mut after = before.clone();
                for _ in 0..changes {
                    let at = random.usize(..=after.len());
                    match (random.u8(..3), after.get_mut(at)) {
                        (0, Some(member)) => member.weight = random.u16(1..4),
                        (1, Some(_)) => drop(after.remove(at)),
                        (_, _) => after.push(members(&[1; 5_000])[random.usize(count..5_000)]),
                    }
                }
                after.sort_unstable_by_key(|member| member.address);
                after.dedup_by_key(|member| member.address);
                // in any order in the file
                let mut indices: Vec<u32> = (0..after.len() as u32).collect();
                random.shuffle(&mut indices);
                after.iter_mut().zip(indices).for_each(|(member, index)| member.index = index);
                let renewed = Ring::new(&before).renewed(&before, &after);
                assert!(renewed == Ring::new(&after), "{count} servers, {changes} changes");
            }
        }
    }

    #[test]
    fn little_is_put_in_order_when_one_of_many_changes() {
        let before = members(&[1; 10_000]);
        let mut after = before.clone();
        after[17].weight = 2;
        let different = Difference::of(&before, (&after, &counts(&after)));
        assert!((50..200).contains(&different.come.len()) && different.gone.len() < 200);
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
