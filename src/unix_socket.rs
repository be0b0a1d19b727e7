//! Unix sockets that are listened on: opened where nobody listens any more, and removed by whoever opened them. Called
//! by `edge` for listeners and by `run` for the control socket.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Which file a socket is: another process may have put its own there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode(u64);

impl Inode {
    /// Of the socket at this path; `None` when there is no socket.
    pub fn of(path: &Path) -> Option<Inode> {
        let meta = std::fs::symlink_metadata(path).ok()?;
        meta.file_type().is_socket().then(|| Inode(meta.ino()))
    }
}

/// Whether somebody listens there. A socket that nobody listens on any more refuses connections.
///
/// # Errors
/// What is there is no socket, or cannot be looked at.
pub fn is_in_use(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        // its queue is full
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && Inode::of(path).is_some() => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Err(e) => Err(e),
    }
}

/// Binds a socket that is to be listened on, in place of one that nobody listens on any more. Until it listens it
/// refuses connections, so that nobody connects before its permissions are set.
///
/// # Errors
/// `AddrInUse`, `AlreadyExists` for a file that is no socket, and what the system says.
pub fn bind(path: &Path, mode: Option<u32>) -> io::Result<(Socket, Inode)> {
    if is_in_use(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    clear(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let made = mode.map_or(Ok(()), |mode| std::fs::set_permissions(path, Permissions::from_mode(mode)));
    match (made.and_then(|()| socket.set_nonblocking(true)), Inode::of(path)) {
        (Ok(()), Some(inode)) => Ok((socket, inode)),
        (made, _) => {
            std::fs::remove_file(path).ok();
            Err(made.err().unwrap_or(io::ErrorKind::NotFound.into()))
        }
    }
}

/// Removes a socket that was left behind. It is taken aside first: another process may have put its own there since it
/// was looked at, and gets it back.
fn clear(path: &Path) -> io::Result<()> {
    let Some(left) = Inode::of(path) else { return Ok(()) };
    let aside = beside(path);
    std::fs::rename(path, &aside)?;
    if Inode::of(&aside) != Some(left) {
        std::fs::rename(&aside, path)?;
        return Err(io::ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(&aside)
}

/// Listens there, whatever is there. It is not there before its permissions are, and then at once: nobody finds nothing
/// in place of the one before.
///
/// # Errors
/// The directory is missing or may not be written, or the path is too long.
pub fn replace(path: &Path, mode: u32) -> io::Result<(UnixListener, Inode)> {
    let hidden = beside(path);
    std::fs::remove_file(&hidden).ok();
    let listener = UnixListener::bind(&hidden)?;
    let ready = std::fs::set_permissions(&hidden, Permissions::from_mode(mode))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| std::fs::symlink_metadata(&hidden))
        .and_then(|meta| std::fs::rename(&hidden, path).map(|()| Inode(meta.ino())));
    match ready {
        Ok(inode) => Ok((listener, inode)),
        Err(e) => {
            std::fs::remove_file(&hidden).ok();
            Err(e)
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Removes the socket, unless another process has put its own in its place.
pub fn remove(path: &Path, inode: Inode) {
    if Inode::of(path) == Some(inode) {
        std::fs::remove_file(path).ok();
    }
}

/// The file of a socket. One that is ours is removed with this, unless another process has put its own in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Inode,
    ours: bool,
}

impl SocketFile {
    /// Of a socket that this process has made.
    pub fn made(path: &Path, inode: Inode) -> SocketFile {
        SocketFile { path: path.to_owned(), inode, ours: true }
    }

    /// Of a socket that was handed to this process: that of the other one until this one serves.
    pub fn handed(path: &Path, inode: Inode) -> SocketFile {
        SocketFile { path: path.to_owned(), inode, ours: false }
    }

    /// This process sees to it from now on.
    pub fn claim(&mut self) {
        self.ours = true;
    }

    /// Another process sees to it.
    pub fn leave(mut self) {
        self.ours = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours {
            remove(&self.path, self.inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_on_gives_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        assert!(!is_in_use(&path).unwrap());
        let (first, one) = bind(&path, Some(0o640)).unwrap();
        assert!(UnixStream::connect(&path).is_err(), "not yet");
        first.listen(8).unwrap();
        assert!(is_in_use(&path).unwrap());
        assert_eq!(bind(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        drop(first);
        assert!(path.exists() && !is_in_use(&path).unwrap(), "left behind");
        let (second, _) = bind(&path, None).unwrap();
        second.listen(8).unwrap();
        let (_third, two) = replace(&path, 0o600).unwrap();
        assert!(is_in_use(&path).unwrap());
        if one != two {
            remove(&path, one);
            assert!(path.exists(), "it is that of another");
        }
        remove(&path, two);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(is_in_use(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(Inode::of(&path), None);
        assert_eq!(bind(&path, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(bind(&dir.path().join("none/a.sock"), None).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
