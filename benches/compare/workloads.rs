//! The five kinds of work. Each names its load; `load` makes it.

use clap::ValueEnum;

use crate::load::Load;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// 13 bytes over keep-alive HTTP/1.1.
    SmallH1,
    /// 13 bytes over keep-alive HTTP/1.1 over TLS.
    SmallTlsH1,
    /// 13 bytes over HTTP/2 over TLS.
    SmallTlsH2,
    /// A new TLS connection for each request.
    Handshakes,
    /// 100 KB bodies over keep-alive HTTP/1.1.
    #[value(name = "large-h1")]
    LargeH1,
}

impl Workload {
    pub const ALL: &'static [Workload] = &[
        Workload::SmallH1,
        Workload::SmallTlsH1,
        Workload::SmallTlsH2,
        Workload::Handshakes,
        Workload::LargeH1,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Workload::SmallH1 => "small h1: 13-byte bodies, HTTP/1.1 keep-alive, 32 connections",
            Workload::SmallTlsH1 => {
                "small TLS h1: 13-byte bodies, HTTP/1.1 keep-alive over TLS, 32 connections"
            }
            Workload::SmallTlsH2 => {
                "small TLS h2: 13-byte bodies, HTTP/2 over TLS, 8 connections of 4 streams"
            }
            Workload::Handshakes => {
                "TLS handshakes: full TLS 1.3 X25519 P-256, one request each, 8 at a time"
            }
            Workload::LargeH1 => "100 KB h1: 100 KB bodies, HTTP/1.1 keep-alive, 16 connections",
        }
    }

    /// The name used on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn load(self) -> Load {
        match self {
            Workload::SmallH1 => Load::Wrk { tls: false, path: "/", connections: 32 },
            Workload::SmallTlsH1 => Load::Wrk { tls: true, path: "/", connections: 32 },
            Workload::SmallTlsH2 => Load::H2load { connections: 8, streams: 4, per_second: 40_000 },
            Workload::Handshakes => Load::Handshakes { concurrency: 8, per_second: 2_000 },
            Workload::LargeH1 => Load::Wrk { tls: false, path: "/100k", connections: 16 },
        }
    }
}
