//! The promise: of a request over HTTP/1 that two readers could take apart differently nothing reaches a server, or
//! only what the gate has framed anew, in one way. `docs/hostile_clients.md` shows the table that is made here.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use Expect::{Alone, Cut, Passes, Refused};
use harness::{Gate, Recorder, assert_judged, cell};

/// What follows every case on its connection. It must be answered for itself, or not at all.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";

/// What has to become of a request.
#[derive(Clone, Copy)]
enum Expect {
    /// Answered with this status, nothing of it seen by the server, and the connection closed.
    Refused(u16),
    /// The same, but the server may have seen the beginning.
    Cut(u16),
    /// The server sees this request, and the next one is a request of its own.
    Passes(&'static str),
    /// The server sees this request, and the connection ends with it.
    Alone(&'static str),
}

/// One request. Where it says `smuggled`, no server may see it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    expect: Expect,
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, expect: Expect) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), expect }
}

/// `POST` with these headers and this body.
fn post(name: &'static str, headers: impl AsRef<[u8]>, body: impl AsRef<[u8]>, expect: Expect) -> Case {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\n";
    case(name, [head, headers.as_ref(), b"\r\n\r\n", body.as_ref()].concat(), expect)
}

fn chunked(name: &'static str, body: impl AsRef<[u8]>, expect: Expect) -> Case {
    post(name, "Transfer-Encoding: chunked", body, expect)
}

/// `GET` with this header beside `Host`.
fn get(name: &'static str, header: impl AsRef<[u8]>, expect: Expect) -> Case {
    case(name, [b"GET / HTTP/1.1\r\nHost: x\r\n", header.as_ref(), b"\r\n\r\n"].concat(), expect)
}

/// This request line, and `Host`.
fn line(name: &'static str, line: impl AsRef<[u8]>, expect: Expect) -> Case {
    case(name, [line.as_ref(), b"\r\nHost: x\r\n\r\n"].concat(), expect)
}

