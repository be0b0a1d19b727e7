use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, headers: 10, uri_bytes: 100 };

fn scan(head: &str) -> Result<Option<Head>, Reject> {
    Scanner::default().advance(head.as_bytes(), &LIMITS)
}

/// The result when the bytes come one by one.
fn drip(head: &[u8]) -> Result<Option<Head>, Reject> {
    let mut scanner = Scanner::default();
    for end in 1..=head.len() {
        match scanner.advance(&head[..end], &LIMITS) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

fn complete(head: &str) -> Head {
    let whole =
        scan(head).unwrap_or_else(|r| panic!("{head:?}: {r:?}")).unwrap_or_else(|| panic!("{head:?}"));
    assert_eq!(drip(head.as_bytes()), Ok(Some(whole)), "{head:?} byte by byte");
    whole
}

fn refused(head: &str) -> Reject {
    let reject = scan(head).expect_err(head);
    assert!(drip(head.as_bytes()).is_err(), "{head:?} byte by byte");
    reject
}

#[test]
fn sound_heads_pass() {
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        complete(plain),
        Head {
            start: 0,
            end: plain.len(),
            framing: Framing::None,
            headers: 1,
            upgrade: false,
            expects_continue: false
        }
    );
    for head in [
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "GET HTTP://a HTTP/1.1\r\nhost:a\r\n\r\n",
        "M-SEARCH /?a=|{}\"<>^`\\[] HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a \t\r\nX: \t y\t \r\nEmpty:\r\nLatin: \u{e9}\r\n\r\n",
        "GET //x HTTP/1.1\r\nHOST: [::1]:8080\r\n\r\n",
    ] {
        complete(head);
    }
}

#[test]
fn one_empty_line_before_the_request_is_forgiven() {
    let head = complete("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.start, head.end), (2, 29));
    assert_eq!(
        refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Reject::BadRequest("empty lines before the request line")
    );
}

#[test]
fn the_framing_of_the_body_is_read() {
    let with = |fields: &str| complete(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(with("Content-Length: 12\r\n").framing, Framing::Length(12));
    assert_eq!(with("content-length:0\r\n").framing, Framing::None);
    assert_eq!(with("Transfer-Encoding: Chunked\r\n").framing, Framing::Chunked);
    assert!(with("Content-Length: 1\r\nExpect: 100-Continue\r\n").expects_continue);
    assert!(!with("Expect: 100-continue\r\n").expects_continue);
    assert!(!with("Content-Length: 1\r\nExpect: something\r\n").expects_continue);
}

#[test]
fn only_a_websocket_asked_for_without_a_body_is_upgraded_to() {
    let upgrade = |method: &str, fields: &str| {
        complete(&format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n{fields}\r\n")).upgrade
    };
    assert!(upgrade("GET", "Upgrade: WebSocket\r\n"));
    assert!(upgrade("GET", "Upgrade: websocket\r\nContent-Length: 0\r\n"));
    assert!(!upgrade("POST", "Upgrade: websocket\r\n"));
    assert!(!upgrade("GET", "Upgrade: websocket\r\nContent-Length: 1\r\n"));
    assert!(!upgrade("GET", "Upgrade: h2c\r\n"));
    assert!(!upgrade("GET", "Upgrade: websocket\r\nUpgrade: h2c\r\n"));
    assert!(!upgrade("GET", "Upgrade: h2c\r\nUpgrade: websocket\r\n"));
}

#[test]
fn bytes_after_the_head_are_left_alone() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let with_body = format!("{head}\n\0\r\n\r\nGARBAGE\n");
    assert_eq!(scan(&with_body).map(|h| h.map(|h| h.end)), Ok(Some(head.len())));
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /x#y HTTP/1.1",
        "GET x HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
        "GET http:\\\\a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http://a\\b/ HTTP/1.1",
        "G{T / HTTP/1.1",
        "GET / HTTP/1.1x",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/11.1",
        "GET / HTPP/1.1",
        "GET /",
        "GET",
        "GET /\rHTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        let reject = refused(&format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(reject.status(), 400, "{line:?}: {reject:?}");
    }
}

#[test]
fn malformed_headers_are_refused() {
    for (line, reason) in [
        ("X: a\n", "bare LF"),
        ("X: a\rb\r\n", "control character"),
        ("X : a\r\n", "before the colon"),
        ("X\t: a\r\n", "before the colon"),
        (" X: a\r\n", "obs-fold"),
        ("X: a\r\n\tb\r\n", "obs-fold"),
        (": a\r\n", "header name"),
        ("X\r\n", "header name"),
        ("X\u{e9}: a\r\n", "header name"),
        ("X(: a\r\n", "header name"),
        ("X: \u{0}\r\n", "control character"),
        ("X: \u{b}\r\n", "control character"),
        ("X: \u{7f}\r\n", "control character"),
        ("Host: b\r\n", "more than one Host"),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", "more than one Content-Length"),
        ("Content-Length: 1, 1\r\n", "malformed Content-Length"),
        ("Content-Length: +1\r\n", "malformed Content-Length"),
        ("Content-Length: -1\r\n", "malformed Content-Length"),
        ("Content-Length: 0x1\r\n", "malformed Content-Length"),
        ("Content-Length: 1 2\r\n", "malformed Content-Length"),
        ("Content-Length:\r\n", "malformed Content-Length"),
        ("Content-Length: 9999999999999999999\r\n", "malformed Content-Length"),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "both"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "both"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "more than one Transfer"),
        ("Transfer-Encoding: identity\r\n", "not chunked"),
        ("Transfer-Encoding: xchunked\r\n", "not chunked"),
        ("Transfer-Encoding: chunked, gzip\r\n", "not chunked"),
        ("Transfer-Encoding: chunked, chunked\r\n", "not chunked"),
        ("Transfer-Encoding: ,chunked\r\n", "not chunked"),
        ("Transfer-Encoding: \"chunked\"\r\n", "not chunked"),
        ("Transfer-Encoding:\r\n", "not chunked"),
        ("Transfer-Encoding : chunked\r\n", "before the colon"),
    ] {
        let reject = refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n"));
        assert_eq!(reject.status(), 400, "{line:?}");
        assert!(reject.reason().contains(reason), "{line:?}: {reject:?}");
    }
}

#[test]
fn other_refusals_have_their_own_status() {
    for (head, status) in [
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ", 501),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ] {
        assert_eq!(refused(head).status(), status, "{head:?}");
    }
}

#[test]
fn limits_are_found_before_the_head_is_complete() {
    let long = "x".repeat(101);
    assert_eq!(refused(&format!("GET /{long}")), Reject::UriTooLong);
    assert_eq!(refused(&format!("GET /{long} HTTP/1.1\r\n")), Reject::UriTooLong);
    assert!(complete(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(99))).end > 100);
    assert_eq!(refused(&format!("GET / {long}")).status(), 400);
    let many = "X: y\r\n".repeat(10);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}")), Reject::HeadersTooLarge);
    let big = "y".repeat(4096);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {big}")), Reject::HeadersTooLarge);
    let huge = "y".repeat(9000);
    assert_eq!(refused(&format!("GET /{huge}")), Reject::UriTooLong);
    // the size is that of the head, not of what was read
    let body = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n{huge}");
    assert!(scan(&body).is_ok_and(|head| head.is_some()));
}

