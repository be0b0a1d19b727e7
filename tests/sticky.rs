//! The promise: a client stays with its server, by a cookie of the gate's own or by what the server sets
//! itself; and when it cannot stay it is moved, never shown an error.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/killable.rs"]
mod killable;

use harness::{
    Authority, Backend, Gate, GateBuilder, H2Client, Load, RawServer, Reply, Request, Response,
    ServerAddress, eventually,
};
use killable::KillableBackend;
use std::collections::HashSet;
use std::sync::Mutex;

const SECRET: &str = "an example of 32 bytes, no secret";

/// One worker, so that requests of nobody in particular take turns.
fn config(sticky: &str) -> String {
    format!(
        "server: {{ threads: 1 }}
trusted_proxies: [127.0.0.0/8]
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [$a, $b, $c]
    sticky: {sticky}
"
    )
}

fn by_cookie(more: &str) -> String {
    config(&format!("{{ cookie: {{ name: weirgate, secret: \"{SECRET}\"{more} }} }}"))
}

struct Three {
    a: Backend,
    b: Backend,
    c: Backend,
}

impl Three {
    fn start() -> Self {
        Self { a: Backend::start("a"), b: Backend::start("b"), c: Backend::start("c") }
    }

    fn all(&self) -> [&Backend; 3] {
        [&self.a, &self.b, &self.c]
    }

    fn named(&self, label: &str) -> &Backend {
        self.all().into_iter().find(|backend| backend.label() == label).expect("a backend of this name")
    }

    fn before(&self, config: &str) -> Gate {
        self.with().start(config)
    }

    fn with(&self) -> GateBuilder {
        Gate::with(&[&self.a, &self.b, &self.c])
    }
}

/// The cookies that a response sets, each with its attributes.
fn set_cookies(response: &Response) -> Vec<&str> {
    let set = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    set.map(|(_, value)| value.as_str()).collect()
}

/// `weirgate=...` of the one cookie of the gate that a response sets; `None` when it sets none.
#[track_caller]
fn issued(response: &Response) -> Option<String> {
    let mut ours = set_cookies(response).into_iter().filter(|cookie| cookie.starts_with("weirgate="));
    let one = ours.next()?.split(';').next().map(str::to_owned);
    assert!(ours.next().is_none(), "two cookies: {response:?}");
    one
}

fn bringing(cookie: &str) -> Request {
    Request::get("/").header("Cookie", cookie)
}

/// A first visit: who answered, and the cookie.
#[track_caller]
fn visit(gate: &Gate) -> (String, String) {
    let response = gate.get("/");
    assert_eq!(response.status, 200);
    (response.text(), issued(&response).expect("a cookie for a new client"))
}

#[test]
fn a_client_stays_with_its_server() {
    let three = Three::start();
    let gate = three.before(&by_cookie(", ttl: 1h"));
    let visits: Vec<_> = (0..3).map(|_| visit(&gate)).collect();
    let mut servers: Vec<_> = visits.iter().map(|(server, _)| server.as_str()).collect();
    servers.sort_unstable();
    assert_eq!(servers, ["a", "b", "c"], "new clients are balanced");
    for _ in 0..7 {
        for (server, cookie) in &visits {
            let response = gate.ask(&bringing(cookie));
            assert_eq!((response.status, &response.text()), (200, server));
            assert_eq!(issued(&response), None, "the client has its cookie");
            assert_eq!(response.header("cache-control"), None);
        }
    }
}

#[test]
fn the_cookie_tells_nothing_and_has_its_attributes() {
    let three = Three::start();
    let gate = three.before(&by_cookie(", ttl: 1h, path: /, same_site: strict, domain: gate.test"));
    let response = gate.get("/");
    let set = set_cookies(&response).concat();
    let (pair, attributes) = set.split_once("; ").unwrap();
    let value = pair.strip_prefix("weirgate=").expect(&set);
    assert_eq!(value.len(), 80);
    assert_eq!(attributes, "Path=/; Domain=gate.test; Max-Age=3600; HttpOnly; SameSite=Strict");
    let again = issued(&gate.get("/")).unwrap();
    assert_ne!(again, pair);
    // no session cookie has a Max-Age, and scripts may be let see it
    let gate = three.before(&by_cookie(", http_only: false, secure: true, same_site: none"));
    let set = set_cookies(&gate.get("/")).concat();
    assert!(set.ends_with("; Path=/; SameSite=None; Secure"), "{set}");
}

