//! What may stand in `Host` and in the authority of a request target. Pure; called by `head`.

use std::net::Ipv6Addr;

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), not empty, without userinfo.
pub fn valid_authority(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        if address.parse::<Ipv6Addr>().is_err() {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    host.is_none_or(|host| valid_name(host.as_bytes())) && port.is_none_or(valid_port)
}

fn valid_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// `reg-name` (RFC 3986 §3.2.2), which IPv4 addresses are, too.
fn valid_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~', _) => tail,
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=', _) => tail,
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
