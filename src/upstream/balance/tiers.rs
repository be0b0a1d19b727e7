//! Tiers and zones: which part of the requests goes to which servers. Within a tier every server
//! is active; the next tier is for when a tier is short of usable servers. Of a tier, the servers
//! in the zone of this process come first.
//!
//! The rule is that of Envoy's priority levels: a tier whose usable share is at or above a threshold takes
//! everything; below it, it takes its share in proportion to the threshold and the rest spills over
//! to the next. When all tiers together take less than everything, each takes more in proportion.

use crate::config::file::SpillOver;

/// What is known of the servers of one lane: a tier, or the part of it that is near or far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub tier: u16,
    /// In the zone of this process.
    pub local: bool,
    /// The sums of weights.
    pub usable: u64,
    pub total: u64,
}

/// Which lane a request goes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Shares {
    /// All to one: nearly always so.
    One(usize),
    /// Each lane up to a bound on a scale from 0 to 1.
    Split(Box<[f64]>),
}

impl Shares {
    /// `lanes` are sorted by tier, the local one first.
    pub fn of(lanes: &[Standing], spill_over: SpillOver) -> Shares {
        Shares::from(loads(lanes, spill_over))
    }

    /// Each lane as much as its usable servers weigh.
    pub fn by_weight(lanes: &[Standing]) -> Shares {
        let sum: u64 = lanes.iter().map(|lane| lane.usable).sum();
        // weights are far below 2^52
        Shares::from(lanes.iter().map(|lane| lane.usable as f64 / sum.max(1) as f64).collect::<Vec<_>>())
    }

    fn from(loads: Vec<f64>) -> Shares {
        let busy: Vec<usize> =
            loads.iter().enumerate().filter(|(_, load)| **load > 0.0).map(|(lane, _)| lane).collect();
        match *busy {
            [] => Shares::One(0),
            [lane] => Shares::One(lane),
            _ => {
                let bounds = loads.iter().scan(0.0, |sum, load| {
                    *sum += load;
                    Some(*sum)
                });
                Shares::Split(bounds.collect())
            }
        }
    }

    /// The lane of the request with this hash. The bits that pick it are not those that pick a server in it.
    pub fn lane(&self, hash: u64) -> usize {
        match self {
            Shares::One(lane) => *lane,
            Shares::Split(bounds) => {
                let mixed = hash
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(32)
                    .wrapping_mul(0xd6e8_feb8_6659_fd93);
                let draw = (mixed >> 32) as f64 / f64::from(u32::MAX);
                let last = bounds.len().saturating_sub(1);
                bounds.iter().position(|bound| draw < *bound).unwrap_or(last)
            }
        }
    }
}

/// The load of each lane; they add up to 1 when anything is usable.
fn loads(lanes: &[Standing], spill_over: SpillOver) -> Vec<f64> {
    let mut loads = Vec::with_capacity(lanes.len());
    let mut left = 1.0;
    for tier in lanes.chunk_by(|a, b| a.tier == b.tier) {
        let sum = |part: fn(&Standing) -> u64| tier.iter().map(part).sum();
        let load = f64::min(
            left,
            capacity(sum(|lane| lane.usable), sum(|lane| lane.total), spill_over.tier.fraction()),
        );
        left -= load;
        loads.extend(within(tier, spill_over.zone.fraction()).into_iter().map(|share| share * load));
    }
    let sum: f64 = loads.iter().sum();
    if sum > 0.0 {
        loads.iter_mut().for_each(|load| *load /= sum);
    }
    loads
}

/// How much of everything servers can take, from 0 to 1.
fn capacity(usable: u64, total: u64, threshold: f64) -> f64 {
    if usable == 0 {
        return 0.0;
    }
    if threshold <= 0.0 {
        return 1.0;
    }
    // weights are far below 2^52
    f64::min(1.0, usable as f64 / total as f64 / threshold)
}