#[test]
fn secure_where_the_client_used_https() {
    let (authority, three) = (Authority::new(), Three::start());
    let builder = three.with();
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    let gate = builder.start(&by_cookie("").replace(
        "listeners: [",
        "listeners: [{ name: tls, address: $tls, tls: { certificates: [{ cert: $dir/a.crt, key: $dir/a.key }] } }, ",
    ));
    let secure = |response: &Response| set_cookies(response).concat().ends_with("; Secure");
    assert!(!secure(&gate.get("/")));
    assert!(secure(&authority.client("localhost").connect(gate.at("tls")).get("/")));
    let mut h2 = H2Client::connect(gate.at("tls"), &authority.client("localhost"));
    assert!(secure(&h2.ask(&Request::get("/").host("localhost"))));
    let said_by_a_proxy = Request::get("/").header("X-Forwarded-Proto", "https");
    assert!(secure(&gate.ask(&said_by_a_proxy.header("X-Forwarded-For", "192.0.2.7"))));
}

#[test]
fn the_server_sees_every_cookie_but_the_gates() {
    let three = Three::start();
    let gate = three.before(&by_cookie(""));
    let (server, cookie) = visit(&gate);
    let seen = |sent: &str| {
        assert_eq!(gate.ask(&bringing(sent)).text(), server, "{sent}");
        three.named(&server).last_request().header("cookie")
    };
    assert_eq!(seen(&cookie), None);
    assert_eq!(seen(&format!("a=1; {cookie}; b=\"2 \"")).as_deref(), Some("a=1; b=\"2 \""));
    assert_eq!(seen(&format!("{cookie};  c=3;d=4")).as_deref(), Some("c=3;d=4"));
    // nor one that it cannot read
    gate.ask(&bringing("weirgate=forged; e=5"));
    let all: Vec<_> = three.all().into_iter().flat_map(Backend::requests).collect();
    assert!(all.iter().all(|request| !request.raw_head.contains("weirgate=")), "{all:?}");
    assert!(all.iter().any(|request| request.header("cookie").as_deref() == Some("e=5")));
}

#[test]
fn over_h2_cookies_may_come_in_pieces() {
    let three = Three::start();
    let gate = three.before(&by_cookie("").replace("address: $web", "address: $web, protocols: [h1, h2]"));
    let (server, cookie) = visit(&gate);
    let mut h2 = H2Client::connect_plaintext(gate.at("web"));
    let request = Request::get("/").host("x").header("cookie", "a=1").header("cookie", &cookie);
    let request = request.header("cookie", "b=2");
    for _ in 0..4 {
        let response = h2.ask(&request);
        assert_eq!((response.text(), issued(&response)), (server.clone(), None));
    }
    let seen = three.named(&server).last_request();
    assert_eq!(seen.headers_named("cookie"), ["a=1; b=2"], "HTTP/1 has one Cookie header");
    assert!(issued(&h2.ask(&Request::get("/").host("x"))).is_some());
}

#[test]
fn cookies_of_the_server_go_out_beside_the_gates() {
    let three = Three::start();
    for backend in three.all() {
        let reply = Reply::ok("x").header("Set-Cookie", "SID=1; Path=/").header("Set-Cookie", "lang=en");
        backend.answers(reply);
    }
    let gate = three.before(&by_cookie(""));
    let response = gate.get("/");
    assert_eq!(set_cookies(&response)[..2], ["SID=1; Path=/", "lang=en"]);
    assert_eq!(set_cookies(&response).len(), 3);
    let next = gate.ask(&bringing(&issued(&response).unwrap()));
    assert_eq!(set_cookies(&next), ["SID=1; Path=/", "lang=en"]);
}

