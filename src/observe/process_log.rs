//! What the process says about itself, on standard error. `cli` starts it first of all.
//!
//! ```text
//! 2026-11-21T03:18:10.042Z WARN  weirgate::health upstream "api": 127.0.0.1:3002 is down: ...
//! ```

use super::stamp::Stamp;
use crate::config::file::LogLevel;
use arc_swap::ArcSwap;
use log::LevelFilter;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// What is let through now. Not set while the logger is somebody else's.
static OURS: OnceLock<ArcSwap<env_logger::Logger>> = OnceLock::new();

/// Starts the process log at `level`. `RUST_LOG`, when set, decides instead of `level` and of
/// the choices below. A program that embeds the library and has a logger keeps its own: then,
/// and the second time, nothing happens.
pub fn init(level: LogLevel) {
    if log::set_logger(&Proxy).is_ok() {
        let logger = logger(level);
        log::set_max_level(logger.filter());
        OURS.get_or_init(|| ArcSwap::from_pointee(logger));
    }
}

/// Another level while it runs, in the same way.
pub fn set_level(level: LogLevel) {
    if let Some(ours) = OURS.get() {
        let logger = logger(level);
        log::set_max_level(logger.filter());
        ours.store(Arc::new(logger));
    }
}

/// What `log` knows of us.
struct Proxy;

impl log::Log for Proxy {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        OURS.get().is_some_and(|ours| ours.load().enabled(metadata))
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(ours) = OURS.get() {
            ours.load().log(record);
        }
    }

    fn flush(&self) {
        if let Some(ours) = OURS.get() {
            ours.load().flush();
        }
    }
}

fn logger(level: LogLevel) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some_and(|rules| !rules.is_empty()) {
        builder.parse_default_env();
    } else {
        let (ours, rules) = filters(level);
        builder.filter_level(ours);
        for (target, level) in rules {
            builder.filter_module(target, level);
        }
    }
    builder.format(|out, record| {
        let line = line(SystemTime::now(), record);
        out.write_all(&line)
    });
    builder.build()
}

/// The default level and those of the targets that differ from it.
///
/// What an operator needs is said once, by [`super::events`] or in the access log. Pingora says
/// much of it a second time: an error for each failed request, a warning for each retry and each
/// change of health, a line per signal. These are let through from `debug` on, when somebody looks
/// for the cause of something.
fn filters(level: LogLevel) -> (LevelFilter, Vec<(&'static str, LevelFilter)>) {
    use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
    let (ours, theirs, requests, server) = match level {
        LogLevel::Error => (Error, Error, Off, Error),
        LogLevel::Warn => (Warn, Error, Off, Warn),
        LogLevel::Info => (Info, Error, Off, Warn),
        LogLevel::Debug => (Debug, Info, Info, Info),
        LogLevel::Trace => (Trace, Debug, Debug, Debug),
    };
    let rules = vec![
        // one line per failed request, with the request's line in it
        ("pingora_proxy", requests),
        // one line per connection that ends badly
        ("pingora_core::apps", requests),
        ("pingora_core", theirs),
        // a runtime that does not end in time
        ("pingora_core::server", server),
        ("pingora_cache", theirs),
        ("pingora_load_balancing", theirs),
        ("pingora_pool", theirs),
        // a warning per client that fails a handshake
        ("rustls", theirs),
        ("h2", theirs),
        ("mio", theirs),
    ];
    (ours, rules)
}

/// Time, level, target and message. Control characters are escaped and further lines indented,
/// so that no text from outside can look like a line of its own.
fn line(now: SystemTime, record: &log::Record<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    Stamp::default().rfc3339(now, &mut out);
    let message = record.args().to_string();
    // a Vec takes every byte
    drop(write!(out, " {:<5} {} ", record.level(), record.target()));
    for character in message.trim_end().chars() {
        match character {
            '\n' => out.extend_from_slice(b"\n    "),
            '\t' => out.push(b'\t'),
            control if control.is_control() => drop(write!(out, "{}", control.escape_default())),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::combined::tests::moment;

    fn rendered(level: log::Level, target: &str, message: &str) -> String {
        let said = format_args!("{message}");
        let out = line(moment(), &log::Record::builder().level(level).target(target).args(said).build());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_time_level_target_and_message() {
        assert_eq!(
            rendered(log::Level::Info, "weirgate", "weirgate 0.1.0 starts"),
            "2026-11-21T03:18:10.042Z INFO  weirgate weirgate 0.1.0 starts\n"
        );
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        assert_eq!(
            rendered(
                log::Level::Warn,
                "weirgate::health",
                "bad\r\n2026-11-21T03:18:10.042Z INFO all is well\x1b[2J\u{9b}é\n"
            ),
            "2026-11-21T03:18:10.042Z WARN  weirgate::health bad\\r\n    2026-11-21T03:18:10.042Z INFO all is \
             well\\u{1b}[2J\\u{9b}é\n"
        );
    }

    #[test]
    fn starting_twice_is_harmless() {
        init(LogLevel::Error);
        init(LogLevel::Error);
    }

    /// What the filter of `level` lets through.
    fn passes(level: LogLevel, target: &str, said: log::Level) -> bool {
        let (ours, rules) = filters(level);
        let longest = rules
            .into_iter()
            .filter(|(prefix, _)| target == *prefix || target.starts_with(&format!("{prefix}::")))
            .max_by_key(|(prefix, _)| prefix.len());
        said <= longest.map_or(ours, |(_, level)| level)
    }

    #[test]
    fn a_failed_request_is_not_said_twice_until_somebody_debugs() {
        use log::Level::{Error, Info, Warn};
        for quiet in [LogLevel::Error, LogLevel::Warn, LogLevel::Info] {
            assert!(!passes(quiet, "pingora_proxy", Error));
            assert!(!passes(quiet, "pingora_core::apps::http_app", Error));
            assert!(!passes(quiet, "pingora_load_balancing", Warn));
            assert!(!passes(quiet, "pingora_core::server", Info));
            assert!(passes(quiet, "pingora_core::protocols::http::v1::server", Error));
            assert!(passes(quiet, "weirgate::health", Error));
        }
        assert!(passes(LogLevel::Info, "weirgate", Info));
        assert!(!passes(LogLevel::Warn, "weirgate", Info));
        assert!(passes(LogLevel::Info, "an_embedding_program", Info));
        assert!(passes(LogLevel::Debug, "pingora_proxy", Error));
    }
}
