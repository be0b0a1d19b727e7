//! Closing a connection on which the client is still sending. `conn` comes here when a request was
//! answered before it was read to its end; `http1` when a head was refused.

use crate::edge::open::Slot;
use crate::edge::transport::Transport;
use crate::link::Link;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long, and for how many bytes, the client may go on sending what nobody wants.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Closes our side, reads and forgets for a little while what still comes, then drops the socket.
/// `slot` counts the connection as open until then.
pub fn close_slowly(io: Transport, slot: Option<Slot>) {
    let mut link = match io {
        Transport::Plain(link) => link,
        Transport::Tls(tls) => tls.into_inner().0,
        Transport::Gone => return,
    };
    // without a runtime (the process ends) the socket is just dropped
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let _slot = slot;
        let _ = tokio::time::timeout(LINGER_TIME, drain(&mut link)).await;
    });
}

async fn drain(link: &mut Link) -> std::io::Result<()> {
    link.shutdown().await?;
    let mut left = LINGER_BYTES;
    let mut sink = vec![0; 8 * 1024];
    loop {
        let read = link.read(&mut sink).await?;
        left = left.saturating_sub(read);
        if read == 0 || left == 0 {
            return Ok(());
        }
    }
}
