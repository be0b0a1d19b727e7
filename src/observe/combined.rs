//! The access log in the combined format of Apache and nginx, for tools that read it:
//!
//! ```text
//! 192.0.2.7 - - [21/Nov/2026:03:18:10 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8.5.0"
//! ```
//!
//! As in nginx, what is missing is `-`, and quotes, backslashes, control bytes and bytes above
//! 126 are written `\xNN`; a space within the request target too, so that a request line has
//! three words; that of a connection that was passed on is `TCP`, that of a session `UDP`, its listener and what has ended it. The status of a client that went before an answer is `000`. The size is that
//! of the body.

use super::entry::Entry;
use super::json;
use super::stamp::Stamp;
use super::text::{push_hex, push_ip, push_number, push_padded, split_plain};
use crate::config::file::Escape;
use std::time::SystemTime;

/// Appends one line with its newline.
pub fn push_line(out: &mut Vec<u8>, stamp: &mut Stamp, now: SystemTime, entry: &Entry<'_>) {
    match entry.client {
        Some(client) => push_ip(out, client),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" - - [");
    stamp.combined(now, out);
    out.extend_from_slice(b"] \"");
    request_line(out, entry, Escape::Hex);
    out.extend_from_slice(b"\" ");
    push_padded(out, u64::from(entry.status), 3);
    out.push(b' ');
    push_number(out, entry.response_bytes);
    out.extend_from_slice(b" \"");
    or_dash(out, entry.referer, Escape::Hex);
    out.extend_from_slice(b"\" \"");
    or_dash(out, entry.user_agent, Escape::Hex);
    out.extend_from_slice(b"\"\n");
}

/// `GET /x HTTP/1.1`, or `-` when the head was never understood.
#[inline]
pub(super) fn request_line(out: &mut Vec<u8>, entry: &Entry<'_>, escape: Escape) {
    let protocol = entry.protocol.map(str::as_bytes);
    if let Some(ended) = entry.ended {
        or_dash(out, protocol, escape);
        out.push(b' ');
        one_word(out, entry.listener.as_bytes(), escape);
        out.push(b' ');
        return or_dash(out, Some(ended.as_bytes()), escape);
    }
    if entry.method.is_none() && entry.path.is_none() {
        out.push(b'-');
        return;
    }
    or_dash(out, entry.method.map(str::as_bytes), escape);
    out.push(b' ');
    match entry.path {
        None => out.push(b'-'),
        Some(path) => one_word(out, path, escape),
    }
    out.push(b' ');
    or_dash(out, protocol, escape);
}

/// With its spaces escaped.
fn one_word(out: &mut Vec<u8>, text: &[u8], escape: Escape) {
    for (i, part) in text.split(|byte| *byte == b' ').enumerate() {
        if i > 0 {
            out.extend_from_slice(match escape {
                Escape::Hex => b"\\x20",
                Escape::Json => b"\\\\x20",
            });
        }
        push(out, part, escape);
    }
}

fn or_dash(out: &mut Vec<u8>, text: Option<&[u8]>, escape: Escape) {
    match text {
        None | Some([]) => out.push(b'-'),
        Some(text) => push(out, text, escape),
    }
}

