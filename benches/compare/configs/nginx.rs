//! nginx. The one of Debian 12 cannot have HTTP/1.1 and HTTP/2 in plaintext on one listener. Called by `proxies` and `memory`.

use std::fmt::Write as _;

use super::UPSTREAM_POOL;
use crate::common::programs;
use crate::kinds::Dress;
use crate::proxies::Site;

pub fn conf(site: &Site, dress: Dress) -> String {
    let Site { dir, plain, secure, h2c, origin, cert, key, .. } = site;
    let (cert, key) = (cert.display(), key.display());
    let production = dress.is_production();
    let (maps, features) = if production { (MAPS, FEATURES) } else { ("", "") };
    let http = format!(
        r#"{recording}
    client_max_body_size 0;
    client_body_buffer_size 64k;
    proxy_request_buffering off;
    upstream origin {{
        server {origin};
        keepalive {UPSTREAM_POOL};
        keepalive_requests 100000000;
    }}
    {maps}
    server {{
        listen {plain};
        listen {h2c} http2;
        listen {secure} ssl http2;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        {features}
        location / {{ proxy_pass http://origin; }}
{locations}    }}"#,
        recording = recording(site, dress),
        locations = locations(dress),
    );
    // each client needs one to the server, too, and there are up to 2,000
    programs::nginx(dir, &http).replace("worker_connections 4096;", WORKER_CONNECTIONS)
}

/// Each costs memory, so that there are no more than are needed.
pub const WORKER_CONNECTIONS: &str = "worker_connections 8192;";

/// The access log and the page of metrics. The log is buffered, as the other two write theirs in batches too.
fn recording(site: &Site, dress: Dress) -> String {
    if !dress.records() {
        return "access_log off;".to_owned();
    }
    let id = if dress.is_production() { r#","request_id":"$request_id""# } else { "" };
    format!(
        r#"{LOG_FORMAT}
        '{id}}}';
    access_log access.log json buffer=64k flush=1s;
    server {{ listen {}; access_log off; location = /metrics {{ stub_status; }} }}"#,
        site.admin
    )
}

fn locations(dress: Dress) -> String {
    let mut text = String::new();
    for prefix in dress.prefixes() {
        // writing to a String cannot fail
        let _ = writeln!(text, "        location {prefix}/ {{ proxy_pass http://origin; }}");
    }
    text
}

const LOG_FORMAT: &str = r#"log_format json escape=json '{"time":"$time_iso8601","client":"$remote_addr",'
        '"method":"$request_method","host":"$host","path":"$request_uri","protocol":"$server_protocol",'
        '"status":$status,"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
        '"upstream":"$proxy_host","server":"$upstream_addr","connect":"$upstream_connect_time",'
        '"response":"$upstream_header_time","user_agent":"$http_user_agent","referer":"$http_referer",'
        '"tls":"$ssl_protocol"'"#;

const MAPS: &str = r#"map $https $hsts { default ""; on "max-age=31536000"; }"#;

const FEATURES: &str = r#"deny 192.0.2.0/24;
        add_header X-Bench 1;
        add_header X-Request-Id $request_id;
        add_header Strict-Transport-Security $hsts;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "for=$remote_addr;host=\"$http_host\";proto=$scheme";
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header X-Edge bench;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;"#;
