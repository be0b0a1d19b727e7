//! The promise: a line of the access log says what it was told to say, of the requests it was told of, and never what it
//! was told to keep back.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, H2Client, Reply, Request, eventually};
use serde_json::json;
use std::collections::BTreeSet;

const REST: &str = "
listeners: [{ name: web, address: $web }]
routes: [{ name: all, path: /, upstream: group }]
upstreams: { group: { servers: [$api] } }
";

fn logging(access: &str, api: &Backend) -> Gate {
    Gate::start(&format!("log: {{ access: {access} }}{REST}"), &[api])
}

/// All lines, in which this is: the end of the process comes behind them.
#[track_caller]
fn lines(gate: &Gate, with: &str) -> Vec<String> {
    eventually(with, || gate.stdout().contains(with));
    gate.terminate();
    gate.exit();
    gate.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn a_template_says_what_it_names() {
    let api = Backend::start("api");
    api.answers(Reply::ok("hello").header("X-Cache", "hit").header("Set-Cookie", "session=s3cret"));
    let template = concat!(
        "{client} {request} {status} {response_bytes} {route} {upstream} {server} {attempts} {scheme} {host} {path} ",
        "{query} {query.page} {header.x-tenant} {response_header.x-cache} {cookie.theme} {header.cookie} ",
        "{response_header.set-cookie} {grpc_status} {tls} {{end}}"
    );
    let gate = logging(&format!("{{ format: {{ template: '{template}' }} }}"), &api);
    let request = Request::get("/a/b?page=2&x=%22").host("Shop.test").header("X-Tenant", "one \"two\"");
    assert_eq!(gate.ask(&request.header("Cookie", "session=s3cret; theme=dark")).text(), "hello");
    let expected = format!(
        "127.0.0.1 GET /a/b?page=2&x=%22 HTTP/1.1 200 5 all group {} 1 http shop.test /a/b ?page=2&x=%22 2 one \
         \\x22two\\x22 hit dark [redacted] [redacted] - - {{end}}",
        harness::ServerAddress::address(&api),
    );
    let found = lines(&gate, "{end}");
    // the client's address is one of the machine's own
    let from_request = |line: &str| line.split_once(' ').expect("words").1.to_owned();
    assert_eq!(from_request(&found[0]), from_request(&expected));
}

#[test]
fn headers_stand_in_json() {
    let api = Backend::start("api");
    api.answers(Reply::ok("hello").header("X-Cache", "hit").header("Location", "https://y/?code=s3cret"));
    let gate = logging(
        "{ headers: { request: [x-tenant, authorization, x-none], response: [x-cache, location] }, \
           redact: { query: [code] } }",
        &api,
    );
    let request = Request::get("/one").header("X-Tenant", "a").header("X-Tenant", "b\"");
    gate.ask(&request.header("Authorization", "Basic czNjcmV0"));
    let line = gate.logged_path("/one");
    assert_eq!(
        line["request_headers"],
        json!({ "x-tenant": "a, b\"", "authorization": "[redacted]" }),
        "{line}"
    );
    assert_eq!(
        line["response_headers"],
        json!({ "x-cache": "hit", "location": "https://y/?code=[redacted]" })
    );
}

#[test]
fn what_is_to_be_kept_back_is_in_no_line() {
    const SECRET: &str = "s3cret";
    let authority = Authority::new();
    let api = Backend::start("api");
    let everything = "{request} {uri} {path} {query} {query.token} {query.TOKEN} {header.authorization} {header.cookie} \
                      {header.x-api-key} {header.referer} {referer} {user_agent} {header.user-agent} {cookie.session} \
                      {header.x-url} {method} {host} {error}";
    for format in ["json", "combined", &format!("{{ template: '{everything}' }}")] {
        let (more, headers) = match format {
            "json" => {
                ("", "headers: { request: [authorization, cookie, x-api-key, referer, user-agent, x-url] },")
            }
            "combined" => ("", ""),
            _ => (", cookies: [session]", ""),
        };
        let builder = Gate::with(&[&api]);
        authority.issue_into(builder.dir(), "a", &["localhost"]);
        let gate = builder.start(&format!(
            "log: {{ access: {{ format: {format}, {headers} redact: {{ headers: [x-api-key, user-agent], query: [token]{more} }} }} }}
listeners:
  - {{ name: web, address: $web }}
  - {{ name: secure, address: $secure, tls: {{ certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$api] }} }}
"
        ));
        let full = |target: &str| {
            Request::get(target)
                .host("localhost")
                .header("Authorization", &format!("Bearer {SECRET}"))
                .header("Cookie", &format!("session={SECRET}"))
                .header("X-Api-Key", SECRET)
                .header("User-Agent", SECRET)
                .header("Referer", &format!("http://from.test/?a=1&token={SECRET}"))
                .header("X-Url", &format!("/y?token={SECRET}#a"))
        };
        let targets =
            ["/a?token=s3cret", "/b?x=1&Token=s3cret&y", "/c?%74oken=s3cret", "/d?x;token=s3cret;s3cret"];
        for target in targets {
            assert_eq!(gate.ask(&full(target)).status, 200);
        }
        let mut h2 = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
        assert_eq!(h2.ask(&full("/e?token=s3cret")).status, 200);
        // heads that become no request
        for head in [
            "GET /f?token=s3cret HTTP/1.1\r\nHost: a b\r\nUser-Agent: s3cret\r\n\r\n",
            "GET\t/g?token=s3cret HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /h?token=s3cret HTTP/1.1\r\nHost: x?token=s3cret\r\n\r\n",
        ] {
            let mut client = gate.connect();
            client.send(head).finish_sending();
            client.until_closed();
        }
        let found = lines(&gate, "/h?token");
        assert!(found.len() >= 8, "{found:#?}");
        for line in &found {
            assert!(!line.contains(SECRET) && line.contains("[redacted]"), "{format}: {line}");
        }
    }
}

