pub mod config;
pub mod filter;
pub mod http;
pub mod template;
pub mod units;
