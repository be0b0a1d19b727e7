//! Checks of `server`: what the process itself needs.

use super::Checker;
use crate::config::report::{Code, Span};
use nix::unistd::{Group, User};
use std::path::Path;

/// The most workers that make sense on any machine.
const MOST_THREADS: usize = 1024;

impl Checker<'_> {
    pub(super) fn process(&mut self) {
        let server = &self.file.server;
        if server.threads > MOST_THREADS {
            let message = format!(
                "server.threads is {}\nuse 0 for one worker per core; at most {MOST_THREADS}",
                server.threads
            );
            self.error(Code::InvalidValue, Span::default(), &message);
        }
        if server.max_retries == 0 {
            let message =
                "server.max_retries is 0, so that no request could be forwarded\nuse 1 for no retries at all";
            self.error(Code::InvalidValue, Span::default(), message);
        }
        if server.daemon {
            self.daemon();
        } else {
            self.no_daemon();
        }
        for (name, path) in [("pid_file", &server.pid_file), ("error_log", &server.error_log)] {
            if let Some(path) = path {
                self.folder_of(name, Span::default(), path);
            }
        }
    }

    fn daemon(&mut self) {
        let server = &self.file.server;
        if server.pid_file.is_none() {
            let message = "server.daemon needs server.pid_file\nadd `pid_file: /run/weirgate.pid`: without it, nothing \
                           says which process to stop";
            self.error(Code::Conflict, Span::default(), message);
        }
        if let Some(user) = &server.user
            && !matches!(User::from_name(&user.value), Ok(Some(_)))
        {
            let message = format!("there is no user \"{}\" on this machine", user.value);
            self.error(Code::InvalidValue, user.span, &message);
        }
        if let Some(group) = &server.group
            && !matches!(Group::from_name(&group.value), Ok(Some(_)))
        {
            let message = format!("there is no group \"{}\" on this machine", group.value);
            self.error(Code::InvalidValue, group.span, &message);
        }
        if let Some(folder) = &server.working_directory
            && !folder.value.is_dir()
        {
            let message = format!("working_directory `{}` is not a directory", folder.value.display());
            self.error(Code::BadFile, folder.span, &message);
        }
    }

    /// These act on a daemon only; accepting them without it would ignore them.
    fn no_daemon(&mut self) {
        let server = &self.file.server;
        let set = [
            ("user", server.user.as_ref().map(|u| u.span)),
            ("group", server.group.as_ref().map(|g| g.span)),
            ("working_directory", server.working_directory.as_ref().map(|w| w.span)),
            ("error_log", server.error_log.as_ref().map(|_| Span::default())),
        ];
        for (name, span) in set {
            if let Some(span) = span {
                let message = format!(
                    "server.{name} acts on a daemon only\nset `daemon: true`, or let the service manager do it and remove the key"
                );
                self.error(Code::Conflict, span, &message);
            }
        }
    }

    pub(super) fn folder_of(&mut self, name: &str, span: Span, path: &Path) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() {
            let message = format!("{name}: `{}` is a directory\nname a file in it", path.display());
            self.error(Code::BadFile, span, &message);
        } else if !folder.is_dir() {
            let message = format!(
                "{name}: there is no directory `{}`\ncreate it, or choose another path",
                folder.display()
            );
            self.error(Code::BadFile, span, &message);
        }
    }
}
