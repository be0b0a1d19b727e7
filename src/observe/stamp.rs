//! Time as text, rendered once a second and reused: each shard of the access log keeps a
//! [`Stamp`], and the process log makes one per line.

use super::text::{push_padded, push_three};
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The last second of the year 9999: RFC 3339 has four digits for a year.
const LAST: u64 = 253_402_300_799;

/// The text of the last second asked for, in UTC.
#[derive(Debug, Default)]
pub struct Stamp {
    second: Option<u64>,
    /// `2026-11-21T03:18:10.`
    rfc3339: Vec<u8>,
    /// `21/Nov/2026:03:18:10 +0000`
    combined: Vec<u8>,
}

/// A time of which no log line is made, in RFC 3339 with milliseconds.
pub fn at_text(at: SystemTime) -> String {
    let mut text = Vec::new();
    Stamp::default().rfc3339(at, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl Stamp {
    /// Appends RFC 3339 with milliseconds: `2026-11-21T03:18:10.042Z`.
    pub fn rfc3339(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        let millis = self.at(now);
        out.extend_from_slice(&self.rfc3339);
        push_three(out, millis as u16);
        out.push(b'Z');
    }

    /// Appends the time of Apache's and nginx's combined format: `21/Nov/2026:03:18:10 +0000`.
    pub fn combined(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        self.at(now);
        out.extend_from_slice(&self.combined);
    }

    /// Renders the second when it is a new one; returns the milliseconds within it.
    fn at(&mut self, now: SystemTime) -> u32 {
        // a clock set before 1970 or after 9999 is wrong anyway: the line must still be written
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs().min(LAST);
        if self.second != Some(second) {
            self.render(second);
        }
        since.subsec_millis()
    }

    fn render(&mut self, second: u64) {
        let (year, month, day) = civil(second / 86_400);
        let of_day = second % 86_400;
        let clock = [of_day / 3600, of_day / 60 % 60, of_day % 60];

        let out = &mut self.rfc3339;
        out.clear();
        push_padded(out, year, 4);
        for (mark, number) in
            [b'-', b'-', b'T', b':', b':'].into_iter().zip([month, day].into_iter().chain(clock))
        {
            out.push(mark);
            push_padded(out, number, 2);
        }
        out.push(b'.');

        let out = &mut self.combined;
        out.clear();
        push_padded(out, day, 2);
        out.push(b'/');
        out.extend_from_slice(MONTHS.get(month as usize - 1).copied().unwrap_or(b"Jan"));
        out.push(b'/');
        push_padded(out, year, 4);
        for number in clock {
            out.push(b':');
            push_padded(out, number, 2);
        }
        out.extend_from_slice(b" +0000");
        self.second = Some(second);
    }
}

/// Year, month (1–12) and day (1–31) of a day counted from 1970-01-01: Howard Hinnant's
/// `civil_from_days`, for days that are not negative. Years begin in March there, so that the
/// leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn both(second: u64, millis: u64) -> (String, String) {
        let now = UNIX_EPOCH + Duration::from_millis(second * 1000 + millis);
        let (mut a, mut b, mut stamp) = (Vec::new(), Vec::new(), Stamp::default());
        stamp.rfc3339(now, &mut a);
        stamp.combined(now, &mut b);
        (String::from_utf8(a).unwrap(), String::from_utf8(b).unwrap())
    }

    #[test]
    fn known_moments() {
        for (second, millis, rfc, combined) in [
            (0, 0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_400, 7, "2000-02-29T00:00:00.007Z", "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_199, 999, "2024-02-29T23:59:59.999Z", "29/Feb/2024:23:59:59 +0000"),
            (1_795_231_090, 42, "2026-11-21T03:18:10.042Z", "21/Nov/2026:03:18:10 +0000"),
            (4_107_542_400, 1, "2100-03-01T00:00:00.001Z", "01/Mar/2100:00:00:00 +0000"),
            (LAST + 5, 0, "9999-12-31T23:59:59.000Z", "31/Dec/9999:23:59:59 +0000"),
        ] {
            assert_eq!(both(second, millis), (rfc.to_owned(), combined.to_owned()));
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..=146_097 {
            let next = civil(day);
            let same_month = (last.0, last.1, last.2 + 1) == next;
            let new_month = next.2 == 1 && last.2 >= 28 && (last.0, last.1 + 1) == (next.0, next.1);
            let new_year = next.1 == 1 && next.2 == 1 && (last.1, last.2) == (12, 31) && last.0 + 1 == next.0;
            assert!(same_month || new_month || new_year, "{last:?} then {next:?}");
            last = next;
        }
        assert_eq!(last, (2370, 1, 1));
    }

    #[test]
    fn agrees_with_httpdate() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let second = random.u64(0..LAST);
            let theirs = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let ours = both(second, 0).1;
            // Sat, 21 Nov 2026 03:18:10 GMT
            let words: Vec<&str> = theirs.split(' ').collect();
            assert_eq!(ours, format!("{}/{}/{}:{} +0000", words[1], words[2], words[3], words[4]));
        }
    }

    #[test]
    fn one_stamp_serves_many_seconds() {
        let mut stamp = Stamp::default();
        for (second, text) in
            [(59, "00:00:59.000Z"), (59, "00:00:59.000Z"), (60, "00:01:00.000Z"), (1, "00:00:01.000Z")]
        {
            let mut out = Vec::new();
            stamp.rfc3339(UNIX_EPOCH + Duration::from_secs(second), &mut out);
            assert!(out.ends_with(text.as_bytes()), "{}", String::from_utf8_lossy(&out));
        }
    }
}
