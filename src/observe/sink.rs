//! What the access log is written to: a file, standard output or standard error. Made by
//! [`super::access_log`], driven by [`super::writer`] on its own thread.

use super::rotation::Rotation;
use crate::config::file::Rotate;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long a write may wait for a reader that does not read.
pub(super) const PATIENCE_MS: libc::c_int = 100;

/// A pipe that `poll` calls writable takes this much without blocking (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// Takes bytes in order.
pub(super) trait Sink: Send {
    /// Takes some bytes. `WouldBlock`, after a short wait, when it can take none yet.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the file anew, after a rotation moved it away. On an error the old one is kept.
    fn reopen(&mut self) -> io::Result<()>;

    /// After an error that says that it is gone, the same bytes are to be offered again: it may come back.
    fn comes_back(&self) -> bool {
        false
    }

    /// What was offered last, and not taken, is not offered again.
    fn forget(&mut self) {}
}

/// A file that is appended to.
pub(super) struct FileSink {
    path: PathBuf,
    file: File,
    /// A pipe, a terminal: something that can be full.
    waits: bool,
    rotation: Option<Rotation>,
}

impl FileSink {
    pub(super) fn open(path: &Path, rotate: Option<&Rotate>) -> io::Result<Self> {
        let (file, waits) = open(path)?;
        let rotation = rotate.map(Rotation::new);
        let mut sink = FileSink { path: path.to_owned(), file, waits, rotation };
        sink.measure()?;
        Ok(sink)
    }

    /// How large the file is that is open now.
    fn measure(&mut self) -> io::Result<()> {
        if let Some(rotation) = &mut self.rotation {
            rotation.begin(self.file.metadata()?.len());
        }
        Ok(())
    }

    fn rotate(&mut self) {
        let done = self.rotation.as_ref().map_or(Ok(()), |rotation| rotation.rename(&self.path, &self.file));
        if let Err(e) = done.and_then(|()| self.reopen()) {
            super::events::access_log_not_rotated(&self.path, &e);
            if let Some(rotation) = &mut self.rotation {
                rotation.put_off();
            }
        }
    }
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        // requests carry secrets: not for everybody
        .mode(0o640)
        // a named pipe without a reader is an error, not a gate that hangs at its start
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    let waits = kind.is_fifo() || kind.is_char_device() || kind.is_socket();
    Ok((file, waits))
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.waits {
            return write_when_ready(&mut self.file, bytes);
        }
        if self.rotation.as_ref().is_some_and(|rotation| rotation.room(bytes).is_none()) {
            self.rotate();
        }
        let Some(rotation) = &mut self.rotation else { return self.file.write(bytes) };
        // another process may have it in hand: then they go to the old file
        let room = rotation.room(bytes).unwrap_or(bytes.len());
        let written = self.file.write(bytes.get(..room).unwrap_or(bytes))?;
        rotation.wrote(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.waits) = open(&self.path)?;
        self.measure()
    }
}

/// Standard output or standard error. The descriptor is borrowed, not duplicated, so that lines
/// go where a daemon has redirected it.
pub(super) struct StreamSink {
    file: ManuallyDrop<File>,
}

impl StreamSink {
    pub(super) fn stdout() -> Self {
        Self::borrow(io::stdout().as_raw_fd())
    }

    pub(super) fn stderr() -> Self {
        Self::borrow(io::stderr().as_raw_fd())
    }

    fn borrow(fd: RawFd) -> Self {
        // SAFETY: std keeps descriptors 1 and 2 open for the life of the process (it opens
        // /dev/null when they are closed at the start), and ManuallyDrop never closes them.
        StreamSink { file: ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }) }
    }
}

impl Sink for StreamSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_when_ready(&mut self.file, bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until there is room and writes no more than fits, so that the thread comes back to
/// look at the clock when nobody reads. The descriptor itself stays as it is: whether it blocks
/// is shared with the shell that started the process.
fn write_when_ready(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, alive during the call.
    match unsafe { libc::poll(&mut poll, 1, PATIENCE_MS) } {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        n if n < 0 => Err(io::Error::last_os_error()),
        _ => file.write(bytes.get(..PIECE).unwrap_or(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_is_appended_to_private_and_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let mut sink = FileSink::open(&path, None).unwrap();
        assert_eq!(sink.write(b"one\n").unwrap(), 4);
        std::fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        assert_eq!(sink.write(b"two\n").unwrap(), 4);
        sink.reopen().unwrap();
        assert_eq!(sink.write(b"three\n").unwrap(), 6);
        assert_eq!(std::fs::read_to_string(dir.path().join("access.log.1")).unwrap(), "before\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        // whatever the umask, nobody else reads it
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nobody() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut sink = FileSink {
            path: PathBuf::new(),
            file: File::from(std::os::fd::OwnedFd::from(ours)),
            waits: true,
            rotation: None,
        };
        let full = (0..100_000).find_map(|_| sink.write(&[b'x'; 2 * PIECE]).err()).expect("it fills up");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
