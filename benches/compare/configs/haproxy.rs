//! HAProxy. Called by `proxies` and `memory`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::common::programs;
use crate::kinds::Dress;
use crate::proxies::Site;

/// The text; for routes a map file is written beside it, as its manual recommends for many.
pub fn conf(site: &Site, dress: Dress) -> Result<String> {
    let Site { plain, secure, h2c, origin, pair, .. } = site;
    let pair = pair.display();
    let log = if dress.records() { "log stdout len 4096 format raw local0" } else { "" };
    // with the default ratios it closes kept connections to servers as soon as clients have a quarter of the descriptors
    let global = format!(
        "ssl-default-bind-options ssl-min-ver TLSv1.2\n    tune.pool-low-fd-ratio 80\n    \
         tune.pool-high-fd-ratio 90\n    {log}"
    );
    let features = if dress.is_production() { FEATURES } else { "" };
    let sections = format!(
        r#"frontend edge
    bind {plain}
    bind {h2c} proto h2
    bind {secure} ssl crt {pair} alpn h2,http/1.1
{recording}{features}{routes}    default_backend origin
backend origin
    server one {origin}
{metrics}"#,
        recording = recording(dress),
        routes = routes(site, dress)?,
        metrics = metrics(site, dress),
    );
    Ok(programs::haproxy(&global, &sections))
}

/// The log goes to stdout, which is a file here.
fn recording(dress: Dress) -> String {
    let id = match (dress.records(), dress.is_production()) {
        (false, _) => return String::new(),
        (true, false) => "",
        (true, true) => r#","request_id":"%ID""#,
    };
    format!("    log global\n{LOG_FORMAT}{id}}}'\n{LOGGED}")
}

fn metrics(site: &Site, dress: Dress) -> String {
    if !dress.records() {
        return String::new();
    }
    let admin = site.admin;
    format!(
        "frontend metrics\n    bind {admin}\n    http-request use-service prometheus-exporter if {{ path /metrics }}\n"
    )
}

fn routes(site: &Site, dress: Dress) -> Result<String> {
    let mut map = String::new();
    for prefix in dress.prefixes() {
        writeln!(map, "{prefix}/ origin")?;
    }
    if map.is_empty() {
        return Ok(map);
    }
    let file = site.dir.join("routes.map");
    std::fs::write(&file, map).context("the map of routes")?;
    Ok(format!("    use_backend %[path,map_beg({},origin)]\n", file.display()))
}

const LOG_FORMAT: &str = r#"    log-format '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","client":"%ci","method":"%HM","host":"%[var(txn.host),json]","path":"%[var(txn.path),json]","protocol":"%HV","status":%ST,"bytes_in":%U,"bytes_out":%B,"duration":%Tt,"upstream":"%b","server":"%s","connect":%Tc,"response":%Tr,"user_agent":"%[var(txn.agent),json]","tls":"%sslv""#;

const LOGGED: &str = r#"    http-request set-var(txn.host) req.hdr(host)
    http-request set-var(txn.path) path
    http-request set-var(txn.agent) req.hdr(user-agent)
"#;

const FEATURES: &str = r#"    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    option forwardfor
    http-request deny if { src 192.0.2.0/24 }
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header Forwarded "for=%[src];host=\"%[req.hdr(host)]\";proto=%[ssl_fc,iif(https,http)]"
    http-request set-header X-Edge bench
    http-response set-header X-Request-Id %[unique-id]
    http-response set-header X-Bench 1
    http-response set-header Strict-Transport-Security max-age=31536000 if { ssl_fc }
"#;
