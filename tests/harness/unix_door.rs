//! A unix socket in front of a server: every connection to it becomes one to the server, byte for byte.

use socket2::SockRef;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

/// Open until it is dropped. What was accepted goes on, and the socket's file stays.
pub struct UnixDoor {
    listener: UnixListener,
    accepting: Option<JoinHandle<()>>,
}

impl UnixDoor {
    /// At `path`, in place of whatever is there.
    pub fn open(path: PathBuf, to: SocketAddr) -> Self {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a unix socket");
        let own = listener.try_clone().expect("a descriptor");
        let accepting = std::thread::spawn(move || {
            while let Ok((client, _)) = own.accept() {
                if let Ok(server) = TcpStream::connect(to) {
                    let _ = relay(client, server);
                }
            }
        });
        Self { listener, accepting: Some(accepting) }
    }
}

/// Copies both ways, each to its end.
fn relay(client: UnixStream, server: TcpStream) -> io::Result<()> {
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        // whoever waits for a connection gets an error instead
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
