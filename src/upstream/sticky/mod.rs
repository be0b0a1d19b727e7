//! Stickiness: which server a client was with, and how that is known again. `http::sticky` reads it
//! from requests and writes it to responses.
//!
//! - [`cookie`]: a cookie of the gate's own, which holds the server's address, sealed.
//! - [`learned`]: values that servers set themselves, remembered here.

pub mod cookie;
pub mod learned;

use super::registry::Registry;
use crate::config::plan;
pub use cookie::Cookie;
pub use learned::Learned;
use std::sync::Arc;

/// How the clients of a group stay with their servers.
#[derive(Debug)]
pub enum Sticky {
    Cookie(Cookie),
    Learned(Arc<Learned>),
}

impl Sticky {
    /// # Errors
    /// A sentence for the operator, when no key can be made of the secret.
    pub fn build(plan: &plan::Sticky, group: &str, registry: &Registry) -> Result<Sticky, String> {
        Ok(match plan {
            plan::Sticky::Cookie(cookie) => Sticky::Cookie(Cookie::build(cookie, group)?),
            plan::Sticky::Learn(learn) => Sticky::Learned(registry.learned(group, learn)?),
        })
    }
}
