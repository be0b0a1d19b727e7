//! Smooth weighted round robin, as arithmetic: which of several weights has the next turn.
//!
//! The algorithm is nginx's (commit 52327e0627f49dbda1e8db695e63a4b0af4448b1, 2012): at each turn
//! every weight is added to its own running value, the largest value wins (the first of equals),
//! and the sum of all weights is taken from the winner. Weights 5, 1, 1 give `a a b a c a a`
//! where expanding weights would give `a a a a a b c`.
//!
//! As that looks at all weights for each turn, many weights have their turns by [`Spread`] instead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A cycle is not made when it would be longer than this (a quarter of a megabyte) ...
const LONGEST_CYCLE: u64 = 1 << 16;
/// ... and not by nginx's algorithm when that would cost more than this many additions: some milliseconds.
const MOST_WORK: u64 = 1 << 22;
/// Nor are turns taken one by one by it with more weights than this.
const FEW: usize = 64;

/// Turns taken one by one, where there are too many to work them out beforehand.
#[derive(Debug)]
pub enum Turns {
    Smooth(Smooth),
    Spread(Spread),
}

impl Turns {
    pub fn of(weights: &[u16]) -> Turns {
        if weights.len() <= FEW {
            Turns::Smooth(Smooth::new(weights))
        } else {
            Turns::Spread(Spread::new(weights))
        }
    }

    /// Whose turn it is; `None` when there are no weights.
    pub fn turn(&mut self) -> Option<usize> {
        match self {
            Turns::Smooth(smooth) => smooth.turn(),
            Turns::Spread(spread) => spread.turn(),
        }
    }
}

/// Each weight w has its turns in w equal distances of the cycle. Stride scheduling (Waldspurger
/// and Weihl, 1995), as in Envoy's `EdfScheduler`, but that each begins at a point of its own: equal
/// weights would have all of their turns at the same points. A turn costs the logarithm of the
/// number of weights.
#[derive(Debug)]
pub struct Spread {
    next: BinaryHeap<Reverse<(u128, usize)>>,
    strides: Box<[u64]>,
}

/// The length of a cycle in the time in which turns are due: so long that no weight is rounded by
/// a noticeable part.
const CYCLE: u64 = 1 << 48;

impl Spread {
    pub fn new(weights: &[u16]) -> Spread {
        let strides: Box<[u64]> = weights.iter().map(|weight| CYCLE / u64::from(*weight).max(1)).collect();
        let first =
            |(index, stride): (usize, &u64)| Reverse((u128::from(stride >> 16) * phase(index), index));
        Spread { next: strides.iter().enumerate().map(first).collect(), strides }
    }

    /// Whose turn it is; `None` when there are no weights.
    pub fn turn(&mut self) -> Option<usize> {
        let mut next = self.next.peek_mut()?;
        let Reverse((due, index)) = *next;
        let stride = self.strides.get(index).copied().unwrap_or(CYCLE);
        *next = Reverse((due + u128::from(stride), index));
        Some(index)
    }
}

/// Where in its first stride a turn is, in parts of 65,536: by the golden ratio, which leaves no gap
/// much larger than others however many there are (Knuth, The Art of Computer Programming 3, 6.4).
fn phase(index: usize) -> u128 {
    u128::from((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48)
}

/// The running values of the algorithm. They add up to zero between turns.
#[derive(Debug)]
pub struct Smooth {
    weights: Box<[i64]>,
    values: Box<[i64]>,
    sum: i64,
}

impl Smooth {
    pub fn new(weights: &[u16]) -> Smooth {
        Smooth {
            weights: weights.iter().copied().map(i64::from).collect(),
            values: vec![0; weights.len()].into(),
            sum: weights.iter().copied().map(i64::from).sum(),
        }
    }

    /// Whose turn it is; `None` when there are no weights.
    pub fn turn(&mut self) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        for (index, (value, weight)) in self.values.iter_mut().zip(&self.weights).enumerate() {
            *value += weight;
            if best.is_none_or(|(_, most)| *value > most) {
                best = Some((index, *value));
            }
        }
        let (index, _) = best?;
        if let Some(value) = self.values.get_mut(index) {
            *value -= self.sum;
        }
        Some(index)
    }
}

