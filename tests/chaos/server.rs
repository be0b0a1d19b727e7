//! The process of one server: HTTP/1.1 with kept connections, over TLS if its folder has a certificate, which follows the orders in its folder. Started by
//! `victim`, through whatever program has included this module.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::orders::{Order, files};
use super::papers::{self, Papers};

/// How long the work of one request takes, so that there are always some to be interrupted.
const WORK: Duration = Duration::from_millis(2);
/// The body of the answers to `/length` and `/chunked`, of which an order may cut half.
const LONG: usize = 64 * 1024;
/// A server that nobody stopped leaves by itself.
const LIFETIME: Duration = Duration::from_secs(900);

/// Serves as the folder says until it is killed.
///
/// # Errors
/// The folder does not say where to listen, or that cannot be done.
pub fn run(folder: &Path) -> io::Result<()> {
    // SAFETY: takes plain integers. Whatever ends the parent, SIGSTOP here included, leaves no server behind.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let identity = fs::read_to_string(folder.join(files::IDENTITY))?;
    let (label, address) = identity.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    let listener = TcpListener::bind(address)?;
    let tls = Tls::of(folder)?;
    let server = Arc::new(Server {
        tls,
        label: label.to_owned(),
        folder: folder.to_owned(),
        order: Mutex::new(Order::Serve),
        done: OpenOptions::new().create(true).append(true).open(folder.join(files::DONE))?,
        open: Mutex::default(),
    });
    server.follow_orders(&listener)?;
    // moved into place, so that nobody reads half an address
    let written = folder.join("listening.new");
    fs::write(&written, listener.local_addr()?.to_string())?;
    fs::rename(&written, folder.join(files::LISTENING))?;
    let (accepting, socket) = (server.clone(), listener.try_clone()?);
    thread::spawn(move || accepting.accept(&socket));
    let born = Instant::now();
    while born.elapsed() < LIFETIME {
        thread::sleep(Duration::from_millis(10));
        server.follow_orders(&listener)?;
    }
    Ok(())
}

/// How it speaks TLS, and how it does when nobody is to trust it.
struct Tls {
    own: Arc<ServerConfig>,
    strange: Arc<ServerConfig>,
}

impl Tls {
    fn of(folder: &Path) -> io::Result<Option<Tls>> {
        let Ok(certificate) = fs::read_to_string(folder.join(files::CERTIFICATE)) else { return Ok(None) };
        let own = papers::config(&certificate, &fs::read_to_string(folder.join(files::KEY))?)?;
        let stranger = Papers::issue()?;
        Ok(Some(Tls { own, strange: papers::config(&stranger.certificate, &stranger.key)? }))
    }
}

struct Server {
    tls: Option<Tls>,
    label: String,
    folder: PathBuf,
    order: Mutex<Order>,
    done: File,
    open: Mutex<HashMap<RawFd, TcpStream>>,
}

struct Request {
    method: String,
    target: String,
    id: String,
}

impl Server {
    fn order(&self) -> Order {
        *lock(&self.order)
    }

    /// Reads the order, and does what it says about connections that stand already.
    fn follow_orders(&self, listener: &TcpListener) -> io::Result<()> {
        let text = fs::read_to_string(self.folder.join(files::ORDER)).unwrap_or_default();
        let Some(wanted) = Order::from_word(&text) else { return Ok(()) };
        let open = lock(&self.open);
        let had = std::mem::replace(&mut *lock(&self.order), wanted);
        if had == wanted && self.followed(wanted) {
            return Ok(());
        }
        if had == Order::Vanish || wanted == Order::Vanish {
            drop_packets(listener.as_raw_fd(), wanted == Order::Vanish)?;
            for stream in open.values() {
                drop_packets(stream.as_raw_fd(), wanted == Order::Vanish)?;
            }
        }
        if matches!(wanted, Order::Close | Order::Untrusted | Order::Stall) {
            // who has gone already needs no end
            open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        fs::write(self.folder.join(files::FOLLOWED), wanted.word())
    }

    fn followed(&self, order: Order) -> bool {
        fs::read_to_string(self.folder.join(files::FOLLOWED)).is_ok_and(|word| word == order.word())
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            // known before the order is asked for: no order passes it by
            if let Ok(known) = stream.try_clone() {
                lock(&self.open).insert(stream.as_raw_fd(), known);
            }
            let (server, fd) = (self.clone(), stream.as_raw_fd());
            thread::spawn(move || {
                // a client that goes away is no business of the server's
                drop(server.meet(&stream));
                // forgotten while the number still belongs to it
                lock(&server.open).remove(&fd);
                drop(stream);
            });
        }
    }

