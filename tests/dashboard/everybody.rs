//! The page in light and dark, on a phone, and by keyboard alone.

use super::browser::{Browser, ENTER, ESCAPE, TAB};
use super::{TOKEN, config, servers, topology};
use crate::harness::{Backend, Gate, Reply, Request, ServerAddress, eventually};
use serde_json::Value;

/// A gate that has something of everything to show: a server that is down, one that drains, requests that failed, a reload
/// that was refused; and a page that shows it.
fn busy() -> Option<(Gate, Browser, [Backend; 3])> {
    let (a, b, c) = servers();
    let mut gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let page = Browser::open(&format!("http://{}/", gate.at("admin")))?;
    for server in [&a, &b, &c] {
        server.answers(Reply::status(503));
    }
    assert_eq!(gate.get(&format!("/order/{}", "4711-".repeat(40))).status, 503);
    a.stop();
    let path = format!("/v1/upstreams/goods/servers/{}/drain", b.address());
    let drain = Request::post(&path, "{}").header("Content-Type", "application/json");
    let drain = drain.host(&gate.at("admin").to_string()).header("Authorization", &format!("Bearer {TOKEN}"));
    assert_eq!(crate::harness::Client::connect(gate.at("admin")).ask(&drain).status, 200);
    gate.rewrite(&config("godos"));
    gate.hang_up();
    eventually("it is down", || page.text(".server .reason").contains("down: connection refused"));
    eventually("it drains", || page.text(".server .reason").contains("draining: somebody asked for it"));
    eventually("it is refused", || page.text("#refused-why").contains("E014"));
    eventually("a failure", || page.text("#errors").contains("4711"));
    Some((gate, page, [a, b, c]))
}

/// Texts that can be seen below `root`, each with what it is and the contrast between it and its ground: WCAG 2.2 §1.4.3.
/// Of a control that is off it does not matter.
const CONTRASTS: &str = r"
const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { c: [r, g, b], a }; };
const over = (top, below) => below.map((v, i) => top.c[i] * top.a + v * (1 - top.a));
const light = (c) => { const [r, g, b] = c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const seen = [];
for (const node of document.querySelectorAll(arguments[0])) for (const e of [node, ...node.querySelectorAll('*')]) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join(' ').trim() || e.value;
  if (!text || !e.checkVisibility({ visibilityProperty: true }) || e.closest(':disabled')) continue;
  const chain = [];
  for (let up = e; up; up = up.parentElement) chain.unshift(getComputedStyle(up));
  let ground = [255, 255, 255], opacity = 1;
  for (const style of chain) { ground = over(parse(style.backgroundColor), ground); opacity *= Number(style.opacity); }
  const ink = parse(getComputedStyle(e).color);
  const shown = over({ c: ink.c, a: ink.a * opacity }, ground);
  const [high, low] = [light(shown), light(ground)].sort((a, b) => b - a);
  const own = e.className && e.className.baseVal === undefined ? '.' + e.className.trim().replace(/\s+/g, '.') : '';
  seen.push({ what: `${e.localName}${e.id ? '#' + e.id : ''}${own}`, text, ratio: (high + 0.05) / (low + 0.05), dark: light(ground) < 0.2 });
}
return seen;
";

