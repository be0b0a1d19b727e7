//! Smooth weighted round robin, as arithmetic: which of several weights has the next turn.
//!
//! The algorithm is nginx's (commit 52327e0627f49dbda1e8db695e63a4b0af4448b1, 2012): at each turn
//! every weight is added to its own running value, the largest value wins (the first of equals),
//! and the sum of all weights is taken from the winner. Weights 5, 1, 1 give `a a b a c a a`
//! where expanding weights would give `a a a a a b c`.

/// A cycle is not made when it would be longer than this (a quarter of a megabyte) ...
const LONGEST_CYCLE: u64 = 1 << 16;
/// ... or cost more than this many additions: some milliseconds.
const MOST_WORK: u64 = 1 << 22;

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
    if length > LONGEST_CYCLE || length.saturating_mul(servers) > MOST_WORK {
        return None;
    }
    let mut smooth = Smooth::new(weights);
    (0..length).map(|_| smooth.turn().and_then(|index| u32::try_from(index).ok())).collect()
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
    fn cycles_that_would_be_too_long_are_not_made() {
        assert!(cycle(&[65535, 65534]).is_none());
        assert!(cycle(&vec![7; 100_000]).is_some_and(|cycle| cycle.len() == 100_000));
        let mut many = vec![1; 10_000];
        many[0] = 2;
        assert!(cycle(&many).is_none());
    }
}
