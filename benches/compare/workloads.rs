//! The kinds of work: each names its load, which `load` makes, and in which dress whom it is measured with.

use clap::ValueEnum;

use crate::kinds::{Dress, ROUTED};
use crate::load::{Load, Protocol};
use crate::stage::Key;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// 13 bytes over keep-alive HTTP/1.1.
    SmallH1,
    /// The same on 64 connections.
    #[value(name = "small-h1-64")]
    SmallH1On64,
    /// The same on 2,000 connections.
    #[value(name = "small-h1-2000")]
    SmallH1On2000,
    /// 13 bytes over keep-alive HTTP/1.1 over TLS.
    SmallTlsH1,
    /// 13 bytes over HTTP/2 over TLS.
    SmallTlsH2,
    /// 13 bytes over HTTP/2 in plaintext.
    #[value(name = "small-h2c")]
    SmallH2c,
    /// A new TLS connection for each request.
    Handshakes,
    /// The same, with the session of a connection before.
    Resumed,
    /// A new TLS connection for each request, with a certificate of RSA.
    HandshakesRsa,
    /// The same, with the session of a connection before.
    ResumedRsa,
    /// 1 KB bodies from the server over keep-alive HTTP/1.1.
    #[value(name = "body-1k")]
    Body1k,
    /// 100 KB bodies from the server.
    #[value(name = "large-h1")]
    LargeH1,
    /// 10 MB bodies from the server.
    #[value(name = "body-10m")]
    Body10m,
    /// 1 KB bodies to the server.
    #[value(name = "upload-1k")]
    Upload1k,
    /// 100 KB bodies to the server.
    #[value(name = "upload-100k")]
    Upload100k,
    /// 10 MB bodies to the server.
    #[value(name = "upload-10m")]
    Upload10m,
    /// One of ten thousand routes, and one of two.
    Routes,
}

const KB: usize = 1024;

