//! Chromium with one page, without a screen, driven over WebDriver.

use crate::harness::{Client, Program, Request, eventually, free_address, need_program};
use base64::Engine;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Keys as WebDriver names them (W3C WebDriver §17.4.2).
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const ESCAPE: &str = "\u{E00C}";

/// An element's name in answers (W3C WebDriver §12.3).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

fn stroke(kind: &str, key: char) -> Value {
    json!({ "type": kind, "value": key.to_string() })
}

/// A browser with one page, which is closed with the test.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _program: Program,
}

impl Browser {
    pub fn open(url: &str) -> Option<Browser> {
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

    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &[])
    }

    /// With these `arguments`.
    pub fn run_with(&self, script: &str, arguments: &[&str]) -> Value {
        self.ask("execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The text of all elements that this selects.
    pub fn text(&self, selector: &str) -> String {
        let script = format!(
            "return [...document.querySelectorAll({selector:?})].map((e) => e.textContent).join('\\n')"
        );
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    fn element(&self, selector: &str) -> Option<String> {
        let wanted = json!({ "using": "css selector", "value": selector });
        let (_, found) = self.try_send(&format!("/session/{}/element", self.session), &wanted);
        found.get(ELEMENT)?.as_str().map(str::to_owned)
    }

    /// What rows are made of comes and goes.
    fn at(&self, selector: &str, what: &str, body: &Value) {
        eventually(&format!("{what} at {selector}"), || {
            let Some(id) = self.element(selector) else { return false };
            self.try_send(&format!("/session/{}/element/{id}/{what}", self.session), body).0 == 200
        });
    }

    pub fn click(&self, selector: &str) {
        self.at(selector, "click", &json!({}));
    }

    /// As a person types it.
    pub fn enter(&self, selector: &str, text: &str) {
        self.at(selector, "value", &json!({ "text": text }));
    }

    /// Keys that are pressed and released, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| [stroke("keyDown", key), stroke("keyUp", key)]);
        self.act(strokes.collect());
    }

    /// One that is held down, until it is [released](Self::release).
    pub fn hold(&self, key: char) {
        self.act(vec![stroke("keyDown", key)]);
    }

    pub fn release(&self, key: char) {
        self.act(vec![stroke("keyUp", key)]);
    }

    fn act(&self, strokes: Vec<Value>) {
        self.ask("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    /// The pointer goes there.
    pub fn point_at(&self, selector: &str) {
        eventually(&format!("the pointer at {selector}"), || {
            let Some(id) = self.element(selector) else { return false };
            let there =
                json!({ "type": "pointerMove", "origin": { ELEMENT: id }, "x": 0, "y": 0, "duration": 0 });
            let mouse = json!({ "type": "pointer", "id": "mouse", "actions": [there] });
            let path = format!("/session/{}/actions", self.session);
            self.try_send(&path, &json!({ "actions": [mouse] })).0 == 200
        });
    }

    /// A command of the browser's own (Chrome DevTools Protocol).
    fn command(&self, name: &str, parameters: &Value) {
        self.ask("goog/cdp/execute", &json!({ "cmd": name, "params": parameters }));
    }

    /// `light` or `dark`: what its user prefers.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            // what fades is there at once
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// As on a phone of this size.
    pub fn is_phone(&self, (width, height): (u16, u16)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the console has said that is an error, since it was asked the last time.
    pub fn errors(&self) -> Vec<Value> {
        let all = self.ask("se/log", &json!({ "type": "browser" }));
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING").collect()
    }

    /// Kept where `WEIRGATE_SCREENSHOTS` says.
    pub fn picture(&self, name: &str) {
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
