//! Promise: what the documentation says is so. Every key has its line in the reference, every configuration shown and
//! shipped is accepted, every link leads somewhere.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn weirgate(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weirgate"))
        .args(arguments)
        .env("STICKY_SECRET", "what an example reads from its environment")
        .current_dir(directory)
        .output()
        .expect("weirgate starts")
}

/// All files with this ending under a folder of the project, without what a build leaves.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The documents a reader starts from.
fn documents() -> Vec<PathBuf> {
    let top = ["README.md", "CHANGELOG.md", "certs/README.md"].map(|name| root().join(name));
    top.into_iter().chain(files("docs", "md")).chain(files("conf", "md")).collect()
}

/// The fenced blocks of this language.
fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.trim() == fence {
            blocks.push(
                lines.by_ref().take_while(|line| line.trim() != "```").map(|l| format!("{l}\n")).collect(),
            );
        }
    }
    blocks
}

/// A folder to run `check` in, with the certificates that the shipped configurations name.
fn folder_with_certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    fs::create_dir(&certs).unwrap();
    for name in ["demo", "microservices"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(certs.join(format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(certs.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    folder
}

/// Every name under a `properties` of the schema.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_is_in_the_reference() {
    let schema = weirgate(root(), &["schema"]);
    assert!(schema.status.success(), "{schema:?}");
    let mut wanted = BTreeSet::new();
    keys(&serde_json::from_slice(&schema.stdout).expect("the schema is JSON"), &mut wanted);
    assert!(wanted.len() > 50, "the schema has too few keys to be whole: {wanted:?}");

    let reference = read("docs/configuration.md");
    // whole words, in code: `connect`, `http.path`, `{ header: NAME }`, or an example
    let code = reference.split('`').skip(1).step_by(2);
    let words: BTreeSet<&str> =
        code.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || c == '_'))).collect();
    let missing: Vec<_> = wanted.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
}

#[test]
fn every_shipped_configuration_is_accepted_without_a_warning() {
    let folder = folder_with_certificates();
    // the filter of own-filter.yaml is not in this binary, which has to say so
    let configurations: Vec<_> =
        files("conf", "yaml").into_iter().filter(|path| !path.ends_with("own-filter.yaml")).collect();
    assert!(configurations.len() >= 3, "{configurations:?}");
    for path in configurations {
        let checked = weirgate(folder.path(), &["check", "-c", path.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {text}", path.display());
        assert!(!text.contains("warning"), "{}: {text}", path.display());
    }
}

#[test]
fn the_binary_names_the_filter_it_does_not_have() {
    let checked = weirgate(root(), &["check", "-c", "conf/examples/own-filter.yaml"]);
    let text = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(64), "{text}");
    assert!(text.contains("quota"), "{text}");
}

#[test]
fn every_configuration_shown_is_accepted() {
    let folder = folder_with_certificates();
    let mut shown = 0;
    for document in documents() {
        for (number, block) in blocks(&fs::read_to_string(&document).unwrap(), "yaml").iter().enumerate() {
            if !block.contains("routes:") {
                continue; // a piece, shown to explain one key
            }
            fs::write(folder.path().join("shown.yaml"), block).unwrap();
            let checked = weirgate(folder.path(), &["check", "-c", "shown.yaml"]);
            let text = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{} block {number}: {text}", document.display());
            shown += 1;
        }
    }
    assert!(shown >= 1, "no configuration is shown anywhere");
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, _anchor) = target.split_once('#').unwrap_or((target, ""));
            if path.is_empty() || path.starts_with("https://") {
                continue;
            }
            let file = document.parent().unwrap().join(path);
            assert!(file.exists(), "{} links to {target}", document.display());
        }
    }
}

/// The documents name source files as the place where something happens.
#[test]
fn every_source_file_named_exists() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for named in text.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "examples/", "conf/", "scripts/", "docs/"].iter().any(|top| named.starts_with(top));
            // what users make themselves and commands are not files of the project
            if is_path && !named.contains(' ') && !named.contains('*') {
                assert!(root().join(named).exists(), "{} names {named}", document.display());
            }
        }
    }
}
