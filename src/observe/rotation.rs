//! When a file of the access log is begun anew, and what becomes of the old ones: `access.log` becomes `access.log.1`,
//! that `access.log.2`, and so on. Used by [`super::sink`] on the writer's thread.

use crate::config::file::Rotate;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is known of the file that is written.
#[derive(Debug)]
pub(super) struct Rotation {
    limit: u64,
    keep: u16,
    size: u64,
    /// The last write ended with a line.
    between_lines: bool,
}

impl Rotation {
    pub(super) fn new(rotate: &Rotate) -> Self {
        Rotation { limit: rotate.size.0, keep: rotate.keep.get(), size: 0, between_lines: true }
    }

    /// There is another file, of this size.
    pub(super) fn begin(&mut self, size: u64) {
        (self.size, self.between_lines) = (size, true);
    }

    /// It could not be done: tried again when the file has grown as much once more.
    pub(super) fn put_off(&mut self) {
        self.size = 0;
    }

    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.between_lines = bytes.last().map_or(self.between_lines, |byte| *byte == b'\n');
    }

    /// How many of these bytes the file is still to take, in whole lines; `None`: it is to be begun anew first. A line
    /// is not torn, and one that is longer than a file may be has a file for itself.
    pub(super) fn room(&self, bytes: &[u8]) -> Option<usize> {
        let left = usize::try_from(self.limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let Some(fit) = bytes.get(..left).filter(|_| left < bytes.len()) else { return Some(bytes.len()) };
        if let Some(end) = memchr::memrchr(b'\n', fit) {
            return Some(end + 1);
        }
        let first = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        (self.size == 0 || !self.between_lines).then_some(first)
    }

    /// Moves the files on, unless another process has done so, or is about to: before an upgrade's end there are two
    /// that write.
    pub(super) fn rename(&self, path: &Path, open: &File) -> io::Result<()> {
        let Some(_locked) = Locked::take(open) else { return Ok(()) };
        match fs::metadata(path) {
            Ok(there) if same(&there, &open.metadata()?) => {}
            // it was moved away already
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        }
        for age in (1..self.keep).rev() {
            match fs::rename(old(path, age), old(path, age + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(path, old(path, 1))
    }
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// `access.log.3`
fn old(path: &Path, age: u16) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

/// A lock on an open file, for as long as it lives (flock(2)).
struct Locked<'f>(&'f File);

impl<'f> Locked<'f> {
    /// `None` when another process has it.
    fn take(file: &'f File) -> Option<Self> {
        // SAFETY: the descriptor is open for as long as the file is borrowed.
        let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
        taken.then_some(Locked(file))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::{FileSink, Sink};
    use super::*;
    use crate::units::Size;
    use std::num::NonZeroU16;

    fn rotate(size: u64, keep: u16) -> Rotate {
        Rotate { size: Size(size).into(), keep: NonZeroU16::new(keep).unwrap().into() }
    }

    /// All of it, as the writer does.
    fn write(sink: &mut FileSink, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let n = sink.write(rest).unwrap();
            rest = &rest[n..];
        }
    }

    fn read(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    #[test]
    fn files_are_moved_on_at_the_end_of_a_line_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        fs::write(&path, "of the day before\n").unwrap();
        let mut sink = FileSink::open(&path, Some(&rotate(20, 2))).unwrap();
        write(&mut sink, "one\ntwo\nthree\nfour\nfive\nsix\n");
        write(&mut sink, "a line that is longer than a file may be\nseven\n");
        assert_eq!(read(&path).unwrap(), "seven\n");
        assert_eq!(read(&old(&path, 1)).unwrap(), "a line that is longer than a file may be\n");
        assert_eq!(read(&old(&path, 2)).unwrap(), "five\nsix\n");
        assert_eq!(read(&old(&path, 3)), None);
    }

    #[test]
    fn a_line_that_was_begun_is_ended_in_its_file() {
        let mut rotation = Rotation::new(&rotate(10, 1));
        rotation.wrote(b"12345678");
        assert_eq!(rotation.room(b"90ab\nnext\n"), Some(5));
        rotation.wrote(b"90ab\n");
        assert_eq!(rotation.room(b"next\n"), None);
        rotation.put_off();
        assert_eq!(rotation.room(b"next\n"), Some(5));
    }

    #[test]
    fn of_two_that_write_one_moves_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut sinks = [(); 2].map(|()| FileSink::open(&path, Some(&rotate(100, 9))).unwrap());
        let mut written = Vec::new();
        for number in 0..200 {
            let line = format!("{number:09}\n");
            write(&mut sinks[number % 2], &line);
            written.push(line);
        }
        let mut found = Vec::new();
        for file in fs::read_dir(dir.path()).unwrap() {
            let text = read(&file.unwrap().path()).unwrap();
            // each knows of what itself has written
            assert!(text.len() <= 200, "{text}");
            found.extend(text.split_inclusive('\n').map(str::to_owned));
        }
        found.sort();
        // ten files hold the youngest lines, and none is missing among them
        assert!(found.len() >= 100, "{}", found.len());
        assert_eq!(found, written[written.len() - found.len()..]);
    }

    #[test]
    fn what_cannot_be_moved_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        // a directory with something in it cannot be replaced by a file
        fs::create_dir_all(old(&path, 1).join("x")).unwrap();
        let mut sink = FileSink::open(&path, Some(&rotate(10, 1))).unwrap();
        write(&mut sink, "one\ntwo\nthree\nfour\n");
        assert_eq!(read(&path).unwrap(), "one\ntwo\nthree\nfour\n");
    }
}
