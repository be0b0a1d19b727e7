//! From SRV records to servers (RFC 2782). Pure.

use crate::config::plan::Member;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// How many times the chance of a target of weight 0 one of weight 1 has, when both have one priority:
/// "a very small chance of being selected".
const AGAINST_ZERO: u64 = 100;
/// Shares are exact as long as the numbers of addresses have a common multiple up to this.
const FINEST: u64 = 5040;

/// One SRV record and the addresses of its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub addresses: Vec<IpAddr>,
}

/// The servers of these records. The addresses of a target share its weight. What several records name is
/// one server: with the best of their priorities, and of those the sum of the weights.
pub fn members(targets: &[Target]) -> Vec<Member> {
    let mut best: BTreeMap<SocketAddr, u16> = BTreeMap::new();
    for target in targets {
        for address in sockets(target) {
            let priority = best.entry(address).or_insert(target.priority);
            *priority = target.priority.min(*priority);
        }
    }
    let mut tiers: BTreeMap<u16, Vec<&Target>> = BTreeMap::new();
    for target in targets.iter().filter(|target| !target.addresses.is_empty()) {
        tiers.entry(target.priority).or_default().push(target);
    }
    let mut members = Vec::with_capacity(best.len());
    for (priority, targets) in tiers {
        let mut shares = shares(&targets);
        shares.retain(|address, _| best.get(address) == Some(&priority));
        members.extend(weights(shares).map(|(address, weight)| Member {
            weight,
            priority,
            ..Member::at(address)
        }));
    }
    members
}

fn sockets(target: &Target) -> impl Iterator<Item = SocketAddr> {
    target.addresses.iter().map(|ip| SocketAddr::from((*ip, target.port)))
}

/// The share of each address among targets of one priority, in whole numbers of any size.
fn shares(targets: &[&Target]) -> BTreeMap<SocketAddr, u64> {
    let all_zero = targets.iter().all(|target| target.weight == 0);
    let some_zero = targets.iter().any(|target| target.weight == 0);
    let factor = if some_zero && !all_zero { AGAINST_ZERO } else { 1 };
    let parts = targets.iter().map(|target| count(target)).fold(1, |common, parts| {
        let multiple = common / gcd(common, parts) * parts;
        if multiple <= FINEST { multiple } else { FINEST }
    });
    let mut shares = BTreeMap::new();
    for target in targets {
        let whole = (u64::from(target.weight) * factor).max(1) * parts;
        for address in sockets(target) {
            *shares.entry(address).or_default() += (whole / count(target)).max(1);
        }
    }
    shares
}

fn count(target: &Target) -> u64 {
    u64::try_from(target.addresses.len()).unwrap_or(u64::MAX).max(1)
}

/// The shares as weights: in lowest terms, and scaled down when the largest does not fit.
fn weights(shares: BTreeMap<SocketAddr, u64>) -> impl Iterator<Item = (SocketAddr, NonZeroU16)> {
    let divisor = shares.values().copied().fold(0, gcd).max(1);
    let largest = shares.values().copied().max().unwrap_or(1) / divisor;
    let most = u64::from(u16::MAX);
    shares.into_iter().map(move |(address, share)| {
        let share = share / divisor;
        let fits = if largest > most { u64_scaled(share, most, largest) } else { share };
        (address, u16::try_from(fits).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN))
    })
}

/// `share * most / largest`, rounded.
fn u64_scaled(share: u64, most: u64, largest: u64) -> u64 {
    let scaled = (u128::from(share) * u128::from(most) + u128::from(largest) / 2) / u128::from(largest);
    u64::try_from(scaled).unwrap_or(most)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(priority: u16, weight: u16, addresses: &[&str]) -> Target {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Target { priority, weight, port: 80, addresses }
    }

    /// `PRIORITY ADDRESS xWEIGHT`, in order.
    fn servers(targets: &[Target]) -> Vec<String> {
        let told = |m: &Member| format!("{} {} x{}", m.priority, m.address.ip(), m.weight);
        members(targets).iter().map(told).collect()
    }

    #[test]
    fn weights_and_priorities_are_taken_over() {
        let targets =
            [target(10, 60, &["10.0.0.1"]), target(10, 20, &["10.0.0.2"]), target(20, 7, &["10.0.0.3"])];
        assert_eq!(servers(&targets), ["10 10.0.0.1 x3", "10 10.0.0.2 x1", "20 10.0.0.3 x1"]);
        assert!(members(&targets).iter().all(|m| m.address.port() == 80));
    }

    #[test]
    fn weight_zero_is_the_smallest_chance_or_an_equal_one() {
        let one = [target(0, 0, &["10.0.0.1"]), target(0, 1, &["10.0.0.2"])];
        assert_eq!(servers(&one), ["0 10.0.0.1 x1", "0 10.0.0.2 x100"]);
        let all = [target(0, 0, &["10.0.0.1"]), target(0, 0, &["10.0.0.2"])];
        assert_eq!(servers(&all), ["0 10.0.0.1 x1", "0 10.0.0.2 x1"]);
        // each priority for itself
        let apart = [target(0, 0, &["10.0.0.1"]), target(1, 5, &["10.0.0.2"])];
        assert_eq!(servers(&apart), ["0 10.0.0.1 x1", "1 10.0.0.2 x1"]);
    }

    #[test]
    fn all_weights_fit() {
        let targets = [
            target(0, 0, &["10.0.0.1"]),
            target(0, u16::MAX, &["10.0.0.2"]),
            target(0, 32768, &["10.0.0.3"]),
        ];
        assert_eq!(servers(&targets), ["0 10.0.0.1 x1", "0 10.0.0.2 x65535", "0 10.0.0.3 x32768"]);
    }

    #[test]
    fn the_addresses_of_a_target_share_its_weight() {
        let targets = [target(0, 3, &["10.0.0.1", "::1"]), target(0, 3, &["10.0.0.2"])];
        assert_eq!(servers(&targets), ["0 10.0.0.1 x1", "0 10.0.0.2 x2", "0 ::1 x1"]);
    }

    #[test]
    fn a_server_named_twice_is_one_server() {
        let same = [target(0, 3, &["10.0.0.1"]), target(0, 4, &["10.0.0.1"]), target(0, 1, &["10.0.0.2"])];
        assert_eq!(servers(&same), ["0 10.0.0.1 x7", "0 10.0.0.2 x1"]);
        let backup = [target(1, 3, &["10.0.0.1"]), target(0, 4, &["10.0.0.1"]), target(1, 1, &["10.0.0.2"])];
        assert_eq!(servers(&backup), ["0 10.0.0.1 x1", "1 10.0.0.2 x1"]);
    }

    #[test]
    fn a_target_without_addresses_counts_for_nothing() {
        assert_eq!(servers(&[target(0, 0, &[]), target(0, 5, &["10.0.0.1"])]), ["0 10.0.0.1 x1"]);
        assert_eq!(servers(&[]), [""; 0]);
    }

    #[test]
    fn many_addresses_of_odd_numbers_still_fit() {
        let targets: Vec<Target> = (1..=40u8)
            .map(|n| Target {
                priority: 0,
                weight: u16::from(n) * 1000,
                port: 80,
                addresses: (0..n).map(|i| IpAddr::from([10, 0, n, i])).collect(),
            })
            .collect();
        assert_eq!(members(&targets).len(), (1..=40).sum::<usize>());
    }
}
