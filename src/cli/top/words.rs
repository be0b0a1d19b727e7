//! Numbers and times as they are shown: short, with their units, as on the dashboard.

const NOTHING: &str = "–";

/// Per second.
pub fn rate(rate: Option<f64>) -> String {
    match rate {
        None => NOTHING.to_owned(),
        Some(n) if n >= 1000.0 => format!("{:.1}k/s", n / 1000.0),
        Some(n) if n >= 10.0 || n == 0.0 => format!("{n:.0}/s"),
        Some(n) => format!("{n:.1}/s"),
    }
}

/// Of errors.
pub fn share(share: Option<f64>) -> String {
    match share {
        None => NOTHING.to_owned(),
        Some(0.0) => "0%".to_owned(),
        Some(n) if n < 0.001 => "<0.1%".to_owned(),
        Some(n) if n < 0.1 => format!("{:.1}%", n * 100.0),
        Some(n) => format!("{:.0}%", n * 100.0),
    }
}

/// Of seconds.
pub fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => NOTHING.to_owned(),
        Some(s) if s < 0.001 => format!("{:.0} µs", s * 1e6),
        Some(s) if s < 0.01 => format!("{:.1} ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0} ms", s * 1e3),
        Some(s) => format!("{s:.1} s"),
    }
}

/// The time of day in `2026-11-21T03:18:10.042Z`.
pub fn clock(at: &str) -> &str {
    at.get(11..19).unwrap_or(at)
}

/// A state as people write it.
pub fn state(word: &str) -> String {
    word.replace('_', " ")
}

/// The eight heights of a block.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last of these values, the newest at the right, in so many characters; the highest is a whole block.
pub fn sparkline<'a>(values: impl DoubleEndedIterator<Item = &'a f64> + Clone, width: usize) -> String {
    let last = values.rev().take(width);
    let top = last.clone().fold(1.0, |top: f64, value| top.max(*value));
    let height = |value: &f64| match (value / top * 7.0).round() as usize {
        0 if *value == 0.0 => ' ',
        height => HEIGHTS.get(height).copied().unwrap_or('█'),
    };
    let line: Vec<char> = last.map(height).collect();
    line.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [None, Some(0.0), Some(0.4), Some(12.3), Some(12_345.0)].map(rate).join(" "),
            "– 0/s 0.4/s 12/s 12.3k/s"
        );
        assert_eq!(
            [None, Some(0.0), Some(0.0004), Some(0.012), Some(0.5)].map(share).join(" "),
            "– 0% <0.1% 1.2% 50%"
        );
        let times = [None, Some(0.000_25), Some(0.0042), Some(0.3), Some(1.25)].map(time);
        assert_eq!(times.join(", "), "–, 250 µs, 4.2 ms, 300 ms, 1.2 s");
        assert_eq!(clock("2026-11-21T03:18:10.042Z"), "03:18:10");
        assert_eq!(clock("odd"), "odd");
    }

    #[test]
    fn a_sparkline_shows_the_last_values() {
        assert_eq!(sparkline([5.0, 0.0, 5.0, 10.0].iter(), 3), " ▅█");
        assert_eq!(sparkline([0.0, 0.0].iter(), 10), "  ");
        assert_eq!(sparkline([0.1].iter(), 10), "▂", "little is not nothing");
    }
}
