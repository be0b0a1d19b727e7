//! The life of a request: one `impl ProxyHttp`, its callbacks in call order, and the steps they
//! name. `edge` hands every request in; `run` builds the [`Site`] it is held against.
//!
//! In reading order: `proxy` (the switchboard), `intake` (who asks, which route), `tidy` (what no server is to see), `websocket` (asked for in HTTP/2), `route` and `path`
//! (pure), `split`, `key`, `sticky`, `call` (gRPC), `forward` (which server), `dial` (below TLS), `kept` (from one request to the next), `queue` (when), `hedge` (two at once?), `watchdog` and `patrol` (not too long), `retry` (another?), `verdict` (what it says of the server), `answer` and `reply` (what goes back),
//! `journal`, `measure` and `trace`.

pub mod answer;
mod authority;
mod call;
mod client_certificate;
mod connection;
pub mod cookie;
pub mod ctx;
mod dial;
mod error_page;
pub(crate) mod explain;
mod forward;
pub mod forwarded;
mod head;
mod hedge;
mod hop;
mod intake;
mod journal;
mod kept;
mod key;
mod measure;
pub mod path;
mod patrol;
mod proxy;
pub mod query;
mod queue;
mod refusal;
mod reply;
mod request_id;
mod retry;
pub mod route;
mod site;
mod split;
mod sticky;
mod tidy;
mod trace;
mod verdict;
mod watchdog;
pub(crate) mod websocket;

pub(crate) use authority::valid_authority;
pub use client_certificate::ClientCertificate;
pub use connection::{Connection, NOWHERE, TlsFacts};
pub use journal::Refuser;
pub use kept::Opener;
pub(crate) use measure::refusal;
pub use proxy::Proxy;
pub use refusal::{HeadRefuser, Phase, Refusal, Reject};
pub use request_id::RequestId;
pub use site::{Live, Site};
