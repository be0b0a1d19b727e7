//! Many datagrams with one call: `recvmmsg(2)` and `sendmmsg(2)`, with the address that was asked (`IP_PKTINFO`, `IPV6_PKTINFO`).
//! Used by the `reader` for what comes from clients, and for what servers answer.

use super::segments;
use libc::{c_int, c_void, cmsghdr, iovec, mmsghdr, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// So many datagrams at once.
pub const MOST: usize = 32;
/// More than fits in a datagram.
const LONGEST: usize = 64 * 1024;
/// What is said beside a datagram: one address, and how it is to be cut, in words of eight bytes.
const BESIDE: usize = 12;

/// Room for datagrams, and those that were received last.
#[derive(Default)]
pub struct Batch {
    /// Made when it is first needed.
    room: Box<[u8]>,
    arrived: Vec<Arrived>,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    pub length: usize,
    /// Whose it is; `None` on a connected socket.
    pub from: Option<SocketAddr>,
    /// The address that was asked, where that was not plain.
    pub to: Option<IpAddr>,
}

/// What is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Course<'a> {
    /// To whom; `None`: whom the socket is connected to.
    pub to: Option<SocketAddr>,
    /// From this address of ours; `None`: that of the socket.
    pub from: Option<IpAddr>,
    /// This stands in front of each.
    pub prefix: &'a [u8],
}

/// What became of datagrams that were sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// How many, and their bytes without what stood in front.
    pub datagrams: u64,
    pub bytes: u64,
    /// The first error that says that nobody is there, and how many were sent before it. Nothing was sent after that.
    pub unreachable: Option<(usize, io::Error)>,
}

/// Has the kernel say which address was asked, for each datagram on this socket.
///
/// # Errors
/// What the system says.
pub fn name_addresses(socket: &impl AsFd, v6: bool) -> io::Result<()> {
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(())
}

/// Whether this says that nobody is there (ICMP), rather than that something is wrong here.
pub fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

impl Batch {
    /// What was received last.
    pub fn arrived(&self) -> &[Arrived] {
        &self.arrived
    }

    /// There are none.
    pub fn forget(&mut self) {
        self.arrived.clear();
    }

    /// One of the datagrams that were received last.
    pub fn datagram(&self, index: usize) -> &[u8] {
        let length = self.arrived.get(index).map_or(0, |arrived| arrived.length);
        let start = index * LONGEST;
        self.room.get(start..start + length).unwrap_or_default()
    }

