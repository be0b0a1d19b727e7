use super::*;
use crate::config::check::check_document;
use crate::config::load::load_str;
use crate::config::report::Report;
use crate::filter::Catalogue;

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

fn checked(text: &str) -> Checked {
    let mut report = Report::new();
    let env = |name: &str| Some(format!("\"quoted\" value of {name}"));
    let document = load_str("test.yaml", text, &env, &mut report);
    let checked = check_document(document, &Catalogue::standard(), report);
    assert!(checked.plan.is_some(), "{}", checked.report.render_text(&checked.sources));
    checked
}

#[test]
fn a_route_is_written_the_same_with_a_tree_and_without() {
    let mut checked = checked(CONFIG);
    checked.files.insert("page.html".into(), "0123".into());
    checked.files.insert("pages/other.html".into(), "4567".into());
    // many files are no reason to look for none
    checked.files.extend((0..100).map(|n| (format!("certs/{n}.crt").into(), String::new())));
    let made = Comparable::of(&checked);
    let variables: Vec<_> = checked.report.concealed().filter(|(_, shown)| names_secret(shown)).collect();
    assert_eq!(variables.len(), 1);
    let hiding = Hiding { variables, files: &checked.files };
    let suspicion = hiding.suspicion().unwrap();
    let mut plain = Vec::new();
    let mut all = Vec::new();
    for (route, planned) in checked.file.routes.iter().zip(&checked.plan.as_ref().unwrap().routes) {
        let mut by_tree =
            Comparable { text: String::new(), routes: Section::default(), upstreams: Section::default() };
        by_tree.push_hidden(hiding.hidden(&**route), Some(&planned.name));
        all.push(by_tree.text);
        if as_it_is(&**route, &suspicion).is_some() {
            plain.push(planned.name.as_str());
        }
    }
    let all = all.join(",");
    assert_eq!(made.text[made.routes.whole.clone()], all);
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