#[test]
fn shared_caches_do_not_keep_an_answer_with_the_cookie() {
    let three = Three::start();
    let gate = three.before(&by_cookie(""));
    let cache_control = |says: Option<&str>, request: &Request| {
        for backend in three.all() {
            backend.answers(says.map_or(Reply::ok("x"), |says| Reply::ok("x").header("Cache-Control", says)));
        }
        gate.ask(request).header("cache-control")
    };
    let new = Request::get("/");
    assert_eq!(cache_control(None, &new).as_deref(), Some("private"));
    assert_eq!(
        cache_control(Some("public, max-age=60"), &new).as_deref(),
        Some("public, max-age=60, private")
    );
    assert_eq!(cache_control(Some("no-store"), &new).as_deref(), Some("no-store"));
    let (_, cookie) = visit(&gate);
    assert_eq!(cache_control(Some("public"), &bringing(&cookie)).as_deref(), Some("public"));
}

#[test]
fn a_dead_server_is_a_new_choice_and_a_new_cookie() {
    let three = Three::start();
    let gate = three.before(&by_cookie(", ttl: 1h"));
    let (server, cookie) = visit(&gate);
    three.named(&server).stop();
    let moved = gate.ask(&bringing(&cookie));
    assert_eq!(moved.status, 200);
    assert_ne!(moved.text(), server);
    let new = issued(&moved).expect("a new cookie");
    for _ in 0..6 {
        let response = gate.ask(&bringing(&new));
        assert_eq!((response.text(), issued(&response)), (moved.text(), None));
    }
    // the old cookie, which the client might bring from another tab, finds a server each time
    for _ in 0..3 {
        assert_eq!(gate.ask(&bringing(&cookie)).status, 200);
    }
    // it is honoured again when the server is back
    three.named(&server).restart();
    let back = gate.ask(&bringing(&cookie));
    assert_eq!((back.text(), issued(&back)), (server, None));
}

#[test]
fn a_server_found_unhealthy_is_not_asked_at_all() {
    let three = Three::start();
    let check = "    health_check: { http: { path: /healthz }, interval: 50ms, unhealthy_after: 1, healthy_after: 1 }\n";
    let gate = three.before(&(by_cookie("") + check));
    let (server, cookie) = visit(&gate);
    three.named(&server).health(Reply::status(500));
    let mut new = None;
    eventually("the client to be moved", || {
        let response = gate.ask(&bringing(&cookie));
        assert_eq!(response.status, 200);
        new = issued(&response);
        response.text() != server
    });
    three.named(&server).forget();
    for cookie in [&cookie, &new.expect("a new cookie")] {
        assert_eq!(gate.ask(&bringing(cookie)).status, 200);
    }
    assert!(three.named(&server).requests().is_empty());
}

/// A gate before the same servers and with the same secret, for which one of them is draining.
fn draining(three: &Three, server: &str, more: &str) -> Gate {
    let drained = format!("{{ address: ${server}, drain: true }}");
    three.before(&(by_cookie("").replace(&format!("${server}"), &drained) + more))
}

#[test]
fn a_draining_server_keeps_its_clients_and_gets_no_new_ones() {
    let three = Three::start();
    let (server, cookie) = visit(&three.before(&by_cookie("")));
    let gate = draining(&three, &server, "");
    for _ in 0..6 {
        let response = gate.ask(&bringing(&cookie));
        assert_eq!((response.text(), issued(&response)), (server.clone(), None));
        assert_ne!(visit(&gate).0, server);
    }
}

#[test]
fn past_the_deadline_a_draining_server_gives_its_clients_away() {
    let three = Three::start();
    let (server, cookie) = visit(&three.before(&by_cookie("")));
    let gate = draining(&three, &server, "    drain_timeout: 1s\n");
    let mut new = None;
    eventually("the client to be moved", || {
        let response = gate.ask(&bringing(&cookie));
        assert_eq!(response.status, 200);
        new = issued(&response);
        response.text() != server
    });
    three.named(&server).forget();
    for cookie in [new.expect("a new cookie"), cookie] {
        assert_eq!(gate.ask(&bringing(&cookie)).status, 200);
    }
    assert!(three.named(&server).requests().is_empty(), "nobody is sent there any more");
}

