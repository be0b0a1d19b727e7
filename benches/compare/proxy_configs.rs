//! The configuration files of the proxies: one upstream, plaintext and TLS, and what production adds. What is the
//! same for every benchmark is in `common/programs.rs`. Called by `proxies`.

use crate::common::programs;
use crate::proxies::Site;

pub fn weirgate(site: &Site, production: bool) -> String {
    let Site { dir, plain, secure, origin, cert, key, .. } = site;
    let (dir, cert, key) = (dir.display(), cert.display(), key.display());
    let log = if production { format!("{{ file: \"{dir}/access.log\" }}") } else { "\"off\"".into() };
    let features = if production { WEIRGATE_FEATURES } else { "" };
    let filters = if production { "    filters: [{ use: edge }]\n" } else { "" };
    format!(
        r#"server: {{ threads: 1 }}
log: {{ access: {{ format: json, to: {log} }} }}
proxy_headers: {{ x_forwarded: {production}, forwarded: {production}, request_id: {production} }}
listeners:
  - name: plain
    address: "{plain}"
  - name: secure
    address: "{secure}"
    protocols: [h1, h2]
    tls:
      certificates: [{{ cert: "{cert}", key: "{key}" }}]
{features}routes:
  - path: /
    upstream: origin
{filters}upstreams:
  origin:
    servers: ["{origin}"]
"#
    )
}

const WEIRGATE_FEATURES: &str = r#"filters:
  edge:
    - ip: { deny: [192.0.2.0/24] }
    - headers:
        request: { set: { X-Edge: bench } }
        response: { set: { X-Bench: "1" } }
"#;

pub fn nginx(site: &Site, production: bool) -> String {
    let Site { dir, plain, secure, origin, cert, key, .. } = site;
    let (cert, key) = (cert.display(), key.display());
    let log = if production { NGINX_LOG } else { "access_log off;" };
    let features = if production { NGINX_FEATURES } else { "" };
    let upstream = programs::nginx_upstream("", &[*origin]);
    let http = format!(
        r#"{log}
    {upstream}
    server {{
        listen {plain};
        listen {secure} ssl http2;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        {features}
        location / {{ proxy_pass http://origin; }}
    }}"#
    );
    programs::nginx(dir, &http)
}

/// Buffered, as the other two write their log in batches too.
const NGINX_LOG: &str = r#"log_format json escape=json '{"time":"$time_iso8601","client":"$remote_addr",'
        '"method":"$request_method","host":"$host","path":"$request_uri","protocol":"$server_protocol",'
        '"status":$status,"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
        '"upstream":"$proxy_host","server":"$upstream_addr","connect":"$upstream_connect_time",'
        '"response":"$upstream_header_time","user_agent":"$http_user_agent","referer":"$http_referer",'
        '"tls":"$ssl_protocol","request_id":"$request_id"}';
    access_log access.log json buffer=64k flush=1s;"#;

const NGINX_FEATURES: &str = r#"deny 192.0.2.0/24;
        add_header X-Bench 1;
        add_header X-Request-Id $request_id;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "for=$remote_addr;host=\"$http_host\";proto=$scheme";
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header X-Edge bench;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;"#;

pub fn haproxy(site: &Site, production: bool) -> String {
    let Site { plain, secure, origin, pair, .. } = site;
    let pair = pair.display();
    let log = if production { "log stdout len 4096 format raw local0" } else { "" };
    let global = format!("ssl-default-bind-options ssl-min-ver TLSv1.2\n    {log}");
    let features = if production { HAPROXY_FEATURES } else { "" };
    let sections = format!(
        r#"frontend edge
    bind {plain}
    bind {secure} ssl crt {pair} alpn h2,http/1.1
{features}    default_backend origin
backend origin
    server one {origin}
"#
    );
    programs::haproxy(&global, &sections)
}

/// The log goes to stdout, which is a file here.
const HAPROXY_FEATURES: &str = r#"    log global
    log-format '{"time":"%[date,utime(%Y-%m-%dT%H:%M:%SZ)]","client":"%ci","method":"%HM","host":"%[var(txn.host),json]","path":"%[var(txn.path),json]","protocol":"%HV","status":%ST,"bytes_in":%U,"bytes_out":%B,"duration":%Tt,"upstream":"%b","server":"%s","connect":%Tc,"response":%Tr,"user_agent":"%[var(txn.agent),json]","tls":"%sslv","request_id":"%ID"}'
    unique-id-format %[uuid()]
    unique-id-header X-Request-Id
    option forwardfor
    http-request deny if { src 192.0.2.0/24 }
    http-request set-var(txn.host) req.hdr(host)
    http-request set-var(txn.path) path
    http-request set-var(txn.agent) req.hdr(user-agent)
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header Forwarded "for=%[src];host=\"%[req.hdr(host)]\";proto=%[ssl_fc,iif(https,http)]"
    http-request set-header X-Edge bench
    http-response set-header X-Request-Id %[unique-id]
    http-response set-header X-Bench 1
"#;
