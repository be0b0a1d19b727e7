//! What an operator sees. Called by every room and calls none: it takes plain values and
//! borrowed text, never an endpoint or a session.
//!
//! - [`events`]: one function for each thing that can happen, which logs it once.

pub mod events;