#[test]
fn a_server_that_closed_an_idle_connection_keeps_its_clients() {
    let three = Three::start();
    let gate = three.before(&by_cookie(""));
    let (server, cookie) = visit(&gate);
    for _ in 0..20 {
        assert_eq!(gate.ask(&bringing(&cookie)).text(), server);
        three.named(&server).drop_connections();
    }
    assert_eq!(gate.ask(&bringing(&cookie)).text(), server);
}

#[test]
fn a_stale_connection_does_not_move_a_client() {
    let three = Three::start();
    for backend in three.all() {
        let (label, used) = (backend.label().to_owned(), Mutex::new(HashSet::new()));
        // each connection answers once, and is reset when it is used again
        backend.answers_by(move |request| match used.lock().unwrap().insert(request.connection) {
            true => Reply::ok(label.clone()),
            false => Reply::reset(),
        });
    }
    let gate = three.before(&by_cookie(""));
    let (server, cookie) = visit(&gate);
    for _ in 0..10 {
        let response = gate.ask(&bringing(&cookie));
        assert_eq!((response.text(), issued(&response)), (server.clone(), None));
    }
}

#[test]
fn kill_9_of_its_server_under_load_shows_a_client_no_error() {
    let killable = ["a", "b", "c"].map(KillableBackend::start);
    let [a, b, c] = &killable;
    let check = "    health_check: { tcp: {}, interval: 100ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 1 }\n";
    let gate = Gate::start(&(by_cookie("") + check), &[a, b, c]);
    let (server, cookie) = visit(&gate);
    let load = Load::start(gate.at("web"), &bringing(&cookie), 4, 20_000);
    load.wait_for(200);
    killable.iter().find(|backend| backend.label() == server).expect("it answered").kill();
    let at_the_kill = load.answered();
    load.wait_for(at_the_kill + 400);
    let outcomes = load.finish();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), outcomes.len());
    assert!(outcomes.len() >= 600, "{} requests", outcomes.len());
}

#[test]
fn a_websocket_gets_the_cookie_with_its_101() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let [a, b, c] = ["a", "b", "c"].map(|label| RawServer::saying(label, switching));
    let gate = Gate::start(&by_cookie(""), &[&a, &b, &c]);
    let upgrade = Request::get("/").header("Connection", "Upgrade").header("Upgrade", "websocket");
    let upgrade = upgrade.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = upgrade.header("Sec-WebSocket-Version", "13");
    let response = gate.ask(&upgrade);
    assert_eq!(response.status, 101);
    let cookie = issued(&response).expect("a cookie");
    let again = gate.ask(&upgrade.header("Cookie", &cookie));
    assert_eq!((again.status, issued(&again)), (101, None));
}

#[test]
fn another_replica_and_a_restarted_gate_know_the_cookie() {
    let three = Three::start();
    let config = by_cookie(", ttl: 1h");
    let gate = three.before(&config);
    let visits: Vec<_> = (0..3).map(|_| visit(&gate)).collect();
    drop(gate);
    let replica = three.before(&config);
    for (server, cookie) in &visits {
        let response = replica.ask(&bringing(cookie));
        assert_eq!((&response.text(), issued(&response)), (server, None));
    }
    let stranger = three.before(&config.replace(SECRET, "quite another secret of that length"));
    let responses: Vec<_> = visits.iter().map(|(_, cookie)| stranger.ask(&bringing(cookie))).collect();
    assert!(responses.iter().all(|response| response.status == 200 && issued(response).is_some()));
}