/// All turns until they repeat, as indices into `weights`; `None` when there would be too many.
pub fn cycle(weights: &[u16]) -> Option<Box<[u32]>> {
    let divisor = weights.iter().copied().fold(0, gcd);
    if divisor == 0 {
        return Some(Box::default());
    }
    let length = weights.iter().map(|weight| u64::from(weight / divisor)).sum::<u64>();
    let servers = u64::try_from(weights.len()).unwrap_or(u64::MAX);
    if length == servers {
        // equal weights: in order, however many there are
        return (0..weights.len()).map(|index| u32::try_from(index).ok()).collect();
    }
    if length > LONGEST_CYCLE {
        return None;
    }
    let mut turns = match length.saturating_mul(servers) <= MOST_WORK {
        true => Turns::Smooth(Smooth::new(weights)),
        false => Turns::Spread(Spread::new(weights)),
    };
    (0..length).map(|_| turns.turn().and_then(|index| u32::try_from(index).ok())).collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(weights: &[u16]) -> String {
        let letter = |index: &u32| char::from(b'a' + u8::try_from(*index).unwrap());
        cycle(weights).unwrap().iter().map(letter).collect()
    }

    #[test]
    fn sequences_are_those_of_nginx() {
        assert_eq!(letters(&[5, 1, 1]), "aabacaa");
        assert_eq!(letters(&[1, 1, 1]), "abc");
        assert_eq!(letters(&[3, 2]), "ababa");
        assert_eq!(letters(&[2, 1]), "aba");
        assert_eq!(letters(&[1, 2, 3]), "cbacbc");
        assert_eq!(letters(&[7]), "a");
        assert_eq!(letters(&[]), "");
    }

    #[test]
    fn common_factors_do_not_make_the_cycle_longer() {
        assert_eq!(letters(&[500, 100, 100]), "aabacaa");
        assert_eq!(letters(&[65535, 65535]), "ab");
    }

    #[test]
    fn a_cycle_ends_where_it_began_and_gives_each_its_share() {
        for weights in [&[5, 1, 1][..], &[1, 2, 3, 4, 5, 6, 7], &[100, 1], &[13, 13, 4, 90]] {
            let mut smooth = Smooth::new(weights);
            let mut turns = vec![0u16; weights.len()];
            for _ in 0..weights.iter().sum::<u16>() {
                turns[smooth.turn().unwrap()] += 1;
            }
            assert_eq!(turns, weights);
            assert!(smooth.values.iter().all(|value| *value == 0), "{weights:?} does not repeat");
        }
    }

    #[test]
    fn many_weights_have_their_turns_evenly_spread() {
        let weights: Vec<u16> = (0..10_000).map(|index| if index % 10 == 0 { 4 } else { 2 }).collect();
        let cycle = cycle(&weights).unwrap();
        assert_eq!(cycle.len(), 11_000, "weights of 2 and 1");
        let turns_of =
            |server| (0usize..).zip(&cycle).filter(move |(_, turn)| **turn == server).map(|(at, _)| at);
        for server in [0, 1, 5_000, 9_999u32] {
            let turns: Vec<usize> = turns_of(server).collect();
            match *turns {
                [_] => assert_eq!(weights[server as usize], 2),
                [one, two] => assert!((two - one).abs_diff(5_500) < 60, "{one} and {two}"),
                _ => panic!("{turns:?}"),
            }
        }
        let mut counts = vec![0; weights.len()];
        cycle.iter().for_each(|turn| counts[*turn as usize] += 1);
        assert!(counts.iter().zip(&weights).all(|(count, weight)| count * 2 == *weight));
    }

    #[test]
    fn spread_turns_go_on_for_ever_and_keep_to_the_weights() {
        let weights: Vec<u16> = (1..=200).map(|weight| weight * 300).collect();
        let mut turns = Turns::of(&weights);
        let mut counts = vec![0u32; weights.len()];
        let whole: u32 = weights.iter().copied().map(u32::from).sum();
        for _ in 0..whole {
            counts[turns.turn().unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            assert!(count.abs_diff(u32::from(*weight)) <= 1, "{count} turns of weight {weight}");
        }
        assert_eq!(Turns::of(&[]).turn(), None);
    }

    #[test]
    fn cycles_that_would_be_too_long_are_not_made() {
        assert!(cycle(&[65535, 65534]).is_none());
        assert!(cycle(&vec![7; 100_000]).is_some_and(|cycle| cycle.len() == 100_000));
        let mut many = vec![1; 10_000];
        many[0] = 65_535;
        assert!(cycle(&many).is_none());
    }
}
