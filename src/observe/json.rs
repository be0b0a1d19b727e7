//! The access log as JSON lines. The field names are a contract with those who parse them:
//!
//! | field | value |
//! |---|---|
//! | `time` | when the request ended, RFC 3339 with milliseconds, UTC |
//! | `listener`, `route`, `upstream` | the names of the configuration |
//! | `client` | address without port; none on a unix socket |
//! | `proxy` | address of the proxy that has announced the client by the PROXY protocol |
//! | `method`, `host`, `path` | as the client sent them; `path` is the whole request target |
//! | `protocol` | `HTTP/1.1`, `HTTP/2.0`; `TCP` of a connection that was passed on, `UDP` of a session |
//! | `status` | number; 0 when the client went before an answer; 200 of a connection that was passed on |
//! | `grpc_status` | number; what a call of gRPC has ended with |
//! | `server` | address and port |
//! | `attempts` | tries made on servers |
//! | `request_bytes`, `response_bytes` | of the bodies; of a connection that was passed on all bytes |
//! | `request_datagrams`, `response_datagrams` | of a session of a UDP listener |
//! | `ended` | of a connection that was passed on: `client_closed`, `server_closed`, `client_reset`, `server_reset`, `idle_timeout`, `total_timeout`, `cut` |
//! | `duration_ms`, `queue_ms`, `upstream_connect_ms`, `upstream_response_ms` | milliseconds with three decimals |
//! | `request_id`, `tls`, `tls_cipher`, `sni`, `client_cert_subject`, `client_cert_fingerprint`, `user_agent`, `referer`, `error` | text |
//!
//! With `log.access.headers` there are `request_headers` and `response_headers` too: objects of text, by the names in lower
//! case, of those headers that were there. Several of one name are joined by a comma and a space (RFC 9110 §5.3).
//!
//! Where there is `tracing`, `trace_id` is that of the trace that the request belongs to.
//!
//! There is no `null`: what is unknown or did not happen is left out (`attempts` when it is 0).
//! `time`, `listener`, `status`, `request_bytes`, `response_bytes` and `duration_ms` are always
//! there. Bytes that are not UTF-8 become U+FFFD, one for each broken sequence, as in
//! `String::from_utf8_lossy`. Control characters (C0, DEL and C1) are escaped, so that a line
//! stays a line and a terminal is not told anything.

use super::entry::Entry;
use super::headers::Headers;
use super::stamp::Stamp;
use super::text::{push_hex, push_ip, push_millis, push_number, split_plain};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Appends one object and a newline.
pub(super) fn push_line(
    out: &mut Vec<u8>,
    stamp: &mut Stamp,
    now: SystemTime,
    entry: &Entry<'_>,
    headers: Option<&Headers>,
) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.rfc3339(now, out);
    out.push(b'"');
    text(out, b",\"listener\":\"", Some(entry.listener.as_bytes()));
    request(out, entry);
    number(out, b",\"status\":", u64::from(entry.status));
    if let Some(status) = entry.grpc_status {
        number(out, b",\"grpc_status\":", u64::from(status));
    }
    answer(out, entry);
    number(out, b",\"request_bytes\":", entry.request_bytes);
    number(out, b",\"response_bytes\":", entry.response_bytes);
    if let Some((from, to)) = entry.datagrams {
        number(out, b",\"request_datagrams\":", from);
        number(out, b",\"response_datagrams\":", to);
    }
    millis(out, b",\"duration_ms\":", Some(entry.duration));
    millis(out, b",\"queue_ms\":", entry.queued);
    millis(out, b",\"upstream_connect_ms\":", entry.upstream_connect);
    millis(out, b",\"upstream_response_ms\":", entry.upstream_response);
    plain(out, b",\"request_id\":\"", entry.request_id);
    plain(out, b",\"trace_id\":\"", entry.trace_id);
    if entry.tls.is_some() || entry.sni.is_some() {
        of_tls(out, entry);
    }
    text(out, b",\"user_agent\":\"", entry.user_agent);
    text(out, b",\"referer\":\"", entry.referer);
    if let Some(headers) = headers {
        headers.push(out, entry);
    }
    plain(out, b",\"ended\":\"", entry.ended.map(str::as_bytes));
    text(out, b",\"error\":\"", entry.error.map(str::as_bytes));
    out.extend_from_slice(b"}\n");
}

/// What the client sent.
fn request(out: &mut Vec<u8>, entry: &Entry<'_>) {
    address(out, b",\"client\":\"", entry.client);
    address(out, b",\"proxy\":\"", entry.proxy);
    text(out, b",\"method\":\"", entry.method.map(str::as_bytes));
    text(out, b",\"host\":\"", entry.host);
    text(out, b",\"path\":\"", entry.path);
    plain(out, b",\"protocol\":\"", entry.protocol.map(str::as_bytes));
}

/// What was agreed on in the handshake.
fn of_tls(out: &mut Vec<u8>, entry: &Entry<'_>) {
    plain(out, b",\"tls\":\"", entry.tls.map(str::as_bytes));
    plain(out, b",\"tls_cipher\":\"", entry.tls_cipher.map(str::as_bytes));
    text(out, b",\"sni\":\"", entry.sni.map(str::as_bytes));
    text(out, b",\"client_cert_subject\":\"", entry.client_cert_subject.map(str::as_bytes));
    plain(out, b",\"client_cert_fingerprint\":\"", entry.client_cert_fingerprint.map(str::as_bytes));
}

