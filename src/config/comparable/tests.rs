use super::*;
use crate::config::check::check_document;
use crate::config::decode::Located;
use crate::config::file::Route;
use crate::config::load::load_str;
use crate::config::report::Report;
use crate::filter::Catalogue;
use std::sync::Arc;

/// Routes with something to hide, and such as only look like it; `page.html` stands for a file that is read.
const CONFIG: &str = r#"
listeners: [{ address: 127.0.0.1:8080 }]
routes:
  - { path: /plain, upstream: g }
  - { name: 'é "name"', exact: /exact, methods: [GET], upstream: g, timeouts: { response: 1500ms } }
  - { host: "*.example.com", regex: "/x\\d+", split: [{ upstream: g, weight: 95 }, { upstream: h, weight: 5 }] }
  - { path: /tokens, upstream: g }
  - { path: /auth, headers: { Authorization: { prefix: Bearer } }, upstream: g }
  - { path: /key, query: { x-api-KEY: abc }, upstream: g }
  - { path: /set, upstream: g, filters: [{ headers: { request: { set: { X-Token: t0p } } } }] }
  - { path: /pem, respond: { body: "-----BEGIN PRIVATE KEY-----" } }
  - { path: /variable, respond: { body: "it is ${A_SECRET}" } }
  - { path: /shown, respond: { body: "it is ${SHOWN}" } }
  - { path: /file, respond: { body: "page.html" } }
  - { path: /same-file, respond: { body: "pages//other.html" } }
  - { path: /retry, upstream: h, retry: { attempts: 3, when: [connect, 503] }, access_log: { sample: 12.5% } }
upstreams:
  g: { servers: [127.0.0.1:3001] }
  h: { servers: [127.0.0.1:3002] }
"#;

fn checked(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Checked {
    let mut report = Report::new();
    let document = load_str("test.yaml", text, env, &mut report);
    let checked = check_document(document, &Catalogue::standard(), report);
    assert!(checked.plan.is_some(), "{}\n{text}", checked.report.render_text(&checked.sources));
    checked
}

fn hiding(checked: &Checked) -> Hiding<'_> {
    let variables = checked.report.concealed().filter(|(_, shown)| names_secret(shown)).collect();
    Hiding { variables, files: &checked.files }
}

/// Each route as it is written by way of a tree.
fn by_trees(checked: &Checked) -> Vec<String> {
    let hiding = hiding(checked);
    let routes = checked.file.routes.iter().zip(&checked.plan.as_ref().unwrap().routes);
    let by_tree = |(route, planned): (&Located<Route>, &Arc<plan::Route>)| {
        let mut made = Comparable::empty(0);
        let mut hidden = hiding.hidden(&**route);
        brief::shorten(&mut hidden, &brief::usual());
        made.push_hidden(hidden, Some(&planned.name));
        made.text
    };
    routes.map(by_tree).collect()
}

fn routes_of(made: &Comparable) -> &str {
    &made.text[made.routes.whole.clone()]
}

