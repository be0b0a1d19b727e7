//! The admin address, resolved.

use crate::config::plan::Tls;
use crate::config::secret::Secret;
use crate::config::words::{HostPattern, ListenAddress, SocketMode};
use std::sync::Arc;

/// Where the process is asked and told.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    pub address: ListenAddress,
    /// Of a unix socket.
    pub socket_mode: Option<SocketMode>,
    pub token: Option<Secret>,
    pub tls: Option<Arc<Tls>>,
    /// Names in `Host` that are ours beside `localhost`.
    pub hosts: Vec<HostPattern>,
}

impl Admin {
    /// Whether others than this machine can connect.
    pub fn is_exposed(&self) -> bool {
        self.address.ip().is_some_and(|address| !address.ip().to_canonical().is_loopback())
    }

    /// Whether nobody connects without a certificate.
    pub fn demands_certificates(&self) -> bool {
        let required = |tls: &Arc<Tls>| {
            let of_policy =
                |policy: &super::TlsPolicy| policy.client_auth.as_ref().is_some_and(|auth| auth.required);
            tls.policies.iter().all(of_policy)
        };
        self.tls.as_ref().is_some_and(required)
    }
}
