//! weirgate: a programmable edge proxy and load balancer built on Pingora.

pub mod config;
pub mod units;
