//! Reads one file as text, bounded, and says what is wrong with it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{LARGEST_FILE, LARGEST_TOTAL, Loader};
use crate::config::report::{Code, Diagnostic, FileId, Span};

impl Loader<'_> {
    /// Reads a file and adds it to the sources. `included` is the place that names it; the main file has none.
    pub(super) fn read(&mut self, path: &Path, included: Option<Span>) -> Option<FileId> {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let (message, help) = refusal(path, &error);
                self.refuse(path, included, Code::FileUnreadable, message).help(help);
                return None;
            }
        };
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(size);
        if size > LARGEST_FILE || self.total > LARGEST_TOTAL {
            let message = format!(
                "{} is too large: a file may hold {} MiB, all together {} MiB",
                path.display(),
                LARGEST_FILE >> 20,
                LARGEST_TOTAL >> 20
            );
            self.refuse(path, included, Code::FileTooLarge, message);
            return None;
        }
        let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Some(self.add(path, text))
            }
            Err(error) => {
                self.not_utf8(path, &error, utf16);
                None
            }
        }
    }

    /// A problem of a file that has no text to show: at the place that includes it, or of the file itself.
    fn refuse(
        &mut self,
        path: &Path,
        included: Option<Span>,
        code: Code,
        message: String,
    ) -> &mut Diagnostic {
        let span = match included {
            Some(span) => span,
            None => Span::file(self.add(path, String::new())),
        };
        self.report.error(code, span, message)
    }

    fn not_utf8(&mut self, path: &Path, error: &std::string::FromUtf8Error, utf16: bool) {
        let valid = error.utf8_error().valid_up_to();
        let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let before = lossy.get(..valid).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let file = self.add(path, lossy);
        if utf16 {
            self.report
                .error(Code::NotUtf8, Span::file(file), "the file is UTF-16, not UTF-8")
                .help("save it as UTF-8, for example: iconv -f UTF-16 -t UTF-8");
            return;
        }
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let span = Span { file, line: place(line), column: place(column), len: 1 };
        self.report
            .error(Code::NotUtf8, span, "the file is not UTF-8 text")
            .help("save it as UTF-8, for example: iconv -f LATIN1 -t UTF-8");
    }
}

/// Reads at most one byte more than is allowed, so that the caller can tell.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // one byte more, in which it is found that there is no more
    let room = about.len().min(LARGEST_FILE) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refusal(path: &Path, error: &io::Error) -> (String, String) {
    let shown = path.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist"),
        io::ErrorKind::PermissionDenied => format!("{shown} may not be read by this user"),
        io::ErrorKind::IsADirectory => format!("{shown} is a directory"),
        _ => format!("{shown} cannot be read: {error}"),
    };
    let help = match error.kind() {
        io::ErrorKind::NotFound if path.is_relative() => {
            let here = std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default();
            format!("relative to the working directory {here}; -c names another file")
        }
        io::ErrorKind::IsADirectory => format!("name a file in it; include: {shown}/*.yaml takes all"),
        io::ErrorKind::PermissionDenied => "check the permissions of the file and its directories".to_owned(),
        _ => "check the path".to_owned(),
    };
    (message, help)
}
