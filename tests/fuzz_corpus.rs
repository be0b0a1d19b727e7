//! The promise: no text, no path and no set of routes brings the gate to a panic or to an answer other than
//! the documented one. The bodies of the fuzz targets run here over their corpora, and for a short while over
//! what becomes of these by chance; `fuzz/run.sh` goes on from there.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// What a failing test found is for whoever reads its output.
#![allow(clippy::print_stderr)]

#[path = "../fuzz/targets/client_hello.rs"]
mod client_hello;
#[path = "../fuzz/targets/config.rs"]
mod config;
#[path = "../fuzz/targets/cookie.rs"]
mod cookie;
#[path = "../fuzz/targets/flows.rs"]
mod flows;
#[path = "../fuzz/targets/forwarded.rs"]
mod forwarded;
#[path = "../fuzz/targets/head.rs"]
mod head;
#[path = "../fuzz/targets/path.rs"]
mod path;
#[path = "../fuzz/targets/proxy_header.rs"]
mod proxy_header;
#[path = "../fuzz/targets/router.rs"]
mod router;
#[path = "../fuzz/targets/tls.rs"]
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Nobody waits longer for chance.
const ENOUGH: Duration = Duration::from_secs(8);

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "expected"));
    files.sort();
    files.iter().map(|path| std::fs::read(path).expect("a file of the corpus")).collect()
}

/// Runs the target, and says what it was given when it fails.
fn try_one(target: fn(&[u8]), data: &[u8], origin: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(data))) {
        eprintln!("{origin}: failed with this input, put it into the corpus:\n{}", data.escape_ascii());
        resume_unwind(panic);
    }
}

/// Replays the corpus, then at most `times` changes of its members.
fn fuzz(target: fn(&[u8]), corpus: &[Vec<u8>], words: &[&str], times: usize) {
    assert!(!corpus.is_empty(), "an empty corpus tests nothing");
    corpus.iter().for_each(|data| try_one(target, data, "corpus"));
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    let started = Instant::now();
    for round in 0..times {
        if started.elapsed() > ENOUGH {
            break;
        }
        let mut data = dice.choice(corpus).expect("a member").clone();
        for _ in 0..dice.usize(1..8) {
            change(&mut data, corpus, words, &mut dice);
        }
        try_one(target, &data, &format!("seed {seed}, round {round}"));
    }
}

/// One change such as fuzzers make.
fn change(data: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], dice: &mut fastrand::Rng) {
    let at = dice.usize(..=data.len());
    let end = (at + dice.usize(..16)).min(data.len());
    match dice.u8(..6) {
        0 if at < data.len() => data[at] ^= 1 << dice.u8(..8),
        1 if at < data.len() => data[at] = dice.u8(..),
        2 => drop(data.drain(at..end)),
        3 => {
            let word = dice.choice(words).copied().unwrap_or_default();
            data.splice(at..end, word.bytes());
        }
        4 => {
            let other = dice.choice(corpus).expect("a member");
            let from = dice.usize(..=other.len());
            let to = (from + dice.usize(..64)).min(other.len());
            data.splice(at..at, other[from..to].iter().copied());
        }
        _ => data.insert(at, dice.u8(..)),
    }
}

#[test]
fn any_text_is_a_configuration_or_is_refused() {
    let mut all = corpus("fuzz/corpus/config");
    all.extend(corpus("tests/golden/config"));
    let words = [
        "routes:",
        "upstream: ",
        "{ ",
        " }",
        "[",
        "]",
        "&a ",
        "*a",
        "${SET}",
        "${",
        "\n  - ",
        ": ",
        "~",
        "1s",
    ];
    fuzz(config::run, &all, &words, 3_000);
}

#[test]
fn what_clients_send_before_they_are_known_is_read() {
    let words = ["example.com", "b.", "www.", "localhost", "\u{0}\u{0}", "\u{30}\u{7f}", "\u{c}\u{7f}"];
    fuzz(tls::run, &corpus("fuzz/corpus/tls"), &words, 20_000);
}

#[test]
fn the_router_agrees_with_a_naive_one() {
    fuzz(router::run, &corpus("fuzz/corpus/router"), &["\u{0}\u{0}\u{0}\u{0}", "\u{7}\u{7}\u{7}"], 5_000);
}

#[test]
fn paths_are_normalised_as_documented() {
    let words =
        ["/", "//", "/.", "/..", "%2e", "%2F", "%5c", "\\", ";", "%3B", "%", "%00", "é", "%c3", "%7E", "%25"];
    fuzz(path::run, &corpus("fuzz/corpus/path"), &words, 50_000);
}

#[test]
fn headers_of_the_proxy_protocol_are_taken_or_refused() {
    let words = [
        "PROXY ",
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "\r\n",
        " ",
        "192.0.2.7",
        "::1",
        "65536",
        "\u{0}\u{c}",
        "\u{20}",
    ];
    fuzz(proxy_header::run, &corpus("fuzz/corpus/proxy_header"), &words, 50_000);
}

#[test]
fn a_client_hello_is_understood_as_rustls_does_or_given_up() {
    let words =
        ["\0\0", "\0\x10", "\x16\x03\x01\0\x05", "\x16\x03\x03", "example.com", "\0\0\0\x10\0\x0e\0\0\x0b"];
    fuzz(client_hello::run, &corpus("fuzz/corpus/client_hello"), &words, 50_000);
}

#[test]
fn the_table_of_sessions_agrees_with_a_plain_list() {
    let words = ["\u{0}\u{1}", "\u{1}\u{0}", "\u{2}\u{0}", "\u{3}\u{7f}", "\u{70}\u{30}"];
    fuzz(flows::run, &corpus("fuzz/corpus/flows"), &words, 10_000);
}

#[test]
fn a_head_that_is_taken_for_sound_has_one_meaning() {
    let words = [
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ",",
        "\u{0}",
        "Host: y\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "chunked",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        "http://x",
        "#",
        "TRACE ",
        "\r\n\r\n",
    ];
    fuzz(head::run, &corpus("fuzz/corpus/head"), &words, 50_000);
}

#[test]
fn nobody_is_believed_who_is_not_trusted() {
    let words = [
        "\n\u{0}",
        "\n\u{1}",
        "\n\u{5}",
        "\n\u{6}",
        ", ",
        "for=",
        "\"",
        "10.0.0.9",
        "192.0.2.7",
        "[2001:db8::2]",
        ":_x",
        ";proto=https",
        ";",
        "unknown",
    ];
    fuzz(forwarded::run, &corpus("fuzz/corpus/forwarded"), &words, 50_000);
}

#[test]
fn a_cookie_that_is_taken_out_leaves_the_others() {
    let words = ["gate=", "gate", "; ", ";", "=", "\n", " ", "\t", "\"", "other=1"];
    fuzz(cookie::run, &corpus("fuzz/corpus/cookie"), &words, 50_000);
}
