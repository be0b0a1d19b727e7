//! weirgate: a programmable edge proxy and load balancer built on Pingora.

pub mod config;
pub mod edge;
pub mod filter;
pub mod http;
pub mod observe;
pub mod template;
pub mod units;
pub mod upstream;
