//! The configuration files of the proxies, one file each: one upstream; plaintext, TLS and HTTP/2 in plaintext on
//! listeners of their own; and what each [`Dress`](crate::kinds::Dress) adds. What is the same for every benchmark is in
//! `common/programs.rs`. Called by `proxies` and `memory`.

pub mod caddy;
pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod weirgate;

/// Kept connections to the server that every proxy has room for, so that none has to connect anew with 2,000 clients.
pub const UPSTREAM_POOL: usize = 2_048;