#[inline(always)]
fn address(out: &mut Vec<u8>, name: &[u8], value: Option<IpAddr>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        push_ip(out, value);
        out.push(b'"');
    }
}

/// Who answered.
fn answer(out: &mut Vec<u8>, entry: &Entry<'_>) {
    text(out, b",\"route\":\"", entry.route.map(str::as_bytes));
    text(out, b",\"upstream\":\"", entry.upstream.map(str::as_bytes));
    text(out, b",\"server\":\"", entry.server.map(str::as_bytes));
    if entry.attempts > 0 {
        number(out, b",\"attempts\":", u64::from(entry.attempts));
    }
}

// inlined, so that the names are not copied byte by byte
#[inline(always)]
fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    push_number(out, value);
}

#[inline(always)]
fn millis(out: &mut Vec<u8>, name: &[u8], value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        push_millis(out, value);
    }
}

/// What anybody may have written.
#[inline(always)]
fn text(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        push_escaped(out, value);
        out.push(b'"');
    }
}

/// What was made here, or checked: nothing in it needs an escape.
#[inline(always)]
fn plain(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        debug_assert!(split_plain(value).1.is_empty());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.push(b'"');
    }
}

/// Appends the inside of a JSON string (RFC 8259 §7).
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let (plain, mut rest) = split_plain(text);
    out.extend_from_slice(plain);
    while let Some(first) = rest.first() {
        let taken = if first.is_ascii() { push_ascii(out, *first) } else { push_wide(out, rest) };
        let (plain, special) = split_plain(rest.get(taken..).unwrap_or_default());
        out.extend_from_slice(plain);
        rest = special;
    }
}

/// Escapes one special ASCII byte; returns its length.
fn push_ascii(out: &mut Vec<u8>, byte: u8) -> usize {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, byte);
            return 1;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

/// Copies one character that is not ASCII, or stands in for what is none; returns the bytes read.
fn push_wide(out: &mut Vec<u8>, text: &[u8]) -> usize {
    // four bytes hold any character; looking further each time would cost a square of the length
    let window = text.get(..4).unwrap_or(text);
    let Some(chunk) = window.utf8_chunks().next() else { return text.len() };
    match chunk.valid().chars().next() {
        Some(c1 @ '\u{80}'..='\u{9f}') => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, c1 as u8);
            c1.len_utf8()
        }
        Some(character) => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            character.len_utf8()
        }
        None => {
            out.extend_from_slice(b"\\ufffd");
            chunk.invalid().len().max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::combined::tests::{full, moment, nasty};

    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        push_line(&mut out, &mut Stamp::default(), moment(), entry, None);
        String::from_utf8(out).expect("a line is UTF-8")
    }

    #[test]
    fn a_full_line() {
        let expected = concat!(
            r#"{"time":"2026-11-21T03:18:10.042Z","listener":"secure","client":"192.0.2.7","proxy":"192.0.2.1","method":"POST","#,
            r#""host":"example.com","path":"/api/x?y=1","protocol":"HTTP/2.0","status":200,"grpc_status":14,"route":"api","#,
            r#""upstream":"api","server":"127.0.0.1:3001","attempts":2,"request_bytes":17,"response_bytes":5,"#,
            r#""duration_ms":12.345,"queue_ms":0.100,"upstream_connect_ms":0.250,"upstream_response_ms":11.000,"#,
            r#""request_id":"0123456789abcdef","tls":"TLSv1.3","tls_cipher":"TLS_AES_256_GCM_SHA384","#,
            r#""sni":"example.com","client_cert_subject":"CN=\\\"one\\\"","client_cert_fingerprint":"0a1b","#,
            r#""user_agent":"curl/8.5.0","#,
            r#""referer":"https://example.com/","error":"server reset"}"#,
            "\n"
        );
        assert_eq!(line(&full()), expected);
    }

    #[test]
    fn a_line_of_a_head_that_never_came() {
        let entry = Entry { listener: "web", status: 408, error: Some("head deadline"), ..Entry::default() };
        let expected = concat!(
            r#"{"time":"2026-11-21T03:18:10.042Z","listener":"web","status":408,"request_bytes":0,"#,
            r#""response_bytes":0,"duration_ms":0.000,"error":"head deadline"}"#,
            "\n"
        );
        assert_eq!(line(&entry), expected);
    }

    #[test]
    fn escapes_are_the_short_ones() {
        let path = b"/\"\\\n\r\t\x00\x1b[31m\x7f\xc2\x9b\xc3\xa9\xff\xe2\x82";
        let text = line(&Entry { path: Some(path), ..Entry::default() });
        assert!(text.contains(r#""path":"/\"\\\n\r\t\u0000\u001b[31m\u007f\u009bé\ufffd\ufffd""#), "{text}");
    }

    #[test]
    fn whatever_a_client_sends_is_one_line_that_reads_back() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (path, agent, host) = (nasty(&mut random), nasty(&mut random), nasty(&mut random));
            let entry =
                Entry { path: Some(&path), user_agent: Some(&agent), host: Some(&host), ..Entry::default() };
            let text = line(&entry);
            assert_eq!(text.bytes().filter(|byte| *byte == b'\n').count(), 1, "seed {seed}: {text}");
            assert!(!text.trim_end().chars().any(char::is_control), "seed {seed}: {text:?}");
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}: {text}"));
            for (name, sent) in [("path", &path), ("user_agent", &agent), ("host", &host)] {
                assert_eq!(value[name], *String::from_utf8_lossy(sent), "seed {seed}");
            }
        }
    }
}