    fn meet(&self, mut tcp: &TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let config = match (self.order(), &self.tls) {
            (Order::Close, _) => return Ok(()),
            (Order::Stall, Some(_)) => return io::copy(&mut tcp, &mut io::sink()).map(drop),
            (_, None) => return self.converse(tcp, tcp),
            (Order::Untrusted, Some(tls)) => tls.strange.clone(),
            (_, Some(tls)) => tls.own.clone(),
        };
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        self.converse(StreamOwned::new(session, tcp), tcp)
    }

    /// `tcp` is what is below the stream.
    fn converse(&self, stream: impl Read + Write, tcp: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            if request.target != "/healthz" {
                thread::sleep(WORK);
                (&self.done).write_all(format!("{} {}\n", request.method, request.id).as_bytes())?;
            }
            let order = self.order();
            let body = match request.target.as_str() {
                "/length" | "/chunked" => vec![b'x'; LONG],
                _ => format!("{} {}", self.label, request.id).into_bytes(),
            };
            let chunked = request.target == "/chunked";
            let whole = match order {
                Order::Fail => answer(500, b"failed", false),
                Order::Babble => b"\x15\x03\x01\x00\x02\x02\x0a no HTTP here\r\n\r\n".to_vec(),
                _ => answer(200, &body, chunked),
            };
            let part = match order {
                Order::Serve
                | Order::Close
                | Order::Fail
                | Order::Vanish
                | Order::Babble
                | Order::Untrusted
                | Order::Stall => whole.len(),
                Order::HalfHead | Order::HangInHead => "HTTP/1.1 200 As Ordered\r\ncontent-".len(),
                Order::CutAndClose | Order::CutAndReset | Order::CutAndHang => whole.len() / 2,
            };
            reader.get_mut().write_all(whole.get(..part).unwrap_or_default())?;
            match order {
                Order::Serve | Order::Fail | Order::Vanish | Order::Babble => continue,
                Order::CutAndReset => set_reset(tcp)?,
                Order::CutAndHang | Order::HangInHead => {
                    // until the client has had enough
                    io::copy(&mut reader, &mut io::sink())?;
                }
                Order::Close | Order::HalfHead | Order::CutAndClose | Order::Untrusted | Order::Stall => {}
            }
            return Ok(());
        }
        Ok(())
    }
}

fn answer(status: u16, body: &[u8], chunked: bool) -> Vec<u8> {
    let length = body.len();
    let framing =
        if chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {length}") };
    let mut whole = format!("HTTP/1.1 {status} As Ordered\r\n{framing}\r\n\r\n").into_bytes();
    if chunked {
        for piece in body.chunks(4096) {
            whole.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            whole.extend_from_slice(piece);
            whole.extend_from_slice(b"\r\n");
        }
        whole.extend_from_slice(b"0\r\n\r\n");
    } else {
        whole.extend_from_slice(body);
    }
    whole
}

/// One request with all of its body; `None` when the connection ended between two.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, target, id: String::new() };
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("x-id") => {
                value.trim().clone_into(&mut request.id)
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => chunked = true,
            Some(_) | None => {}
        }
    }
    if chunked {
        while skip_chunk(reader)? {}
    } else {
        skip(reader, length)?;
    }
    Ok(Some(request))
}

/// Whether it was not the last.
fn skip_chunk(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    skip(reader, length + 2)?;
    Ok(length > 0)
}

fn skip(reader: &mut impl BufRead, length: u64) -> io::Result<()> {
    let taken = io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    if taken == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Closing sends RST.
fn set_reset(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(stream.as_raw_fd(), libc::SO_LINGER, &linger)
}

/// What a firewall's rule to drop does, for one socket and without its privileges: a socket filter (socket(7),
/// SO_ATTACH_FILTER) that lets nothing in. Packets are neither acknowledged nor refused.
fn drop_packets(socket: RawFd, on: bool) -> io::Result<()> {
    if !on {
        return set_option(socket, libc::SO_DETACH_FILTER, &0_i32);
    }
    // BPF_RET | BPF_K with the value 0: keep 0 bytes of each packet
    let mut nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)
}

fn set_option<T>(socket: RawFd, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the option is of type T, which is borrowed for as long as the call takes.
    let set = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length)
    };
    // a connection that has ended meanwhile is no trouble
    if set == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EBADF) {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
