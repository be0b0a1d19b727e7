//! The promise: the page of the admin address shows what the gate does, and what is clicked there is done. In headless
//! Chromium, driven over WebDriver.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "dashboard/browser.rs"]
mod browser;
#[path = "dashboard/everybody.rs"]
mod everybody;
mod harness;

use browser::Browser;
use harness::{Backend, Gate, ServerAddress, eventually};
use serde_json::Value;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn config(upstream: &str) -> String {
    format!(
        "admin: {{ address: $admin, token: {TOKEN} }}
listeners: [{{ name: web, address: $web }}]
routes:
  - {{ name: shop, path: /, upstream: {upstream} }}
  - {{ name: ping, exact: /ping, respond: {{ status: 200, body: pong }} }}
upstreams:
  goods:
    servers: [$a, $b, {{ address: $c, priority: 1 }}]
    health_check: {{ http: {{ path: /healthz }}, interval: 300ms, unhealthy_after: 1, healthy_after: 1 }}
"
    )
}

fn servers() -> (Backend, Backend, Backend) {
    (Backend::start("a"), Backend::start("b"), Backend::start("c"))
}

/// The page of this gate, which shows that all servers are up.
fn topology(gate: &Gate) -> Option<Browser> {
    let page = Browser::open(&format!("http://{}/", gate.at("admin")))?;
    eventually("the topology", || page.text("#upstreams").contains("3 of 3 usable"));
    Some(page)
}

#[test]
fn it_loads_without_an_error_and_shows_a_server_that_dies() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = topology(&gate) else { return };
    eventually("ready", || page.text("#state") == "ready");
    assert!(page.text("#listeners").contains("web") && page.text("#routes").contains("shop"));
    gate.get("/");
    assert_eq!(page.errors(), Vec::<Value>::new());
    a.stop();
    eventually("it is down", || page.text(".server .reason").contains("down: connection refused"));
    assert!(page.text("#upstreams").contains("2 of 3 usable"), "{}", page.text("#upstreams"));
    a.restart();
    eventually("it is up", || page.text("#upstreams").contains("3 of 3 usable"));
    assert_eq!(page.errors(), Vec::<Value>::new());
}

#[test]
fn a_click_drains_a_server_for_whoever_has_the_token() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = topology(&gate) else { return };
    page.click(&format!("[data-key='server goods {}']", a.address()));
    page.click("#drain");
    page.enter("#token", TOKEN);
    page.click("#use-token");
    eventually("it drains", || page.text("#server-said").contains("done: draining"));
    eventually("the page says so", || {
        page.text(".server .reason").contains("draining: somebody asked for it")
    });
    a.forget();
    for _ in 0..6 {
        assert_eq!(gate.get("/").status, 200);
    }
    assert!(a.requests().is_empty());
    page.run("document.querySelector('#weight').value = ''");
    page.enter("#weight", "5");
    page.click("#set-weight");
    eventually("it weighs", || page.text("#server-said").contains("weight 5"));
    page.picture("server.png");
    page.click("#drain");
    eventually("it is back", || page.text("#server-said").contains("done: up"));
    assert_eq!(page.errors(), Vec::<Value>::new());
}

/// Has this done with the `row` of a server and its `details`, all before the page is told of any of it; until it was told
/// so many `times` that they were closed.
fn told_afterwards(page: &Browser, row: &str, doing: &str, times: usize) {
    let script = format!(
        "const row = document.querySelector(arguments[0]), details = document.querySelector('#server');
        let left = {times};
        const told = (done) => details.addEventListener('close', () => {{ if (--left === 0) done(); }});
        {doing}
        return new Promise(told);"
    );
    page.run_with(&script, &[row]);
}

#[test]
fn details_that_are_closed_twice_at_once_or_opened_anew_are_no_error() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = topology(&gate) else { return };
    let row = format!("[data-key='server goods {}']", a.address());
    let is_back = || page.run_with("return document.activeElement.matches(arguments[0])", &[&row]) == true;
    told_afterwards(&page, &row, "row.click(); details.close(); row.click(); details.close();", 2);
    assert_eq!(page.errors(), Vec::<Value>::new());
    eventually("the focus is back", is_back);
    told_afterwards(&page, &row, "row.click(); details.close(); row.click();", 1);
    page.click("#drain");
    page.click("#no-token");
    eventually("it is still about that server", || page.text("#server-said").contains("no token was given"));
    page.click("#close");
    eventually("the focus is back again", is_back);
    assert_eq!(page.errors(), Vec::<Value>::new());
}

#[test]
fn a_refused_reload_is_shown_as_check_prints_it() {
    let (a, b, c) = servers();
    let mut gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = Browser::open(&format!("http://{}/", gate.at("admin"))) else { return };
    eventually("ready", || page.text("#state") == "ready");
    assert_eq!(page.run("return document.querySelector('#refused').hidden"), true);
    gate.rewrite(&config("godos"));
    gate.hang_up();
    let checked = gate.command(&["check"]).text();
    eventually("it is shown", || page.run("return document.querySelector('#refused').hidden") == false);
    assert_eq!(page.text("#refused-why"), checked);
    page.picture("refused.png");
    gate.rewrite(&config("goods"));
    page.click("#reload");
    page.enter("#token", TOKEN);
    page.click("#use-token");
    eventually("nothing has changed", || page.text("#said") == "nothing has changed");
}

#[test]
fn failures_come_in_as_they_happen() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = topology(&gate) else { return };
    b.answers(harness::Reply::status(503));
    for n in 0..40 {
        gate.get(&format!("/order/{n}?token=sesame"));
    }
    eventually("they are shown", || page.text("#errors").contains("/order/"));
    assert!(!page.text("#errors").contains("sesame"));
    c.stop();
    eventually("it is down", || page.text(".server .reason").contains("connection refused"));
    page.picture("failures.png");
}