#[test]
fn a_secret_is_rotated_without_moving_anybody() {
    let three = Three::start();
    let old = three.before(&by_cookie(""));
    let visits: Vec<_> = (0..3).map(|_| visit(&old)).collect();
    let next = "the secret that comes after it";
    let rotated = by_cookie(&format!(", previous_secret: \"{SECRET}\"")).replacen(
        &format!("secret: \"{SECRET}\""),
        &format!("secret: \"{next}\""),
        1,
    );
    let gate = three.before(&rotated);
    let renewed: Vec<_> = visits
        .iter()
        .map(|(server, cookie)| {
            let response = gate.ask(&bringing(cookie));
            assert_eq!(&response.text(), server);
            (server, issued(&response).expect("a cookie under the new secret"))
        })
        .collect();
    let done = three.before(&by_cookie("").replace(SECRET, next));
    for (server, cookie) in renewed {
        let response = done.ask(&bringing(&cookie));
        assert_eq!((&response.text(), issued(&response)), (server, None));
    }
}

#[test]
fn half_of_its_time_gone_a_cookie_is_renewed() {
    let three = Three::start();
    let gate = three.before(&by_cookie(", ttl: 4s"));
    let (server, mut cookie) = visit(&gate);
    let mut renewals = 0;
    eventually("two renewals, which take as long as the ttl", || {
        let response = gate.ask(&bringing(&cookie));
        assert_eq!(response.text(), server);
        if let Some(new) = issued(&response) {
            renewals += 1;
            cookie = new;
        }
        renewals == 2
    });
    assert_eq!(gate.ask(&bringing(&cookie)).text(), server);
}

#[test]
fn what_cannot_be_read_is_ignored() {
    let three = Three::start();
    let gate = three.before(&by_cookie(""));
    let (server, cookie) = visit(&gate);
    let value = cookie.strip_prefix("weirgate=").unwrap();
    let turned: String = value.chars().rev().collect();
    let long = "A".repeat(5000);
    for forged in
        ["", "x", "127.0.0.1:1", "\"\"", "%00", &turned, &long, &value[1..], &format!("\"{value}\"")]
    {
        let response = gate.ask(&bringing(&format!("weirgate={forged}")));
        assert_eq!(response.status, 200, "{forged}");
        assert!(issued(&response).is_some(), "{forged}");
    }
    // of several, the first that can be read; but not if it stands behind a heap of others
    let after = |junk: usize| "weirgate=junk; ".repeat(junk) + &cookie;
    for _ in 0..3 {
        let response = gate.ask(&bringing(&after(3)));
        assert_eq!((response.text(), issued(&response)), (server.clone(), None));
    }
    let two_of_one_name = format!("{cookie}; {}", visit(&gate).1);
    assert_eq!(gate.ask(&bringing(&two_of_one_name)).text(), server);
    assert!(issued(&gate.ask(&bringing(&after(100)))).is_some());
}

#[test]
fn the_gates_own_replies_set_no_cookie() {
    let three = Three::start();
    let config = by_cookie("").replace(
        "routes: [",
        "routes: [{ exact: /pong, respond: { body: pong } }, { path: /limited, upstream: group, limits: { max_body_bytes: 10B } }, ",
    );
    let gate = three.before(&config);
    assert_eq!(set_cookies(&gate.get("/pong")).len(), 0);
    let refused = gate.ask(&Request::post("/limited", "more than ten bytes"));
    assert_eq!((refused.status, set_cookies(&refused).len()), (413, 0));
    let (_, cookie) = visit(&gate);
    three.all().into_iter().for_each(Backend::stop);
    for request in [Request::get("/"), bringing(&cookie)] {
        let failed = gate.ask(&request);
        assert_eq!((failed.status, set_cookies(&failed).len()), (502, 0), "{failed:?}");
    }
}

