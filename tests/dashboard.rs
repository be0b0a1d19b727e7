//! The promise: the page of the admin address shows what the gate does, and what is clicked there is done. In headless
//! Chromium, driven over WebDriver.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use base64::Engine;
use harness::{
    Backend, Client, Gate, Program, Request, ServerAddress, eventually, free_address, need_program,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

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

/// A browser with one page, which is closed with the test.
struct Browser {
    driver: SocketAddr,
    session: String,
    _program: Program,
}

impl Browser {
    fn open(url: &str) -> Option<Browser> {
        if !need_program("chromedriver") || !need_program("chromium") {
            return None;
        }
        let driver = free_address(std::net::Ipv4Addr::LOCALHOST);
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", driver.port())).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Program::start(&mut command);
        eventually("chromedriver listens", || Client::try_connect(driver).is_ok());
        let mut browser = Browser { driver, session: String::new(), _program: program };
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1360,1000",
        ] });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        browser.session = browser.send("/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        browser.ask("url", &json!({ "url": url }));
        Some(browser)
    }

    fn send(&self, path: &str, body: &Value) -> Value {
        let (status, value) = self.try_send(path, body);
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    fn try_send(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path, body.to_string()).host(&self.driver.to_string());
        let answer = Client::connect(self.driver).ask(&request.header("Content-Type", "application/json"));
        (answer.status, answer.json()["value"].clone())
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        self.send(&format!("/session/{}/{path}", self.session), body)
    }

    fn run(&self, script: &str) -> Value {
        self.ask("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of all elements that this selects.
    fn text(&self, selector: &str) -> String {
        let script = format!(
            "return [...document.querySelectorAll({selector:?})].map((e) => e.textContent).join('\\n')"
        );
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    fn element(&self, selector: &str) -> Option<String> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let (_, found) = self.try_send(&format!("/session/{}/element", self.session), &wanted);
        // W3C WebDriver §12.3
        found.get("element-6066-11e4-a52e-4f735466cecf")?.as_str().map(str::to_owned)
    }

    /// What rows are made of comes and goes.
    fn at(&self, selector: &str, what: &str, body: &Value) {
        eventually(&format!("{what} at {selector}"), || {
            let Some(id) = self.element(selector) else { return false };
            self.try_send(&format!("/session/{}/element/{id}/{what}", self.session), body).0 == 200
        });
    }

    fn click(&self, selector: &str) {
        self.at(selector, "click", &json!({}));
    }

    /// As a person types it.
    fn enter(&self, selector: &str, text: &str) {
        self.at(selector, "value", &json!({ "text": text }));
    }

    /// What the console has said that is an error, since it was asked the last time.
    fn errors(&self) -> Vec<Value> {
        let all = self.ask("se/log", &json!({ "type": "browser" }));
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING").collect()
    }

    /// Kept where `WEIRGATE_SCREENSHOTS` says.
    fn picture(&self, name: &str) {
        if let Some(dir) = std::env::var_os("WEIRGATE_SCREENSHOTS") {
            let path = format!("/session/{}/screenshot", self.session);
            let answer =
                Client::connect(self.driver).ask(&Request::get(&path).host(&self.driver.to_string()));
            let picture = answer.json()["value"].as_str().unwrap().to_owned();
            let bytes = base64::engine::general_purpose::STANDARD.decode(picture).unwrap();
            std::fs::write(std::path::Path::new(&dir).join(name), bytes).unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let request = Request::new("DELETE", &format!("/session/{}", self.session));
            let asked = Client::try_connect(self.driver).and_then(|mut client| {
                client.try_send(request.host(&self.driver.to_string()).bytes()).map(|()| client)
            });
            // the browser ends before its driver does
            let _ = asked.and_then(|mut client| client.try_response_to("DELETE"));
        }
    }
}

fn servers() -> (Backend, Backend, Backend) {
    (Backend::start("a"), Backend::start("b"), Backend::start("c"))
}

#[test]
fn it_loads_without_an_error_and_shows_a_server_that_dies() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = Browser::open(&format!("http://{}/", gate.at("admin"))) else { return };
    eventually("ready", || page.text("#state") == "ready");
    eventually("the topology", || page.text("#upstreams").contains("3 of 3 usable"));
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
    let Some(page) = Browser::open(&format!("http://{}/", gate.at("admin"))) else { return };
    eventually("the topology", || page.text("#upstreams").contains("3 of 3 usable"));
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
    let Some(page) = Browser::open(&format!("http://{}/", gate.at("admin"))) else { return };
    eventually("the topology", || page.text("#upstreams").contains("3 of 3 usable"));
    b.answers(harness::Reply::status(503));
    for n in 0..40 {
        gate.get(&format!("/order/{n}?card=4711"));
    }
    eventually("they are shown", || page.text("#errors").contains("/order/"));
    assert!(!page.text("#errors").contains("4711"));
    c.stop();
    eventually("it is down", || page.text(".server .reason").contains("connection refused"));
    page.picture("failures.png");
}
