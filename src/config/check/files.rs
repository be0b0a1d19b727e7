//! Files that are read together with the configuration that names them: certificates, keys, error
//! pages. Called by the checks of what they are for.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// All of a file of at most so many bytes.
///
/// # Errors
/// In words for the operator, with the fix on a line of its own.
pub(super) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, String> {
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
