//! Gates that many tests want: over TLS, and before a server that writes down what it sees.

use super::gate::{Gate, GateBuilder};
use super::net::ServerAddress;
use super::recorder::Recorder;
use super::tls::Authority;

impl GateBuilder {
    /// A certificate of this authority for `localhost`, as `$dir/a.crt` and `$dir/a.key`. `$tls` in the configuration is
    /// what a listener with it says.
    pub fn certified(self, authority: &Authority) -> Self {
        authority.issue_into(self.dir(), "a", &["localhost"]);
        let dir = self.dir().display().to_string();
        self.set("tls", &format!("tls: {{ certificates: [{{ cert: {dir}/a.crt, key: {dir}/a.key }}] }}"))
    }
}

impl Gate {
    /// One that listens at `$secure`, over TLS and within these limits, and sends everything to this server.
    #[track_caller]
    pub fn secure(authority: &Authority, server: &dyn ServerAddress, limits: &str) -> Self {
        Gate::with(&[server]).certified(authority).start(&format!(
            "listeners: [{{ name: secure, address: $secure, $tls, limits: {{ {limits} }} }}]
routes: [{{ path: /, upstream: server }}]
upstreams: {{ server: {{ servers: [${}] }} }}
",
            server.label()
        ))
    }

    /// One with narrow limits that speaks this protocol, before an origin that writes down what comes.
    #[track_caller]
    pub fn before_recorder(origin: &Recorder, protocol: &str) -> Self {
        let limits = "header_timeout: 5s, max_header_bytes: 8KB, max_uri_bytes: 2KB, max_headers: 50, max_body_bytes: 64KB";
        Gate::start(
            &format!(
                "listeners: [{{ name: web, address: $web, protocols: [{protocol}], limits: {{ {limits} }} }}]
routes: [{{ path: /, upstream: origin }}]
upstreams: {{ origin: {{ servers: [${}] }} }}
",
                origin.label()
            ),
            &[origin],
        )
    }
}
