//! Which traces are recorded. Pure.

use super::context::{Told, TraceId};
use crate::config::plan::Sampling;
use crate::units::Percent;

/// Values of the randomness of a trace id.
const ALL: u64 = 1 << 56;

/// Whether a trace is, given what was told of it by somebody who is believed.
pub(super) fn samples(sampling: &Sampling, told: &Told, trace: &TraceId) -> bool {
    if told.debug {
        return true;
    }
    match told.sampled.filter(|_| sampling.parent_based) {
        Some(decided) => decided,
        None => is_among(sampling.ratio, trace),
    }
}

/// By the id alone, so that all who use this threshold decide alike: the randomness is not below what is left out (W3C
/// Trace Context, level 2 §3.2.2.3; OpenTelemetry's "TraceState: Probability Sampling").
fn is_among(ratio: Percent, trace: &TraceId) -> bool {
    let left_out = u128::from(10_000_u16.saturating_sub(ratio.0)) * u128::from(ALL) / 10_000;
    u128::from(trace.randomness()) >= left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(percent: u8, parent_based: bool) -> Sampling {
        Sampling { ratio: Percent::of(percent), parent_based, errors: false }
    }

    #[test]
    fn whoever_began_the_trace_has_decided_unless_told_otherwise() {
        let trace = TraceId::random();
        let told = |sampled| Told { sampled, ..Told::default() };
        for (percent, decided) in [(0, true), (100, false)] {
            assert_eq!(samples(&sampling(percent, true), &told(Some(decided)), &trace), decided);
            assert_eq!(samples(&sampling(percent, false), &told(Some(decided)), &trace), !decided);
            assert_eq!(samples(&sampling(percent, true), &told(None), &trace), !decided);
        }
        assert!(samples(&sampling(0, false), &Told { debug: true, ..Told::default() }, &trace));
    }

    #[test]
    fn the_ratio_is_kept_and_a_larger_one_takes_all_of_a_smaller() {
        fastrand::seed(7);
        let traces: Vec<TraceId> = (0..20_000).map(|_| TraceId::random()).collect();
        let among =
            |percent| traces.iter().filter(|id| is_among(Percent::of(percent), id)).collect::<Vec<_>>();
        assert_eq!((among(0).len(), among(100).len()), (0, traces.len()));
        let (tenth, half) = (among(10), among(50));
        assert!((1_800..2_200).contains(&tenth.len()), "{}", tenth.len());
        assert!(tenth.iter().all(|id| half.contains(id)));
    }

    #[test]
    fn the_edge_of_the_ratio() {
        let just = |digits: &str| TraceId::parse(digits.as_bytes()).unwrap();
        // half of 2^56
        assert!(is_among(Percent::of(50), &just("ffffffffffffffff0080000000000000")));
        assert!(!is_among(Percent::of(50), &just("ffffffffffffffffff7fffffffffffff")));
    }
}
