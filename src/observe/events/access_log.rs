//! What becomes of the files of the access log.

use super::LOG;
use std::io;
use std::path::Path;

/// A file has grown to its limit, and cannot be moved away or begun anew.
pub(in crate::observe) fn access_log_not_rotated(path: &Path, why: &io::Error) {
    let fix = match why.kind() {
        io::ErrorKind::PermissionDenied => ": let the gate's user write in its directory",
        _ => "",
    };
    log::error!(
        target: LOG,
        "access log {}: cannot be rotated: {why}; the old file is written on{fix}",
        path.display()
    );
}