/// The texts below this, all of which can be read; what they are.
#[track_caller]
fn legible(page: &Browser, root: &str, dark: bool) -> Vec<String> {
    let seen = page.run_with(CONTRASTS, &[root]);
    let seen = seen.as_array().unwrap();
    let pale: Vec<_> = seen.iter().filter(|text| text["ratio"].as_f64().unwrap() < 4.5).collect();
    assert!(pale.is_empty(), "{root}, dark: {dark}: {pale:#?}");
    assert!(seen.iter().all(|text| text["dark"] == dark), "dark: {dark}: {seen:#?}");
    seen.iter().map(|text| text["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn all_text_can_be_read_in_light_and_in_dark() {
    let Some((_gate, page, [_a, b, _c])) = busy() else { return };
    let row = format!("[data-key='server goods {}']", b.address());
    for (scheme, dark) in [("light", false), ("dark", true)] {
        page.prefers(scheme);
        // what has nothing to do with the row that is pointed at steps back
        page.point_at("h1");
        page.run("document.activeElement.blur()");
        eventually("all has its ink", || page.run("return document.querySelector('.dim')") == Value::Null);
        let seen = legible(&page, "body", dark);
        for kind in [
            "p#state.state.good",
            "dt",
            "dd",
            "h1",
            "h2",
            "h2#refused-title",
            "p#refused-when",
            "pre#refused-why",
            "span.name",
            "div.sub",
            "span.warn",
            "span.bad",
            "span.good",
            "span.quiet",
            "span.address",
            "span.num.quiet",
            "span.reason.down",
            "span.reason.draining",
            "td.bad",
            "td.nowrap",
            "th",
            "button#reload",
        ] {
            assert!(seen.iter().any(|what| what == kind), "no {kind} in {seen:?}");
        }
        page.picture(&format!("{scheme}.png"));
        page.point_at(&row);
        eventually("the row under the pointer", || legible(&page, ".server:hover", dark).len() > 3);
        page.click(&row);
        eventually("the details", || page.run("return document.querySelector('#server').open") == true);
        let seen = legible(&page, "#server", dark);
        for kind in
            ["h2#server-title", "dt", "dd", "li.warn", "button#drain", "input#weight", "button#close.close"]
        {
            assert!(seen.iter().any(|what| what == kind), "no {kind} in {seen:?}");
        }
        page.click("#drain");
        page.click("#token");
        assert!(legible(&page, "#ask-token", dark).len() > 3);
        page.press(ESCAPE);
        page.press(ESCAPE);
        eventually("the page again", || {
            page.run("return document.querySelector('dialog[open]')") == Value::Null
        });
    }
    assert_eq!(page.errors(), Vec::<Value>::new());
}

/// What goes beyond the window at the right or the left, but for what scrolls by itself; and that nothing can be scrolled to there.
const BEYOND: &str = r"
const wide = document.documentElement.clientWidth, beyond = [];
if (innerWidth !== wide || document.scrollingElement.scrollWidth > wide) beyond.push(`the page has ${document.scrollingElement.scrollWidth} of ${innerWidth}`);
for (const e of document.querySelectorAll('body *')) {
  const box = e.getBoundingClientRect();
  if (!box.width || !e.checkVisibility() || e.closest('pre, .skip')) continue;
  if (box.left < -0.5 || box.right > wide + 0.5) beyond.push(`${e.localName}#${e.id}.${e.className} ${box.left} to ${box.right}`);
}
return beyond;
";

/// Controls that are smaller than 24 pixels (WCAG 2.2 §2.5.8), or that a finger does not get to.
const AWKWARD: &str = r"
const awkward = [], all = document.querySelectorAll(`${arguments[0]} :is(button, input)`);
for (const e of all) {
  if (!e.checkVisibility()) continue;
  e.scrollIntoView({ block: 'center', behavior: 'instant' });
  const box = e.getBoundingClientRect();
  const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  if (box.width < 24 || box.height < 24) awkward.push(`${e.id || e.className} has ${box.width} x ${box.height}`);
  if (!e.contains(hit)) awkward.push(`${e.id || e.className} is covered by ${hit?.outerHTML}`);
}
return all.length ? awkward : ['no controls'];
";

#[test]
fn on_a_phone_nothing_is_beyond_the_edge_and_fingers_get_to_everything() {
    let Some((_gate, page, [a, _b, _c])) = busy() else { return };
    // the second is what WCAG 2.2 §1.4.10 asks for
    for size in [(360, 740), (320, 568)] {
        page.is_phone(size);
        let nothing = serde_json::json!([]);
        let is_fine = |what: &str, script: &str, root: &str| {
            let said = page.run_with(script, &[root]);
            assert_eq!(said, nothing, "{what} at {size:?}");
        };
        is_fine("the page", BEYOND, "");
        is_fine("its controls", AWKWARD, "body");
        page.picture(&format!("phone-{}.png", size.0));
        page.click(&format!("[data-key='server goods {}']", a.address()));
        eventually("the details", || page.run("return document.querySelector('#server').open") == true);
        is_fine("the details", BEYOND, "");
        is_fine("their controls", AWKWARD, "#server");
        page.picture(&format!("phone-{}-server.png", size.0));
        page.click("#drain");
        is_fine("the token", BEYOND, "");
        is_fine("its controls", AWKWARD, "#ask-token");
        page.click("#no-token");
        page.click("#close");
    }
    assert_eq!(page.errors(), Vec::<Value>::new());
}

/// What has the focus: its key or its id, once it can be seen that it has it.
fn focused(page: &Browser) -> String {
    const SCRIPT: &str = "const e = document.activeElement, s = getComputedStyle(e);
        const seen = e.matches(':focus-visible') && s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
        return seen || e === document.body ? e.dataset.key || e.id || e.localName : `hidden ${e.outerHTML}`";
    page.run(SCRIPT).as_str().unwrap().to_owned()
}

/// Presses Tab until this has the focus.
#[track_caller]
fn tab_to(page: &Browser, wanted: &str) {
    let mut passed = Vec::new();
    for _ in 0..20 {
        page.press(TAB);
        let now = focused(page);
        assert!(!now.starts_with("hidden"), "{now}");
        if now == wanted {
            return;
        }
        passed.push(now);
    }
    panic!("{wanted} is not among {passed:?}");
}

/// Waits until the page has shown what it has learned since.
fn shown_anew(page: &Browser) {
    let at = page.run("return known.at");
    // what is read first is shown next
    eventually("a look", || page.run("return known.at") != at);
    let at = page.run("return known.at");
    eventually("another look", || page.run("return known.at") != at);
}

#[test]
fn a_server_is_drained_by_keyboard_alone() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config("goods"), &[&a, &b, &c]);
    let Some(page) = topology(&gate) else { return };
    let is_open = || page.run("return document.querySelector('#server').open") == true;
    let row = format!("server goods {}", b.address());
    tab_to(&page, &row);
    // rows are made anew each second
    shown_anew(&page);
    assert_eq!(focused(&page), row);
    page.press(ENTER);
    eventually("the details", is_open);
    assert!(page.text("#server-title").contains(&b.address().to_string()));
    tab_to(&page, "drain");
    page.press(ENTER);
    eventually("the token is asked for", || focused(&page) == "token");
    page.press(TOKEN);
    page.press(ENTER);
    eventually("it drains", || page.text("#server-said").contains("done: draining"));
    assert_eq!(focused(&page), "drain");
    tab_to(&page, "weight");
    page.run("document.activeElement.select()");
    page.press("5");
    page.press(ENTER);
    eventually("it weighs", || page.text("#server-said").contains("weight 5"));
    shown_anew(&page);
    page.press(ESCAPE);
    eventually("it is closed", || !is_open());
    eventually("the row has the focus again", || focused(&page) == row);
    shown_anew(&page);
    assert_eq!(focused(&page), row);
    b.forget();
    for _ in 0..6 {
        assert_eq!(gate.get("/").status, 200);
    }
    assert!(b.requests().is_empty());
    // a key that is held for longer than a row stays
    page.hold(' ');
    shown_anew(&page);
    page.release(' ');
    eventually("the details again", is_open);
    page.press(ESCAPE);
    eventually("it is closed", || !is_open());
    assert_eq!(page.errors(), Vec::<Value>::new());
}
