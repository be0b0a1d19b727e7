//! Configurations and requests by chance, from small vocabularies, so that they meet.

use weirgate::explain::Question;

/// Chance that can be repeated.
pub struct Dice(fastrand::Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(fastrand::Rng::with_seed(seed))
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.usize(..of.len())]
    }

    /// One time in so many.
    fn once_in(&mut self, times: usize) -> bool {
        self.0.usize(..times) == 0
    }

    /// A few of them in a list of YAML, or nothing.
    fn list(&mut self, key: &str, of: &[&str], once_in: usize) -> String {
        if !self.once_in(once_in) {
            return String::new();
        }
        let mut some: Vec<&str> = (0..self.0.usize(1..3)).map(|_| self.one(of)).collect();
        some.dedup();
        format!(", {key}: [{}]", some.join(", "))
    }

    /// A condition on a value.
    fn value(&mut self, key: &str, once_in: usize) -> String {
        if !self.once_in(once_in) {
            return String::new();
        }
        let name = self.one(NAMES);
        let wanted = self.one(&[
            "'1'",
            "'12'",
            "{ prefix: '1' }",
            "{ regex: '2$' }",
            "{ present: true }",
            "{ present: false }",
        ]);
        format!(", {key}: {{ {name}: {wanted} }}")
    }
}

const HOSTS: &[&str] = &["a.test", "b.a.test", "'*.a.test'", "'*.test'", "other.example"];
const PATHS: &[&str] = &["/", "/a", "/a/b", "/a/b/c", "/ab", "/b", "/b/c", "/a%20b"];
const PATTERNS: &[&str] = &["/a.*", "'/[ab](/.*)?'", ".*c", "'/[^/]+'", "/a/.*"];
const NAMES: &[&str] = &["x-a", "x-b"];

/// Two listeners, up to fourteen routes that say their names in `X-Route`, two groups of one server each.
pub fn config(dice: &mut Dice) -> String {
    let redirect =
        dice.one(&["", ", redirect_https: { port: 443 }", ", redirect_https: { port: 8443, status: 307 }"]);
    let mut text = format!(
        "listeners:\n  - {{ name: web, address: $web }}\n  - {{ name: second, address: $second{redirect} }}\ntrusted_proxies: [127.0.0.0/8]\nroutes:\n"
    );
    for number in 0..dice.0.usize(3..15) {
        text.push_str(&route(dice, number));
    }
    // both groups are used, so that no warning stands in the log
    text.push_str("  - { name: last, exact: /only/here, split: [{ upstream: one, weight: 1 }, { upstream: two, weight: 1 }] }\n");
    text.push_str("upstreams: { one: { servers: [$one] }, two: { servers: [$two] } }\n");
    text
}

fn route(dice: &mut Dice, number: usize) -> String {
    let path = match dice.0.usize(..6) {
        0 => String::new(),
        1 => format!(", exact: {}", dice.one(PATHS)),
        2 => format!(", regex: {}", dice.one(PATTERNS)),
        _ => format!(", path: {}", dice.one(PATHS)),
    };
    let action = match dice.0.usize(..6) {
        0 | 1 => format!("upstream: {}", dice.one(&["one", "two"])),
        2 => "split: [{ upstream: one, weight: 1 }, { upstream: two, weight: 3 }]".to_string(),
        3 => "redirect: { to: 'https://{host}/to{path}{query}', status: 302 }".to_string(),
        _ => format!(
            "respond: {{ status: {}, body: 'r{number} {{method}} {{uri}} {{client_ip}}' }}",
            dice.one(&["200", "403"])
        ),
    };
    format!(
        "  - {{ name: r{number}{path}{}{}{}{}{}{}{}, {action}, filters: [headers: {{ response: {{ set: {{ X-Route: r{number} }} }} }}] }}\n",
        dice.list("host", HOSTS, 3),
        dice.list("methods", &["GET", "POST", "DELETE"], 5),
        dice.list("listeners", &["web", "second"], 5),
        dice.list("client", &["10.0.0.0/8", "127.0.0.0/8"], 6),
        dice.value("headers", 5),
        dice.value("cookies", 7),
        dice.value("query", 7),
    )
}

/// A request, sound or not, to one of the listeners.
pub fn question(dice: &mut Dice) -> Question {
    let mut url = path(dice);
    if dice.once_in(3) {
        let value = dice.one(&["1", "12", "%31", "2+1", ""]);
        url.push_str(&format!("?{}={value}&{}=1", dice.one(NAMES), dice.one(&["x-b", "y"])));
    }
    let host = match dice.once_in(25) {
        true => dice.one(&["a b", "", "[::1", "a.test:99999", "u@a.test"]),
        false => dice.one(&[
            "a.test",
            "b.a.test",
            "B.A.Test:8080",
            "c.b.a.test.",
            "x.test",
            "other.example",
            "[::1]:80",
        ]),
    };
    let mut headers = vec![("Host".to_string(), host.to_string())];
    for name in NAMES {
        if dice.once_in(3) {
            headers.push(((*name).to_string(), dice.one(&["1", "12", "x2", ""]).to_string()));
        }
    }
    if dice.once_in(4) {
        headers.push(("Cookie".into(), format!("{}={}; z=1", dice.one(NAMES), dice.one(&["1", "12", "3"]))));
    }
    if dice.once_in(3) {
        headers.push((
            "X-Forwarded-For".into(),
            dice.one(&["10.1.2.3", "192.0.2.1, 127.0.0.9", "unknown"]).into(),
        ));
    }
    Question {
        method: dice.one(&["GET", "GET", "POST", "HEAD", "DELETE", "PUT"]).to_string(),
        url,
        headers,
        listener: Some(dice.one(&["web", "web", "second"]).to_string()),
        client: None,
        certificate: None,
    }
}

/// One that a route may have, in one of its spellings, or one that is refused.
fn path(dice: &mut Dice) -> String {
    if dice.once_in(25) {
        return dice
            .one(&["/a%00", "/%", "/a%zz", "/a\\b", "/a b", "/x/..;/a", "/é", "//", "/;x/a"])
            .to_string();
    }
    let mut path = dice.one(PATHS).to_string();
    if dice.once_in(3) {
        path.push_str(dice.one(&["/", "/c", "x", "/b/c", ";p=1"]));
    }
    match dice.0.usize(..8) {
        0 => path.replace('a', "%61"),
        1 => path.replacen('/', "//", 1),
        2 => path.replacen('/', "/x/../", 1),
        3 => path.replacen('/', "/%2e/", 1),
        _ => path,
    }
}
