//! A plan becomes a process: sockets are bound, workers and services started, signals heeded.
//! Called by `gate`.

mod server;
mod signals;
mod snapshot;

pub use server::run;
