//! What a condition holds for.

use super::*;

#[test]
fn get_includes_head() {
    let router = router(vec![
        prefix("/get").methods(&[Method::GET]),
        prefix("/head").methods(&[Method::HEAD]),
        prefix("/own").methods(&[Method::from_bytes(b"PURGE").unwrap()]),
    ]);
    let ask = |path, method| Ask::path(path).method(method).of(&router);
    assert_eq!(ask("/get", Method::GET), Some(0));
    assert_eq!(ask("/get", Method::HEAD), Some(0));
    assert_eq!(ask("/get", Method::POST), None);
    assert_eq!(ask("/head", Method::HEAD), Some(1));
    assert_eq!(ask("/head", Method::GET), None);
    assert_eq!(ask("/own", Method::from_bytes(b"PURGE").unwrap()), Some(2));
}

#[test]
fn values_of_headers() {
    let pattern = ValueMatch::Regex(Pattern(Regex::new("^v[0-9]$").unwrap()));
    let router = router(vec![
        prefix("/is").header("x", is("one")),
        prefix("/prefix").header("x", ValueMatch::Prefix("on".into())),
        prefix("/regex").header("x", pattern),
        prefix("/present").header("x", ValueMatch::Present(true)),
        prefix("/absent").header("x", ValueMatch::Present(false)),
    ]);
    let takes = |path: &str, values: &[&str]| {
        values.iter().fold(Ask::path(path), |ask, v| ask.header("x", v)).of(&router).is_some()
    };
    assert!(takes("/is", &["one"]) && takes("/is", &["two", "one"]));
    assert!(!takes("/is", &["One"]) && !takes("/is", &["one, two"]) && !takes("/is", &[]));
    assert!(takes("/prefix", &["one"]) && !takes("/prefix", &["o"]) && !takes("/prefix", &[]));
    assert!(takes("/regex", &["v1"]) && takes("/regex", &["x", "v2"]));
    assert!(!takes("/regex", &["v12"]) && !takes("/regex", &["\u{e9}"]));
    assert!(takes("/present", &[""]) && !takes("/present", &[]));
    assert!(takes("/absent", &[]) && !takes("/absent", &[""]));
}

#[test]
fn values_of_query_and_cookies() {
    let router = router(vec![
        prefix("/q").query("a", is("two words")),
        prefix("/flag").query("debug", ValueMatch::Present(true)),
        prefix("/none").query("debug", ValueMatch::Present(false)),
        prefix("/c").cookie("canary", is("1")),
    ]);
    let query = |path, query| Ask::path(path).query(query).of(&router);
    assert_eq!(query("/q", "a=two+words"), Some(0));
    assert_eq!(query("/q", "b=1&%61=two%20words"), Some(0));
    assert_eq!(query("/q", "a=two"), None);
    assert_eq!(Ask::path("/q").of(&router), None);
    assert_eq!(query("/flag", "debug"), Some(1));
    assert_eq!(query("/flag", "debugger"), None);
    assert_eq!(query("/none", "x"), Some(2));
    assert_eq!(Ask::path("/none").of(&router), Some(2));
    let cookie = |value| Ask::path("/c").header("cookie", value).of(&router);
    assert_eq!(cookie("a=b; canary=1"), Some(3));
    assert_eq!(cookie("a=canary; canary=2"), None);
}

#[test]
fn clients_and_listeners() {
    let router = router(vec![
        prefix("/c").client("10.0.0.0/8").client("2001:db8::/32"),
        prefix("/l").listener(1).listener(2),
    ]);
    let client = |client| Ask::path("/c").client(client).of(&router);
    assert_eq!(client("10.1.2.3"), Some(0));
    assert_eq!(client("::ffff:10.1.2.3"), Some(0), "IPv4 on an IPv6 socket");
    assert_eq!(client("2001:db8::7"), Some(0));
    assert_eq!(client("11.0.0.1"), None);
    assert_eq!(Ask::path("/l").listener(2).of(&router), Some(1));
    assert_eq!(Ask::path("/l").of(&router), None);
}

#[test]
fn certificates_of_clients() {
    use CertificatePart::{Fingerprint, San, Subject, Verified};
    let spiffe = ValueMatch::Prefix("URI:spiffe://example/".into());
    let shown = || any().certificate(Verified, ValueMatch::Present(true));
    let router = router(vec![
        any(),
        shown(),
        shown().certificate(Subject, is("CN=one")),
        shown().certificate(San, spiffe).certificate(San, is("DNS:a")),
        prefix("/none").certificate(Verified, ValueMatch::Present(false)),
        prefix("/none").certificate(San, ValueMatch::Present(false)),
        prefix("/print").certificate(Fingerprint, is("0a1b")),
    ]);
    let with = |subject: &str, san: &[&str]| Ask::path("/").certificate(subject, san).of(&router);
    assert_eq!(Ask::path("/").of(&router), Some(0));
    assert_eq!(with("CN=two", &[]), Some(1));
    assert_eq!(with("CN=one", &["DNS:a"]), Some(2));
    assert_eq!(with("CN=one", &["DNS:a", "URI:spiffe://example/x"]), Some(3), "any of the names");
    assert_eq!(with("CN=one,O=x", &[]), Some(1), "a part of the subject is not the subject");
    assert_eq!(Ask::path("/none").of(&router), Some(4));
    assert_eq!(Ask::path("/none").certificate("CN=one", &[]).of(&router), Some(5), "none has no names");
    assert_eq!(Ask::path("/none").certificate("CN=one", &["DNS:a"]).of(&router), Some(2));
    assert_eq!(Ask::path("/print").of(&router), Some(0));
    assert_eq!(Ask::path("/print").certificate("CN=two", &[]).of(&router), Some(6));
}
