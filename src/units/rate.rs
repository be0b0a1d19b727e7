//! So many in a span of time: `100/s`. Used by the configuration shape, and by `edge` for how often clients connect.

use super::*;
use std::num::NonZeroU32;

/// So many in a second, a minute or an hour: `100/s`, `600/m`, `5000/h`. As many may come at once; `600/m` is as often
/// as `10/s`, and allows sixty times the burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// The names of spans, with theirs.
const SPANS: [(&str, Per, Duration); 3] = [
    ("s", Per::Second, Duration::from_secs(1)),
    ("m", Per::Minute, Duration::from_secs(60)),
    ("h", Per::Hour, Duration::from_secs(3600)),
];

impl Rate {
    pub const fn per_second(count: NonZeroU32) -> Rate {
        Rate { count, per: Per::Second }
    }

    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The time in which they may come.
    pub fn span(self) -> Duration {
        SPANS.iter().find(|(_, per, _)| *per == self.per).map_or(Duration::ZERO, |(_, _, span)| *span)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a number and a span, such as 100/s, 600/m or 5000/h";
        let written = text.trim();
        if !written.is_empty() && written.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("a rate needs a span\nwrite the span: {written}/s or {written}/m"));
        }
        let refuse = || format!("\"{text}\" is not a rate\n{HINT}");
        let (number, span) = written.split_once('/').ok_or_else(refuse)?;
        let known = SPANS.iter().find(|(name, _, _)| *name == span.trim()).map(|(_, per, _)| *per);
        let (number, per) = (number.trim(), known.ok_or_else(refuse)?);
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse());
        }
        let count =
            number.parse().map_err(|_| format!("\"{text}\" is out of range\nuse 1 to {}", u32::MAX))?;
        Ok(Rate { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SPANS.iter().find(|(_, per, _)| *per == self.per).map_or("", |(name, _, _)| name);
        write!(f, "{}/{name}", self.count)
    }
}

quantity!(
    Rate,
    "a rate such as 100/s or 600/m",
    "^[0-9]+ ?/ ?[smh]$",
    "So many in a second, a minute or an hour: 100/s, 600/m or 5000/h. As many may come at once."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_number_and_a_span() {
        for (text, count, seconds) in [("100/s", 100, 1), ("600 / m", 600, 60), ("1/h", 1, 3600)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.count().get(), rate.span().as_secs()), (count, seconds), "{text}");
            assert_eq!(rate.to_string(), text.replace(' ', ""));
        }
        assert_eq!("20".parse::<Rate>().unwrap_err(), "a rate needs a span\nwrite the span: 20/s or 20/m");
        assert!("0/s".parse::<Rate>().unwrap_err().contains("use 1 to"));
        for bad in ["", "/s", "x/s", "10/", "10/d", "-1/s", "1.5/s", "10r/s", "99999999999/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
