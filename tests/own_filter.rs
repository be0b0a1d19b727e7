//! The promise: the crate is a library, too. A program of a few lines is a gate with a filter of its own, which
//! sees every phase of a request and may answer, change it and keep state.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, Reply, Request};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "
server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes:
  - { path: /, upstream: api, filters: [{ quota: { header: x-user, requests: 3 } }] }
  - { path: /free, upstream: api }
upstreams: { api: { servers: [$api] } }
";

/// The example's program, which `cargo test` builds beside the binary; built here when only this test is run.
fn own_filter() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_weirgate")).parent().expect("a folder");
    let program = beside.join("examples/own_filter");
    if !program.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--locked", "--example", "own_filter"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cargo build --example own_filter");
    }
    program
}

fn start(api: &Backend) -> Gate {
    Gate::with(&[api]).program(own_filter()).start(CONFIG)
}

#[test]
fn it_counts_each_user_and_then_answers_itself() {
    let api = Backend::start("api");
    let gate = start(&api);
    let ask = |user: &str| gate.ask(&Request::get("/").header("X-User", user));
    for remaining in ["2", "1", "0"] {
        let response = ask("ann");
        assert_eq!(
            (response.status, response.header("x-quota-remaining").as_deref()),
            (200, Some(remaining))
        );
    }
    let over = ask("ann");
    assert_eq!((over.status, over.text().as_str()), (429, "quota used up\n"));
    assert_eq!(ask("bob").header("x-quota-remaining").as_deref(), Some("2"), "bob has a quota of his own");
    assert_eq!(api.requests().len(), 4, "what the filter answers reaches no server");
}

#[test]
fn it_changes_the_request_on_its_way_and_the_response_on_its_way_back() {
    let api = Backend::start("api");
    api.answers(Reply::ok("a long answer").chunked());
    let gate = start(&api);
    assert_eq!(gate.get("/").text(), "A LONG ANSWER");
    assert_eq!(api.last_request().header("x-quota-checked").as_deref(), Some("yes"));
    assert_eq!(gate.get("/free").text(), "a long answer", "a route without the filter");
    assert_eq!(api.last_request().header("x-quota-checked"), None);
}

#[test]
fn it_looks_at_the_body_of_the_request() {
    let api = Backend::start("api");
    let gate = start(&api);
    assert_eq!(gate.ask(&Request::post("/", "a text")).status, 200);
    assert_eq!(api.last_request().body, b"a text");
    assert_eq!(gate.ask(&Request::post("/", "MZ a program")).status, 415);
}

#[test]
fn it_sees_the_end_of_each_request() {
    let api = Backend::start("api");
    let gate = Gate::with(&[&api]).env("RUST_LOG", "info").program(own_filter()).start(CONFIG);
    assert_eq!(gate.get("/seen").status, 200);
    harness::eventually("the filter's line in the process log", || {
        gate.stderr()
            .lines()
            .any(|line| line.contains("quota:") && line.contains("200") && line.contains("/seen"))
    });
}

#[test]
fn its_key_is_checked_like_any_other() {
    let gate = Gate::with(&[])
        .program(own_filter())
        .launch(&CONFIG.replace("$api", "127.0.0.1:1").replace("requests: 3", "reqests: 3"));
    assert!(!gate.exit().success());
    let said = gate.stderr();
    assert!(said.contains("reqests") && said.contains("requests"), "{said}");
}