#[test]
fn a_route_is_written_the_same_with_a_tree_and_without() {
    let env = |name: &str| Some(format!("\"quoted\" value of {name}"));
    let mut checked = checked(CONFIG, &env);
    checked.files.insert("page.html".into(), "0123".into());
    checked.files.insert("pages/other.html".into(), "4567".into());
    // many files are no reason to look for none
    checked.files.extend((0..100).map(|n| (format!("certs/{n}.crt").into(), String::new())));
    let made = Comparable::of(&checked);
    let all = by_trees(&checked).join(",");
    assert_eq!(routes_of(&made), all);
    assert_eq!(hiding(&checked).variables.len(), 1);
    let mut plain = hiding(&checked).plain();
    let routes = checked.file.routes.iter().zip(&checked.plan.as_ref().unwrap().routes);
    let plain: Vec<_> = routes
        .filter(|(route, _)| plain.json(route).is_some())
        .map(|(_, planned)| planned.name.as_str())
        .collect();
    for file in
        [r#"{"$file":"page.html","$digest":"0123"}"#, r#"{"$file":"pages//other.html","$digest":"4567"}"#]
    {
        assert!(all.contains(file), "{file} in {all}");
    }
    assert_eq!(
        plain,
        ["/plain", "é \"name\"", "*.example.com~ /x\\d+", "/shown", "/retry"],
        "those without a tree"
    );
    for secret in ["t0p", "PRIVATE KEY", "value of A_SECRET"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

/// So many of a few characters, among them those that JSON escapes and those that stand between two texts.
fn text(random: &mut fastrand::Rng, length: usize) -> String {
    (0..length).map(|_| *random.choice(&['a', 'b', '"', '\\', 'é', '/', ',', ':']).unwrap()).collect()
}

/// The secret or a part of it, with something before and behind it or not.
fn piece(random: &mut fastrand::Rng, secret: &str) -> String {
    let whole: Vec<char> = secret.chars().collect();
    let cut = random.usize(0..=whole.len());
    let part = match random.u8(0..4) {
        0 => &whole[..],
        1 => &whole[cut..],
        _ => &whole[..cut],
    };
    let [before, behind] = [random.usize(0..2), random.usize(0..2)].map(|length| text(random, length));
    before + &part.iter().collect::<String>() + &behind
}

/// Routes that are much alike, with the secret and parts of it in texts and side by side.
fn routes(random: &mut fastrand::Rng, secret: &str, file: &str) -> String {
    let words = ["to", "ken", "token", "secr", "et", "PRIVATE", " KEY", "-----BEGIN", "x", "", "", "-"];
    let mut all = String::from("  - { path: /first, respond: { body: '${A_SECRET}' } }\n");
    let [mut one, mut two] = ["", ""].map(|_| piece(random, secret));
    for number in 0..random.usize(1..12) {
        let word = |random: &mut fastrand::Rng| *random.choice(&words).unwrap();
        let [key, body] = ["", ""].map(|_| word(random).to_owned() + word(random));
        if random.bool() {
            let next = if random.u8(0..4) == 0 { file.to_owned() } else { piece(random, secret) };
            (one, two) = (two, next);
        }
        let name = json!(format!("{number}{one}"));
        let name = if random.bool() { format!("name: {name}, ") } else { String::new() };
        let (query, body) = (json!({ key: one, "second": two }), json!(body + word(random) + &two));
        all += &format!("  - {{ {name}path: /p{number}, query: {query}, respond: {{ body: {body} }} }}\n");
    }
    all
}

#[test]
fn a_route_is_written_with_what_it_says_and_read_with_all_that_holds() {
    let checked = checked(CONFIG, &|_| Some("a secret of mine".to_owned()));
    let made = Comparable::of(&checked);
    let whole = made.to_value();
    let routes = whole.get("routes").and_then(Value::as_array).unwrap();
    assert_eq!(routes.len(), checked.file.routes.len());
    let hiding = hiding(&checked);
    for ((route, planned), read) in
        checked.file.routes.iter().zip(&checked.plan.as_ref().unwrap().routes).zip(routes)
    {
        let mut expected = hiding.hidden(&**route);
        named_if_not(expected.as_object_mut().unwrap(), &planned.name);
        // the order is the same, too
        assert_eq!(read.to_string(), expected.to_string());
    }
    let first = r#"{"name":"/plain","path":"/plain","upstream":"g"}"#;
    assert!(routes_of(&made).starts_with(first), "{}", routes_of(&made));
}

#[test]
fn nothing_is_missed_because_the_route_before_had_nothing_to_hide() {
    let (mut found, mut plain) = ([0; 3], 0);
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let secret = text(&mut random, 8);
        // as if there were a file of this name
        let file = piece(&mut random, &secret[..0]) + "ab";
        let routes = routes(&mut random, &secret, &file);
        let config = format!("listeners: [{{ address: 127.0.0.1:8080 }}]\nroutes:\n{routes}");
        let mut checked = checked(&config, &|_| Some(secret.clone()));
        checked.files.insert(file.into(), "0123".into());
        let by_trees = by_trees(&checked);
        assert_eq!(
            routes_of(&Comparable::of(&checked)),
            by_trees.join(","),
            "seed {seed}: {secret:?} in\n{config}"
        );
        for route in by_trees {
            let signs = ["${A_SECRET}", MASK, FILE];
            let counts = found.iter_mut().zip(signs.map(|sign| route.contains(sign)));
            counts.for_each(|(count, has)| *count += usize::from(has));
            plain += usize::from(!route.contains(DIGEST));
        }
    }
    assert!(
        plain > 100 && found.iter().all(|count| *count > 100),
        "{found:?} to hide, {plain} routes without"
    );
}
