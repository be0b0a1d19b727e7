//! Durations in buckets that never change, so that they can be added up over servers and processes.

use super::cells::{Cells, Shard};
use std::time::Duration;

/// The upper ends of the buckets in nanoseconds: 1, 2 and 5 of each power of ten, from 0.2 ms, which a proxy beside its
/// server stays below, to 30 s, which few clients wait for. Prometheus's own begin at 5 ms, where a proxy has long answered.
const BOUNDS: [u64; 16] = [
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Numbers that a histogram takes: its buckets, one for what is longer, and the sum in nanoseconds.
pub const PLACES: usize = BOUNDS.len() + 2;

const SUM: usize = PLACES - 1;

/// A duration, and the bucket it belongs to: found once, however many histograms it goes to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    bucket: usize,
    nanos: u64,
}

impl From<Duration> for Mark {
    fn from(time: Duration) -> Mark {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // "le": the bound belongs to its bucket
        Mark { bucket: BOUNDS.partition_point(|bound| *bound < nanos), nanos }
    }
}

impl Mark {
    /// Adds it to the histogram that begins at this place.
    pub fn record(self, shard: Shard<'_>, first: usize) {
        shard.add(first + self.bucket, 1);
        shard.add(first + SUM, self.nanos);
    }
}

/// A histogram as it is now.
#[derive(Debug)]
pub struct Sums {
    /// For each end, how many were as long or shorter; the last is all.
    pub cumulative: [u64; PLACES - 1],
    /// In nanoseconds.
    pub sum: u64,
}

impl Sums {
    pub fn of(cells: &Cells, first: usize) -> Sums {
        let mut below = 0;
        let cumulative = std::array::from_fn(|bucket| {
            below += cells.sum(first + bucket);
            below
        });
        Sums { cumulative, sum: cells.sum(first + SUM) }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.cumulative.last().copied().unwrap_or_default()
    }
}

/// The end of a bucket in seconds; none for the last.
pub fn bound(bucket: usize) -> Option<f64> {
    BOUNDS.get(bucket).map(|nanos| seconds(*nanos))
}

pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What a place of a histogram is called where it is handed over: its end, so that a version with other buckets knows which
/// it has.
pub fn place_name(place: usize) -> String {
    match place {
        SUM => "sum".to_owned(),
        bucket => bound(bucket).map_or_else(|| "inf".to_owned(), |bound| bound.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_its_bucket() {
        let cells = Cells::new(PLACES + 3);
        for (micros, bucket) in [(0, 0), (200, 0), (201, 1), (1_000, 2), (30_000_000, 15), (30_000_001, 16)] {
            let mark = Mark::from(Duration::from_micros(micros));
            assert_eq!(mark.bucket, bucket, "{micros} µs");
            mark.record(cells.shard(), 3);
        }
        let sums = Sums::of(&cells, 3);
        assert_eq!((sums.count(), sums.cumulative[0], sums.cumulative[1], sums.cumulative[2]), (6, 2, 3, 4));
        assert_eq!(sums.sum, 60_001_402_000);
        assert_eq!(cells.sum(0) + cells.sum(2), 0, "nobody else's place");
        assert_eq!((bound(0), bound(15), bound(16)), (Some(0.0002), Some(30.0), None));
    }
}
