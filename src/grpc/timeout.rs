//! `grpc-timeout`: one to eight digits and a unit.

use http::HeaderValue;
use std::time::Duration;

/// As many digits as there may be.
const MOST: u128 = 99_999_999;

/// How long a client is willing to wait. `None` for what is not written as it should be (a zero too: the value is
/// positive), which is no deadline.
pub fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let time = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time).filter(|time| !time.is_zero())
}

/// In the finest unit that has room for it; never zero.
pub fn format(time: Duration) -> HeaderValue {
    let text = [(time.as_nanos(), 'n'), (time.as_micros(), 'u'), (time.as_millis(), 'm')]
        .into_iter()
        .find(|(number, _)| *number <= MOST)
        .map_or_else(
            || format!("{}S", u128::from(time.as_secs()).min(MOST)),
            |(number, unit)| format!("{}{unit}", number.max(1)),
        );
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("1n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("00000007u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("123456789n", None),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), time, "{text}");
        }
    }

    #[test]
    fn what_is_left_is_written_with_eight_digits_at_most() {
        for (time, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_millis(20), "20000000n"),
            (Duration::from_millis(250), "250000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(format(time), text, "{time:?}");
        }
    }
}
