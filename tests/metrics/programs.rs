//! The page, the rules and the dashboard as the programs see them that they are for.

use super::{ADMIN, Authority, Backend, Gate, RawServer};
use crate::harness::{GateBuilder, Page, need_program, spawn};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use weirgate::observe::metrics::families::{self, Kind};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A gate that has one of everything.
fn all_of_it(api: &Backend, db: &RawServer) -> Gate {
    let builder: GateBuilder = Gate::with(&[api, db]);
    Authority::new().issue_into(builder.dir(), "a", &["localhost"]);
    let gate = builder.start(&format!(
        "{ADMIN}listeners:
  - {{ name: web, address: $web }}
  - {{ name: \"a \\\"quoted\\\" one\", address: $quoted, tls: {{ certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
  - {{ name: db, address: $dblistener, tcp: {{ upstream: db }} }}
routes: [{{ name: api, path: /, upstream: api }}]
upstreams:
  api:
    servers: [$api]
    limits: {{ requests: 100, queue: 10 }}
    outlier: {{}}
    breaker: {{ server: {{ pending: 1000 }}, group: {{ pending: 1000 }} }}
    health_check: {{ tcp: {{}}, interval: 1s }}
  db: {{ servers: [$db] }}
"
    ));
    for _ in 0..3 {
        assert_eq!(gate.get("/x").status, 200);
    }
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 3.0);
    gate
}

fn page() -> Page {
    let (api, db) = (Backend::start("api"), RawServer::start("db", drop));
    all_of_it(&api, &db).metrics()
}

/// What a program says about this text.
#[track_caller]
fn said(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).expect("start it");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = Child::wait_with_output(child).expect("its output");
    writing.join().unwrap().expect("it reads");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}{complaints}");
    format!("{said}{complaints}")
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if need_program("promtool") {
        let said = said(Command::new("promtool").args(["check", "metrics"]), &page().text);
        assert_eq!(said.trim(), "");
    }
}

const PARSE: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families
samples = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        key = json.dumps([sample.name, sorted(sample.labels.items())])
        assert key not in samples, key
        samples[key] = sample.value
print(json.dumps(samples))
";

/// A Python that has Prometheus's client library, if there is one: Debian's, where another comes first.
fn python() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let mut import = Command::new(python);
        import.args(["-c", "import prometheus_client.parser"]).stdout(Stdio::null()).stderr(Stdio::null());
        spawn(&mut import).and_then(|mut child| child.wait()).is_ok_and(|status| status.success())
    })
}

#[test]
fn prometheus_own_library_reads_the_same_samples() {
    let Some(python) = python() else {
        assert!(std::env::var_os("WEIRGATE_TEST_NO_SKIP").is_none(), "no python3 with prometheus_client");
        println!("SKIPPED: no python3 with prometheus_client");
        return;
    };
    let page = page();
    let said = said(Command::new(python).args(["-c", PARSE]), &page.text);
    let parsed: BTreeMap<String, f64> = serde_json::from_str(&said).expect("JSON");
    assert_eq!(parsed.len(), page.samples.len());
    let difference = parsed.values().sum::<f64>() - page.samples.values().sum::<f64>();
    assert!(difference.abs() < 1.0, "{difference}");
    let quoted = "[\"weirgate_listener_connections_open\", [[\"listener\", \"a \\\"quoted\\\" one\"]]]";
    assert!(parsed.contains_key(quoted), "{said}");
}

/// The families on a page, without what belongs to histograms.
fn on_the_page(page: &Page) -> BTreeSet<String> {
    let heads = page.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    heads.filter_map(|head| head.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_documented_and_exported() {
    let known: BTreeSet<String> = families::ALL.iter().map(|family| family.name.to_owned()).collect();
    let documented: BTreeSet<String> = read("docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .filter(|name| name.starts_with("weirgate_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, known);
    let mut exported = on_the_page(&page());
    // where certificates are ordered, which needs an authority
    exported.insert(families::ACME_ORDERS.name.to_owned());
    assert_eq!(exported, known);
}

/// The names of metrics in a text that has queries in it.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("weirgate_")).map(str::to_owned).collect()
}

/// All names that a query may have.
fn samples() -> BTreeSet<String> {
    let of = |family: &families::Family| match family.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", family.name)).to_vec()
        }
        Kind::Counter | Kind::Gauge => vec![family.name.to_owned()],
    };
    families::ALL.iter().flat_map(of).collect()
}

#[test]
fn the_dashboard_and_the_rules_ask_for_what_there_is() {
    for file in ["conf/observability/grafana.json", "conf/observability/alerts.yml"] {
        let text = read(file);
        let asked = names_in(&text);
        assert!(asked.len() > 5, "{file}");
        let unknown: Vec<_> = asked.difference(&samples()).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("conf/observability/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let queries = panel["targets"].as_array().map_or(0, Vec::len);
        assert!(queries > 0 || panel["type"] == "row", "{panel}");
    }
}

#[test]
fn the_rules_are_sound_and_fire_when_they_should() {
    if !need_program("promtool") {
        return;
    }
    let folder: &Path = &root().join("conf/observability");
    let promtool =
        |arguments: &[&str]| said(Command::new("promtool").args(arguments).current_dir(folder), "");
    assert!(promtool(&["check", "rules", "alerts.yml"]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "alerts_test.yml"]).contains("SUCCESS"));
    let written = alerts("alerts.yml", "alert:");
    assert_eq!(alerts("alerts_test.yml", "alertname:"), written, "each has a test");
}

#[test]
fn the_queries_of_the_dashboard_are_sound() {
    if !need_program("promtool") {
        return;
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("conf/observability/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    // what Grafana fills in
    let filled = |query: &str| {
        query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$upstream", ".*")
    };
    let queries = targets.map(|target| filled(target["expr"].as_str().unwrap()));
    let rules: Vec<_> = queries
        .enumerate()
        .map(|(n, query)| serde_json::json!({ "record": format!("query_{n}"), "expr": query }))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queries.yml");
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(&file, groups.to_string()).unwrap();
    let said = said(Command::new("promtool").args(["check", "rules"]).arg(&file), "");
    assert!(said.contains("SUCCESS"), "{said}");
}

fn alerts(file: &str, before: &str) -> BTreeSet<String> {
    let text = read(&format!("conf/observability/{file}"));
    let names = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(before));
    names.map(|name| name.trim().to_owned()).collect()
}
