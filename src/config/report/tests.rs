use super::*;

fn at(line: u32, column: u32, len: u32) -> Span {
    Span { file: FileId(0), line, column, len }
}

fn sources(text: &str) -> Sources {
    let mut sources = Sources::default();
    sources.add("conf/edge.yaml", text);
    sources
}

#[test]
fn text_shows_place_line_caret_help_and_count() {
    let sources = sources("routes:\n  - name: api\n    upstream: apo\nupstreams:\n  api: {}\n");
    let mut report = Report::new();
    report.warning(Code::UnusedUpstream, at(5, 3, 3), "upstream \"api\" is not used");
    report
        .error(Code::UnknownName, at(3, 15, 3), "route \"api\" uses unknown upstream \"apo\"")
        .help("did you mean \"api\"?")
        .related(at(5, 3, 3), "defined here");
    let expected = "\
conf/edge.yaml:3:15: error[E014]: route \"api\" uses unknown upstream \"apo\"
  |
3 |     upstream: apo
  |               ^^^
  = conf/edge.yaml:5:3: defined here
  |
5 |   api: {}
  |   ^^^
  = help: did you mean \"api\"?

conf/edge.yaml:5:3: warning[W001]: upstream \"api\" is not used
  |
5 |   api: {}
  |   ^^^

1 error, 1 warning
";
    assert_eq!(report.render_text(&sources), expected);
    assert!(report.has_errors());
}

#[test]
fn json_counts_columns_from_one_and_ends_exclusively() {
    let sources = sources("a: b\n");
    let mut report = Report::new();
    report.error(Code::WrongType, at(1, 4, 1), "m").help("h").related(Span::default(), "r");
    let json = report.render_json(&sources);
    assert_eq!(json["errors"], 1);
    let first = &json["diagnostics"][0];
    assert_eq!((&first["line"], &first["column"], &first["end_column"]), (&1.into(), &4.into(), &5.into()));
    assert_eq!((first["code"].as_str(), first["severity"].as_str()), (Some("E021"), Some("error")));
    assert_eq!(first["help"], "h");
    assert_eq!(first["related"][0]["line"], 1);
}

#[test]
fn the_same_problem_is_shown_once() {
    let sources = sources("a: b\n");
    let mut report = Report::new();
    report.error(Code::WrongType, at(1, 4, 1), "m");
    report.error(Code::WrongType, at(1, 4, 1), "m");
    assert!(report.render_text(&sources).ends_with("\n1 error\n"));
    assert_eq!(report.count(Severity::Error), 1);
}

#[test]
fn secrets_never_appear() {
    let mut sources = sources("secret: hunter22\nkey: |\n  line of pem\n");
    sources.hide_lines(FileId(0), 3, 3);
    let mut report = Report::new();
    report.conceal("from-the-environment", "${VAR}");
    report
        .error(Code::InvalidValue, at(1, 9, 8), "bad value from-the-environment")
        .help("not from-the-environment");
    report.error(Code::InvalidValue, at(3, 3, 4), "other");
    let text = report.render_text(&sources) + &report.render_json(&sources).to_string();
    for secret in ["hunter22", "from-the-environment", "line of pem"] {
        assert!(!text.contains(secret), "{secret} in:\n{text}");
    }
    assert!(text.contains("bad value ${VAR}"), "{text}");
}

#[test]
fn odd_places_and_lines_do_no_harm() {
    let long = format!("a: {}\n\x1b[31m\tx", "y".repeat(500));
    let sources = sources(&long);
    let mut report = Report::new();
    report.error(Code::Syntax, at(1, 400, 9999), "long");
    report.error(Code::Syntax, at(2, 999, 3), "beyond the end");
    report.error(Code::Syntax, at(77, 1, 1), "no such line");
    report.error(Code::Syntax, Span { file: FileId(9), line: 1, column: 1, len: 1 }, "no such file");
    report.error(Code::Syntax, Span::default(), "the whole file");
    let text = report.render_text(&sources);
    assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\t'));
    assert!(text.contains("conf/edge.yaml: error[E004]: the whole file"), "{text}");
}

#[test]
fn suggestions_are_close_or_absent() {
    let keys = ["upstream", "upstreams", "listeners", "timeouts", "retry", "host", "path", "round_robin"];
    for (word, meant) in [
        ("upstrem", Some("upstream")),
        ("listener", Some("listeners")),
        ("timeout", Some("timeouts")),
        ("Host", Some("host")),
        ("hsot", Some("host")),
        ("round-robin", Some("round_robin")),
        ("pth", Some("path")),
        ("zzz", None),
        ("x", None),
        ("colour", None),
    ] {
        assert_eq!(suggest(word, keys), meant, "{word}");
    }
}
