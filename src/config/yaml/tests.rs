use super::*;
use crate::config::report::{Code, FileId, Report, Sources};

fn tree(text: &str) -> (Option<Node>, Report, Sources) {
    let mut sources = Sources::default();
    let mut report = Report::new();
    let file = sources.add("t.yaml", text);
    let env = |name: &str| (name == "N").then(|| "4".to_owned());
    let root = parse(file, &mut sources, &env, &mut report);
    (root, report, sources)
}

fn good(text: &str) -> Node {
    let (root, report, sources) = tree(text);
    assert!(report.is_empty(), "{}", report.render_text(&sources));
    root.unwrap()
}

fn codes(text: &str) -> Vec<(Code, u32, u32)> {
    let (_, report, _) = tree(text);
    report.diagnostics().iter().map(|d| (d.code, d.span.line, d.span.column)).collect()
}

fn at(span: Span) -> (u32, u32, u32) {
    (span.line, span.column, span.len)
}

#[test]
fn every_key_and_value_knows_its_place() {
    let root = good(
        "a: 1\nb:\n  - \"x y\"\n  - { c: é, d: 'q' } # note\ne: plain words  # note\nf: |\n  one\n  two\ng:\n",
    );
    assert_eq!(at(root.span), (1, 1, 1));
    assert_eq!(at(root.entry("b").unwrap().key.span), (2, 1, 1));
    let items = root.get("b").unwrap().items();
    assert_eq!(at(items[0].span), (3, 5, 5));
    assert_eq!(at(items[1].get("c").unwrap().span), (4, 10, 1));
    assert_eq!(at(items[1].get("d").unwrap().span), (4, 16, 3));
    assert_eq!(at(root.get("e").unwrap().span), (5, 4, 11));
    assert_eq!(root.get("f").unwrap().span.line, 7);
    assert!(root.get("g").unwrap().is_null());
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, kind) in [
        ("yes", Kind::Text("yes")),
        ("on", Kind::Text("on")),
        ("true", Kind::Bool(true)),
        ("False", Kind::Bool(false)),
        ("12", Kind::Unsigned(12)),
        ("0777", Kind::Unsigned(777)),
        ("0o17", Kind::Unsigned(15)),
        ("0x1F", Kind::Unsigned(31)),
        ("0x+1", Kind::Text("0x+1")),
        ("-3", Kind::Signed(-3)),
        ("1.5", Kind::Float(1.5)),
        ("1e3", Kind::Float(1000.0)),
        (".5", Kind::Float(0.5)),
        (".", Kind::Text(".")),
        ("1.2.3", Kind::Text("1.2.3")),
        ("inf", Kind::Text("inf")),
        ("~", Kind::Null),
        ("127.0.0.1:80", Kind::Text("127.0.0.1:80")),
        ("12:30:45", Kind::Text("12:30:45")),
        ("5s", Kind::Text("5s")),
    ] {
        assert_eq!(resolve(text), kind, "{text}");
    }
    assert_eq!(good("a: \"12\"").get("a").unwrap().as_scalar().unwrap().kind(), Kind::Text("12"));
    assert_eq!(good("a: !!str 12").get("a").unwrap().as_scalar().unwrap().kind(), Kind::Text("12"));
}

#[test]
fn variables_take_their_type_after_expansion() {
    let root = good("a: ${N}\nb: \"${N}\"\nc: x${N}\n${N}: key\n");
    let scalar = |key| root.get(key).unwrap().as_scalar().unwrap();
    assert_eq!(scalar("a").kind(), Kind::Unsigned(4));
    assert_eq!(scalar("b").kind(), Kind::Text("4"));
    assert_eq!(scalar("b").kind_when_expanded(), Kind::Unsigned(4));
    assert_eq!(scalar("c").kind(), Kind::Text("x4"));
    assert_eq!(scalar("c").raw(), Some("x${N}"));
    assert!(root.get("${N}").is_some(), "keys are left alone");
    assert_eq!(codes("a: [x, \"y ${NONE}\"]"), [(Code::EnvUnset, 1, 11)]);
    assert_eq!(codes("a: ${N"), [(Code::EnvSyntax, 1, 4)]);
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let root = good("base: &b { x: 1, y: 2 }\nuse:\n  <<: *b\n  y: 3\nlist: [*b, *b]\n");
    let used = root.get("use").unwrap();
    let number = |node: &Node, key: &str| node.get(key).unwrap().as_scalar().unwrap().text.clone();
    assert_eq!((number(used, "x"), number(used, "y")), ("1".into(), "3".into()));
    assert_eq!(root.get("list").unwrap().items().len(), 2);
    assert_eq!(codes("a: *nope"), [(Code::BadAlias, 1, 4)]);
    assert_eq!(codes("a: &a [*a]"), [(Code::BadAlias, 1, 8)]);
    assert_eq!(codes("<<: 5")[0].0, Code::BadAlias);
}

