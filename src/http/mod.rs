//! The life of a request.

mod connection;
pub mod cookie;
pub mod forwarded;
pub mod path;
pub mod query;
mod refusal;
pub mod reply;
mod request_id;
pub mod route;

pub use connection::{Connection, TlsFacts};
pub use refusal::{HeadRefuser, Refusal, Reject};
pub use request_id::{RequestId, X_REQUEST_ID};
