//! Quantities as users write them: `5s`, `64KB`, `20%`.
//!
//! A leaf of the crate: the configuration shape, the plan and the filters' settings use these types, and
//! nothing here knows about any of them. A number without a unit is refused, because `30` has meant seconds
//! in one proxy and milliseconds in the next.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A span of time: `250ms`, `5s`, `1m`, `1h`, `1d`, or a compound such as `1m30s`. At most `365d`.
///
/// Prints in the largest unit that holds it exactly (`60s` prints as `1m`, `90s` as `90s`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

/// A number of bytes: `512B`, `64KB`, `10MB`, `1GB`. KB is 1024 bytes; `KiB` is the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A share between `0%` and `100%`, kept in basis points (1% is 100), so `0.25%` is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(pub u16);

/// More than the whole of something: between `101%` and `1000%`, kept in basis points (1% is 100).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiple(u32);

/// Milliseconds in each unit of [`Time`], largest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes in each unit of [`Size`], largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

/// The longest [`Time`]: beyond it, adding to a clock could overflow.
const LONGEST_MS: u64 = 365 * 86_400_000;

impl Time {
    pub const ZERO: Time = Time(Duration::ZERO);

    pub const fn secs(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    pub const fn millis(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl Size {
    pub const fn bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    pub const fn kb(kb: u64) -> Size {
        Size(kb * (1 << 10))
    }

    pub const fn mb(mb: u64) -> Size {
        Size(mb * (1 << 20))
    }

    /// As a length in memory; saturates where `usize` is narrower than 64 bits.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Percent {
    /// `Percent::of(20)` is `20%`.
    pub const fn of(percent: u8) -> Percent {
        Percent(percent as u16 * 100)
    }

    /// Between 0.0 and 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl Multiple {
    /// `Multiple::of(125)` is `125%`; what is out of range becomes the nearest that is not.
    pub const fn of(percent: u32) -> Multiple {
        let percent = if percent < 101 { 101 } else { percent };
        Multiple(if percent > 1000 { 1000 } else { percent } * 100)
    }

    /// From 10100 to 100000: `125%` is 12500.
    pub const fn basis_points(self) -> u32 {
        self.0
    }
}

/// Splits leading ASCII digits from the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

impl FromStr for Time {
    type Err = String;

    /// The error is a sentence, with a hint after a line break.
    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a number and a unit, such as 250ms, 5s, 1m, 1h, 1d or 1m30s";
        let written = text.trim();
        if written == "0" {
            return Ok(Time::ZERO);
        }
        if !written.is_empty() && written.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("a time needs a unit\nwrite the unit: {written}s or {written}ms"));
        }
        let too_long = || format!("\"{text}\" is too long a time\nthe longest is 365d");
        let mut rest = written;
        let mut total: u64 = 0;
        let mut smallest = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = digits(rest);
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let known = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
            let (false, Some(ms)) = (number.is_empty(), known) else {
                return Err(format!("\"{text}\" is not a time\n{HINT}"));
            };
            if ms >= smallest {
                return Err(format!("\"{text}\" is not a time: units go from large to small\n{HINT}"));
            }
            smallest = ms;
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(ms)).ok_or_else(too_long)?;
            total = total.checked_add(part).filter(|t| *t <= LONGEST_MS).ok_or_else(too_long)?;
            rest = after;
        }
        if smallest == u64::MAX {
            return Err(format!("a time is empty\n{HINT}"));
        }
        Ok(Time::millis(total))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a number and a unit, such as 512B, 64KB, 10MB or 1GB (1KB is 1024 bytes)";
        let written = text.trim();
        if written == "0" {
            return Ok(Size(0));
        }
        let (number, unit) = digits(written);
        if !number.is_empty() && unit.is_empty() {
            return Err(format!("a size needs a unit\nwrite the unit: {number}B, {number}KB or {number}MB"));
        }
        let unit = unit.trim_start().replace("iB", "B");
        let bytes = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&unit)).map(|(_, b)| *b);
        let (false, Some(bytes)) = (number.is_empty(), bytes) else {
            return Err(format!("\"{text}\" is not a size\n{HINT}"));
        };
        let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(bytes));
        total.map(Size).ok_or_else(|| format!("\"{text}\" is too large a size\n{HINT}"))
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a share such as 20% or 0.5%";
        match u16::try_from(basis_points(text, HINT)?) {
            Ok(points) if points <= 10_000 => Ok(Percent(points)),
            Ok(_) | Err(_) => Err(format!("\"{text}\" is more than 100%\n{HINT}")),
        }
    }
}

