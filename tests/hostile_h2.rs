//! The promise: what breaks the rules of HTTP/2 ends its stream or its connection, and nothing of it reaches a server
//! that could be taken apart in two ways. `docs/hostile_clients.md` shows the table that is made here.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use Expect::{Connection, Passes, Stream};
use harness::h2_frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Wire, HEADERS, PADDED, PING, PRIORITISED,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Said, WHOLE, WINDOW_UPDATE, block, number, settings,
};
use harness::{Gate, Recorder, assert_judged, cell, frame, h2_opening};

/// What has to become of the frames.
#[derive(Clone, Copy)]
enum Expect {
    /// The first stream ends in one of these ways, and the next request on the connection is answered.
    Stream(&'static [Said]),
    /// The connection ends with one of these codes.
    Connection(&'static [u32]),
    /// The server sees this request, and the next one is answered.
    Passes(&'static str),
}

// RFC 9113 §7
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A malformed request: its stream is reset, or answered with 400 first (RFC 9113 §8.1.1). What the library finds in a
/// header block ends the connection, as §5.4.1 allows.
const MALFORMED: Expect =
    Stream(&[Said::Reset(PROTOCOL_ERROR), Said::Status(400), Said::GoAway(PROTOCOL_ERROR)]);

/// What is sent after the opening. Where it says `smuggled`, no server may see it.
struct Case {
    name: &'static str,
    frames: Vec<u8>,
    /// The stream that it is about.
    stream: u32,
    /// As the table shows it.
    words: String,
    expect: Expect,
}

type Field<'a> = (&'a str, &'a str);

/// RFC 8441 §5.1
const WEBSOCKET: [Field<'static>; 5] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "x"),
];

const GET: [Field<'static>; 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")];

fn fields(fields: &[Field<'_>]) -> Vec<u8> {
    let bytes: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    block(&bytes)
}

fn words(fields: &[Field<'_>]) -> String {
    let texts: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    cell(texts.join(" · ").as_bytes(), 110).replace("\\xc2\\xb7", "·")
}

/// A whole request with exactly these fields.
fn exactly(name: &'static str, all: &[Field<'_>], expect: Expect) -> Case {
    Case { name, frames: frame(HEADERS, WHOLE, 1, &fields(all)), stream: 1, words: words(all), expect }
}

/// `GET` with one field more.
fn with(name: &'static str, field: Field<'_>, expect: Expect) -> Case {
    let all = [&GET[..], &[field]].concat();
    Case { words: words(&[field]), ..exactly(name, &all, expect) }
}

/// `GET` with another value of a pseudo-header.
fn instead(name: &'static str, field: Field<'_>, expect: Expect) -> Case {
    let all = GET.map(|own| if own.0 == field.0 { field } else { own });
    Case { words: words(&[field]), ..exactly(name, &all, expect) }
}

/// `GET` without a pseudo-header.
fn without(name: &'static str, gone: &str, expect: Expect) -> Case {
    let left: Vec<_> = GET.into_iter().filter(|(name, _)| *name != gone).collect();
    exactly(name, &left, expect)
}

/// These frames about stream 1.
fn frames(name: &'static str, words: &str, frames: Vec<Vec<u8>>, expect: Expect) -> Case {
    Case { name, frames: frames.concat(), stream: 1, words: words.to_string(), expect }
}

/// The head of `POST` on stream 1, with more fields.
fn post(more: &[Field<'_>]) -> Vec<u8> {
    let all = [&[(":method", "POST")], &GET[1..], more].concat();
    frame(HEADERS, END_HEADERS, 1, &fields(&all))
}

fn get_frame(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &fields(&GET))
}

fn pseudo() -> Vec<Case> {
    let bad = MALFORMED;
    let twice = |name, field: Field<'_>| {
        let mut all = GET.to_vec();
        all.insert(4, field);
        Case {
            words: words(&[GET[GET.iter().position(|own| own.0 == field.0).unwrap()], field]),
            ..exactly(name, &all, bad)
        }
    };
    vec![
        without("no :method", ":method", bad),
        without("no :scheme", ":scheme", bad),
        without("no :path", ":path", bad),
        without("no :authority and no host", ":authority", bad),
        instead("an empty :path", (":path", ""), bad),
        instead("an empty :method", (":method", ""), bad),
        instead("an empty :scheme", (":scheme", ""), bad),
        instead("an empty :authority", (":authority", ""), bad),
        twice("two :method", (":method", "POST")),
        twice("two :path", (":path", "/smuggled")),
        twice("two :scheme", (":scheme", "https")),
        twice("two :authority", (":authority", "smuggled")),
        with("an unknown pseudo-header", (":smuggled", "1"), bad),
        with("a pseudo-header of responses", (":status", "200"), bad),
        exactly("a pseudo-header after a header", &[GET[0], GET[1], ("x-a", "b"), GET[2], GET[3]], bad),
        instead("a name in capitals", (":path", "/"), Passes("GET /")).renamed(
            "a pseudo-header in capitals",
            &[GET[0], GET[1], (":PATH", "/"), GET[3]],
            bad,
        ),
        instead("a request within :method", (":method", "GET /smuggled HTTP/1.1\r\n\r\nGET"), bad),
        instead("a space in :method", (":method", "GET x"), bad),
        instead("a line in :path", (":path", "/ HTTP/1.1\r\nX-Smuggled: 1\r\n\r\n"), bad),
        instead("a space in :path", (":path", "/a b"), bad),
        instead("a NUL in :path", (":path", "/\0"), bad),
        instead("a control character in :path", (":path", "/\x01"), bad),
        instead("a fragment in :path", (":path", "/a#smuggled"), Passes("GET /a")),
        instead(":path without a slash", (":path", "smuggled"), bad),
        instead(":path with an authority", (":path", "http://smuggled/"), bad),
        instead(":path * of GET", (":path", "*"), bad),
        instead("a broken escape in :path", (":path", "/%zz"), bad),
        instead("a line in :authority", (":authority", "x\r\nX-Smuggled: 1"), bad),
        instead("a user in :authority", (":authority", "smuggled@x"), bad),
        instead("a path in :authority", (":authority", "x/smuggled"), bad),
        instead("a space in :authority", (":authority", "x smuggled"), bad),
        instead("a list in :authority", (":authority", "x, smuggled"), bad),
        instead("a port that is no number in :authority", (":authority", "x:8o"), bad),
        instead("a scheme with a space", (":scheme", "ht tp"), bad),
        instead("a scheme with a line", (":scheme", "http\r\nx-smuggled: 1"), bad),
        with("host that differs from :authority", ("host", "smuggled"), bad),
        exactly("two hosts", &[GET[0], GET[1], GET[2], ("host", "x"), ("host", "smuggled")], bad),
        with("host that is the same", ("host", "x"), Passes("GET /")),
        exactly("only host", &[GET[0], GET[1], GET[2], ("host", "x")], Passes("GET /")),
        instead("two slashes first", (":path", "//x/a"), Passes("GET /x/a")),
        exactly(
            "CONNECT",
            &[(":method", "CONNECT"), (":authority", "x:443")],
            Stream(&[Said::Status(405), Said::Reset(PROTOCOL_ERROR), Said::Status(400)]),
        ),
        instead(
            "CONNECT with a path",
            (":method", "CONNECT"),
            Stream(&[Said::Reset(PROTOCOL_ERROR), Said::Status(405), Said::Status(400)]),
        ),
        instead("TRACE", (":method", "TRACE"), Stream(&[Said::Status(405)])),
    ]
}

impl Case {
    /// Its first frame begins a body.
    fn has_body(&self) -> bool {
        self.frames[3] == HEADERS && self.frames[4] & END_STREAM == 0
    }

    fn renamed(self, name: &'static str, all: &[Field<'_>], expect: Expect) -> Case {
        exactly(name, all, expect)
    }
}

fn headers() -> Vec<Case> {
    let bad = MALFORMED;
    vec![
        with("a line in a value", ("x-a", "b\r\nX-Smuggled: 1"), bad),
        with("a line feed in a value", ("x-a", "b\nX-Smuggled: 1"), bad),
        with("a carriage return in a value", ("x-a", "b\rX-Smuggled: 1"), bad),
        with("a NUL in a value", ("x-a", "b\0smuggled"), bad),
        with("a space before a value", ("x-a", " smuggled"), bad),
        with("a tab after a value", ("x-a", "smuggled\t"), bad),
        with("a line in a name", ("x-a: b\r\nx-smuggled", "1"), bad),
        with("a colon in a name", ("x-a:smuggled", "1"), bad),
        with("a space in a name", ("x smuggled", "1"), bad),
        with("a name in capitals", ("X-Smuggled", "1"), bad),
        with("an empty name", ("", "smuggled"), bad),
        with("a control character in a name", ("x-\x01smuggled", "1"), bad),
        with("connection", ("connection", "smuggled"), bad),
        with("keep-alive", ("keep-alive", "smuggled"), bad),
        with("proxy-connection", ("proxy-connection", "smuggled"), bad),
        with("transfer-encoding", ("transfer-encoding", "chunked"), bad),
        with("upgrade", ("upgrade", "smuggled"), bad),
        with("te other than trailers", ("te", "smuggled"), bad),
        with("te: trailers", ("te", "trailers"), Passes("GET /")),
        with("proxy (httpoxy)", ("proxy", "http://smuggled"), Passes("GET /")),
        with("an address of one's own", ("x-forwarded-for", "smuggled"), Passes("GET /")),
        with("a header with an underscore like a framing one", ("content_length", "33"), Passes("GET /")),
        with("a length of a request without a body", ("content-length", "5"), bad),
        with("a length that is no number", ("content-length", "5x"), bad),
        with("a signed length", ("content-length", "+0"), bad),
        exactly(
            "two lengths",
            &[GET[0], GET[1], GET[2], GET[3], ("content-length", "0"), ("content-length", "5")],
            bad,
        ),
    ]
}

/// A CONNECT for a WebSocket with one field more, or another value of one that it has.
fn websocket(name: &'static str, field: Field<'_>, expect: Expect) -> Case {
    let mut all = WEBSOCKET.map(|own| if own.0 == field.0 { field } else { own }).to_vec();
    if !all.contains(&field) {
        all.push(field);
    }
    Case { words: words(&[field]), ..exactly(name, &all, expect) }
}

fn websockets() -> Vec<Case> {
    let bad = MALFORMED;
    let other = Stream(&[Said::Status(501), Said::Reset(PROTOCOL_ERROR)]);
    let without = |name, gone: &str| {
        let left: Vec<_> = WEBSOCKET.into_iter().filter(|(name, _)| *name != gone).collect();
        exactly(name, &left, bad)
    };
    vec![
        websocket("another protocol", (":protocol", "connect-udp"), other),
        websocket("HTTP/2 without TLS", (":protocol", "h2c"), other),
        websocket("an empty :protocol", (":protocol", ""), other),
        websocket("two protocols", (":protocol", "websocket, h2c"), other),
        websocket("a line in :protocol", (":protocol", "websocket\r\nX-Smuggled: 1"), other),
        with(":protocol of GET", (":protocol", "websocket"), bad),
        exactly("two :protocol", &[&WEBSOCKET[..2], &WEBSOCKET[1..]].concat(), bad),
        without("no :scheme", ":scheme"),
        without("no :path", ":path"),
        without("no :authority", ":authority"),
        websocket("an empty :path", (":path", ""), bad),
        websocket(":path with an authority", (":path", "http://smuggled/"), bad),
        websocket(":path *", (":path", "*"), bad),
        websocket("a line in :path", (":path", "/ HTTP/1.1\r\nX-Smuggled: 1"), bad),
        websocket("a space in :path", (":path", "/ smuggled"), bad),
        websocket("a line in :authority", (":authority", "x\r\nX-Smuggled: 1"), bad),
        websocket("a user in :authority", (":authority", "smuggled@x"), bad),
        websocket("host that differs", ("host", "smuggled"), bad),
        websocket("connection", ("connection", "x-smuggled"), bad),
        websocket("upgrade", ("upgrade", "smuggled"), bad),
        websocket("transfer-encoding", ("transfer-encoding", "chunked"), bad),
        websocket("a length", ("content-length", "9"), bad),
        websocket("a length of nothing", ("content-length", "0"), bad),
        websocket("a line in a value", ("sec-websocket-protocol", "a\r\nX-Smuggled: 1"), bad),
        websocket("a space before a value", ("sec-websocket-protocol", " smuggled"), bad),
        websocket("a name in capitals", ("Sec-WebSocket-Smuggled", "1"), bad),
    ]
}

fn bodies() -> Vec<Case> {
    let trailers = |all: &[Field<'_>], flags| frame(HEADERS, flags, 1, &fields(all));
    let whole = "POST / + 5 bytes";
    vec![
        frames(
            "less than the length",
            "content-length: 5, then 3 bytes",
            vec![post(&[("content-length", "5")]), frame(DATA, END_STREAM, 1, b"abc")],
            MALFORMED,
        ),
        frames(
            "more than the length",
            "content-length: 5, then 9 bytes",
            vec![post(&[("content-length", "5")]), frame(DATA, END_STREAM, 1, b"abcdefghi")],
            MALFORMED,
        ),
        frames(
            "the length in two frames",
            "content-length: 5, then 3 and 2 bytes",
            vec![
                post(&[("content-length", "5")]),
                frame(DATA, 0, 1, b"abc"),
                frame(DATA, END_STREAM, 1, b"de"),
            ],
            Passes(whole),
        ),
        frames(
            "a chunk in words",
            "0 CRLF CRLF, then a request",
            vec![post(&[]), frame(DATA, END_STREAM, 1, b"0\r\n\r\nGET /in HTTP/1.1\r\nHost: x\r\n\r\n")],
            Passes("POST / + 34 bytes"),
        ),
        frames(
            "padding",
            "5 bytes and 3 of padding",
            vec![post(&[]), frame(DATA, PADDED | END_STREAM, 1, b"\x03abcde\0\0\0")],
            Passes(whole),
        ),
        frames(
            "trailers",
            "5 bytes, then x-a: b",
            vec![post(&[]), frame(DATA, 0, 1, b"abcde"), trailers(&[("x-a", "b")], WHOLE)],
            Passes(whole),
        ),
        frames(
            "trailers with a pseudo-header",
            "5 bytes, then :path: /smuggled",
            vec![post(&[]), frame(DATA, 0, 1, b"abcde"), trailers(&[(":path", "/smuggled")], WHOLE)],
            Passes(whole),
        ),
        frames(
            "trailers that do not end the stream",
            "5 bytes, then x-a: b without END_STREAM",
            vec![post(&[]), frame(DATA, 0, 1, b"abcde"), trailers(&[("x-a", "b")], END_HEADERS)],
            MALFORMED,
        ),
        frames(
            "trailers in capitals",
            "5 bytes, then X-Smuggled: 1",
            vec![post(&[]), frame(DATA, 0, 1, b"abcde"), trailers(&[("X-Smuggled", "1")], WHOLE)],
            MALFORMED,
        ),
        frames(
            "a second end",
            "DATA after END_STREAM",
            vec![post(&[]), frame(DATA, END_STREAM, 1, b"abcde"), frame(DATA, END_STREAM, 1, b"smuggled")],
            Stream(&[Said::Reset(STREAM_CLOSED), Said::GoAway(STREAM_CLOSED), Said::GoAway(PROTOCOL_ERROR)]),
        ),
    ]
}

fn streams() -> Vec<Case> {
    let bad = Connection(&[PROTOCOL_ERROR]);
    vec![
        frames("a request on stream 0", "HEADERS(0)", vec![get_frame(0)], bad),
        frames("a request on an even stream", "HEADERS(2)", vec![get_frame(2)], bad),
        frames(
            "a stream that goes back",
            "HEADERS(5), HEADERS(3)",
            vec![get_frame(5), get_frame(3)],
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        frames("data on stream 0", "DATA(0)", vec![frame(DATA, END_STREAM, 0, b"x")], bad),
        frames("data on an idle stream", "DATA(1)", vec![frame(DATA, END_STREAM, 1, b"x")], bad),
        frames("a reset of an idle stream", "RST_STREAM(1)", vec![number(RST_STREAM, 1, 8)], bad),
        frames("a reset of stream 0", "RST_STREAM(0)", vec![number(RST_STREAM, 0, 8)], bad),
        frames("a window of an idle stream", "WINDOW_UPDATE(1)", vec![number(WINDOW_UPDATE, 1, 5)], bad),
        frames("a promise", "PUSH_PROMISE(1)", vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])], bad),
        frames(
            "data within a head",
            "HEADERS(1) without END_HEADERS, DATA(1)",
            vec![frame(HEADERS, 0, 1, &fields(&GET)), frame(DATA, END_STREAM, 1, b"x")],
            bad,
        ),
        frames(
            "another stream within a head",
            "HEADERS(1) without END_HEADERS, HEADERS(3)",
            vec![frame(HEADERS, 0, 1, &fields(&GET)), get_frame(3)],
            bad,
        ),
        frames(
            "a ping within a head",
            "HEADERS(1) without END_HEADERS, PING",
            vec![frame(HEADERS, 0, 1, &fields(&GET)), frame(PING, 0, 0, &[0; 8])],
            bad,
        ),
        frames(
            "a continuation of nothing",
            "CONTINUATION(1)",
            vec![frame(CONTINUATION, END_HEADERS, 1, &fields(&GET))],
            bad,
        ),
        frames(
            "a continuation on another stream",
            "HEADERS(1), CONTINUATION(3)",
            vec![frame(HEADERS, 0, 1, &fields(&GET)), frame(CONTINUATION, END_HEADERS, 3, &[])],
            bad,
        ),
        frames(
            "a head in two frames",
            "HEADERS(1), CONTINUATION(1)",
            vec![
                frame(HEADERS, END_STREAM, 1, &fields(&GET)[..9]),
                frame(CONTINUATION, END_HEADERS, 1, &fields(&GET)[9..]),
            ],
            Passes("GET /"),
        ),
        frames(
            "a frame of an unknown kind",
            "kind 200, then a request",
            vec![frame(200, 0xff, 1, b"smuggled"), get_frame(1)],
            Passes("GET /"),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let size = Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);
    let bad = Connection(&[PROTOCOL_ERROR]);
    let get_padded =
        |padding: u8| frame(HEADERS, WHOLE | PADDED, 1, &[&[padding], &fields(&GET)[..]].concat());
    vec![
        frames(
            "a frame above the largest",
            "DATA(1) of 16385 bytes",
            vec![post(&[]), frame(DATA, 0, 1, &[0; 16_385])],
            size,
        ),
        frames(
            "a head above the largest frame",
            "HEADERS(1) of 16385 bytes",
            vec![frame(HEADERS, WHOLE, 1, &[0; 16_385])],
            size,
        ),
        frames(
            "padding longer than its frame",
            "HEADERS(1) with 255 bytes of padding",
            vec![get_padded(255)],
            bad,
        ),
        frames(
            "padding longer than its data",
            "DATA(1) with 255 bytes of padding",
            vec![post(&[]), frame(DATA, PADDED, 1, b"\xffabc")],
            bad,
        ),
        frames("a ping of 7 bytes", "PING", vec![frame(PING, 0, 0, &[0; 7])], size),
        frames("a ping on a stream", "PING(1)", vec![frame(PING, 0, 1, &[0; 8])], bad),
        frames("settings of 5 bytes", "SETTINGS", vec![frame(SETTINGS, 0, 0, &[0; 5])], size),
        frames("settings on a stream", "SETTINGS(1)", vec![frame(SETTINGS, 0, 1, &[])], bad),
        frames(
            "an answer to settings with settings",
            "SETTINGS ACK of 6 bytes",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            size,
        ),
        frames(
            "a window beyond 31 bits in settings",
            "INITIAL_WINDOW_SIZE 2^31",
            vec![settings(&[(4, 1 << 31)])],
            Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "a frame size below 16384 in settings",
            "MAX_FRAME_SIZE 16383",
            vec![settings(&[(5, 16_383)])],
            bad,
        ),
        frames("push that is neither on nor off", "ENABLE_PUSH 2", vec![settings(&[(2, 2)])], bad),
        frames("a window of 0", "WINDOW_UPDATE(0) of 0", vec![number(WINDOW_UPDATE, 0, 0)], bad),
        frames(
            "a window of 0 of a stream",
            "WINDOW_UPDATE(1) of 0",
            vec![post(&[]), number(WINDOW_UPDATE, 1, 0)],
            Stream(&[Said::Reset(PROTOCOL_ERROR), Said::GoAway(PROTOCOL_ERROR)]),
        ),
        frames(
            "a window beyond 31 bits",
            "WINDOW_UPDATE(0) of 2^31-1",
            vec![number(WINDOW_UPDATE, 0, 0x7fff_ffff)],
            Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ),
        frames("a window of 3 bytes", "WINDOW_UPDATE(0)", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], size),
        frames(
            "a reset of 3 bytes",
            "RST_STREAM(1)",
            vec![get_frame(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            size,
        ),
        frames(
            "a priority of 4 bytes",
            "PRIORITY(1)",
            vec![frame(PRIORITY, 0, 1, &[0; 4])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        frames("goodbye on a stream", "GOAWAY(1)", vec![frame(GOAWAY, 0, 1, &[0; 8])], bad),
        frames(
            "goodbye of 7 bytes",
            "GOAWAY",
            vec![frame(GOAWAY, 0, 0, &[0; 7])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "a stream that depends on itself",
            "HEADERS(1) with priority on 1",
            vec![frame(HEADERS, WHOLE | PRIORITISED, 1, &[&[0, 0, 0, 1, 16], &fields(&GET)[..]].concat())],
            Stream(&[Said::Reset(PROTOCOL_ERROR), Said::GoAway(PROTOCOL_ERROR)]),
        ),
        frames(
            "an index beyond HPACK's table",
            "HEADERS(1)",
            vec![frame(HEADERS, WHOLE, 1, &[0xff, 0xff, 0x0f])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "index 0 of HPACK's table",
            "HEADERS(1)",
            vec![frame(HEADERS, WHOLE, 1, &[0x80])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "Huffman's end of string",
            "HEADERS(1)",
            vec![frame(HEADERS, WHOLE, 1, &[0, 0x84, 0xff, 0xff, 0xff, 0xff, 0])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "a table above its size",
            "HEADERS(1)",
            vec![frame(HEADERS, WHOLE, 1, &[0x3f, 0xe1, 0xff, 0x03])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        frames(
            "a header block that ends within a header",
            "HEADERS(1)",
            vec![frame(HEADERS, WHOLE, 1, &fields(&GET)[..12])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        instead(
            "a target above max_uri_bytes",
            (":path", &format!("/{}", "x".repeat(3000))),
            Stream(&[Said::Status(414)]),
        ),
        exactly(
            "more headers than max_headers",
            &[&GET[..], &[("x-a", "b"); 60]].concat(),
            Stream(&[Said::Status(431)]),
        ),
        with("a header above max_header_bytes", ("x-a", &"x".repeat(9000)), Stream(&[Said::Status(431)])),
        frames(
            "a length above max_body_bytes",
            "content-length: 70000",
            vec![post(&[("content-length", "70000")])],
            Stream(&[Said::Status(413)]),
        ),
    ]
}

fn floods() -> Vec<Case> {
    let calm = Connection(&[ENHANCE_YOUR_CALM]);
    let many = |name, words, frame: Vec<u8>| frames(name, words, vec![frame.repeat(3000)], calm);
    let requests = |after: &dyn Fn(u32) -> Vec<u8>| -> Vec<Vec<u8>> {
        (0..1100).map(|i| [get_frame(2 * i + 1), after(2 * i + 1)].concat()).collect()
    };
    vec![
        many("pings (CVE-2019-9512)", "PING", frame(PING, 0, 0, &[0; 8])),
        many("settings (CVE-2019-9515)", "SETTINGS", frame(SETTINGS, 0, 0, &[])),
        many("priorities (CVE-2019-9513)", "PRIORITY(1)", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        many("windows", "WINDOW_UPDATE(0) of 1", number(WINDOW_UPDATE, 0, 1)),
        many("unknown frames", "kind 200", frame(200, 0, 0, &[])),
        frames(
            "empty data (CVE-2019-9518)",
            "POST, then 3000 empty DATA(1)",
            vec![post(&[]), frame(DATA, 0, 1, &[]).repeat(3000)],
            calm,
        ),
        frames(
            "continuations (CVE-2024-27316)",
            "HEADERS(1), then 3000 CONTINUATION(1)",
            vec![
                frame(HEADERS, 0, 1, &fields(&GET)),
                frame(CONTINUATION, 0, 1, &fields(&[("x-a", "b")])).repeat(3000),
            ],
            Connection(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR]),
        ),
        frames(
            "empty continuations",
            "HEADERS(1), then 3000 empty CONTINUATION(1)",
            vec![frame(HEADERS, 0, 1, &fields(&GET)), frame(CONTINUATION, 0, 1, &[]).repeat(3000)],
            Connection(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]),
        ),
        frames(
            "rapid reset (CVE-2023-44487)",
            "1100 times HEADERS, RST_STREAM",
            requests(&|stream| number(RST_STREAM, stream, 8)),
            calm,
        ),
        frames(
            "requests that make the gate reset them (CVE-2025-8671)",
            "1100 times HEADERS, WINDOW_UPDATE of 0",
            requests(&|stream| number(WINDOW_UPDATE, stream, 0)),
            Connection(&[ENHANCE_YOUR_CALM, PROTOCOL_ERROR]),
        ),
        frames(
            "malformed requests",
            "1100 times HEADERS with a space in :path",
            (0..1100)
                .map(|i| {
                    frame(
                        HEADERS,
                        WHOLE,
                        2 * i + 1,
                        &fields(&GET.map(|f| if f.0 == ":path" { (":path", "/a b") } else { f })),
                    )
                })
                .collect(),
            calm,
        ),
    ]
}

fn sections() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("Pseudo-headers (RFC 9113 §8.3)", pseudo()),
        ("Headers (RFC 9113 §8.2)", headers()),
        ("WebSockets (RFC 8441 §4)", websockets()),
        ("Bodies and trailers (RFC 9113 §8.1)", bodies()),
        ("Streams (RFC 9113 §5.1, §6)", streams()),
        ("Sizes and numbers (RFC 9113 §4, §6; RFC 7541)", sizes()),
        ("Floods (RFC 9113 §10.5)", floods()),
    ]
}

fn answer(said: Said) -> String {
    let name = |code: u32| CODES.get(code as usize).copied().unwrap_or("another code");
    match said {
        Said::Status(status) => status.to_string(),
        Said::Reset(code) => format!("stream: {}", name(code)),
        Said::GoAway(code) => format!("connection: {}", name(code)),
        Said::Closed => "connection closed".to_string(),
        Said::Silence => "nothing".to_string(),
    }
}

/// Sends the case, and says what the gate and the server made of it, or what is wrong with that.
fn judge(case: &Case, gate: &Gate, origin: &Recorder) -> Result<(Said, String), String> {
    let mut client = H2Wire::connect(gate.at("web"));
    client.send([h2_opening(), case.frames.clone()].concat());
    let said = match case.expect {
        // answers to what came before the end do not matter
        Connection(_) => loop {
            let said = client.said_about(0);
            if !matches!(said, Said::Status(_)) {
                break said;
            }
        },
        Stream(_) | Passes(_) => client.said_about(case.stream),
    };
    let good = match case.expect {
        Connection(codes) => matches!(said, Said::GoAway(code) if codes.contains(&code)),
        Stream(ways) => ways.contains(&said),
        Passes(_) => said == Said::Status(200),
    };
    if !good {
        return Err(format!("{said:?}; the server saw {:?}", origin.take()));
    }
    let ended = matches!(said, Said::GoAway(_));
    if ended && !client.until_closed() {
        return Err(format!("{said:?}, but the connection stays open"));
    }
    if !ended && client.send(get_frame(2001)).said_about(2001) != Said::Status(200) {
        return Err(format!("{said:?}, and then the connection is of no use"));
    }
    let seen = origin.take();
    let text = String::from_utf8_lossy(&seen.bytes).to_ascii_lowercase();
    if !seen.complaints.is_empty() || text.contains("smuggled") {
        return Err(format!("the server saw {seen:?} in {text:?}"));
    }
    let (expected, saw) = match case.expect {
        Passes(line) => (vec![line, "GET /"], format!("`{line}`")),
        // sound requests came before
        Connection(_) => (vec!["GET /"; seen.requests.len()], "nothing of it".to_string()),
        Stream(_) if ended => (vec![], "nothing".to_string()),
        Stream(_) if case.has_body() => (vec!["GET /"], "at most its beginning".to_string()),
        Stream(_) => (vec!["GET /"], "nothing".to_string()),
    };
    if seen.requests != expected {
        return Err(format!("the server saw {seen:?}"));
    }
    Ok((said, saw))
}

#[test]
fn what_breaks_the_rules_ends_its_stream_or_its_connection() {
    let origin = Recorder::start("origin");
    let gate = Gate::before_recorder(&origin, "h2");
    assert_judged(("hostile_clients.md", "HTTP/2", "connections"), 40, sections(), |case| {
        let judged = judge(case, &gate, &origin).map_err(|why| format!("{}: {why}", case.name));
        judged.map(|(said, saw)| [case.name.to_string(), case.words.clone(), answer(said), saw])
    });
}
