//! `weirgate reload`, `status`, `upgrade`: asked of the process that runs, through its control socket. 0 done,
//! 1 refused or nobody there, 64 no socket is known.

use super::{FAILED, Format, OK, USAGE, err, out};
use crate::Gate;
use crate::run::control::{self, Wish};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Which process.
#[derive(clap::Args)]
pub(super) struct Running {
    /// The configuration file, which names the socket (server.upgrade_sock).
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "conf/weirgate.yaml")]
    file: PathBuf,
    /// The socket of the process, whatever the file says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How the answer is shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The socket that this configuration names; it may have mistakes elsewhere. What is missing is said.
pub(super) fn socket_of(file: &Path) -> Option<PathBuf> {
    let checked = Gate::from_file(file).check();
    let socket = checked.file.server.upgrade_sock.as_ref().map(|path| path.value.clone());
    if socket.is_none() && checked.report.has_errors() {
        err(checked.report.render_text(&checked.sources).trim_end());
    } else if socket.is_none() {
        err(&format!(
            "weirgate: `{}` names no socket of a running process\nadd `server: {{ upgrade_sock: \
             /run/weirgate/control.sock }}`, or give --socket PATH",
            file.display()
        ));
    }
    socket
}

/// Says why nothing was done; the code to exit with.
fn failed(why: &str) -> u8 {
    err(&format!("weirgate: {}", why.trim_end()));
    FAILED
}

impl Running {
    fn ask(&self, wish: Wish) -> Result<Value, u8> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => {
                let socket = socket_of(&self.file).ok_or(USAGE)?;
                if matches!(wish, Wish::Reload | Wish::Upgrade) {
                    self.is_its_file(&socket).map_err(|why| failed(&why))?;
                }
                socket
            }
        };
        let answer = control::ask(&socket, wish).map_err(|why| failed(&why))?;
        if self.format == Format::Json {
            out(&format!("{answer:#}\n"));
            return Err(OK);
        }
        Ok(answer)
    }
}

impl Running {
    /// The process reads the file that it was started with, whatever is named here: another one may name the same
    /// socket, and must not seem to have been taken.
    fn is_its_file(&self, socket: &Path) -> Result<(), String> {
        let status = control::ask(socket, Wish::Status)?;
        let text = |pointer| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let its = Path::new(text("/config/file"));
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(its) == real(&self.file) {
            return Ok(());
        }
        let pid = status.get("pid").cloned().unwrap_or_default();
        Err(format!(
            "process {pid} runs with `{its}`, not with `{given}`; nothing was done\nput the new configuration into \
             its file and say -c {its}; `weirgate diff -c {given}` shows what would change",
            its = its.display(),
            given = self.file.display()
        ))
    }
}

pub(super) fn reload(running: &Running) -> u8 {
    let answer = match running.ask(Wish::Reload) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let list = |key| answer.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for warning in list("warnings").iter().filter_map(Value::as_str) {
        err(&format!("warning: {warning}"));
    }
    let changes = list("changes");
    for change in changes.iter().filter_map(Value::as_str) {
        out(&format!("{change}\n"));
    }
    let hash = answer.pointer("/status/config/hash").and_then(Value::as_str).unwrap_or_default();
    out(&match changes.len() {
        0 => format!("nothing has changed; configuration {hash} is in use\n"),
        1 => format!("reloaded, 1 change; configuration {hash} is in use\n"),
        n => format!("reloaded, {n} changes; configuration {hash} is in use\n"),
    })
}

pub(super) fn status(running: &Running) -> u8 {
    let answer = match running.ask(Wish::Status) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let text = |pointer: &str| match answer.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    out(&format!(
        "process   {}, weirgate {}\nfile      {}\nhash      {}\nsince     {}\nreloads   {} done, {} refused\n",
        text("/pid"),
        text("/version"),
        text("/config/file"),
        text("/config/hash"),
        text("/config/since"),
        text("/reloads"),
        text("/refusals"),
    ));
    let certificates = answer.get("certificates").and_then(Value::as_array);
    for certificate in certificates.into_iter().flatten() {
        let text = |key: &str| certificate.get(key).and_then(Value::as_str).unwrap_or_default();
        let until = text("not_after").split('T').next().unwrap_or_default();
        out(&format!("certificate of {} until {until}, {}\n", text("listener"), text("file")));
    }
    for certificate in answer.get("acme").and_then(Value::as_array).into_iter().flatten() {
        out(&certificate_line(certificate));
    }
    if answer.get("last_refused").is_some_and(Value::is_object) {
        out(&format!(
            "\nthe last one that was refused, {} by {}:\n{}\n",
            text("/last_refused/at"),
            text("/last_refused/by"),
            text("/last_refused/why").trim_end()
        ));
    }
    OK
}

/// One that is ordered from an authority.
fn certificate_line(certificate: &Value) -> String {
    let text = |pointer: &str| certificate.pointer(pointer).and_then(Value::as_str);
    let names = certificate.get("names").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    let state = match (text("/expires"), certificate.get("ordering").and_then(Value::as_bool)) {
        (Some(expires), _) => format!("expires {expires}"),
        (None, Some(true)) => "being ordered".to_owned(),
        (None, _) => "none yet".to_owned(),
    };
    let next = text("/next").map_or_else(String::new, |next| format!(", next order {next}"));
    let acme = text("/acme").unwrap_or_default();
    let error = match (text("/last_error/at"), text("/last_error/why")) {
        (Some(at), Some(why)) => format!("          failed {at}: {why}\n"),
        _ => String::new(),
    };
    format!("acme      {} ({acme}): {state}{next}\n{error}", names.join(", "))
}

pub(super) fn upgrade(running: &Running) -> u8 {
    match running.ask(Wish::Upgrade) {
        Ok(answer) => {
            let pid = answer.get("pid").cloned().unwrap_or_default();
            out(&format!("process {pid} serves; the one before it ends when its connections have\n"))
        }
        Err(code) => code,
    }
}