/// How the load of a tier is divided among its lanes: one, or the near and the far.
fn within(tier: &[Standing], threshold: f64) -> Vec<f64> {
    match tier {
        [near, far] if far.usable > 0 => {
            let near = capacity(near.usable, near.total, threshold);
            vec![near, 1.0 - near]
        }
        [_, _] => vec![1.0, 0.0],
        _ => vec![1.0; tier.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Percent;

    fn lane(tier: u16, usable: u64, total: u64) -> Standing {
        Standing { tier, local: false, usable, total }
    }

    fn zoned(tier: u16, local: bool, usable: u64, total: u64) -> Standing {
        Standing { local, ..lane(tier, usable, total) }
    }

    fn spill(tier: u8, zone: u8) -> SpillOver {
        SpillOver { tier: Percent::of(tier), zone: Percent::of(zone) }
    }

    fn percent(lanes: &[Standing], spill_over: SpillOver) -> Vec<f64> {
        loads(lanes, spill_over).into_iter().map(|load| (load * 1000.0).round() / 10.0).collect()
    }

    #[test]
    fn a_backup_waits_until_nothing_else_is_left() {
        let down = spill(0, 70);
        assert_eq!(percent(&[lane(0, 1, 10), lane(1, 5, 5)], down), [100.0, 0.0]);
        assert_eq!(percent(&[lane(0, 0, 10), lane(1, 5, 5)], down), [0.0, 100.0]);
        assert_eq!(percent(&[lane(0, 0, 10), lane(1, 0, 5), lane(7, 1, 1)], down), [0.0, 0.0, 100.0]);
        assert_eq!(percent(&[lane(0, 0, 1), lane(1, 0, 1)], down), [0.0, 0.0]);
        assert_eq!(percent(&[], down), Vec::<f64>::new());
    }

    #[test]
    fn a_tier_that_is_short_shares_in_proportion() {
        let half = spill(50, 70);
        assert_eq!(percent(&[lane(0, 5, 10), lane(1, 5, 5)], half), [100.0, 0.0]);
        assert_eq!(percent(&[lane(0, 4, 16), lane(1, 5, 5)], half), [50.0, 50.0]);
        assert_eq!(percent(&[lane(0, 4, 16), lane(1, 1, 8), lane(2, 1, 1)], half), [50.0, 25.0, 25.0]);
    }

    #[test]
    fn all_tiers_short_take_everything_between_them() {
        assert_eq!(percent(&[lane(0, 1, 4), lane(1, 1, 4)], spill(100, 0)), [50.0, 50.0]);
        assert_eq!(percent(&[lane(0, 3, 12), lane(1, 1, 12)], spill(100, 0)), [75.0, 25.0]);
        assert_eq!(percent(&[lane(0, 1, 100)], spill(100, 0)), [100.0]);
    }

    #[test]
    fn the_zone_of_this_process_comes_first() {
        let rule = spill(0, 70);
        let near = |usable| zoned(0, true, usable, 10);
        let far = |usable| zoned(0, false, usable, 20);
        assert_eq!(percent(&[near(10), far(20)], rule), [100.0, 0.0]);
        assert_eq!(percent(&[near(7), far(20)], rule), [100.0, 0.0]);
        assert_eq!(percent(&[near(0), far(20)], rule), [0.0, 100.0]);
        assert_eq!(percent(&[near(1), far(0)], rule), [100.0, 0.0]);
        let [kept, gone] = percent(&[near(5), far(20)], rule)[..] else { unreachable!() };
        assert_eq!((kept, gone), (71.4, 28.6));
        // short of local servers is not short of servers: the backup still waits
        assert_eq!(percent(&[near(5), far(20), lane(1, 9, 9)], rule), [71.4, 28.6, 0.0]);
    }

    #[test]
    fn lanes_are_drawn_by_their_shares() {
        let lanes = [lane(0, 4, 16), lane(1, 1, 8), lane(2, 1, 1)];
        let shares = Shares::of(&lanes, spill(50, 0));
        let mut counts = [0; 3];
        for hash in 0..10_000u64 {
            counts[shares.lane(hash.wrapping_mul(0x2545_f491_4f6c_dd1d))] += 1;
        }
        for (count, expected) in counts.into_iter().zip([5000, 2500, 2500]) {
            // five standard deviations of a binomial with 10000 draws are at most 250
            assert!((expected - 250..=expected + 250).contains(&count), "{counts:?}");
        }
        assert_eq!(Shares::of(&lanes[..1], spill(50, 0)), Shares::One(0));
    }

    #[test]
    fn in_a_panic_all_servers_take_part() {
        let lanes = [lane(0, 3, 3), lane(1, 0, 5), zoned(2, true, 1, 9)];
        assert_eq!(Shares::by_weight(&lanes), Shares::Split([0.75, 0.75, 1.0].into()));
        assert_eq!(Shares::by_weight(&lanes[..2]), Shares::One(0));
        assert_eq!(Shares::by_weight(&[]), Shares::One(0));
    }
}
