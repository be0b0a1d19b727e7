//! **weirgate** is a programmable edge proxy and load balancer built on Pingora: one binary, one
//! YAML file. This crate is the whole of it, so that a program of your own can start a gate with
//! filters of its own:
//!
//! ```no_run
#![doc = include_str!("../examples/own_filter.rs")]
//! ```
//!
//! # The map, in reading order
//!
//! ```text
//! main.rs      parse args, call cli, exit code
//! cli/         run | check | explain | routes | diff | reload | status | top | upgrade | schema
//!   top/                 what the dashboard shows, in a terminal
//! explain/     what the gate would do with a request, and why: asked, not sent
//! gate.rs      the gate as a library: Gate::from_file(..).filter::<F>().run()
//! config/      THE LIFE OF A CONFIGURATION   text -> File (as typed) -> Plan (resolved, immutable)
//!   yaml, load, decode   files, includes, ${ENV}; every value with its place
//!   file/                the YAML shape and its defaults
//!   words.rs             the small words in it that mean more than text
//!   check                cross-references; collects every problem
//!   plan.rs              the resolved form
//!   report               problems with file:line:column, caret, did-you-mean, stable code
//! run/         A PLAN BECOMES A PROCESS      sockets, workers, services, signals
//!   reload               another plan takes its place while it runs, or is refused
//!   upgrade, handover    another process takes its place
//!   control              how the command line asks for that
//! edge/        THE LIFE OF A CONNECTION      socket -> limits -> PROXY -> TLS -> one whole head, or HTTP/2
//! acme/        THE LIFE OF A CERTIFICATE     ordered -> obtained -> shown -> renewed
//! http/        THE LIFE OF A REQUEST         one impl ProxyHttp, callbacks in call order
//! l4/          THE LIFE OF A FLOW            a connection that is passed on whole
//!   udp/                 the same for datagrams: sessions
//! filter/      what happens to a request on its way in and to its response on the way out
//! upstream/    THE LIFE OF A SERVER          discovered -> probed -> chosen -> drained
//! admin/       what the process is asked, and told to do: health, metrics, the API, the page
//! observe/     the access log, the process log, events, metrics, traces
//! units.rs, template.rs, clock.rs, timer.rs  5s, 10MB, 20%; texts with {placeholders}; the time; deadlines
//! grpc/        the words of gRPC and gRPC-Web: deadlines, statuses, what a content type says
//! proxy_protocol, unix_socket.rs             what a proxy says before the first byte; sockets that are files
//! link.rs                                    a connected socket, TCP or unix
//! roots.rs                                   whom we believe as a client of authorities and collectors
//! memory                                     the allocator; what is free goes back to the system
//! pairs.rs                                   NAME=VALUE: cookies, parameters of queries
//! ```
//!
//! Arrows run one way: `cli -> gate -> run -> edge -> http, l4 -> filter, upstream`; `run` serves
//! `admin`, which has its sockets and TLS from `edge`; `edge` and `http` ask `acme`, which
//! asks none of them; `observe` is called by all.

pub mod acme;
pub mod admin;
pub mod cli;
mod clock;
pub mod config;
pub mod edge;
pub mod explain;
pub mod filter;
mod gate;
pub mod grpc;
pub mod http;
pub mod l4;
mod link;
mod memory;
pub mod observe;
mod pairs;
pub mod proxy_protocol;
mod roots;
pub mod run;
pub mod template;
mod timer;
pub mod units;
mod unix_socket;
pub mod upstream;

pub use gate::{Error, Gate};
pub use memory::Allocator;

/// The program in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
