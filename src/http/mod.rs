//! The life of a request.

mod connection;
mod refusal;
pub mod reply;

pub use connection::{Connection, TlsFacts};
pub use refusal::{HeadRefuser, Refusal, Reject};

/// Stands in until the room is complete.
#[derive(Debug)]
pub struct RequestId(String);

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
