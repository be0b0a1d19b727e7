//! Numbers, addresses and runs of plain text, appended to a buffer without the formatting
//! machinery and without allocating. Used by [`super::json`] and [`super::combined`].

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Appends a decimal number.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=9 => out.push(b'0' + number as u8),
        100..=999 => push_three(out, number as u16),
        _ => push_padded(out, number, 1),
    }
}

/// Appends a decimal number with zeros before it up to `width` (at most 20) digits.
pub(super) fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    // the longest u64 has 20 digits
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 && used >= width {
            break;
        }
    }
    out.extend_from_slice(digits.split_at(digits.len() - used).1);
}

/// Appends the last three digits of a number, zeros included.
#[inline]
pub(super) fn push_three(out: &mut Vec<u8>, number: u16) {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]);
}

/// Appends milliseconds with three decimals: `12.345`. Digits below a microsecond are cut.
pub(super) fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    // 584 000 years of microseconds fit
    let whole = duration.as_secs().saturating_mul(1_000_000);
    let micros = whole.saturating_add(u64::from(duration.subsec_micros()));
    push_number(out, micros / 1000);
    out.push(b'.');
    push_three(out, (micros % 1000) as u16);
}

/// Appends an address; an IPv4 client of a dual-stack socket (`::ffff:a.b.c.d`) reads as IPv4.
pub(super) fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => push_v4(out, v4),
        // a Vec takes every byte
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn push_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let mut text = [0; 15];
    let mut free = text.iter_mut();
    let mut put = |byte| free.next().map(|place| *place = byte);
    let mut length = 3;
    for (i, octet) in address.octets().into_iter().enumerate() {
        if i > 0 {
            put(b'.');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
            length += 1;
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
            length += 1;
        }
        put(b'0' + octet % 10);
        length += 1;
    }
    out.extend_from_slice(text.split_at(length).0);
}

/// Whether a byte needs a look before it is written between quotes, in either format.
fn is_special(byte: u8) -> bool {
    // `|`, not `||`: no branches, so that sixteen bytes are compared at once
    !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

/// The text up to the first special byte, and the rest, which begins with that byte.
pub(super) fn split_plain(text: &[u8]) -> (&[u8], &[u8]) {
    let mut plain = 0;
    for chunk in text.chunks_exact(16) {
        if any_special(chunk) {
            break;
        }
        plain += chunk.len();
    }
    let rest = text.get(plain..).unwrap_or_default();
    if rest.len() < 16 {
        // the end at once, with some of what was seen before
        let clean = match (text.last_chunk::<16>(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(end), _, _) => !any_special(end),
            (None, Some(start), Some(end)) => !any_special(start) & !any_special(end),
            (None, _, _) => false,
        };
        if clean {
            return (text, &[]);
        }
    }
    plain += rest.iter().take_while(|byte| !is_special(**byte)).count();
    text.split_at(plain)
}

#[inline(always)]
fn any_special(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |special, byte| special | is_special(*byte))
}

/// Two lower-case hexadecimal digits.
pub(super) fn push_hex(out: &mut Vec<u8>, byte: u8) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_those_of_std() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut numbers = vec![0, 9, 10, 99, 100, 999, 1000, u64::MAX - 1, u64::MAX];
        numbers.extend((0..5000).map(|_| random.u64(..) >> random.u32(0..64)));
        for number in numbers {
            assert_eq!(text(|out| push_number(out, number)), number.to_string());
            let width = random.usize(1..=20);
            assert_eq!(text(|out| push_padded(out, number, width)), format!("{number:0width$}"));
        }
    }

    #[test]
    fn addresses_are_those_of_std() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..1000 {
            // octets of one, two and three digits
            let v4 = IpAddr::from((random.u32(..) >> random.u32(0..32)).to_be_bytes());
            let v6 = IpAddr::from(random.u128(..).to_be_bytes());
            for address in [v4, v6] {
                assert_eq!(text(|out| push_ip(out, address)), address.to_string());
            }
        }
        assert_eq!(text(|out| push_ip(out, "::ffff:192.0.2.7".parse().unwrap())), "192.0.2.7");
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        for (nanos, expected) in [
            (0, "0.000"),
            (999, "0.000"),
            (1_000, "0.001"),
            (12_345_678, "12.345"),
            (3_600_000_000_001, "3600000.000"),
        ] {
            assert_eq!(text(|out| push_millis(out, Duration::from_nanos(nanos))), expected);
        }
        assert_eq!(text(|out| push_millis(out, Duration::MAX)), format!("{}.615", u64::MAX / 1000));
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 0..50 {
            for place in 0..length {
                for special in [0, 0x1f, b'"', b'\\', 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'~'; length];
                    bytes[place] = special;
                    assert_eq!(split_plain(&bytes), bytes.split_at(place));
                }
            }
            assert_eq!(split_plain(&vec![b' '; length]).0.len(), length);
        }
    }
}
