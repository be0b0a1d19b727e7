//! The promise: a scanner finds no weakness in the TLS that is spoken. Takes a minute and a half and needs `testssl`
//! (Debian: testssl.sh), so that it is run by `cargo test --test testssl -- --ignored`.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Checked, Gate, need_program};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// What testssl says besides TLS is about certificates and headers, which are the operator's. They are given as a
/// careful one would have them.
const CONFIG: &str = "
listeners:
  - name: secure
    address: $secure
    tls:
      certificates:
        - { cert: $dir/ecdsa.crt, key: $dir/ecdsa.key }
        - { cert: $dir/rsa.crt, key: $dir/rsa.key }
    filters:
      - hsts: { include_subdomains: true }
      - headers: { response: { set: { X-Frame-Options: DENY, X-Content-Type-Options: nosniff } } }
routes: [{ path: /, respond: { body: here } }]
";

/// Where the certificate's status can be asked for, which testssl wants to see named.
fn with_ocsp_address(params: &mut rcgen::CertificateParams) {
    // AuthorityInfoAccess: SEQUENCE { SEQUENCE { id-ad-ocsp, [6] URI } }
    let uri = b"http://ocsp.invalid/";
    let oid = [0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1];
    let length = |bytes: usize| u8::try_from(bytes).expect("short");
    let inside = [&oid[..], &[0x86, length(uri.len())], uri].concat();
    let access = [&[0x30, length(inside.len() + 2), 0x30, length(inside.len())], &inside[..]].concat();
    let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
    params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(oid, access));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 60 * 60);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now - days(1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + days(89);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
}

fn findings(file: &Path) -> Vec<(String, String, String)> {
    let found: Value = serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let all = found.as_array().expect("a list of findings").iter();
    all.map(|finding| (text(finding, "id"), text(finding, "severity"), text(finding, "finding"))).collect()
}

#[test]
#[ignore = "takes a minute and a half"]
fn a_scanner_rates_nothing_as_medium_or_worse() {
    if !need_program("testssl") {
        return;
    }
    let authority = Authority::new();
    let ecdsa = authority.issue_with(&["localhost"], with_ocsp_address);
    let rsa = authority.issue_rsa_with(&["localhost"], with_ocsp_address);
    let builder = Gate::with(&[]).file("ca.crt", authority.pem());
    let builder = builder.file("ecdsa.crt", ecdsa.0).file("ecdsa.key", ecdsa.1);
    let gate = builder.file("rsa.crt", rsa.0).file("rsa.key", rsa.1).start(CONFIG);
    let (address, report) = (gate.at("secure"), gate.dir().join("report.json"));
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color", "0", "--warnings", "off", "--ip", &address.ip().to_string()]);
    testssl.arg("--add-ca").arg(gate.dir().join("ca.crt")).arg("--jsonfile").arg(&report);
    let said = Checked::of(testssl.arg(format!("localhost:{}", address.port())).stdin(Stdio::null()));
    let found = findings(&report);
    assert!(found.len() > 100, "the scan did not come to its end: {}", said.text());
    let bad: Vec<_> = found
        .iter()
        .filter(|(_, severity, _)| !["OK", "INFO", "LOW", "DEBUG"].contains(&severity.as_str()))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let offered =
        |id: &str| found.iter().find(|(name, _, _)| name == id).map(|(_, _, finding)| finding.as_str());
    assert_eq!(offered("TLS1_3"), Some("offered with final"));
    assert_eq!(offered("TLS1_1"), Some("not offered"));
}
