//! Numbers, addresses and runs of plain text, appended to a buffer without the formatting
//! machinery and without allocating. Used by [`super::json`] and [`super::combined`].

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Appends a decimal number.
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    push_padded(out, number, 1);
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

/// Appends milliseconds with three decimals: `12.345`. Digits below a microsecond are cut.
pub(super) fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    // 584 000 years of microseconds fit
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    out.push(b'.');
    push_padded(out, micros % 1000, 3);
}

/// Appends an address; an IPv4 client of a dual-stack socket (`::ffff:a.b.c.d`) reads as IPv4.
pub(super) fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => push_v4(out, v4),
        // a Vec takes every byte
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// Appends `127.0.0.1:3001` or `[::1]:3001`.
pub(super) fn push_socket(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            push_v4(out, *v4.ip());
            out.push(b':');
            push_number(out, u64::from(v4.port()));
        }
        SocketAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

fn push_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    for (i, octet) in address.octets().into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        push_number(out, u64::from(octet));
    }
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
        if chunk.iter().fold(false, |special, byte| special | is_special(*byte)) {
            break;
        }
        plain += chunk.len();
    }
    plain += text.iter().skip(plain).take_while(|byte| !is_special(**byte)).count();
    text.split_at(plain)
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
        let mut numbers = vec![0, 9, 10, 99, 100, u64::MAX - 1, u64::MAX];
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
            let v4 = SocketAddr::from((random.u32(..).to_be_bytes(), random.u16(..)));
            let v6 = SocketAddr::from((random.u128(..).to_be_bytes(), random.u16(..)));
            for address in [v4, v6] {
                assert_eq!(text(|out| push_socket(out, address)), address.to_string());
                assert_eq!(text(|out| push_ip(out, address.ip())), address.ip().to_string());
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
