//! `health_check: { tcp: {} }` with TLS, where the handshake must come to its end, or with `send_proxy`. Without
//! either the check is Pingora's own. Called by the watch through Pingora's `HealthCheck`.

use super::Thresholds;
use super::dial::Dial;
use async_trait::async_trait;
use pingora_core::Result;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;

/// A connection that a healthy server accepts.
pub struct DialHealthCheck {
    pub dial: Dial,
    pub thresholds: Thresholds,
}

#[async_trait]
impl HealthCheck for DialHealthCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        self.dial.connect(backend).await.map(drop)
    }

    fn health_threshold(&self, success: bool) -> usize {
        self.thresholds.of(success)
    }
}
