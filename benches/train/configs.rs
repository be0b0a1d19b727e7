//! What the trained process runs. Called by `main` and `gate`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::common::programs::free_addresses;

/// Routes of the large configuration.
const ROUTES: usize = 2_000;

/// How much there is to do for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wearing {
    /// Proxying alone.
    Nothing,
    /// An access log, a request id, forwarded headers, filters, thousands of routes.
    Production,
}

/// Where everything listens and lies.
#[derive(Clone, Debug)]
pub struct Places {
    pub dir: PathBuf,
    pub origin: SocketAddr,
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    pub tcp: SocketAddr,
    pub admin: SocketAddr,
}

impl Places {
    pub fn free(dir: &Path, origin: SocketAddr) -> Result<Places> {
        let [plain, secure, tcp, admin] = free_addresses()?;
        Ok(Places { dir: dir.to_owned(), origin, plain, secure, tcp, admin })
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("weirgate.yaml")
    }

    /// Writes the configuration. `turn` makes it differ from the one before.
    pub fn write(&self, wearing: Wearing, turn: usize) -> Result<()> {
        let text = match wearing {
            Wearing::Nothing => self.bare(),
            Wearing::Production => self.production(turn),
        };
        Ok(fs::write(self.file(), text)?)
    }

    fn listeners(&self) -> String {
        let Places { dir, plain, secure, tcp, .. } = self;
        let dir = dir.display();
        format!(
            r#"listeners:
  - {{ name: plain, address: "{plain}", protocols: [h1, h2] }}
  - name: secure
    address: "{secure}"
    protocols: [h1, h2]
    tls: {{ certificates: [{{ cert: "{dir}/cert.pem", key: "{dir}/key.pem" }}] }}
  - {{ name: tcp, address: "{tcp}", tcp: {{ upstream: origin }} }}
"#
        )
    }

    fn bare(&self) -> String {
        let (listeners, origin) = (self.listeners(), self.origin);
        format!(
            r#"server: {{ threads: 1 }}
log: {{ access: {{ to: "off" }} }}
proxy_headers: {{ x_forwarded: false, forwarded: false, request_id: false }}
{listeners}routes: [{{ path: /, upstream: origin }}]
upstreams: {{ origin: {{ servers: ["{origin}"] }} }}
"#
        )
    }

    fn production(&self, turn: usize) -> String {
        let Places { dir, origin, admin, .. } = self;
        let (dir, listeners) = (dir.display(), self.listeners());
        let mut text = format!(
            r#"server: {{ threads: 1 }}
log: {{ access: {{ format: json, to: {{ file: "{dir}/access.log" }} }} }}
admin: {{ address: "{admin}" }}
proxy_headers: {{ x_forwarded: true, forwarded: true, request_id: true }}
{listeners}filters:
  edge:
    - ip: {{ deny: [192.0.2.0/24] }}
    - headers:
        request: {{ set: {{ X-Edge: "{turn}" }} }}
        response: {{ set: {{ X-Bench: "1" }} }}
upstreams:
  origin:
    servers: ["{origin}"]
    health_check: {{ tcp: {{}}, interval: 1s }}
  api:
    servers: [{{ address: "{origin}", weight: 2 }}]
    balance: least_connections
routes:
  - {{ path: /, upstream: origin, filters: [{{ use: edge }}] }}
  - {{ path: /api, upstream: api, filters: [{{ use: edge }}] }}
"#
        );
        for number in 0..ROUTES {
            let host = number % 50;
            let _ = writeln!(
                text,
                "  - {{ host: [\"h{host}.example.com\"], path: /service/{number}, upstream: origin }}"
            );
        }
        text
    }
}
