//! Who is measured, each set up as its manual says for servers that fail, with the same deadlines: 500 ms to connect, 2 s
//! for an answer, a health check every second where there are any.

use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use crate::cast::{NAME, Papers};
use crate::common::programs::{self, Program};

/// The recommended settings as they stand, but for the addresses.
const EXAMPLE: &str = include_str!("../../../conf/examples/never-an-error/weirgate.yaml");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Weirgate,
    Nginx,
    /// Whatever failed is tried again, as `retry-on` says.
    Haproxy,
    /// But for POST, once it has been sent.
    HaproxyCareful,
}

impl Contender {
    pub const ALL: [Contender; 4] =
        [Contender::Weirgate, Contender::Nginx, Contender::Haproxy, Contender::HaproxyCareful];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Weirgate => "weirgate",
            Contender::Nginx => "nginx",
            Contender::Haproxy => "haproxy",
            Contender::HaproxyCareful => "haproxy, no POST again",
        }
    }

    pub fn program(self) -> Program {
        match self {
            Contender::Weirgate => Program::Weirgate,
            Contender::Nginx => Program::Nginx,
            Contender::Haproxy | Contender::HaproxyCareful => Program::Haproxy,
        }
    }

    /// Its configuration, in and beside `dir`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn conf(self, dir: &Path, address: SocketAddr, origin: &Origin<'_>) -> io::Result<String> {
        let ca = dir.with_extension("ca");
        if let Some(papers) = origin.papers {
            fs::write(&ca, &papers.authority)?;
        }
        let tls = origin.papers.map(|_| ca.display().to_string());
        let (servers, tls) = (origin.addresses, tls.as_deref());
        Ok(match self {
            Contender::Weirgate => weirgate(address, servers, tls),
            Contender::Nginx => nginx(dir, address, servers, tls),
            Contender::Haproxy => haproxy("", address, servers, tls),
            Contender::HaproxyCareful => {
                haproxy("    http-request disable-l7-retry if METH_POST\n", address, servers, tls)
            }
        })
    }
}

/// The servers behind them, which speak TLS if they have papers.
pub struct Origin<'a> {
    pub addresses: [SocketAddr; 3],
    pub papers: Option<&'a Papers>,
}

/// `ca` is the file of the authority, where TLS is spoken to servers.
fn weirgate(address: SocketAddr, servers: [SocketAddr; 3], ca: Option<&str>) -> String {
    let mut config = EXAMPLE.replace("127.0.0.1:8050", &address.to_string());
    for (written, server) in ["127.0.0.1:3051", "127.0.0.1:3052", "127.0.0.1:3053"].into_iter().zip(servers) {
        config = config.replace(written, &server.to_string());
    }
    if let Some(ca) = ca {
        let tls = format!("    tls: {{ ca: {ca}, sni: {NAME} }}\n    servers:\n");
        config = config.replace("    servers:\n", &tls);
    }
    format!("server: {{ threads: 1 }}\nlog: {{ access: {{ to: \"off\" }} }}\n{config}")
}

/// A server that failed once is left out for ten seconds (`max_fails=1 fail_timeout=10s`, the defaults): health checks
/// are for the commercial edition.
fn nginx(dir: &Path, address: SocketAddr, servers: [SocketAddr; 3], ca: Option<&str>) -> String {
    let upstream = programs::nginx_upstream("", &servers);
    let scheme = if ca.is_some() { "https" } else { "http" };
    let tls = ca.map_or_else(String::new, |ca| {
        format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name {NAME}; proxy_ssl_server_name on;"
        )
    });
    let http = format!(
        r#"access_log off;
    {upstream}
    server {{
        listen {address};
        location / {{
            proxy_pass {scheme}://origin;
            {tls}
            proxy_connect_timeout 500ms;
            proxy_send_timeout 2s;
            proxy_read_timeout 2s;
            proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
            proxy_next_upstream_tries 3;
        }}
    }}"#
    );
    programs::nginx(dir, &http)
}

fn haproxy(more: &str, address: SocketAddr, servers: [SocketAddr; 3], ca: Option<&str>) -> String {
    let tls = ca.map_or_else(String::new, |ca| {
        format!(" ssl verify required ca-file {ca} sni str({NAME}) check-sni {NAME}")
    });
    let servers = servers.iter().enumerate();
    let servers: String =
        servers.map(|(number, server)| format!("    server s{number} {server} check{tls}\n")).collect();
    let sections = format!(
        r#"frontend edge
    bind {address}
    default_backend origin
backend origin
    balance roundrobin
    timeout connect 500ms
    timeout server 2s
    timeout check 1s
    option httpchk GET /healthz
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response junk-response response-timeout 500 502 503 504
{more}    default-server inter 1s fall 2 rise 2
{servers}"#
    );
    programs::haproxy("", &sections)
}