/// Random mutations of sound heads: whatever passes must be read the same way by another parser,
/// and cutting the bytes differently must not change the answer.
#[test]
fn mutated_heads_never_pass_by_luck() {
    let seeds: [&[u8]; 4] = [
        b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nX-A: b\r\n\r\n0123456789",
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\nUpgrade: x\r\n\r\n",
    ];
    let spice: &[u8] = b"\r\n\t :/\0\x7f\xffaG0,;chunked";
    for seed in 0..20_000u64 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut head = seeds[rng.usize(..seeds.len())].to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..head.len());
            match rng.u8(..4) {
                0 => head[at] = spice[rng.usize(..spice.len())],
                1 => head.insert(at, spice[rng.usize(..spice.len())]),
                2 => drop(head.remove(at)),
                _ => {
                    let to = rng.usize(at..head.len());
                    let piece = head[at..to].to_vec();
                    head.splice(at..at, piece);
                }
            }
        }
        let whole = Scanner::default().advance(&head, &LIMITS);
        match (whole, drip(&head)) {
            (Ok(a), Ok(b)) => assert_eq!(a, b, "seed {seed}: {}", head.escape_ascii()),
            (Err(_), Err(_)) => {}
            (a, b) => panic!("seed {seed}: whole {a:?}, dripped {b:?}: {}", head.escape_ascii()),
        }
        if let Ok(Some(found)) = whole {
            agrees_with_httparse(&head[found.start..], found, seed);
        }
    }
}

fn agrees_with_httparse(bytes: &[u8], found: Head, seed: u64) {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let end = request.parse(bytes);
    assert_eq!(end, Ok(httparse::Status::Complete(found.end - found.start)), "seed {seed}");
    let length = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let coding = request.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding"));
    let length = length.map(|h| std::str::from_utf8(h.value).unwrap().parse::<u64>().unwrap());
    let expected = match (coding, length) {
        (true, _) => Framing::Chunked,
        (false, None | Some(0)) => Framing::None,
        (false, Some(n)) => Framing::Length(n),
    };
    assert_eq!(found.framing, expected, "seed {seed}");
}
