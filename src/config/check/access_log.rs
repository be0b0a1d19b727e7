//! Checks of `log.access`, and of what routes and listeners say of their lines.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{AccessFormat, AccessLog, LogTarget, Rotate, Syslog};
use crate::config::report::{Code, Span};
use crate::config::words::ServerAddress;
use crate::units::{Percent, Size};

/// A file that is begun anew after a handful of lines would be mostly renaming.
const SMALLEST: Size = Size(4096);

/// Each of them is renamed when a file is begun anew.
const MOST_KEPT: u16 = 1000;

/// Of an APP-NAME (RFC 5424 §6.2.5).
const LONGEST_APP_NAME: usize = 48;

impl<'a> Checker<'a> {
    pub(super) fn access_log(&mut self) {
        let log = &self.file.log.access;
        match &log.to.value {
            LogTarget::File(path) => self.folder_of("log.access.to.file", log.to.span, path),
            LogTarget::Syslog(syslog) => self.syslog(syslog),
            LogTarget::Stdout | LogTarget::Stderr => {}
            LogTarget::Off => self.nothing_logged(log),
        }
        if let Some(rotate) = &log.rotate {
            self.rotate(log, rotate);
        }
        let in_json = log.format == AccessFormat::Json;
        if !log.headers.is_empty() && !in_json {
            let message = "log.access.headers are written in the json format only\nname them in a template: \
                           `format: { template: \"{client} {uri} {header.x-tenant}\" }`";
            self.error(Code::Conflict, log.headers.span, message);
        }
        if !matches!(log.format, AccessFormat::Template(_))
            && let Some(cookie) = log.redact.cookies.first()
        {
            let message = "log.access.redact.cookies is about cookies that a template names, and there is none\nremove \
                           it: the headers Cookie and Set-Cookie are never shown";
            self.error(Code::Conflict, cookie.span, message);
        }
        for (name, what) in [(&log.redact.query, "query"), (&log.redact.cookies, "cookies")] {
            for name in name {
                self.pair_name(what, name);
            }
        }
    }

    fn pair_name(&mut self, what: &str, name: &Located<String>) {
        if name.is_empty() || name.contains(['=', '&', ';', '?', '#']) {
            let message = format!(
                "`{}` in log.access.redact.{what} is not a name\nwrite it without = and &",
                name.value
            );
            self.error(Code::InvalidValue, name.span, &message);
        }
    }

    fn rotate(&mut self, log: &AccessLog, rotate: &Located<Rotate>) {
        if !matches!(log.to.value, LogTarget::File(_)) {
            let message = "log.access.rotate is for a file\nadd `to: { file: PATH }`, or remove it";
            self.error(Code::Conflict, rotate.span, message);
        }
        if rotate.size.value < SMALLEST {
            let message = format!(
                "log.access.rotate.size is {}\nwrite {SMALLEST} or more, such as 100MB",
                rotate.size.value
            );
            self.error(Code::InvalidValue, rotate.size.span, &message);
        }
        if rotate.keep.get() > MOST_KEPT {
            let message = format!(
                "log.access.rotate.keep is {}\nkeep at most {MOST_KEPT} old files",
                rotate.keep.value
            );
            self.error(Code::InvalidValue, rotate.keep.span, &message);
        }
    }

    fn syslog(&mut self, syslog: &Syslog) {
        if let (ServerAddress::Unix(_), Some(protocol)) = (&syslog.address.value, &syslog.protocol) {
            let message = "log.access.to.syslog has a protocol, and a unix socket for its address\nremove `protocol`: \
                           a unix socket takes datagrams";
            self.error(Code::Conflict, protocol.span, message);
        }
        let name = &syslog.app_name;
        let fits = (1..=LONGEST_APP_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            let message = format!(
                "`{}` cannot be an APP-NAME\nwrite 1 to {LONGEST_APP_NAME} characters of ASCII without spaces",
                name.value
            );
            self.error(Code::InvalidValue, name.span, &message);
        }
    }

    /// Warnings about what would act on lines that there are not.
    fn nothing_logged(&mut self, log: &AccessLog) {
        let file = self.file;
        let mut about: Vec<(Span, &str)> = Vec::new();
        if log.sample != Percent::of(100) {
            about.push((log.to.span, "log.access.sample"));
        }
        if !log.headers.is_empty() {
            about.push((log.headers.span, "log.access.headers"));
        }
        let wanted =
            |share: Option<crate::config::file::LogShare>| share.is_some_and(|s| s.0 > Percent::of(0));
        let routes = file.routes.iter().filter(|route| wanted(route.access_log));
        about.extend(routes.map(|route| (route.span, "access_log of a route")));
        let listeners = file.listeners.iter().filter(|listener| wanted(listener.access_log));
        about.extend(listeners.map(|listener| (listener.span, "access_log of a listener")));
        for (span, what) in about {
            self.without_effect(
                span,
                format!("{what} has no effect: log.access.to is off, so that there is no access log"),
                "name another target in `log.access.to`, or remove it",
            );
        }
    }
}