#[test]
fn a_billion_laughs_end_early() {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let one = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [one.as_str(); 10].join(",")));
    }
    assert_eq!(codes(&text)[0].0, Code::TooComplex);
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(codes(&deep)[0].0, Code::TooComplex);
    let deep: String = (0..200).map(|n| format!("{}k:\n", " ".repeat(n))).collect();
    assert_eq!(codes(&deep)[0].0, Code::TooComplex);
    let nested =
        format!("a: &a {}{}\nb: {}*a{}", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
    assert_eq!(codes(&nested)[0].0, Code::TooComplex);
}

#[test]
fn duplicate_keys_name_both_places() {
    let (root, report, _) = tree("a: 1\nb: 2\na: 3\n");
    let problem = &report.diagnostics()[0];
    assert_eq!((problem.code, problem.span.line), (Code::DuplicateKey, 3));
    assert_eq!(problem.related[0].0.line, 1);
    assert_eq!(root.unwrap().entries().len(), 2);
}

#[test]
fn what_is_not_yaml_is_located() {
    assert_eq!(codes("a: 1\n\tb: 2\n"), [(Code::Syntax, 2, 1)]);
    assert_eq!(codes("a:\n\tb: 2\n"), [(Code::Syntax, 2, 1)]);
    assert_eq!(codes("a:\n  b: 1\n  \tc: 2\n"), [(Code::Syntax, 3, 3)]);
    assert_eq!(codes("a: \"open\n")[0].0, Code::Syntax);
    assert_eq!(codes("a: [1, 2\nb: 3\n")[0].0, Code::Syntax);
    assert_eq!(codes("a: 1\n---\nb: 2\n"), [(Code::MultipleDocuments, 2, 1)]);
    assert_eq!(codes("? [a]\n: 1\n"), [(Code::BadKey, 1, 3)]);
    assert_eq!(codes("a: !thing x"), [(Code::BadTag, 1, 4)]);
    let (_, report, sources) = tree("a: { b: ${N} }");
    let text = report.render_text(&sources);
    assert!(text.contains("needs quotes"), "{text}");
}

#[test]
fn a_secret_over_several_lines_is_hidden() {
    let (_, _, sources) = tree("secret: |\n  one\n  two\nname: x\n");
    assert!(sources.is_hidden(FileId(0), 2) && sources.is_hidden(FileId(0), 3));
    assert!(!sources.is_hidden(FileId(0), 1) && !sources.is_hidden(FileId(0), 5));
}
#[test]
fn no_text_makes_the_reader_panic() {
    let seeds = [
        "a: 1\nb:\n  - \"x y\"\n  - { c: é, d: 'q' } # note\n",
        "base: &b { x: 1 }\nuse:\n  <<: *b\n  y: !!str 3\n? [a]\n: |\n  z\n",
        "%YAML 1.2\n---\na: >-\n  x\n\n  y\n...\n",
        "secret: ${N} ${X:-y}\n\tq: \"\\u00e9\\\n  z\"\n",
    ];
    let alphabet: Vec<char> = "ab:-?[]{},&*!|>'\"%@`#\n\n\t  \\$01é\u{feff}\r\u{85}\0~.".chars().collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..4_000 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(0..text.len() + 1);
            match rng.u8(0..3) {
                0 if at < text.len() => text[at] = alphabet[rng.usize(0..alphabet.len())],
                1 => text.truncate(at.max(1)),
                _ => text.insert(at, alphabet[rng.usize(0..alphabet.len())]),
            }
        }
        let text: String = text.into_iter().collect();
        let done = std::panic::catch_unwind(|| {
            let (_, report, sources) = tree(&text);
            report.render_text(&sources)
        });
        assert!(done.is_ok(), "panics (round {round}): {text:?}");
    }
}
