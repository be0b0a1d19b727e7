//! A plan becomes a process: sockets are bound, workers and services started, signals heeded; and another plan, or
//! another process, takes its place while it serves. Called by `gate` and `cli`.
//!
//! - `server`: from the plan to a process that serves, and to its end, by what is `opened` first; `signals` tell it to end.
//! - `office`: what goes on beside requests; `background` is the care for groups.
//! - `reload`: another plan; `aside` is where it is made, `snapshot` builds its parts, `frozen` is what cannot change, `files` are watched,
//!   `status` is what is known of it all, and `picture` what metrics show.
//! - `overseer`: what the admin address is answered; `looks`: how things look there.
//! - `upgrade`: another process; `handover` is what it is given and how.
//! - [`control`]: how the command line asks for all of that; `doorplate`: how it finds the process; `notify`: what
//!   the service manager is told.

mod aside;
mod background;
pub mod control;
mod doorplate;
mod expiry;
mod files;
mod frozen;
mod handover;
mod looks;
mod notify;
mod office;
mod opened;
mod overseer;
mod picture;
mod reload;
mod server;
mod signals;
mod snapshot;
mod status;
mod upgrade;

pub use handover::Takeover;
pub use reload::Source;
pub use server::run;