impl Workload {
    pub const ALL: &'static [Workload] = &[
        Workload::SmallH1,
        Workload::SmallH1On64,
        Workload::SmallH1On2000,
        Workload::SmallTlsH1,
        Workload::SmallTlsH2,
        Workload::SmallH2c,
        Workload::Handshakes,
        Workload::Resumed,
        Workload::HandshakesRsa,
        Workload::ResumedRsa,
        Workload::Body1k,
        Workload::LargeH1,
        Workload::Body10m,
        Workload::Upload1k,
        Workload::Upload100k,
        Workload::Upload10m,
        Workload::Routes,
    ];

    /// Those of a look.
    pub const QUICK: &'static [Workload] = &[
        Workload::SmallH1,
        Workload::SmallTlsH1,
        Workload::SmallTlsH2,
        Workload::SmallH2c,
        Workload::Handshakes,
        Workload::LargeH1,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Workload::SmallH1 => "small h1: 13-byte bodies, HTTP/1.1 keep-alive, 32 connections",
            Workload::SmallH1On64 => "small h1, 64: 13-byte bodies, HTTP/1.1 keep-alive, 64 connections",
            Workload::SmallH1On2000 => {
                "small h1, 2,000: 13-byte bodies, HTTP/1.1 keep-alive, 2,000 connections"
            }
            Workload::SmallTlsH1 => {
                "small TLS h1: 13-byte bodies, HTTP/1.1 keep-alive over TLS, 32 connections"
            }
            Workload::SmallTlsH2 => {
                "small TLS h2: 13-byte bodies, HTTP/2 over TLS, 8 connections of 4 streams"
            }
            Workload::SmallH2c => {
                "small h2c: 13-byte bodies, HTTP/2 in plaintext by prior knowledge, 8 connections of 4 streams"
            }
            Workload::Handshakes => {
                "TLS handshakes: full TLS 1.3 X25519 P-256, one request each, 8 at a time"
            }
            Workload::Resumed => "resumed TLS handshakes: TLS 1.3 X25519, one request each, 8 at a time",
            Workload::HandshakesRsa => {
                "TLS handshakes, RSA: full TLS 1.3 X25519 RSA-2048, one request each, 8 at a time"
            }
            Workload::ResumedRsa => {
                "resumed TLS handshakes, RSA: TLS 1.3 X25519, one request each, 8 at a time"
            }
            Workload::Body1k => "1 KB h1: 1 KB bodies, HTTP/1.1 keep-alive, 32 connections",
            Workload::LargeH1 => "100 KB h1: 100 KB bodies, HTTP/1.1 keep-alive, 16 connections",
            Workload::Body10m => "10 MB h1: 10 MB bodies, HTTP/1.1 keep-alive, 4 connections",
            Workload::Upload1k => "1 KB uploads: 1 KB request bodies, HTTP/1.1 keep-alive, 32 connections",
            Workload::Upload100k => {
                "100 KB uploads: 100 KB request bodies, HTTP/1.1 keep-alive, 16 connections"
            }
            Workload::Upload10m => "10 MB uploads: 10 MB request bodies, HTTP/1.1 keep-alive, 4 connections",
            Workload::Routes => {
                "10,000 routes and 2: 13-byte bodies, HTTP/1.1 keep-alive, 32 connections, the same request"
            }
        }
    }

    /// The name used on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What those have on that are measured when nobody is named.
    pub fn dresses(self) -> &'static [Dress] {
        match self {
            Workload::SmallH1 | Workload::SmallTlsH2 => &[Dress::Bare, Dress::Log, Dress::Production],
            Workload::SmallTlsH1 | Workload::Handshakes | Workload::LargeH1 => {
                &[Dress::Bare, Dress::Production]
            }
            Workload::Routes => &[Dress::TwoRoutes, Dress::ManyRoutes],
            Workload::SmallH1On64
            | Workload::SmallH1On2000
            | Workload::SmallH2c
            | Workload::Resumed
            | Workload::HandshakesRsa
            | Workload::ResumedRsa
            | Workload::Body1k
            | Workload::Body10m
            | Workload::Upload1k
            | Workload::Upload100k
            | Workload::Upload10m => &[Dress::Bare],
        }
    }

    /// The kind of key that the proxies show a certificate of.
    pub fn key(self) -> Key {
        match self {
            Workload::HandshakesRsa | Workload::ResumedRsa => Key::Rsa2048,
            _ => Key::P256,
        }
    }

    pub fn load(self) -> Load {
        let small = Load { protocol: Protocol::H1, path: "/", answer: 0, upload: 0, connections: 32 };
        let down = |path, answer, connections| Load { path, answer, connections, ..small };
        let up = |upload, connections| Load { upload, connections, ..small };
        match self {
            Workload::SmallH1 => small,
            Workload::SmallH1On64 => Load { connections: 64, ..small },
            Workload::SmallH1On2000 => Load { connections: 2_000, ..small },
            Workload::SmallTlsH1 => Load { protocol: Protocol::TlsH1, ..small },
            Workload::SmallTlsH2 => Load { protocol: Protocol::TlsH2, connections: 8, ..small },
            Workload::SmallH2c => Load { protocol: Protocol::H2c, connections: 8, ..small },
            Workload::Handshakes | Workload::HandshakesRsa => {
                Load { protocol: Protocol::Handshake, connections: 8, ..small }
            }
            Workload::Resumed | Workload::ResumedRsa => {
                Load { protocol: Protocol::Resumption, connections: 8, ..small }
            }
            Workload::Body1k => down("/1k", KB, 32),
            Workload::LargeH1 => down("/100k", 100 * KB, 16),
            Workload::Body10m => down("/10m", 10 * KB * KB, 4),
            Workload::Upload1k => up(KB, 32),
            Workload::Upload100k => up(100 * KB, 16),
            Workload::Upload10m => up(10 * KB * KB, 4),
            Workload::Routes => Load { path: ROUTED, ..small },
        }
    }
}
