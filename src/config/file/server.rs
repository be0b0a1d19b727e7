//! `server`, `proxy_headers` and `log`: what concerns the whole process. The access log is in `access_log`.

use crate::config::decode::Located;
use crate::config::file::{AccessLog, Later};
use crate::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// The process. These are Pingora's server keys under their own names; a key that our own
/// edge would make inert is refused.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Worker threads; 0 = one per core.
    pub threads: usize,
    /// Where this process is; servers of the same `zone` are preferred.
    pub zone: Option<Located<String>>,
    /// Run in the background. Sockets are bound and certificates read before the process forks.
    pub daemon: bool,
    /// Where a daemon writes its process log; standard error without it.
    pub error_log: Option<PathBuf>,
    /// Where the process id is written; removed at the end.
    pub pid_file: Option<PathBuf>,
    /// The socket through which `weirgate reload`, `status`, `diff` and `upgrade` talk to this process. Made with
    /// mode 0600; only root and the user of the process are answered. Off unless named.
    pub upgrade_sock: Option<Located<PathBuf>>,
    /// The user a daemon runs as.
    pub user: Option<Located<String>>,
    /// The group a daemon runs as.
    pub group: Option<Located<String>>,
    /// The directory a daemon changes to.
    pub working_directory: Option<Located<PathBuf>>,
    /// Reload when the configuration, or a file that it includes or names, has changed.
    pub reload_on_change: bool,
    /// How long to go on serving after SIGTERM before accepting stops, so that a load balancer in front
    /// can send its clients elsewhere.
    pub shutdown_delay: Time,
    /// Seconds that requests in flight are given to end after SIGTERM and `shutdown_delay`; those on a
    /// listener that a reload removes have as long.
    pub grace_period_seconds: u64,
    /// Seconds that the runtimes are given to stop after the grace period.
    pub graceful_shutdown_timeout_seconds: u64,
    /// Source addresses for IPv4 connections to servers.
    pub client_bind_to_ipv4: Vec<IpAddr>,
    /// Source addresses for IPv6 connections to servers.
    pub client_bind_to_ipv6: Vec<IpAddr>,
    /// Idle connections to servers that each worker keeps.
    pub upstream_keepalive_pool_size: usize,
    /// The most tries a request may ever make, whatever `retry` says.
    pub max_retries: usize,
    /// Blocking threads per runtime.
    pub max_blocking_threads: Option<usize>,
    /// Seconds after which an idle blocking thread ends.
    pub blocking_threads_ttl_seconds: Option<u64>,

    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub ca_file: Later,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub upstream_debug_ssl_keylog: Later,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub work_stealing: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub listener_tasks_per_fd: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub runtime_enable_alt_timer: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub s2n_config_cache_size: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub downstream_tls_offload_threadpools: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub downstream_tls_offload_thread_per_pool: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub upstream_connect_offload_threadpools: Inert,
    #[schemars(skip)]
    #[serde(skip_serializing)]
    pub upstream_connect_offload_thread_per_pool: Inert,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            threads: 0,
            zone: None,
            daemon: false,
            error_log: None,
            pid_file: None,
            user: None,
            group: None,
            working_directory: None,
            reload_on_change: false,
            shutdown_delay: Time::secs(0),
            grace_period_seconds: 30,
            graceful_shutdown_timeout_seconds: 5,
            client_bind_to_ipv4: Vec::new(),
            client_bind_to_ipv6: Vec::new(),
            upstream_keepalive_pool_size: 256,
            max_retries: 16,
            max_blocking_threads: None,
            blocking_threads_ttl_seconds: None,
            upgrade_sock: None,
            ca_file: Later,
            upstream_debug_ssl_keylog: Later,
            work_stealing: Inert,
            listener_tasks_per_fd: Inert,
            runtime_enable_alt_timer: Inert,
            s2n_config_cache_size: Inert,
            downstream_tls_offload_threadpools: Inert,
            downstream_tls_offload_thread_per_pool: Inert,
            upstream_connect_offload_threadpools: Inert,
            upstream_connect_offload_thread_per_pool: Inert,
        }
    }
}

/// A Pingora key that cannot act here, because weirgate has its own edge: each worker is one
/// thread with its own runtime, listeners and connection pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inert;

impl<'de> Deserialize<'de> for Inert {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(d)?;
        Err(serde::de::Error::custom(
            "this Pingora key has no effect in weirgate\nremove it: each worker is one thread with its own \
             runtime and connections, and there is nothing for the key to set",
        ))
    }
}

/// Headers about the client that are added to requests on their way to a server. What a client
/// sent under these names is believed only when it comes from `trusted_proxies`, and replaced otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`. When off, these are removed
    /// unless the client is a trusted proxy.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239). When off, it is removed unless the client is a trusted proxy.
    pub forwarded: bool,
    /// `X-Request-Id`, on the request and on the response.
    pub request_id: bool,
    /// `Client-Cert` (RFC 9440), `X-Client-Cert-Subject`, `X-Client-Cert-San` and `X-Client-Cert-Fingerprint`, for
    /// a certificate that a listener with `client_auth` has believed; from all others they are removed. When off,
    /// they are removed unless the client is a trusted proxy.
    pub client_certificate: bool,
}

impl Default for ProxyHeaders {
    fn default() -> Self {
        ProxyHeaders { x_forwarded: true, forwarded: true, request_id: true, client_certificate: true }
    }
}

/// The process log and the access log.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe process message that is written to standard error. `RUST_LOG` overrides it.
    pub level: LogLevel,
    /// A line per request.
    pub access: AccessLog,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}