fn lengths() -> Vec<Case> {
    let bad = |name, headers: &str, body: &str| post(name, headers, body, Refused(400));
    vec![
        bad("length and chunked", "Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        bad("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
        bad("length 0 and chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        bad("two lengths", "Content-Length: 0\r\nContent-Length: 33", ""),
        bad("the same length twice", "Content-Length: 4\r\nContent-Length: 4", "abcd"),
        bad("a list of lengths", "Content-Length: 0, 33", ""),
        bad("a list of equal lengths", "Content-Length: 4, 4", "abcd"),
        bad("a signed length", "Content-Length: +4", "abcd"),
        bad("a negative length", "Content-Length: -4", ""),
        bad("a hexadecimal length", "Content-Length: 0x4", "abcd"),
        bad("an exponent", "Content-Length: 1e1", ""),
        bad("a fraction", "Content-Length: 4.0", "abcd"),
        bad("two numbers", "Content-Length: 4 4", "abcd"),
        bad("an empty length", "Content-Length:", ""),
        bad("a length in quotes", "Content-Length: \"4\"", "abcd"),
        bad("a length with a parameter", "Content-Length: 4;a=b", "abcd"),
        bad("a length beyond 64 bits", "Content-Length: 18446744073709551620", "abcd"),
        bad("full-width digits", "Content-Length: ４", "abcd"),
        bad("a vertical tab before the length", "Content-Length: \x0b4", "abcd"),
        bad("a NUL in the name", "Content-Length\0: 4", "abcd"),
        post("whitespace around the length", "Content-Length: \t4 ", "abcd", Passes("POST / + 4 bytes")),
        post("zeros before the length", "Content-Length: 0004", "abcd", Passes("POST / + 4 bytes")),
        case(
            "a body of GET",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
            Passes("GET / + 4 bytes"),
        ),
        post(
            "a length spelt with an underscore",
            "Content_Length: 33\r\nContent-Length: 4",
            "abcd",
            Passes("POST / + 4 bytes"),
        ),
    ]
}

fn codings() -> Vec<Case> {
    let bad = |name, value: &str| post(name, format!("Transfer-Encoding:{value}"), "0\r\n\r\n", Refused(400));
    vec![
        bad("an unknown coding", " xchunked"),
        bad("identity", " identity"),
        bad("chunked that is not last", " chunked, identity"),
        bad("a coding that is no framing", " gzip"),
        bad("chunked twice", " chunked, chunked"),
        bad("chunked in two headers", " chunked\r\nTransfer-Encoding: chunked"),
        bad("chunked and identity in two headers", " chunked\r\nTransfer-Encoding: identity"),
        bad("a list with an empty end", " chunked,"),
        bad("a list with an empty beginning", " , chunked"),
        bad("a parameter", " chunked;q=1"),
        bad("quotes", " \"chunked\""),
        bad("a vertical tab", " \x0bchunked"),
        bad("a line feed", "\nchunked"),
        bad("folded", "\r\n chunked"),
        bad("empty", ""),
        post(
            "a coding that is not understood",
            "Transfer-Encoding: gzip, chunked",
            "0\r\n\r\n",
            Refused(501),
        ),
        case(
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused(400),
        ),
        post(
            "a space before the colon",
            "Transfer-Encoding : chunked\r\nContent-Length: 5",
            "0\r\n\r\n",
            Refused(400),
        ),
        post(
            "another spelling",
            "tRANSFER-eNCODING: Chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            Passes("POST / + 3 bytes"),
        ),
        post(
            "spelt with an underscore",
            "Transfer_Encoding: chunked\r\nContent-Length: 5",
            "0\r\n\r\n",
            Passes("POST / + 5 bytes"),
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let bad = |name, body: &str| chunked(name, body, Refused(400));
    vec![
        bad("a size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
        bad("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        bad("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        bad("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        bad("no size", "\r\nabc\r\n0\r\n\r\n"),
        bad("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        bad("a space after the size", "3 \r\nabc\r\n0\r\n\r\n"),
        bad("a size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        bad("an underscore in the size", "0_3\r\nabc\r\n0\r\n\r\n"),
        bad("a line feed after the size", "3\nabc\r\n0\r\n\r\n"),
        bad("a carriage return after the size", "3\rabc\r\n0\r\n\r\n"),
        bad("line feeds only", "3\nabc\n0\n\n"),
        bad("a chunk that is longer than its size", "3\r\nabcdef\r\n0\r\n\r\n"),
        bad("a chunk that is shorter than its size", "9\r\nabc\r\n0\r\n\r\n"),
        bad("a line feed after the data", "3\r\nabc\n0\r\n\r\n"),
        bad("nothing after the data", "3\r\nabc0\r\n\r\n"),
        bad("a line feed in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        bad("a carriage return in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        bad("a NUL in an extension", "3;a\0\r\nabc\r\n0\r\n\r\n"),
        bad("a folded trailer", "3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n"),
        bad("a trailer without a colon", "3\r\nabc\r\n0\r\nA\r\n\r\n"),
        bad("a trailer with a space before the colon", "3\r\nabc\r\n0\r\nA : b\r\n\r\n"),
        bad("a trailer with a line feed", "3\r\nabc\r\n0\r\nA: b\nC: d\r\n\r\n"),
        bad("a body that ends with a line feed", "3\r\nabc\r\n0\r\n\n"),
        chunked("extensions without end", format!("3;{}\r\nabc\r\n0\r\n\r\n", "e".repeat(9000)), Cut(400)),
        chunked(
            "trailers without end",
            format!("3\r\nabc\r\n0\r\n{}\r\n", "A: b\r\n".repeat(4000)),
            Cut(400),
        ),
        chunked("an extension", "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n", Passes("POST / + 3 bytes")),
        chunked("zeros before the size", "0003\r\nabc\r\n000\r\n\r\n", Passes("POST / + 3 bytes")),
        chunked(
            "a trailer that frames",
            "3\r\nabc\r\n0\r\nContent-Length: 33\r\nX-Smuggled: 1\r\n\r\n",
            Passes("POST / + 3 bytes"),
        ),
        chunked(
            "a request in a chunk",
            "15\r\nGET /in HTTP/1.1\r\n\r\n0\r\n0\r\n\r\n",
            Passes("POST / + 21 bytes"),
        ),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        case("line feeds only", "GET / HTTP/1.1\nHost: x\n\n", Refused(400)),
        case("a line feed after a header", "GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n", Refused(400)),
        case("a line feed after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", Refused(400)),
        case("a head that ends in a line feed", "GET / HTTP/1.1\r\nHost: x\r\n\n", Refused(400)),
        case(
            "an empty line of two carriage returns",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n\r\n",
            Refused(400),
        ),
        get("a carriage return in a value", "X-A: b\rX-C: d", Refused(400)),
        get("a carriage return in a name", "X-A\rX-C: d", Refused(400)),
        get("a NUL in a value", "X-A: a\0b", Refused(400)),
        get("a NUL in a name", "X\0A: b", Refused(400)),
        get("an escape character in a value", "X-A: \x1b[2J", Refused(400)),
        get("DEL in a value", "X-A: \x7f", Refused(400)),
        get("a folded header", "X-A: b\r\n c", Refused(400)),
        get("a header folded with a tab", "X-A: b\r\n\tc", Refused(400)),
        get("a folded header of spaces", "X-A: b\r\n \r\nX-B: c", Refused(400)),
        case("a first header that begins with a space", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", Refused(400)),
        get("a space before the colon", "X-A : b", Refused(400)),
        get("a tab before the colon", "X-A\t: b", Refused(400)),
        get("a space in a name", "X A: b", Refused(400)),
        get("no name", ": b", Refused(400)),
        get("no colon", "X-A", Refused(400)),
        get("a name in brackets", "(X-A): b", Refused(400)),
        get("a name beyond ASCII", b"X-\xc3\xa4: b".as_slice(), Refused(400)),
        case("two empty lines first", format!("\r\n\r\n{NEXT}"), Refused(400)),
        case("one empty line first", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", Passes("GET /")),
        get("bytes beyond ASCII in a value", b"X-A: \xff\xfe".as_slice(), Passes("GET /")),
        get("an empty value", "X-A:", Passes("GET /")),
    ]
}

fn request_lines() -> Vec<Case> {
    vec![
        line("no version (HTTP/0.9)", "GET /", Refused(400)),
        case("only a request line (HTTP/0.9)", "GET /\r\n\r\n", Refused(400)),
        line("two spaces before the target", "GET  / HTTP/1.1", Refused(400)),
        line("two spaces before the version", "GET /  HTTP/1.1", Refused(400)),
        line("a tab", "GET\t/ HTTP/1.1", Refused(400)),
        line("a space first", " GET / HTTP/1.1", Refused(400)),
        line("a space last", "GET / HTTP/1.1 ", Refused(400)),
        line("a space in the target", "GET /a b HTTP/1.1", Refused(400)),
        line("a request within the target", "GET /a HTTP/1.1 HTTP/1.1", Refused(400)),
        line("a control character in the target", "GET /\x01 HTTP/1.1", Refused(400)),
        line("a NUL in the target", "GET /\0 HTTP/1.1", Refused(400)),
        line("DEL in the target", "GET /\x7f HTTP/1.1", Refused(400)),
        line("bytes beyond ASCII in the target", b"GET /\xc3\xa4 HTTP/1.1".as_slice(), Refused(400)),
        line("a carriage return in the target", "GET /\rX HTTP/1.1", Refused(400)),
        line("a fragment", "GET /a#b HTTP/1.1", Refused(400)),
        line("an empty target", "GET  HTTP/1.1", Refused(400)),
        line("a target without a slash", "GET a HTTP/1.1", Refused(400)),
        line("an encoded NUL", "GET /%00 HTTP/1.1", Refused(400)),
        line("a broken escape", "GET /%zz HTTP/1.1", Refused(400)),
        line("the target * of GET", "GET * HTTP/1.1", Refused(400)),
        line("CONNECT", "CONNECT x:443 HTTP/1.1", Refused(405)),
        line("CONNECT with a path", "CONNECT / HTTP/1.1", Refused(405)),
        line("TRACE", "TRACE / HTTP/1.1", Refused(405)),
        line("a method that is no token", "G(ET / HTTP/1.1", Refused(400)),
        line("a method of 33 letters", format!("{} / HTTP/1.1", "M".repeat(33)), Refused(501)),
        line("a small http", "GET / http/1.1", Refused(400)),
        line("a version of letters", "GET / HTTP/1.x", Refused(400)),
        line("a version of two digits", "GET / HTTP/1.10", Refused(400)),
        line("another version", "GET / HTTP/1.2", Refused(505)),
        line("HTTP/2 in words", "GET / HTTP/2.0", Refused(505)),
        case("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(505)),
        case("a response", "HTTP/1.1 100 Continue\r\n\r\n", Refused(400)),
        case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Refused(400)),
        line("a method in small letters", "get / HTTP/1.1", Passes("get /")),
        line("two slashes first", "GET //x/a HTTP/1.1", Passes("GET /x/a")),
        line("a way out of the root", "GET /a/../../b HTTP/1.1", Passes("GET /b")),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |name, host: &str, expect| case(name, format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"), expect);
    vec![
        case("none", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n", Refused(400)),
        host("two", "Host: x\r\nHost: y", Refused(400)),
        host("the same twice", "Host: x\r\nHost: x", Refused(400)),
        host("an empty one", "Host:", Refused(400)),
        host("a list", "Host: x, y", Refused(400)),
        host("a space within", "Host: x y", Refused(400)),
        host("a path", "Host: x/y", Refused(400)),
        host("a user", "Host: u@x", Refused(400)),
        host("a port that is no number", "Host: x:8o", Refused(400)),
        host("two ports", "Host: x:80:80", Refused(400)),
        host("a port beyond 65535", "Host: x:65536", Refused(400)),
        host("half an IPv6 address", "Host: [::1", Refused(400)),
        host("beyond ASCII", "Host: ä", Refused(400)),
        host("folded", "Host:\r\n x", Refused(400)),
        case("two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", Refused(400)),
        line("another than in the target", "GET http://y/ HTTP/1.1", Refused(400)),
        line("another port than in the target", "GET http://x:81/ HTTP/1.1", Refused(400)),
        line("a user in the target", "GET http://u@x/ HTTP/1.1", Refused(400)),
        line("another scheme in the target", "GET ftp://x/ HTTP/1.1", Refused(400)),
        line("no authority in the target", "GET http:/// HTTP/1.1", Refused(400)),
        line("one slash in the target", "GET http:/x/ HTTP/1.1", Refused(400)),
        case("only in the target", "GET http://x/ HTTP/1.1\r\nX-A: b\r\n\r\n", Refused(400)),
        line("the same as in the target", "GET http://x/a HTTP/1.1", Passes("GET /a")),
        host("spelt with an underscore, too", "Host: x\r\nX-Host: y\r\nHOST_: y", Passes("GET /")),
        case("none in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", Alone("GET /")),
    ]
}

fn hops() -> Vec<Case> {
    let upgrade = |name, headers: &str, expect| {
        get(name, format!("Connection: Upgrade, HTTP2-Settings\r\n{headers}"), expect)
    };
    vec![
        get("named by Connection", "Connection: X-Secret\r\nX-Secret: smuggled", Passes("GET /")),
        get("named beside close", "Connection: close, X-Secret\r\nX-Secret: smuggled", Alone("GET /")),
        post(
            "the length named by Connection",
            "Connection: Content-Length\r\nContent-Length: 4",
            "abcd",
            Passes("POST / + 4 bytes"),
        ),
        get("Host named by Connection", "Connection: Host", Refused(400)),
        get("X-Forwarded-For named by Connection", "Connection: X-Forwarded-For", Refused(400)),
        get("no token named by Connection", "Connection: \"X-A\"", Refused(400)),
        get("Keep-Alive", "Keep-Alive: smuggled", Passes("GET /")),
        get("Proxy-Connection", "Proxy-Connection: smuggled", Passes("GET /")),
        get("Proxy-Authorization", "Proxy-Authorization: smuggled", Passes("GET /")),
        get("Proxy-Authenticate", "Proxy-Authenticate: smuggled", Passes("GET /")),
        get("HTTP2-Settings", "HTTP2-Settings: smuggled", Passes("GET /")),
        get("Trailer", "Trailer: smuggled", Passes("GET /")),
        get("TE other than trailers", "TE: smuggled", Passes("GET /")),
        get("Proxy (httpoxy)", "Proxy: http://smuggled", Passes("GET /")),
        get(
            "an address of one's own",
            "X-Forwarded-For: smuggled\r\nX_Forwarded_For: smuggled",
            Passes("GET /"),
        ),
        upgrade("an upgrade to h2c", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk", Passes("GET /")),
        upgrade("an upgrade to one of two", "Upgrade: websocket, h2c", Passes("GET /")),
        upgrade("two upgrades", "Upgrade: websocket\r\nUpgrade: h2c", Passes("GET /")),
        post(
            "an upgrade with a body",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4",
            "abcd",
            Passes("POST / + 4 bytes"),
        ),
        post(
            "an upgrade with a body in broken chunks",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked",
            "3\nabc\r\n0\r\n\r\n",
            Refused(400),
        ),
        post(
            "an unknown expectation",
            "Expect: smuggled\r\nContent-Length: 4",
            "abcd",
            Passes("POST / + 4 bytes"),
        ),
        post(
            "an expectation with its body",
            "Expect: 100-continue\r\nContent-Length: 4",
            "abcd",
            Passes("POST / + 4 bytes"),
        ),
        get("an expectation without a body", "Expect: 100-continue", Passes("GET /")),
    ]
}

fn sizes() -> Vec<Case> {
    let x = |count| "x".repeat(count);
    vec![
        line("a target above max_uri_bytes", format!("GET /{} HTTP/1.1", x(3000)), Refused(414)),
        case("a target without end", format!("GET /{}", x(9000)), Refused(414)),
        get("a header above max_header_bytes", format!("X-A: {}", x(9000)), Refused(431)),
        case("a header without end", format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}", x(9000)), Refused(431)),
        get("more headers than max_headers", "X-A: b\r\n".repeat(60) + "X-A: b", Refused(431)),
        post("a length above max_body_bytes", "Content-Length: 70000", "", Refused(413)),
        post("a length above all limits", "Content-Length: 999999999999999999", "", Refused(413)),
    ]
}

fn sections() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("Lengths (RFC 9112 §6.2, §6.3; RFC 9110 §8.6)", lengths()),
        ("Transfer codings (RFC 9112 §6.1)", codings()),
        ("Chunks (RFC 9112 §7.1)", chunks()),
        ("Lines and headers (RFC 9112 §2.2, §5; RFC 9110 §5)", lines()),
        ("Request lines (RFC 9112 §3)", request_lines()),
        ("Hosts (RFC 9112 §3.2; RFC 9110 §7.2)", hosts()),
        ("What is for one connection (RFC 9110 §7.6, §7.8, §10.1)", hops()),
        ("Sizes (RFC 6585 §5; RFC 9110 §15.5)", sizes()),
    ]
}

fn gate_before(origin: &Recorder) -> Gate {
    Gate::before_recorder(origin, "h1")
}

/// Sends the case and the next request, and says in words what is wrong with what becomes of them.
fn judge(case: &Case, gate: &Gate, origin: &Recorder) -> Result<String, String> {
    let mut client = gate.connect();
    client.send(&case.bytes).send(NEXT);
    let mut answers = Vec::new();
    while let Ok(response) = client.try_response_to("GET") {
        answers.push(response.status);
        let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let done = match case.expect {
            Passes(_) => answers.iter().filter(|status| **status >= 200).count() == 2,
            Alone(_) | Refused(_) | Cut(_) => closes,
        };
        if done {
            break;
        }
    }
    let last = match case.expect {
        Passes(_) => Vec::new(),
        Alone(_) | Refused(_) | Cut(_) => client.until_closed(),
    };
    let seen = origin.take();
    let text = String::from_utf8_lossy(&seen.bytes).to_ascii_lowercase();
    let (expected, requests) = match case.expect {
        Refused(status) | Cut(status) => (vec![status], vec![]),
        Alone(line) => (vec![200], vec![line.to_string()]),
        Passes(line) => (vec![200, 200], vec![line.to_string(), "GET /next".to_string()]),
    };
    answers.retain(|status| *status >= 200);
    if answers != expected || !last.is_empty() {
        return Err(format!("answered {answers:?} and {:?}; {seen:?}", String::from_utf8_lossy(&last)));
    }
    let unfinished = seen.unfinished > 0 && !matches!(case.expect, Cut(_));
    if seen.requests != requests || unfinished || !seen.complaints.is_empty() || text.contains("smuggled") {
        return Err(format!("the server saw {seen:?} in {text:?}"));
    }
    Ok(match case.expect {
        Refused(_) => "nothing".to_string(),
        Cut(_) => "at most its beginning".to_string(),
        Passes(line) | Alone(line) => format!("`{line}`"),
    })
}

#[test]
fn nothing_ambiguous_reaches_a_server() {
    let origin = Recorder::start("origin");
    let gate = gate_before(&origin);
    assert_judged(("hostile_clients.md", "HTTP/1", "requests"), 80, sections(), |case| {
        let judged = match case.expect {
            // the beginning may reach the server when the answer is here already: none of the others' business
            Cut(_) => {
                let origin = Recorder::start("origin");
                judge(case, &gate_before(&origin), &origin)
            }
            Refused(_) | Passes(_) | Alone(_) => judge(case, &gate, &origin),
        };
        let saw = judged.map_err(|why| format!("{}: {why}", case.name))?;
        let answer = match case.expect {
            Refused(status) | Cut(status) => status.to_string(),
            Passes(_) | Alone(_) => "200".to_string(),
        };
        Ok([case.name.to_string(), cell(&case.bytes, 110), answer, saw])
    });
}

/// What is wrong only within a body, when the server has seen its beginning: it never sees its end.
#[test]
fn a_body_that_breaks_later_is_never_complete() {
    let origin = Recorder::start("origin");
    let gate = gate_before(&origin);
    for (name, rest) in [
        ("a size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
        ("a line feed after the size", "3\nabc\r\n0\r\n\r\n"),
        ("a chunk that is longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "fffffffffffffffff\r\n"),
        ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ] {
        let mut client = gate.connect();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        harness::eventually("the server sees the beginning", || {
            origin.seen().bytes.windows(5).any(|five| five == b"hello")
        });
        client.send(rest).send(NEXT);
        assert_eq!(client.response().status, 400, "{name}");
        assert!(client.until_closed().is_empty(), "{name}");
        let seen = origin.take();
        assert!(
            seen.requests.is_empty() && seen.complaints.is_empty() && seen.unfinished == 1,
            "{name}: {seen:?}"
        );
    }
}

/// Headers that some servers take for another's, by choice of the listener.
#[test]
fn underscores_are_dropped_or_refused_by_choice() {
    let origin = Recorder::start("origin");
    let gate = Gate::start(
        "listeners:
  - { name: web, address: $web }
  - { name: drop, address: $drop, underscores_in_headers: drop }
  - { name: reject, address: $reject, underscores_in_headers: reject, protocols: [h1, h2] }
routes: [{ path: /, upstream: origin }]
upstreams: { origin: { servers: [$origin] } }
",
        &[&origin],
    );
    let ask = |listener, header: &str| {
        let request = harness::Request::get("/").header(header, "1");
        let status = harness::Client::connect(gate.at(listener)).ask(&request).status;
        let seen = String::from_utf8_lossy(&origin.take().bytes).to_ascii_lowercase();
        (status, seen.contains(&header.to_ascii_lowercase()))
    };
    assert_eq!(ask("web", "X_User"), (200, true));
    assert_eq!(ask("web", "X_Request_Id"), (200, false));
    assert_eq!(ask("drop", "X_User"), (200, false));
    assert_eq!(ask("drop", "X-User"), (200, true));
    assert_eq!(ask("reject", "X_User"), (400, false));
    assert_eq!(ask("reject", "X-User"), (200, true));
    let mut h2 = harness::H2Client::connect_plaintext(gate.at("reject"));
    assert_eq!(h2.ask(&harness::Request::get("/").header("x_user", "1")).status, 400);
    assert_eq!(h2.ask(&harness::Request::get("/")).status, 200);
}

/// A server that switches protocols although nobody has asked it to gets no tunnel.
#[test]
fn a_server_cannot_switch_to_what_was_not_asked_for() {
    let eager = harness::RawServer::start("origin", |mut stream| {
        use std::io::{Read as _, Write as _};
        harness::read_head(&mut stream);
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nsmuggled",
        );
        let _ = stream.read(&mut [0; 64]);
    });
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, limits: { idle_timeout: 2s } }]
routes: [{ path: /, upstream: origin }]
upstreams: { origin: { servers: [$origin], timeouts: { response: 1s }, retry: { attempts: 1 } } }
",
        &[&eager],
    );
    for headers in ["", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"]
    {
        let mut client = gate.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        let said = String::from_utf8_lossy(&client.until_closed()).into_owned();
        assert!(!said.contains("smuggled") && !said.starts_with("HTTP/1.1 101"), "{said:?}");
    }
}
