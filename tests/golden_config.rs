//! The promise: each mistake in a configuration is told in words that say what, where and how to mend it.
//!
//! Every `tests/golden/config/NN-name.yaml` has its `NN-name.expected`: what `weirgate check` prints about it.
//! After a change of words, look at the difference that `UPDATE_GOLDEN=1 cargo test --test golden_config` makes.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Checked, weirgate};
use std::path::{Path, PathBuf};

/// Variables that cases may use; nothing else of the environment is promised to them.
const ENVIRONMENT: &[(&str, &str)] = &[("GOLDEN_PORT", "3001"), ("GOLDEN_SECRET", "do-not-show-this")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config")
}

fn cases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("tests/golden/config");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn report_on(case: &Path) -> Checked {
    // From within the folder, so that the messages name the file and no path of this machine.
    let name = case.file_name().expect("a file name");
    let mut command = weirgate(&["check", "-c"]);
    Checked::of(command.arg(name).current_dir(folder()).envs(ENVIRONMENT.iter().copied()))
}

#[test]
fn every_mistake_is_told_in_the_expected_words() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for case in cases() {
        let said = report_on(&case).text();
        let file = case.with_extension("expected");
        if update {
            std::fs::write(&file, &said).expect("write the expectation");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            different.push(format!("--- {} expected\n{expected}\n--- said\n{said}", case.display()));
        }
    }
    assert!(different.is_empty(), "{} cases differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn a_mistake_is_64_and_a_warning_is_0() {
    for case in cases() {
        let said = report_on(&case);
        let text = said.text();
        let name = case.display();
        let expected = if text.contains("error[") { 64 } else { 0 };
        assert_eq!(said.code, Some(expected), "{name}:\n{text}");
        assert!(text.contains("error[") || text.contains("warning["), "{name} finds nothing:\n{text}");
        assert!(!text.contains("do-not-show-this"), "{name} shows a secret:\n{text}");
    }
}

#[test]
fn there_are_at_least_forty_mistakes_and_each_has_its_expectation() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for entry in std::fs::read_dir(folder()).expect("tests/golden/config") {
        let file = entry.expect("an entry").path();
        if file.extension().is_some_and(|extension| extension == "expected") {
            assert!(cases.contains(&file.with_extension("yaml")), "{} has no case", file.display());
        }
    }
}