fn targets(gate: &Gate) -> BTreeSet<String> {
    gate.access_log().iter().map(|line| line["path"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn routes_and_listeners_choose_and_what_failed_has_a_line() {
    let api = Backend::start("api");
    let config = "
listeners:
  - { name: web, address: $web, access_log: off }
  - { name: told, address: $told }
routes:
  - { path: /quiet, upstream: group, access_log: off }
  - { path: /told, upstream: group, access_log: on }
  - { path: /, upstream: group }
upstreams: { group: { servers: [$api] } }
";
    let gate = Gate::start(config, &[&api]);
    let answer = |request: &harness::Received| match request.target.contains("broken") {
        true => Reply::status(503),
        false => Reply::ok("fine"),
    };
    api.answers_by(answer);
    let mut told = Client::connect(gate.at("told"));
    for target in ["/quiet/1", "/told/1", "/other/1", "/quiet/broken", "/other/broken", "/last"] {
        gate.get(target);
        told.get(&format!("{target}/told"));
    }
    // refused before there was a request: what its listener says
    gate.raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    lines(&gate, "/last/told");
    let expected = [
        "/told/1",
        "/told/1/told",
        "/other/1/told",
        "/quiet/broken",
        "/quiet/broken/told",
        "/other/broken",
        "/other/broken/told",
        "/last/told",
    ];
    assert_eq!(targets(&gate), expected.map(str::to_owned).into());
}

#[test]
fn a_share_of_the_requests_is_chosen_by_their_id() {
    let api = Backend::start("api");
    let config = format!("trusted_proxies: [127.0.0.0/8]\nlog: {{ access: {{ sample: 40% }} }}{REST}");
    let logged = |turn: usize| {
        let gate = Gate::start(&config, &[&api]);
        let mut client = gate.connect();
        for number in 0..200 {
            let request = Request::get(&format!("/{number}")).header("X-Request-Id", &format!("id-{number}"));
            assert_eq!(client.ask(&request).status, 200, "turn {turn}");
        }
        gate.terminate();
        gate.exit();
        targets(&gate)
    };
    let (one, other) = (logged(1), logged(2));
    assert_eq!(one, other);
    // of 200 independent ones of 40%, 30 and 130 are out of reach
    assert!((30..130).contains(&one.len()), "{}", one.len());
}

#[test]
fn a_flow_is_told_as_a_template_says() {
    let config = "
log: { access: { format: { template: '{request}|{protocol}|{upstream}|{request_bytes}|{ended}|{uri}|{header.x}' } } }
listeners:
  - { name: quiet, address: $quiet, tcp: { upstream: group }, access_log: off }
  - { name: flows, address: $flows, tcp: { upstream: group } }
upstreams: { group: { servers: [$api] } }
";
    let api = Backend::start("api");
    let gate = Gate::start(config, &[&api]);
    for listener in ["quiet", "flows"] {
        let mut client = Client::connect(gate.at(listener));
        assert_eq!(client.ask(&Request::get("/x")).text(), "api");
        client.finish_sending();
        client.until_closed();
    }
    eventually("the line of a flow with bytes", || {
        gate.stdout().lines().any(|line| {
            let fields: Vec<_> = line.split('|').collect();
            fields[0].starts_with("TCP flows ")
                && fields[3] != "0"
                && (fields[1], fields[2]) == ("TCP", "group")
        })
    });
    for line in gate.stdout().lines() {
        assert!(line.starts_with("TCP flows ") && line.ends_with("|-|-"), "{line}");
    }
}