    /// Takes what waits on a socket, up to [`MOST`] datagrams; how many. `named`: of whom they are, and which address was
    /// asked, is wanted, too.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when nothing waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, named: bool) -> io::Result<usize> {
        self.forget();
        if self.room.is_empty() {
            self.room = vec![0; MOST * LONGEST].into_boxed_slice();
        }
        // SAFETY: all of these are plain data, for which zeros are a value.
        let (mut heads, mut names, mut pieces): ([mmsghdr; MOST], [sockaddr_in6; MOST], [iovec; MOST]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let mut beside = [[0u64; BESIDE]; MOST];
        let parts = heads.iter_mut().zip(&mut names).zip(&mut pieces).zip(&mut beside);
        for ((((head, name), piece), beside), room) in parts.zip(self.room.chunks_exact_mut(LONGEST)) {
            *piece = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            head.msg_hdr.msg_iov = piece;
            head.msg_hdr.msg_iovlen = 1;
            if named {
                head.msg_hdr.msg_name = (name as *mut sockaddr_in6).cast();
                head.msg_hdr.msg_namelen = size_of::<sockaddr_in6>() as socklen_t;
                head.msg_hdr.msg_control = beside.as_mut_ptr().cast();
                head.msg_hdr.msg_controllen = size_of_val(beside) as _;
            }
        }
        // SAFETY: each head points to a name, a piece and room of its own, which live until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                MOST as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.arrived.extend(heads.iter().zip(&names).take(count).map(|(head, name)| Arrived {
            length: (head.msg_len as usize).min(LONGEST),
            from: if named { address(name) } else { None },
            // SAFETY: the kernel has filled the head in, and what is beside still lives.
            to: if named { unsafe { asked(head) } } else { None },
        }));
        Ok(count)
    }

    /// Sends these of the datagrams that were received last. What cannot be sent is left out: nobody waits for a datagram.
    pub fn send(&self, socket: BorrowedFd<'_>, which: Range<usize>, course: &Course<'_>) -> Sent {
        let mut sent = Sent::default();
        let mut next = which.start;
        while next < which.end {
            match self.send_some(socket, next..which.end, course) {
                Ok(0) => return sent,
                Ok(count) => {
                    sent.datagrams += count as u64;
                    let lengths = self.arrived.iter().skip(next).take(count);
                    sent.bytes += lengths.map(|arrived| arrived.length as u64).sum::<u64>();
                    next += count;
                }
                Err(error) if is_unreachable(&error) => {
                    sent.unreachable = Some((next - which.start, error));
                    return sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // the kernel has no room for more
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
                Err(_) => next += 1,
            }
        }
        sent
    }

    fn send_some(
        &self,
        socket: BorrowedFd<'_>,
        which: Range<usize>,
        course: &Course<'_>,
    ) -> io::Result<usize> {
        let lengths =
            || which.clone().filter_map(|index| self.arrived.get(index)).map(|arrived| arrived.length);
        if course.prefix.is_empty()
            && let Some(cut) = segments::fit(lengths())
        {
            match self.send_as_one(socket, which.start..which.start + cut.count, course, cut.length) {
                Ok(()) => return Ok(cut.count),
                // a system or a device that cannot cut them sends them one by one
                Err(error) if !is_unreachable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // SAFETY: these are plain data, for which zeros are a value.
        let (mut heads, mut pieces): ([mmsghdr; MOST], [[iovec; 2]; MOST]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let to = course.to.map(socket2::SockAddr::from);
        let mut beside = [0u64; BESIDE];
        let mut count = 0;
        for (index, (head, pieces)) in which.clone().zip(heads.iter_mut().zip(&mut pieces)) {
            *pieces = [piece(course.prefix), piece(self.datagram(index))];
            head.msg_hdr.msg_iov = pieces.as_mut_ptr();
            head.msg_hdr.msg_iovlen = 2;
            self::head(&mut head.msg_hdr, to.as_ref(), course.from, None, &mut beside);
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the heads point to pieces, a name and control data that live until the call returns.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), count, flags as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Datagrams of one length, of which the last may be shorter, as one that the kernel or the device cuts.
    fn send_as_one(
        &self,
        socket: BorrowedFd<'_>,
        which: Range<usize>,
        course: &Course<'_>,
        length: u16,
    ) -> io::Result<()> {
        let mut pieces = [piece(&[]); MOST];
        let mut count = 0;
        for (index, at) in which.zip(&mut pieces) {
            *at = piece(self.datagram(index));
            count += 1;
        }
        let to = course.to.map(socket2::SockAddr::from);
        let mut beside = [0u64; BESIDE];
        // SAFETY: plain data, for which zeros are a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = pieces.as_mut_ptr();
        message.msg_iovlen = count;
        self::head(&mut message, to.as_ref(), course.from, Some(length), &mut beside);
        // SAFETY: the head points to pieces, a name and control data that live until the call returns.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn piece(bytes: &[u8]) -> iovec {
    // what is sent is not written to
    iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// Fills in to whom, from where, and how it is to be cut.
fn head(
    head: &mut libc::msghdr,
    to: Option<&socket2::SockAddr>,
    from: Option<IpAddr>,
    cut: Option<u16>,
    beside: &mut [u64; BESIDE],
) {
    if let Some(to) = to {
        head.msg_name = to.as_ptr().cast::<c_void>().cast_mut();
        head.msg_namelen = to.len();
    }
    let mut notes = Notes { beside, used: 0 };
    match from {
        Some(IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            notes.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(from)) => {
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            notes.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => {}
    }
    if let Some(cut) = cut {
        notes.push(libc::SOL_UDP, libc::UDP_SEGMENT, cut);
    }
    let used = notes.used;
    if used > 0 {
        head.msg_control = beside.as_mut_ptr().cast();
        head.msg_controllen = used as _;
    }
}

/// Control messages, one after the other (cmsg(3)).
struct Notes<'a> {
    beside: &'a mut [u64; BESIDE],
    used: usize,
}

impl Notes<'_> {
    fn push<T>(&mut self, level: c_int, kind: c_int, value: T) {
        // SAFETY: CMSG_SPACE and CMSG_LEN compute with numbers.
        let (space, length) = unsafe {
            (libc::CMSG_SPACE(size_of::<T>() as _) as usize, libc::CMSG_LEN(size_of::<T>() as _) as usize)
        };
        let Some(words) = self.beside.get_mut(self.used / 8..(self.used + space).div_ceil(8)) else { return };
        let note = words.as_mut_ptr().cast::<cmsghdr>();
        // SAFETY: the words are aligned as a cmsghdr is, and as long as it and the value are.
        unsafe {
            (*note).cmsg_level = level;
            (*note).cmsg_type = kind;
            (*note).cmsg_len = length as _;
            libc::CMSG_DATA(note).cast::<T>().write_unaligned(value);
        }
        self.used += space;
    }
}

fn address(name: &sockaddr_in6) -> Option<SocketAddr> {
    match c_int::from(name.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one, which is shorter and has no stricter alignment.
            let v4 = unsafe { &*(name as *const sockaddr_in6).cast::<sockaddr>().cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            let (port, scope) = (u16::from_be(name.sin6_port), name.sin6_scope_id);
            // the label of a flow is not part of an address
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// The address that a datagram was sent to.
///
/// # Safety
/// The head is as `recvmmsg` has left it, and what it points to lives.
unsafe fn asked(head: &mmsghdr) -> Option<IpAddr> {
    // SAFETY: as above; a control message that says what it is has the length of that.
    unsafe {
        let mut note = libc::CMSG_FIRSTHDR(&head.msg_hdr);
        while !note.is_null() {
            let data = libc::CMSG_DATA(note);
            match ((*note).cmsg_level, (*note).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    // not that in the header, which may be a broadcast
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
            note = libc::CMSG_NXTHDR(&head.msg_hdr, note);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// On all addresses, of which only those of the loopback device can be reached.
    fn wild(at: &str, v6: bool) -> Option<UdpSocket> {
        let domain = if v6 { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).ok()?;
        socket.bind_device(Some(b"lo")).ok()?;
        if v6 {
            socket.set_only_v6(false).ok()?;
        }
        socket.bind(&at.parse::<SocketAddr>().unwrap().into()).ok()?;
        Some(socket.into())
    }

    fn take(batch: &mut Batch, socket: &UdpSocket, count: usize) {
        // a loopback device hands datagrams over before `send` returns
        assert_eq!(batch.receive(socket.as_fd(), true).unwrap(), count);
    }

    #[test]
    fn what_comes_together_is_taken_and_sent_together() {
        let (client, gate, server) = (socket(), socket(), socket());
        let texts: Vec<Vec<u8>> = (0..5u8).map(|i| vec![i; usize::from(i) * 300]).collect();
        for text in &texts {
            client.send_to(text, gate.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::default();
        take(&mut batch, &gate, 5);
        let from = Some(client.local_addr().unwrap());
        assert!(batch.arrived().iter().all(|arrived| arrived.from == from && arrived.to.is_none()));
        gate.connect(server.local_addr().unwrap()).unwrap();
        let sent = batch.send(gate.as_fd(), 1..5, &Course { prefix: b"HEAD", ..Course::default() });
        assert_eq!((sent.datagrams, sent.bytes), (4, 300 + 600 + 900 + 1200));
        let mut room = [0; 4096];
        for text in texts.iter().skip(1) {
            let length = server.recv(&mut room).unwrap();
            assert_eq!(room[..length], [b"HEAD", text.as_slice()].concat());
        }
        assert_eq!(
            batch.receive(gate.as_fd(), false).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "nothing is left"
        );
    }

    #[test]
    fn datagrams_of_one_length_arrive_as_they_were() {
        let (client, gate, server) = (socket(), socket(), socket());
        for i in 0..20u8 {
            let length = if i == 19 { 7 } else { 1200 };
            client.send_to(&vec![i; length], gate.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::default();
        take(&mut batch, &gate, 20);
        let course = Course { to: Some(server.local_addr().unwrap()), ..Course::default() };
        assert_eq!(batch.send(gate.as_fd(), 0..20, &course).datagrams, 20);
        let mut room = [0; 4096];
        for i in 0..20u8 {
            let length = server.recv(&mut room).unwrap();
            assert_eq!((length, room[0]), (if i == 19 { 7 } else { 1200 }, i));
        }
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        for (at, v6) in [("0.0.0.0:0", false), ("[::]:0", true)] {
            // neither every machine nor every sandbox has IPv6, or lets a socket be bound to a device
            let Some(gate) = wild(at, v6) else { continue };
            name_addresses(&gate, v6).unwrap();
            let port = gate.local_addr().unwrap().port();
            for asked in ["127.0.0.2", "127.200.3.4"] {
                let client = socket();
                let asked: IpAddr = asked.parse().unwrap();
                client.send_to(b"where?", (asked, port)).unwrap();
                let mut batch = Batch::default();
                take(&mut batch, &gate, 1);
                let arrived = batch.arrived()[0];
                assert_eq!(arrived.to.map(|to| to.to_canonical()), Some(asked));
                let course = Course { to: arrived.from, from: arrived.to, prefix: b"" };
                assert_eq!(batch.send(gate.as_fd(), 0..1, &course).datagrams, 1);
                let (_, from) = client.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(from, SocketAddr::new(asked, port));
            }
        }
    }

    #[test]
    fn that_nobody_is_there_is_told_with_the_next_one() {
        let (client, gate) = (socket(), socket());
        let nobody = socket().local_addr().unwrap();
        for _ in 0..3 {
            client.send_to(b"x", gate.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::default();
        take(&mut batch, &gate, 3);
        gate.connect(nobody).unwrap();
        let sent = batch.send(gate.as_fd(), 0..1, &Course::default());
        assert!(sent.datagrams == 1 && sent.unreachable.is_none());
        let sent = batch.send(gate.as_fd(), 1..3, &Course::default());
        assert!(sent.datagrams == 0 && sent.unreachable.is_some_and(|(before, _)| before == 0));
    }
}
