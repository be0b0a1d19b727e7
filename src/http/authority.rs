//! What may stand in `Host` and in the authority of a request target. Pure; called by `edge::head` for HTTP/1, by
//! `intake` for HTTP/2.

use std::net::Ipv6Addr;

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), not empty, without userinfo.
pub fn valid_authority(value: &[u8]) -> bool {
    if let Some(rest) = value.strip_prefix(b"[") {
        return valid_literal(rest);
    }
    match value.iter().position(|b| *b == b':').and_then(|at| value.split_at_checked(at)) {
        Some((name, port)) => valid_name(name) && valid_port(port),
        None => valid_name(value),
    }
}

/// An IPv6 address after its first bracket, and perhaps a port.
fn valid_literal(rest: &[u8]) -> bool {
    let Some((address, after)) = std::str::from_utf8(rest).ok().and_then(|text| text.split_once(']')) else {
        return false;
    };
    address.parse::<Ipv6Addr>().is_ok() && (after.is_empty() || valid_port(after.as_bytes()))
}

/// `:80`
fn valid_port(port: &[u8]) -> bool {
    let Some(digits @ [_, ..]) = port.strip_prefix(b":") else { return false };
    let number = digits.iter().try_fold(0u16, |number, byte| {
        let digit = u16::from(byte.wrapping_sub(b'0'));
        number.checked_mul(10)?.checked_add(digit).filter(|_| digit < 10)
    });
    number.is_some()
}

/// What stands for itself in a name: `unreserved` and `sub-delims` (RFC 3986 §2.2, §2.3).
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128u8 {
        plain[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')')
            || matches!(byte, b'*' | b'+' | b',' | b';' | b'=');
        byte += 1;
    }
    plain
};

/// `reg-name` (RFC 3986 §3.2.2), which IPv4 addresses are, too.
fn valid_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (plain, _) if PLAIN[usize::from(*plain)] => tail,
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            _ => return false,
        };
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_accepted_and_refused() {
        for good in [
            "example.com",
            "EXAMPLE.com:80",
            "a_b.example",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "x%20y",
            "localhost.",
        ] {
            assert!(valid_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:", "a:b", "a:65536", "a:+1", "a:1:2", "u@a", "a/b", "a b", "a\\b", "[::1",
            "[::1]x", "[::g]", "::1", "a%2", "a%zz", "a?b", "a#b", "é", "\u{0}",
        ] {
            assert!(!valid_authority(bad.as_bytes()), "{bad}");
        }
        assert!(!valid_authority(b"\xff"));
    }
}