#[test]
fn a_split_chooses_the_group_and_each_group_has_its_cookie() {
    let three = Three::start();
    let gate = three.before(&format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes:
  - path: /
    split:
      groups: [{{ upstream: stable, weight: 1 }}, {{ upstream: canary, weight: 1 }}]
      key: {{ header: x-user }}
upstreams:
  stable:
    servers: [$a, $b]
    sticky: {{ cookie: {{ name: weirgate, secret: \"{SECRET}\" }} }}
  canary:
    servers: [$c]
    sticky: {{ cookie: {{ name: weirgate_canary, secret: \"{SECRET}\" }} }}
"
    ));
    let as_user = |user: usize, request: Request| gate.ask(&request.header("x-user", &user.to_string()));
    let (mut stable, mut canary) = (0, 0);
    for user in 0..20 {
        let first = as_user(user, Request::get("/"));
        let cookie = set_cookies(&first).concat().split(';').next().unwrap().to_owned();
        if first.text() == "c" {
            assert!(cookie.starts_with("weirgate_canary="), "{cookie}");
            canary += 1;
        } else {
            assert!(cookie.starts_with("weirgate="), "{cookie}");
            stable += 1;
        }
        for _ in 0..3 {
            let response = as_user(user, bringing(&cookie));
            assert_eq!((response.text(), set_cookies(&response).len()), (first.text(), 0));
        }
    }
    assert!(stable > 2 && canary > 2, "{stable} and {canary}");
}

/// Sets a session for whoever brings none, and tells whose it is.
fn sessions(three: &Three, set: impl Fn(Reply, &str) -> Reply + Clone + Send + Sync + 'static) {
    for backend in three.all() {
        let (label, set) = (backend.label().to_owned(), set.clone());
        backend.answers_by(move |request| {
            let reply = Reply::ok(label.clone());
            match request.target.strip_prefix("/login/") {
                Some(user) => set(reply, user),
                None => reply,
            }
        });
    }
}

#[test]
fn the_cookie_of_an_application_is_learned() {
    let three = Three::start();
    sessions(&three, |reply, user| {
        let reply = reply.header("Set-Cookie", "lang=en").header("X-Other", "SID=no");
        reply.header("Set-Cookie", &format!("SID={user}; Path=/; HttpOnly"))
    });
    let gate = three.before(&config("{ learn: { cookie: SID } }"));
    let users: Vec<_> = (0..12).map(|n| format!("user-{n}")).collect();
    let logins: Vec<_> = users.iter().map(|user| gate.get(&format!("/login/{user}"))).collect();
    assert!(logins.iter().all(|login| set_cookies(login).len() == 2), "nothing is added");
    for _ in 0..4 {
        for (user, login) in users.iter().zip(&logins) {
            let response = gate.ask(&bringing(&format!("lang=en; SID={user}")));
            assert_eq!(response.text(), login.text(), "{user}");
            let seen = three.named(&login.text()).last_request();
            assert_eq!(seen.header("cookie"), Some(format!("lang=en; SID={user}")), "it is the server's");
        }
    }
    let others: Vec<_> = (0..3).map(|_| gate.ask(&bringing("SID=unknown")).text()).collect();
    assert!(others[0] != others[1] && others[1] != others[2] && others[0] != others[2], "{others:?}");
}

#[test]
fn a_header_of_an_application_is_learned() {
    let three = Three::start();
    sessions(&three, |reply, user| reply.header("X-Session-Id", user));
    let gate = three.before(&config("{ learn: { header: x-session-id, ttl: 10m, entries: 100 } }"));
    let login = gate.get("/login/alice").text();
    gate.get("/login/bob");
    for _ in 0..5 {
        assert_eq!(gate.ask(&Request::get("/").header("X-Session-ID", "alice")).text(), login);
    }
}

#[test]
fn a_learned_session_moves_when_its_server_dies_and_stays_where_it_went() {
    let three = Three::start();
    sessions(&three, |reply, user| reply.header("Set-Cookie", &format!("SID={user}")));
    let gate = three.before(&config("{ learn: { cookie: SID } }"));
    let first = gate.get("/login/alice").text();
    three.named(&first).stop();
    let moved = gate.ask(&bringing("SID=alice"));
    assert_eq!(moved.status, 200);
    assert_ne!(moved.text(), first);
    three.named(&first).restart();
    for _ in 0..6 {
        assert_eq!(gate.ask(&bringing("SID=alice")).text(), moved.text());
    }
}

#[test]
fn secrets_are_not_printed() {
    let three = Three::start();
    let config = by_cookie(", previous_secret: \"the one that was before it\"");
    let printed = three.with().check(&config, &["--print"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.contains("previous_secret: '****'"), "{printed:?}");
    let text = printed.text();
    assert!(!text.contains(SECRET) && !text.contains("the one that was before it"), "{text}");
}