/// Appends text from outside.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, text: &[u8], escape: Escape) {
    match escape {
        Escape::Hex => push_escaped(out, text),
        Escape::Json => json::push_escaped(out, text),
    }
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let (plain, special) = split_plain(rest);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { return };
        out.extend_from_slice(b"\\x");
        push_hex(out, *byte);
        rest = after;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    pub(in crate::observe) fn moment() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_795_231_090_042)
    }

    pub(in crate::observe) fn full() -> Entry<'static> {
        Entry {
            listener: "secure",
            client: Some([192, 0, 2, 7].into()),
            proxy: Some([192, 0, 2, 1].into()),
            method: Some("POST"),
            host: Some(b"example.com"),
            path: Some(b"/api/x?y=1"),
            protocol: Some("HTTP/2.0"),
            status: 200,
            grpc_status: Some(14),
            route: Some("api"),
            upstream: Some("api"),
            server: Some("127.0.0.1:3001"),
            attempts: 2,
            request_bytes: 17,
            response_bytes: 5,
            datagrams: None,
            duration: Duration::from_micros(12_345),
            queued: Some(Duration::from_micros(100)),
            upstream_connect: Some(Duration::from_micros(250)),
            upstream_response: Some(Duration::from_millis(11)),
            request_id: Some(b"0123456789abcdef"),
            trace_id: None,
            tls: Some("TLSv1.3"),
            tls_cipher: Some("TLS_AES_256_GCM_SHA384"),
            sni: Some("example.com"),
            client_cert_subject: Some("CN=\\\"one\\\""),
            client_cert_fingerprint: Some("0a1b"),
            user_agent: Some(b"curl/8.5.0"),
            referer: Some(b"https://example.com/"),
            ended: None,
            scheme: Some("https"),
            error: Some("server reset"),
            request_headers: None,
            response_headers: None,
        }
    }

    #[test]
    fn a_connection_that_was_passed_on() {
        let flow = Entry {
            listener: "the db",
            client: Some([192, 0, 2, 7].into()),
            protocol: Some("TCP"),
            status: 200,
            response_bytes: 5,
            ended: Some("client_closed"),
            ..Entry::default()
        };
        assert_eq!(
            line(&flow),
            "192.0.2.7 - - [21/Nov/2026:03:18:10 +0000] \"TCP the\\x20db client_closed\" 200 5 \"-\" \"-\"\n"
        );
    }

    /// Bytes as a hostile client would choose them: escapes, broken UTF-8, line ends, and
    /// pieces of a line of ours.
    pub(in crate::observe) fn nasty(random: &mut fastrand::Rng) -> Vec<u8> {
        const PIECES: [&[u8]; 16] = [
            b"\"",
            b"\\",
            b"\n",
            b"\r\n",
            b"\0",
            b"\x1b[2J",
            b"\x7f",
            b"\xc2\x85",
            b"\xe2\x82\xac",
            b"\xf0\x9f\xa6\x80",
            b"\xf0\x9f",
            b"\xed\xa0\x80",
            b"\xff",
            b"\",\"status\":200}",
            b"\" 200 5 \"-\" \"-\"\n127.0.0.1 - - [",
            b"plain text of more than sixteen bytes",
        ];
        let mut out = Vec::new();
        for _ in 0..random.usize(0..12) {
            match random.u8(0..3) {
                0 => out.push(random.u8(..)),
                1 => out.extend_from_slice(PIECES[random.usize(0..PIECES.len())]),
                _ => out.extend((0..random.usize(0..40)).map(|_| random.u8(0x20..0x7f))),
            }
        }
        out
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        push_line(&mut out, &mut Stamp::default(), moment(), entry);
        String::from_utf8(out).expect("a line is ASCII")
    }

    #[test]
    fn golden_lines() {
        assert_eq!(
            line(&full()),
            "192.0.2.7 - - [21/Nov/2026:03:18:10 +0000] \"POST /api/x?y=1 HTTP/2.0\" 200 5 \
             \"https://example.com/\" \"curl/8.5.0\"\n"
        );
        assert_eq!(
            line(&Entry { status: 408, ..Entry::default() }),
            "- - - [21/Nov/2026:03:18:10 +0000] \"-\" 408 0 \"-\" \"-\"\n"
        );
        let hostile = Entry {
            method: Some("GET"),
            path: Some(b"/a b\"\\\n\xe9"),
            protocol: Some("HTTP/1.1"),
            user_agent: Some(b""),
            client: Some("2001:db8::1".parse().unwrap()),
            ..Entry::default()
        };
        assert_eq!(
            line(&hostile),
            "2001:db8::1 - - [21/Nov/2026:03:18:10 +0000] \"GET /a\\x20b\\x22\\x5c\\x0a\\xe9 HTTP/1.1\" 000 0 \
             \"-\" \"-\"\n"
        );
    }

    /// Undoes `\xNN`.
    fn unescape(text: &str) -> Vec<u8> {
        let mut parts = text.split("\\x");
        let mut out = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            let (hex, plain) = part.split_at(2);
            out.push(u8::from_str_radix(hex, 16).unwrap());
            out.extend_from_slice(plain.as_bytes());
        }
        out
    }

    #[test]
    fn whatever_a_client_sends_stays_within_its_quotes_and_reads_back() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut path, agent, referer) = (nasty(&mut random), nasty(&mut random), nasty(&mut random));
            path.insert(0, b'/');
            let text = line(&Entry {
                method: Some("GET"),
                path: Some(&path),
                protocol: Some("HTTP/1.1"),
                user_agent: Some(&agent),
                referer: Some(&referer),
                ..Entry::default()
            });
            assert!(text.ends_with('\n') && text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)));
            let parts: Vec<&str> = text.trim_end_matches('\n').split('"').collect();
            assert_eq!(parts.len(), 7, "seed {seed}: {text}");
            let words: Vec<&str> = parts[1].split(' ').collect();
            assert_eq!((words.len(), words[0], words[2]), (3, "GET", "HTTP/1.1"), "seed {seed}: {text}");
            assert_eq!(unescape(words[1]), path, "seed {seed}");
            for (field, sent) in [(parts[3], &referer), (parts[5], &agent)] {
                let sent = if sent.is_empty() { b"-" } else { &sent[..] };
                assert_eq!(unescape(field), sent, "seed {seed}");
            }
        }
    }
}
