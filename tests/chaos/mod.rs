//! Chaos: servers that go wrong on command, each a process of its own, so that `kill -9` and SIGSTOP are the real thing,
//! and clients that tell every way in which a request can fail from every other.
//!
//! `tests/chaos.rs` has them around the gate under test and `benches/compare` around it and other programs, so nothing
//! here knows the harness of either.

// each of the two uses its own half of some of it
#![allow(dead_code, unused_imports)]

mod clients;
mod orders;
mod papers;
mod server;
mod trouble;
mod victim;

pub use clients::{Asked, Crowd, Ended, Load};
pub use orders::Order;
pub use papers::{NAME, Papers};
pub use server::run;
pub use trouble::Trouble;
pub use victim::Victim;
