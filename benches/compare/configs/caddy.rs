//! Caddy, with nothing on. Called by `proxies`.

use super::UPSTREAM_POOL;
use crate::proxies::Site;

pub fn conf(site: &Site) -> String {
    let Site { dir, plain, secure, h2c, origin, cert, key, .. } = site;
    format!(
        r#"{{
    admin off
    auto_https off
    persist_config off
    grace_period 1s
    storage file_system "{dir}/storage"
    log {{
        output discard
    }}
    servers {{
        protocols h1 h2 h2c
    }}
}}
(work) {{
    bind {ip}
    reverse_proxy {origin} {{
        transport http {{
            keepalive_idle_conns {UPSTREAM_POOL}
            keepalive_idle_conns_per_host {UPSTREAM_POOL}
        }}
    }}
}}
http://:{plain} {{
    import work
}}
http://:{h2c} {{
    import work
}}
https://:{secure} {{
    tls "{cert}" "{key}"
    import work
}}
"#,
        dir = dir.display(),
        ip = plain.ip(),
        plain = plain.port(),
        h2c = h2c.port(),
        secure = secure.port(),
        cert = cert.display(),
        key = key.display(),
    )
}
