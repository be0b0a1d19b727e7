//! The life of a session: the datagrams of one client, passed on to one server, and what is answered.
//!
//! In reading order:
//! - [`serve`] is the story of one socket of a listener: `reader` takes what comes off it, and whose session it belongs to is
//!   in the [`table`], which is pure;
//! - `session` is one of them, `way` how it comes to a server, and to another one, `link` its socket there;
//! - `batch` takes and sends many datagrams at once, `segments` says which can be sent as one;
//! - `journal` writes down how it went.
//!
//! Each worker reads sockets of its own and shares no session with others. `edge` opens the sockets and is the [`Door`].
//! See decision 033.

mod batch;
mod journal;
mod link;
mod reader;
mod segments;
mod session;
pub mod table;
mod way;

use super::site::Live;
use crate::config::plan;
use batch::Batch;
use parking_lot::Mutex;
use reader::{Reader, Takes};
use socket2::Socket;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How far ahead an alarm is set that is not needed.
const FAR: Duration = Duration::from_secs(3600);

/// What all sessions of a worker share.
pub struct Common {
    live: Arc<Live>,
    /// Nobody waits while it is locked.
    batch: Mutex<Batch>,
}

impl Common {
    pub fn new(live: Arc<Live>) -> Common {
        Common { live, batch: Mutex::default() }
    }
}

/// Who may send datagrams to a listener.
pub trait Door: Send + Sync {
    /// As it is now.
    fn listener(&self) -> Arc<plan::Listener>;

    /// Whether anything is done with a datagram from there.
    fn admits(&self, client: IpAddr) -> bool;

    /// A place for one more session, given back when it is dropped. `None`: there are enough, which is said.
    fn enter(&self, client: IpAddr) -> Option<Box<dyn Room>>;

    /// Datagrams cannot be passed on.
    fn failed(&self, error: &io::Error);
}

/// The place of a session among those of its listener.
pub trait Room: Send + Sync {
    /// Whom to wake when it is cut.
    fn taken_by(&self, waker: &Waker);

    /// Nothing more is to be passed on.
    fn is_cut(&self) -> bool;
}

/// Passes on what comes to a socket. When the first of the two futures is ready, no session begins any more; `true` says that
/// the socket is somebody else's to read from now on, and the second future says it later. Returns when the last session is
/// over.
pub async fn serve(
    common: &Arc<Common>,
    socket: Socket,
    door: Box<dyn Door>,
    (closed, left): (impl Future<Output = bool>, impl Future<Output = ()>),
) {
    let reader = match Reader::open(common, socket, door) {
        Ok(reader) => Arc::new(reader),
        Err((door, error)) => return door.failed(&error),
    };
    let (mut closed, mut left) = (pin!(closed), pin!(left));
    let mut alarm = pin!(tokio::time::sleep(FAR));
    let mut takes = Takes::All;
    loop {
        let now = Instant::now();
        reader.expire(now);
        if takes != Takes::All && reader.is_empty() {
            return;
        }
        let next = reader.next_look().unwrap_or(now + FAR).into();
        if alarm.deadline() != next {
            alarm.as_mut().reset(next);
        }
        tokio::select! {
            biased;
            to_others = &mut closed, if takes == Takes::All => {
                takes = if to_others { Takes::Nothing } else { Takes::Known };
            }
            () = &mut left, if takes == Takes::Known => takes = Takes::Nothing,
            () = reader.rung() => reader.cut(),
            () = &mut alarm => {}
            more = reader.take_in(takes), if takes != Takes::Nothing => if more {
                // others of this worker have their turn
                tokio::task::yield_now().await;
            }
        }
    }
}
