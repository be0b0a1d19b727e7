//! weirgate. Called by `proxies` and `memory`.

use std::fmt::Write as _;

use super::UPSTREAM_POOL;
use crate::kinds::Dress;
use crate::proxies::Site;

pub fn conf(site: &Site, dress: Dress) -> String {
    let Site { dir, plain, secure, h2c, admin, origin, cert, key, .. } = site;
    let (dir, cert, key) = (dir.display(), cert.display(), key.display());
    let (log, admin) = match dress.records() {
        true => (format!("{{ file: \"{dir}/access.log\" }}"), format!("admin: {{ address: \"{admin}\" }}\n")),
        false => ("\"off\"".to_owned(), String::new()),
    };
    let production = dress.is_production();
    let features = if production { FILTERS } else { "" };
    let filters = if production { "    filters: [{ use: edge }]\n" } else { "" };
    format!(
        r#"server: {{ threads: 1, upstream_keepalive_pool_size: {UPSTREAM_POOL} }}
{admin}log: {{ access: {{ format: json, to: {log} }} }}
proxy_headers: {{ x_forwarded: {production}, forwarded: {production}, request_id: {production} }}
listeners:
  - name: plain
    address: "{plain}"
  - name: h2c
    address: "{h2c}"
    protocols: [h1, h2]
  - name: secure
    address: "{secure}"
    protocols: [h1, h2]
    tls:
      certificates: [{{ cert: "{cert}", key: "{key}" }}]
{features}routes:
{routes}  - path: /
    upstream: origin
{filters}upstreams:
  origin:
    servers: ["{origin}"]
"#,
        routes = routes(dress),
    )
}

fn routes(dress: Dress) -> String {
    let mut text = String::new();
    for prefix in dress.prefixes() {
        // writing to a String cannot fail
        let _ = writeln!(text, "  - {{ path: {prefix}, upstream: origin }}");
    }
    text
}

/// Three of them.
const FILTERS: &str = r#"filters:
  edge:
    - ip: { deny: [192.0.2.0/24] }
    - headers:
        request: { set: { X-Edge: bench } }
        response: { set: { X-Bench: "1" } }
    - hsts: {}
"#;
