//! Whole connections over loopback, through the real accept loop, with a small application behind.

mod changes;
mod http1;
mod http2;
mod inherited;
mod limits;
pub(super) mod setup;
mod shutdown;
pub(super) mod tls;
