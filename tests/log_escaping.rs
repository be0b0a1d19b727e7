//! The promise: nothing that a client sends stands in a log as it is. No control character, no broken UTF-8, no line
//! that looks like one of ours, in the access log of either format and in the process log.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::h2_frames::{H2Wire, HEADERS, WHOLE, block};
use harness::{Authority, Backend, Client, Gate, eventually, frame, h2_opening};
use std::path::Path;

/// What a terminal, a log reader or a parser would fall for.
const NASTY: [&[u8]; 10] = [
    b"\x1b[2J\x1b[31mred",
    b"\x1b]0;title\x07",
    b"a\"b\\c",
    b"\", \"status\": 200, \"x\": \"",
    b"\" 200 5 \"-\" \"forged\"",
    b"\xff\xfe\xc3",
    b"\xc2\x9b2J",
    b"\xe2\x80\xae\xe2\x80\xa8reversed",
    b"\x08\x08\x08\x7f\x00",
    b"\r\n2026-11-21T00:00:00.000Z ERROR weirgate forged\n127.0.0.1 - - [forged]",
];

/// Heads with something nasty in each place of which a log could tell.
fn heads(nasty: &[u8]) -> Vec<Vec<u8>> {
    let head = |before: &[u8], after: &[u8]| [before, nasty, after].concat();
    vec![
        head(b"GET /", b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        head(b"GET /?q=", b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        head(b"", b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
        head(b"GET / HTTP/1.1", b"\r\nHost: x\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: ", b"\r\n\r\n"),
        head(b"GET http://", b"/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nReferer: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nForwarded: for=", b";proto=https\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: weirgate=", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: ", b"\r\n\r\n"),
        head(b"GET / HTTP/1.1\r\nHost: x\r\n", b": y\r\n\r\n"),
        head(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"\r\nx\r\n0\r\n\r\n"),
    ]
}

/// The same over HTTP/2, where values may hold more.
fn blocks(nasty: &[u8]) -> Vec<Vec<u8>> {
    let get: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"x")];
    let mut blocks: Vec<_> = (0..4)
        .map(|place| {
            let mut fields = get;
            let value = [fields[place].1, nasty].concat();
            fields[place].1 = &value;
            block(&fields)
        })
        .collect();
    for name in [b"user-agent".as_slice(), b"referer", b"x-request-id", nasty] {
        blocks.push(block(&[&get[..], &[(name, nasty)]].concat()));
    }
    blocks
}

fn config(format: &str) -> String {
    format!(
        "trusted_proxies: [127.0.0.0/8]
log: {{ level: debug, access: {{ format: {format} }} }}
listeners:
  - {{ name: web, address: $web, protocols: [h1, h2], limits: {{ header_timeout: 2s }} }}
  - {{ name: secure, address: $secure, tls: {{ certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$api], sticky: {{ cookie: {{ name: weirgate, secret: 0123456789abcdef0123456789abcdef }} }} }} }}
"
    )
}

/// Sends all of it; how many heads that were.
fn attack(gate: &Gate) -> usize {
    let mut sent = 0;
    for nasty in NASTY {
        for head in heads(nasty) {
            let mut client = gate.connect();
            client.send(head).finish_sending();
            client.until_closed();
            sent += 1;
        }
        for block in blocks(nasty) {
            let mut client = H2Wire::connect(gate.at("web"));
            client.send([h2_opening(), frame(HEADERS, WHOLE, 1, &block)].concat());
            client.said_about(1);
        }
        hello(gate, nasty);
    }
    sent
}

/// A ClientHello that asks for a nasty name.
fn hello(gate: &Gate, nasty: &[u8]) {
    const NAME: &str = "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz.test";
    let mut hello = harness::ClientTls::trusting_anyone(NAME).hello();
    let at = hello.windows(NAME.len()).position(|window| window == NAME.as_bytes()).expect("the name");
    let many = nasty.iter().cycle().take(NAME.len());
    hello.iter_mut().skip(at).zip(many).for_each(|(byte, nasty)| *byte = *nasty);
    let mut client = Client::connect(gate.at("secure"));
    client.send(hello).finish_sending();
    client.until_closed();
}

fn raw(gate: &Gate, output: &str) -> Vec<u8> {
    std::fs::read(Path::new(gate.dir()).join(output)).unwrap()
}

#[track_caller]
fn assert_clean(bytes: &[u8], output: &str) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{output}: {e}"));
    for line in text.lines() {
        let bad = line.chars().find(|c| c.is_control() && *c != '\t');
        assert_eq!(bad, None, "{output}: {line:?}");
        assert!(
            !line.starts_with("2026-11-21T00:00:00.000Z") && !line.starts_with("127.0.0.1 - - [forged"),
            "{output}: {line}"
        );
    }
}

