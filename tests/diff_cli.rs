//! The promise: `weirgate diff` says what would change before anything does, in the words of the
//! configuration, and shows no secret.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Checked, weirgate};
use serde_json::Value;
use std::path::Path;

const OLD: &str = "
listeners: [{ name: web, address: 127.0.0.1:8080 }, { name: admin, address: 127.0.0.1:8081 }]
routes:
  - { name: api, path: /api, upstream: api }
  - { name: all, path: /, upstream: web }
upstreams:
  api: { servers: [127.0.0.1:3001] }
  web: { servers: [127.0.0.1:3003, 127.0.0.1:3004] }
";

const NEW: &str = "
# another order, and comments, mean nothing
upstreams:
  web: { servers: [127.0.0.1:3004, 127.0.0.1:3003, 127.0.0.1:3005] }
  api: { servers: [{ address: 127.0.0.1:3001 }], retry: { attempts: 5 } }
listeners: [{ name: web, address: 127.0.0.1:8080 }]
routes:
  - { name: all, path: /, upstream: web }
  - { name: api, path: /api, upstream: web }
  - { name: old, exact: /old, redirect: { to: /new } }
  - { name: api-v1, path: /api/v1, upstream: api }
";

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("write a configuration");
    path.display().to_string()
}

fn diff(old: &str, new: &str, more: &[&str]) -> Checked {
    let dir = tempfile::tempdir().expect("a directory");
    let (old, new) = (write(dir.path(), "old.yaml", old), write(dir.path(), "new.yaml", new));
    Checked::of(weirgate(&["diff", "-c", &new, &old]).args(more))
}

#[test]
fn what_would_change_is_told_in_the_words_of_the_configuration() {
    let said = diff(OLD, NEW, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let wanted = "\
- listeners.admin: { address: 127.0.0.1:8081 }
routes.api.upstream: api -> web
+ routes.old: { exact: /old, redirect: { to: /new, status: 308 } }
+ routes.api-v1: { path: /api/v1, upstream: api }
+ upstreams.web.servers 127.0.0.1:3005
upstreams.api.retry.attempts: 3 -> 5
";
    assert_eq!(said.stdout, wanted, "{said:?}");
}

#[test]
fn the_same_in_other_words_is_no_difference() {
    let said = diff(OLD, OLD, &[]);
    assert_eq!((said.code, said.text().as_str()), (Some(0), ""), "{said:?}");
    let printed = {
        let dir = tempfile::tempdir().expect("a directory");
        let old = write(dir.path(), "old.yaml", OLD);
        Checked::of(&mut weirgate(&["check", "--print", "-c", &old])).stdout
    };
    let said = diff(OLD, &printed, &[]);
    assert_eq!((said.code, said.text().as_str()), (Some(0), ""), "with all defaults written out: {said:?}");
}

#[test]
fn programs_read_it_as_json() {
    let said = diff(OLD, NEW, &["--format", "json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let value: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(value["same"], false);
    let changes = value["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 6, "{value:#}");
    assert_eq!(
        changes[1],
        serde_json::json!({ "path": "routes.api.upstream", "change": "changed", "from": "api", "to": "web" })
    );
    let said = diff(OLD, OLD, &["--format", "json"]);
    let value: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((said.code, value["same"].as_bool()), (Some(0), Some(true)), "{said:?}");
}

#[test]
fn mistakes_in_either_file_are_64() {
    for (old, new, name) in
        [(OLD, "listeners: nonsense", "new.yaml"), ("listeners: nonsense", NEW, "old.yaml")]
    {
        let said = diff(old, new, &[]);
        assert_eq!(said.code, Some(64), "{said:?}");
        assert!(said.stderr.contains(&format!("{name}:1:")), "{said:?}");
        assert_eq!(said.stdout, "", "{said:?}");
    }
}

/// As a reload sees it: the same file names, other contents.
#[test]
fn a_renewed_certificate_is_a_change_though_its_path_is_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new();
    let files = ["a.crt", "a.key"].map(|name| dir.path().join(name).display().to_string());
    let tls = format!("8080, tls: {{ certificates: [{{ cert: {}, key: {} }}] }} }}", files[0], files[1]);
    let config = write(dir.path(), "weirgate.yaml", &OLD.replacen("8080 }", &tls, 1));
    let now = || {
        let (cert, key) = authority.issue(&["localhost"]);
        std::fs::write(&files[0], cert).expect("a certificate");
        std::fs::write(&files[1], key).expect("a key");
        let checked = weirgate::Gate::from_file(&config).check();
        assert!(checked.plan.is_some(), "{}", checked.report.render_text(&checked.sources));
        weirgate::config::Comparable::of(&checked).to_value()
    };
    let (before, after) = (now(), now());
    let said: Vec<String> = weirgate::config::diff(&before, &after).iter().map(ToString::to_string).collect();
    let place = format!("listeners.web.tls.certificates[{}]", files[0]);
    let wanted = [("cert", &files[0]), ("key", &files[1])]
        .map(|(key, file)| format!("{place}.{key}: the contents of {file} have changed"));
    assert_eq!(said, wanted);
    assert!(!after.to_string().contains("PRIVATE KEY"), "{after}");
}
