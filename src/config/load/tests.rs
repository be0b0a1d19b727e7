use std::fs;

use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

/// Writes files into a fresh directory and loads the first.
fn loaded(files: &[(&str, &[u8])]) -> (Document, Report, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut report = Report::new();
    let document = load(&dir.path().join(files[0].0), &no_env, &mut report);
    (document, report, dir)
}

fn codes(report: &Report) -> Vec<Code> {
    report.diagnostics().iter().map(|d| d.code).collect()
}

#[test]
fn lists_are_appended_and_maps_merged() {
    let (doc, report, _dir) = loaded(&[
        ("main.yaml", b"include: conf.d/*.yaml\nroutes: [a]\nupstreams: { x: 1 }\n"),
        ("conf.d/2.yaml", b"routes: [c]\n"),
        ("conf.d/1.yaml", b"routes: [b]\nupstreams: { y: 2 }\nlog: {}\n"),
        ("conf.d/.hidden.yaml", b"routes: [no]\n"),
        ("conf.d/empty.yaml", b"# nothing\n"),
    ]);
    assert!(report.is_empty(), "{}", report.render_text(&doc.sources));
    let routes: Vec<_> =
        doc.root.get("routes").unwrap().items().iter().map(|n| &n.as_scalar().unwrap().text).collect();
    assert_eq!(routes, ["a", "b", "c"]);
    assert_eq!(doc.root.get("upstreams").unwrap().entries().len(), 2);
    assert!(doc.root.get("include").is_none() && doc.root.get("log").is_some());
    assert_eq!(doc.files.len(), 4);
    assert!(doc.directories[0].ends_with("conf.d"));
}

#[test]
fn a_name_defined_twice_names_both_places() {
    let (doc, report, _dir) = loaded(&[
        ("main.yaml", b"include: [b.yaml]\nupstreams:\n  x: 1\nname: a\n"),
        ("b.yaml", b"upstreams:\n  x: 2\nname: b\n"),
    ]);
    assert_eq!(codes(&report), [Code::IncludeConflict, Code::IncludeConflict]);
    let first = &report.diagnostics()[0];
    assert_eq!((first.span.line, first.span.file), (2, FileId(1)));
    assert_eq!((first.related[0].0.line, first.related[0].0.file), (3, FileId(0)));
    assert!(report.render_text(&doc.sources).contains("b.yaml:2:3: error[E017]"));
}

#[test]
fn includes_that_go_wrong() {
    let (_, report, _dir) = loaded(&[("main.yaml", b"include: [none.yaml, none-*.yaml, {a: b}]\na: 1\n")]);
    assert_eq!(codes(&report), [Code::IncludeMissing, Code::IncludeShape]);
    let (_, report, _dir) = loaded(&[("main.yaml", b"include: \"*.yaml\"\na: 1\n")]);
    assert_eq!(codes(&report), [Code::IncludeTwice]);
    let (_, report, _dir) =
        loaded(&[("main.yaml", b"include: b.yaml\na: 1\n"), ("b.yaml", b"include: [main.yaml, b.yaml]\n")]);
    assert_eq!(codes(&report), [Code::IncludeTwice, Code::IncludeTwice]);
    let mut files = vec![("0.yaml".to_owned(), "include: 1.yaml\na: 1\n".to_owned())];
    files.extend((1..20).map(|n| (format!("{n}.yaml"), format!("include: {}.yaml\n", n + 1))));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, t)| (n.as_str(), t.as_bytes())).collect();
    let (_, report, _dir) = loaded(&files);
    assert_eq!(codes(&report), [Code::IncludeTwice]);
}

#[test]
fn an_error_in_an_included_file_is_located_there() {
    let (doc, report, _dir) =
        loaded(&[("main.yaml", b"include: b.yaml\na: 1\n"), ("b.yaml", b"x: 1\nx: 2\n")]);
    assert_eq!(codes(&report), [Code::DuplicateKey]);
    assert!(report.render_text(&doc.sources).contains("b.yaml:2:1: error[E007]"));
}

#[test]
fn files_that_are_no_configuration() {
    for (bytes, code) in [
        (&b""[..], Code::EmptyFile),
        (b"# only a comment\n", Code::EmptyFile),
        (b"{}\n", Code::EmptyFile),
        (b"- a\n", Code::WrongType),
        (b"text\n", Code::WrongType),
        (b"\xff\xfea\x00", Code::NotUtf8),
        (b"a: 1\nb: caf\xe9\n", Code::NotUtf8),
        (b"a: 1\n---\nb: 1\n", Code::MultipleDocuments),
        (b"a: \x00\n", Code::Syntax),
    ] {
        let (_, report, _dir) = loaded(&[("main.yaml", bytes)]);
        assert_eq!(codes(&report), [code], "{:?}", String::from_utf8_lossy(bytes));
    }
    let (_, report, _dir) = loaded(&[("main.yaml", b"a: 1\nb: caf\xe9\n")]);
    let span = report.diagnostics()[0].span;
    assert_eq!((span.line, span.column), (2, 7));
}

#[test]
fn a_byte_order_mark_is_no_problem() {
    let (doc, report, _dir) = loaded(&[("main.yaml", "\u{feff}a: 1\n".as_bytes())]);
    assert!(report.is_empty());
    assert_eq!(doc.root.entry("a").unwrap().key.span.column, 1);
}

#[test]
fn unreadable_files_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = Report::new();
    let doc = load(&dir.path().join("none.yaml"), &no_env, &mut report);
    assert!(report.render_text(&doc.sources).contains("none.yaml does not exist"));
    let mut report = Report::new();
    let doc = load(dir.path(), &no_env, &mut report);
    assert!(report.render_text(&doc.sources).contains("is a directory"));
    let path = dir.path().join("large.yaml");
    fs::File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
    let mut report = Report::new();
    load(&path, &no_env, &mut report);
    assert_eq!(codes(&report), [Code::FileTooLarge]);
}