fn attacked(format: &str) -> (Gate, usize) {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = Gate::with(&[&api]);
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    let gate = builder.start(&config(format));
    let sent = attack(&gate);
    // the last word, so that the log is known to be whole
    assert_eq!(gate.get("/the-end").status, 200);
    eventually("the last line", || gate.stdout().contains("/the-end"));
    (gate, sent)
}

/// The lines of an attack on a log whose lines are objects.
fn objects(format: &str) -> Vec<serde_json::Value> {
    let (gate, sent) = attacked(format);
    let log = raw(&gate, "stdout");
    assert_clean(&log, "access log");
    assert_clean(&raw(&gate, "stderr"), "process log");
    let lines: Vec<_> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > sent / 2, "{} lines for {sent} heads", lines.len());
    let object = |line: &&[u8]| {
        serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {}", line.escape_ascii()))
    };
    lines.iter().map(object).collect()
}

#[test]
fn json_lines_stay_json_lines() {
    for line in objects("json") {
        assert!(line["listener"] == "web" && line["status"].is_u64() && line["x"].is_null(), "{line}");
    }
}

#[test]
fn combined_lines_stay_combined_lines() {
    let (gate, _) = attacked("combined");
    let log = raw(&gate, "stdout");
    assert_clean(&log, "access log");
    let line = regex::Regex::new(
        r#"^[0-9a-f.:]+ - - \[[^\]]+\] "(-|[^ "]+ [^ "]+ [^ "]+)" \d{3} \d+ "[^"]*" "[^"]*"$"#,
    )
    .unwrap();
    for text in std::str::from_utf8(&log).unwrap().lines() {
        assert!(text.is_ascii() && line.is_match(text), "{text}");
    }
    assert_clean(&raw(&gate, "stderr"), "process log");
}

#[test]
fn templates_stay_one_line_with_their_own_marks() {
    const NAMED: &str = "{client}|{request}|{uri}|{host}|{user_agent}|{referer}|{header.cookie}|{header.accept}|\
                         {header.x-request-id}|{request_id}|{sni}|{error}|end";
    let (gate, sent) = attacked(&format!("{{ template: '{}' }}", NAMED.replace('|', "\" \"")));
    let log = raw(&gate, "stdout");
    assert_clean(&log, "access log");
    let lines: Vec<&str> = std::str::from_utf8(&log).unwrap().lines().collect();
    assert!(lines.len() > sent / 2, "{} lines for {sent} heads", lines.len());
    for line in lines {
        assert!(line.is_ascii() && line.split("\" \"").count() == 13 && line.ends_with("\" \"end"), "{line}");
    }
    assert_clean(&raw(&gate, "stderr"), "process log");
}

#[test]
fn templates_of_json_stay_json() {
    let member = |name: &str| format!("\"{}\":\"{{{name}}}\"", name.replace('.', "_"));
    let all = ["request", "uri", "host", "user_agent", "referer", "header.accept", "sni", "error", "status"];
    let template = format!("{{{{{}}}}}", all.map(member).join(","));
    for line in objects(&format!("{{ template: '{template}', escape: json }}")) {
        assert!(line["status"].is_string() && line["x"].is_null(), "{line}");
    }
}
