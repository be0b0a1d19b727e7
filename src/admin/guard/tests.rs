use super::*;
use crate::config::secret::Secret;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn admin(address: &str, token: Option<&str>) -> plan::Admin {
    plan::Admin {
        address: address.parse().unwrap(),
        socket_mode: None,
        token: token.map(Secret::new),
        tls: None,
        hosts: vec!["gate.example.com".parse().unwrap(), "*.gates.example.com".parse().unwrap()],
    }
}

fn ask(
    admin: &plan::Admin,
    access: Access,
    headers: &[(&'static str, &str)],
    certificate: bool,
) -> Result<(), Refusal> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    admit(admin, access, Asker { method: &Method::POST, headers: &map, certificate })
}

const HOST: (&str, &str) = ("host", "127.0.0.1:9901");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[test]
fn a_host_is_an_address_or_one_of_our_names() {
    let admin = admin("127.0.0.1:9901", None);
    for host in [
        "127.0.0.1",
        "127.0.0.1:9901",
        "[::1]:9901",
        "10.1.2.3:9901",
        "localhost:9901",
        "LocalHost.",
        "gate.localhost:9901",
        "gate.example.com",
        "GATE.example.com:9901",
        "a.gates.example.com",
    ] {
        assert_eq!(ask(&admin, Access::Read, &[("host", host)], false), Ok(()), "{host}");
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "gates.example.com",
        "a.b.gates.example.com",
        "x@evil.example",
        "evil.example/127.0.0.1",
    ] {
        let refused = Err(Refusal::ForeignHost);
        assert_eq!(ask(&admin, Access::Read, &[("host", host)], false), refused, "{host}");
        assert_eq!(ask(&admin, Access::Page, &[("host", host)], false), refused, "{host}");
        assert_eq!(ask(&admin, Access::Anybody, &[("host", host)], false), Ok(()), "{host}");
    }
    assert_eq!(ask(&admin, Access::Read, &[], false), Err(Refusal::ForeignHost));
    assert_eq!(ask(&admin, Access::Read, &[HOST, HOST], false), Err(Refusal::ForeignHost), "two");
}

#[test]
fn pages_of_other_origins_are_not_answered() {
    let admin = admin("127.0.0.1:9901", None);
    for (header, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "http://127.0.0.1:8080"),
        ("origin", "null"),
    ] {
        for access in [Access::Read, Access::Write] {
            let asked = ask(&admin, access, &[HOST, JSON, (header, value)], false);
            assert_eq!(asked, Err(Refusal::ForeignPage), "{header}: {value}");
        }
        assert_eq!(ask(&admin, Access::Page, &[HOST, (header, value)], false), Ok(()), "a link leads here");
    }
    for (header, value) in
        [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", "http://127.0.0.1:9901")]
    {
        assert_eq!(ask(&admin, Access::Write, &[HOST, JSON, (header, value)], false), Ok(()));
    }
    // what a form can send
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        let asked = ask(&admin, Access::Write, &[HOST, ("content-type", kind)], false);
        assert_eq!(asked, Err(Refusal::NotJson), "{kind}");
    }
    assert_eq!(ask(&admin, Access::Write, &[HOST], false), Err(Refusal::NotJson));
}

#[test]
fn a_token_is_needed_to_change_and_from_elsewhere_to_look() {
    let good = format!("Bearer {TOKEN}");
    let good = ("authorization", good.as_str());
    let wrong = ("authorization", "Bearer 0123456789abcdef0123456789abcdeg");
    let here = admin("127.0.0.1:9901", Some(TOKEN));
    assert_eq!(ask(&here, Access::Read, &[HOST], false), Ok(()));
    assert_eq!(ask(&here, Access::Write, &[HOST, JSON], false), Err(Refusal::NoToken));
    assert_eq!(ask(&here, Access::Write, &[HOST, JSON, wrong], false), Err(Refusal::WrongToken));
    assert_eq!(ask(&here, Access::Write, &[HOST, JSON, good], false), Ok(()));
    let everywhere = admin("0.0.0.0:9901", Some(TOKEN));
    assert_eq!(ask(&everywhere, Access::Read, &[HOST], false), Err(Refusal::NoToken));
    assert_eq!(ask(&everywhere, Access::Read, &[HOST, wrong], false), Err(Refusal::WrongToken));
    assert_eq!(ask(&everywhere, Access::Read, &[HOST, good], false), Ok(()));
    assert_eq!(ask(&everywhere, Access::Read, &[HOST], true), Ok(()), "a certificate will do to look");
    assert_eq!(ask(&everywhere, Access::Write, &[HOST, JSON], true), Err(Refusal::NoToken), "not to change");
    assert_eq!(ask(&everywhere, Access::Anybody, &[], false), Ok(()));
    for scheme in ["Basic abc", "Bearer", "bearer"] {
        let asked = ask(&here, Access::Write, &[HOST, JSON, ("authorization", scheme)], false);
        assert_eq!(asked, Err(Refusal::NoToken), "{scheme}");
    }
}
