//! Panic mode: when so few servers of a group are healthy that they would be crushed, or that the
//! judgement itself is doubtful, health is ignored and requests go to all of them. Envoy's panic
//! threshold, over the group as a whole. Pure; asked by [`Group`](super::Group).

use crate::units::Percent;

/// Whether to panic: less than this share of the servers is healthy. Those that drain are not counted.
pub fn panics(healthy: usize, total: usize, below: Percent) -> bool {
    healthy as u64 * 10_000 < total as u64 * u64::from(below.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exact_at_the_bound() {
        let half = Percent::of(50);
        for (healthy, total, expected) in [
            (2, 4, false),
            (1, 4, true),
            (0, 1, true),
            (1, 2, false),
            (1, 3, true),
            (2, 3, false),
            (0, 0, false),
        ] {
            assert_eq!(panics(healthy, total, half), expected, "{healthy} of {total}");
        }
        assert!(panics(3, 4, Percent::of(100)) && !panics(4, 4, Percent::of(100)));
        assert!(!panics(1, 3, Percent(3333)) && panics(1, 3, Percent(3334)));
    }
}
