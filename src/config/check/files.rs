//! Files that are read together with the configuration that names them: certificates, keys, error
//! pages. Called by the checks of what they are for.

use crate::config::secret::digest;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The files a configuration names that were read with it, by their paths as written, with what
/// tells whether their contents have changed.
pub type FileDigests = HashMap<PathBuf, String>;

thread_local! {
    static READ: RefCell<Option<FileDigests>> = const { RefCell::new(None) };
}

/// What `check` returns, and the files that it read.
pub(super) fn noting<T>(check: impl FnOnce() -> T) -> (T, FileDigests) {
    READ.set(Some(FileDigests::new()));
    let checked = check();
    (checked, READ.take().unwrap_or_default())
}

/// All of a file of at most so many bytes.
///
/// # Errors
/// In words for the operator, with the fix on a line of its own.
pub(super) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let content = read_all(path, largest)?;
    READ.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.insert(path.to_path_buf(), digest(&content));
        }
    });
    Ok(content)
}

fn read_all(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let why = match File::open(path).and_then(|file| file.take(largest + 1).read_to_end(&mut content)) {
        Ok(_) if content.len() as u64 <= largest => return Ok(content),
        Ok(_) => {
            let megabytes = largest >> 20;
            return Err(format!("`{}` is larger than {megabytes}MB\nname a smaller one", path.display()));
        }
        Err(error) => match error.kind() {
            ErrorKind::NotFound => "does not exist".to_string(),
            ErrorKind::PermissionDenied => "may not be read by this user".to_string(),
            ErrorKind::IsADirectory => "is a directory".to_string(),
            _ => format!("cannot be read: {error}"),
        },
    };
    Err(format!("`{}` {why}\nrelative paths start at the working directory", path.display()))
}