impl FromStr for Multiple {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "write a share from 101% to 1000%, such as 125%";
        match basis_points(text, HINT)? {
            points @ 10_100..=100_000 => Ok(Multiple(points)),
            points if points < 10_100 => Err(format!("\"{text}\" is less than 101%\n{HINT}")),
            _ => Err(format!("\"{text}\" is more than 1000%\n{HINT}")),
        }
    }
}

/// Reads `12.5%` as 1250; what is too large for the type becomes the largest there is.
fn basis_points(text: &str, hint: &str) -> Result<u32, String> {
    let refuse = || format!("\"{text}\" is not a percentage\n{hint}");
    let Some(number) = text.trim().strip_suffix('%') else {
        let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        return Err(if bare { format!("a percentage needs its sign\nwrite {text}%") } else { refuse() });
    };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let well_formed = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !well_formed(whole) || !well_formed(fraction) || fraction.len() > 2 {
        return Err(refuse());
    }
    let whole: u32 = whole.parse().map_err(|_| refuse())?;
    let fraction: u32 = format!("{fraction:0<2}").parse().map_err(|_| refuse())?;
    Ok(whole.saturating_mul(100).saturating_add(fraction))
}

/// Prints `amount` in the largest unit that holds it exactly.
fn print_exact(f: &mut fmt::Formatter<'_>, amount: u128, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |per: u64| amount != 0 && amount.is_multiple_of(u128::from(per));
    match units.iter().find(|(_, per)| fits(*per)) {
        Some((name, per)) => write!(f, "{}{name}", amount / u128::from(*per)),
        None => f.write_str("0"),
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_exact(f, self.0.as_millis(), &TIME_UNITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_exact(f, u128::from(self.0), &SIZE_UNITS)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_points(f, u32::from(self.0))
    }
}

impl fmt::Display for Multiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_points(f, self.0)
    }
}

fn print_points(f: &mut fmt::Formatter<'_>, points: u32) -> fmt::Result {
    let (whole, fraction) = (points / 100, points % 100);
    match (fraction, fraction % 10) {
        (0, _) => write!(f, "{whole}%"),
        (_, 0) => write!(f, "{whole}.{}%", fraction / 10),
        (_, _) => write!(f, "{whole}.{fraction:02}%"),
    }
}

/// Reads any quantity from text; a bare number goes through the same parser, which names the missing unit.
struct QuantityVisitor<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> Visitor<'_> for QuantityVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

macro_rules! quantity {
    ($name:ident, $expecting:literal, $pattern:literal, $describe:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(QuantityVisitor(std::marker::PhantomData, $expecting))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // the second pattern leaves `${VAR}` to the loader
                let text = |pattern: &str| serde_json::json!({ "type": "string", "pattern": pattern });
                let mut spellings = vec![text($pattern), text(r"\$\{")];
                if "0".parse::<$name>().is_ok() {
                    spellings.push(serde_json::json!({ "const": 0 }));
                }
                json_schema!({ "description": $describe, "anyOf": spellings })
            }
        }
    };
}

