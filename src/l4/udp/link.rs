//! The socket of a session at its server. It is connected, so that the kernel says when nobody is there, and takes nothing
//! from anybody else.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;

/// A socket of its own: the server tells clients from each other by its port.
pub struct Link {
    pub socket: UdpSocket,
}

impl Link {
    /// To this server, from this address of the machine if there is one.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(server: SocketAddr, bind_to: Option<IpAddr>) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(own) = bind_to {
            socket.bind(&SocketAddr::new(own, 0).into())?;
        }
        socket.connect(&server.into())?;
        Ok(Link { socket: UdpSocket::from_std(socket.into())? })
    }

    /// Sends one datagram that was kept; how many bytes of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, prefix: &[u8], datagram: &[u8]) -> io::Result<usize> {
        let parts = [IoSlice::new(prefix), IoSlice::new(datagram)];
        socket2::SockRef::from(&self.socket).send_vectored(&parts)?;
        Ok(datagram.len())
    }
}
