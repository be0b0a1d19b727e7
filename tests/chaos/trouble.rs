//! What happens to one server of several, and how it is made good again.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::orders::Order;
use super::victim::Victim;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `kill -9`.
    Killed,
    /// `kill -9` and started again, over and over.
    Flapping,
    /// SIGSTOP.
    Frozen,
    /// It accepts connections and closes them.
    Closing,
    /// Its answers break off within the head.
    HalfHeads,
    /// Its answers stop within the head.
    SilentHeads,
    /// It answers what is not HTTP.
    Babbling,
    /// Packets to it are dropped.
    Vanished,
    /// It answers 500.
    Failing,
    /// It comes back with a certificate that nobody trusts.
    Untrusted,
    /// It comes back and does not shake hands.
    Stalling,
}

impl Trouble {
    pub const ALL: [Trouble; 11] = [
        Trouble::Killed,
        Trouble::Flapping,
        Trouble::Frozen,
        Trouble::Closing,
        Trouble::HalfHeads,
        Trouble::SilentHeads,
        Trouble::Babbling,
        Trouble::Vanished,
        Trouble::Failing,
        Trouble::Untrusted,
        Trouble::Stalling,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Trouble::Killed => "kill -9",
            Trouble::Flapping => "kill -9 and restart, repeated",
            Trouble::Frozen => "SIGSTOP",
            Trouble::Closing => "accepts and closes",
            Trouble::HalfHeads => "half a response head",
            Trouble::SilentHeads => "half a response head, then silence",
            Trouble::Babbling => "answers that are not HTTP",
            Trouble::Vanished => "packets dropped",
            Trouble::Failing => "answers 500",
            Trouble::Untrusted => "TLS with a certificate that is not trusted",
            Trouble::Stalling => "TLS without a handshake",
        }
    }

    /// Whether the servers have to speak TLS for it.
    pub fn is_of_tls(self) -> bool {
        matches!(self, Trouble::Untrusted | Trouble::Stalling)
    }

    /// Makes the trouble and lets it last this long.
    ///
    /// # Errors
    /// The server cannot be told, or not be started again.
    pub fn make(self, victim: &mut Victim, length: Duration) -> io::Result<()> {
        let end = Instant::now() + length;
        match self {
            Trouble::Killed => victim.kill()?,
            Trouble::Flapping => {
                while Instant::now() < end {
                    victim.kill()?;
                    thread::sleep(Duration::from_millis(300));
                    victim.restart()?;
                    // long enough to be found healthy again now and then
                    thread::sleep(Duration::from_millis(1200));
                }
            }
            Trouble::Frozen => victim.freeze(),
            Trouble::Closing => victim.order(Order::Close)?,
            Trouble::HalfHeads => victim.order(Order::HalfHead)?,
            Trouble::SilentHeads => victim.order(Order::HangInHead)?,
            Trouble::Babbling => victim.order(Order::Babble)?,
            Trouble::Vanished => victim.order(Order::Vanish)?,
            Trouble::Failing => victim.order(Order::Fail)?,
            Trouble::Untrusted => victim.order(Order::Untrusted)?,
            Trouble::Stalling => victim.order(Order::Stall)?,
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Makes it good again.
    ///
    /// # Errors
    /// As `make`.
    pub fn end(self, victim: &mut Victim) -> io::Result<()> {
        match self {
            Trouble::Killed => victim.restart(),
            Trouble::Flapping => Ok(()),
            Trouble::Frozen => {
                victim.thaw();
                Ok(())
            }
            Trouble::Closing
            | Trouble::HalfHeads
            | Trouble::SilentHeads
            | Trouble::Babbling
            | Trouble::Vanished
            | Trouble::Failing
            | Trouble::Untrusted
            | Trouble::Stalling => victim.order(Order::Serve),
        }
    }
}