quantity!(
    Time,
    "a time such as 5s or 250ms",
    "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
    "A time with its unit: 250ms, 5s, 1m, 1h, 1d or 1m30s."
);
quantity!(
    Size,
    "a size such as 64KB or 10MB",
    "^[0-9]+ ?([KkMmGg]i?)?[Bb]$",
    "A size with its unit: 512B, 64KB, 10MB or 1GB; 1KB is 1024 bytes."
);
quantity!(Percent, "a percentage such as 20%", r"^[0-9]+(\.[0-9]{1,2})? ?%$", "A share from 0% to 100%.");
quantity!(
    Multiple,
    "a percentage such as 125%",
    r"^[0-9]+(\.[0-9]{1,2})? ?%$",
    "A share from 101% to 1000%."
);

// behind the macro, which it uses
mod rate;
pub use rate::Rate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_printed_in_exact_units() {
        for (text, ms, printed) in [
            ("250ms", 250, "250ms"),
            ("5s", 5_000, "5s"),
            ("60s", 60_000, "1m"),
            ("1m30s", 90_000, "90s"),
            ("1h", 3_600_000, "1h"),
            ("24h", 86_400_000, "1d"),
            ("0", 0, "0"),
            ("0s", 0, "0"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time, Time::millis(ms), "{text}");
            assert_eq!(time.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<Time>().unwrap(), time, "{text}");
        }
    }

    #[test]
    fn a_time_without_unit_says_which_unit() {
        assert_eq!("30".parse::<Time>().unwrap_err(), "a time needs a unit\nwrite the unit: 30s or 30ms");
        for bad in ["", "s", "5 s", "5S", "5sec", "1.5s", "-5s", "5s1m", "5s5s", "999999d", "5é"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
        assert!("99999999999999999999d".parse::<Time>().unwrap_err().contains("longest"));
    }

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes, printed) in [
            ("512B", 512, "512B"),
            ("64KB", 65_536, "64KB"),
            ("64KiB", 65_536, "64KB"),
            ("10mb", 10 << 20, "10MB"),
            ("1GB", 1 << 30, "1GB"),
            ("1500B", 1500, "1500B"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), printed, "{text}");
        }
        assert!("4096".parse::<Size>().unwrap_err().contains("4096B, 4096KB"));
        for bad in ["", "KB", "10XB", "10M", "1.5MB", "99999999999999999999GB", "18446744073709551615KB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages_keep_basis_points() {
        for (text, points) in [("20%", 2000), ("0.5%", 50), ("0.05%", 5), ("100%", 10_000), ("12.34%", 1234)]
        {
            let share: Percent = text.parse().unwrap();
            assert_eq!(share, Percent(points), "{text}");
            assert_eq!(share.to_string(), text);
        }
        assert_eq!("20".parse::<Percent>().unwrap_err(), "a percentage needs its sign\nwrite 20%");
        for bad in ["", "%", "101%", "1.234%", ".5%", "5.%", "x%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn multiples_are_more_than_the_whole() {
        for (text, points) in [("101%", 10_100), ("125%", 12_500), ("133.33%", 13_333), ("1000%", 100_000)] {
            let multiple: Multiple = text.parse().unwrap();
            assert_eq!(multiple.basis_points(), points, "{text}");
            assert_eq!(multiple.to_string(), text);
        }
        assert_eq!(Multiple::of(125), "125%".parse().unwrap());
        assert_eq!((Multiple::of(0), Multiple::of(5000)), (Multiple(10_100), Multiple(100_000)));
        assert!("100%".parse::<Multiple>().unwrap_err().contains("less than 101%"));
        assert!("1000.01%".parse::<Multiple>().unwrap_err().contains("more than 1000%"));
        for bad in ["", "1.25", "125", "x%", "99999999999%"] {
            assert!(bad.parse::<Multiple>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_round_trip_and_bare_numbers() {
        let time: Time = serde_json::from_str("\"5s\"").unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"5s\"");
        assert!(serde_json::from_str::<Time>("5").unwrap_err().to_string().contains("5s or 5ms"));
        assert_eq!(serde_json::from_str::<Time>("0").unwrap(), Time::ZERO);
        assert!(serde_json::from_str::<Size>("4096").unwrap_err().to_string().contains("4096B"));
    }
}
