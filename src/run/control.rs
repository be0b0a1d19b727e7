//! The control socket (`server.upgrade_sock`): how the command line asks a running process for its status, a
//! reload or an upgrade. A Unix socket of mode 0600; whoever is neither root nor the user of the process is
//! refused. A request is a line of JSON, and so is the answer.
//!
//! ```text
//! {"do":"status"}   ->  {"ok":{"pid":4711,"config":{...},...}}
//! {"do":"reload"}   ->  {"ok":{"changes":["upstreams.api.balance: ..."]}}  or  {"error":"..."}
//! ```

use super::expiry;
use super::reload::{Applied, Ask};
use super::status::Status;
use crate::admin::view::Reloaded;
use crate::config::plan::Plan;
use crate::unix_socket::{self, Inode};
use arc_swap::ArcSwap;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// The longest request, in bytes.
const LONGEST: u64 = 4096;
/// How long somebody who has connected may take to say what is wanted.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said to those who come too late.
const ENDING: &str = "the process is ending";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    Status,
    Reload,
    Upgrade,
    /// The configuration in use, as a [`Comparable`](crate::config::Comparable) has it.
    Configuration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    #[serde(rename = "do")]
    wish: Wish,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Ok(Value),
    Error(String),
}

/// The socket, open.
pub struct Control {
    listener: net::UnixListener,
    path: PathBuf,
    inode: Inode,
}

impl Control {
    /// Opens the socket in place of one that nobody listens on any more; or, when this process takes the place
    /// of another, of the one that this one listens on.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn bind(path: &Path, takes_over: bool) -> Result<Control, String> {
        let cannot = |what: &str, why: io::Error| {
            format!("upgrade_sock `{}` {what}: {why}\nname a path in a directory of its own", path.display())
        };
        if !takes_over && net::UnixStream::connect(path).is_ok() {
            return Err(format!(
                "upgrade_sock `{}`: another process listens on it\nstop it, or `weirgate upgrade` it",
                path.display()
            ));
        }
        let (listener, inode) =
            unix_socket::replace(path, 0o600).map_err(|why| cannot("cannot be made", why))?;
        Ok(Control { listener, path: path.to_owned(), inode })
    }

    /// Removes the socket, unless another process has put its own in its place.
    pub fn remove(&self) {
        unix_socket::remove(&self.path, self.inode);
    }

    /// Answers until the process ends. To be called within a tokio runtime.
    pub async fn serve(&self, desk: Desk) {
        let socket = self.listener.try_clone().and_then(UnixListener::from_std);
        let socket = match socket {
            Ok(socket) => socket,
            Err(why) => {
                log::error!("upgrade_sock cannot be served: {why}");
                return;
            }
        };
        let desk = Arc::new(desk);
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tokio::spawn(async move {
                        if let Err(why) = desk.serve(stream).await {
                            log::debug!("upgrade_sock: {why}");
                        }
                    });
                }
                Err(why) => {
                    log::warn!("upgrade_sock cannot be accepted on: {why}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Who answers. Clones are the same.
#[derive(Clone)]
pub struct Desk {
    pub asks: mpsc::Sender<Ask>,
    pub status: Arc<Status>,
    pub current: Arc<ArcSwap<Plan>>,
}

impl Desk {
    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?;
        let (read, mut write) = stream.into_split();
        let answer = match peer.uid() {
            uid if uid == 0 || uid == Uid::effective().as_raw() => {
                let mut line = String::new();
                let mut read = tokio::io::BufReader::new(read.take(LONGEST));
                tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await??;
                match serde_json::from_str::<Request>(&line) {
                    Ok(request) => self.answer(request.wish).await,
                    Err(why) => Answer::Error(format!("not understood: {why}")),
                }
            }
            uid => {
                log::warn!("upgrade_sock: user {uid} was refused");
                Answer::Error("only root and the user of the process may ask".into())
            }
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await
    }

    async fn answer(&self, wish: Wish) -> Answer {
        match wish {
            Wish::Status => Answer::Ok(self.told()),
            Wish::Configuration => Answer::Ok(self.status.loaded().comparable.to_value()),
            Wish::Reload => Answer::from(self.reload("weirgate reload").await.map(|done| json!(done))),
            Wish::Upgrade => {
                let became = self.pass_on(|answer| Ask::Upgrade { answer }).await;
                Answer::from(became.map(|pid| json!({ "pid": pid })))
            }
        }
    }

    /// Has the configuration read again, and says what has changed.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn reload(&self, by: &str) -> Result<Reloaded, String> {
        let ask = |answer| Ask::Reload { by: by.to_owned(), answer: Some(answer) };
        let Applied { changes, warnings } = self.pass_on(ask).await?;
        let changes = changes.iter().map(ToString::to_string).collect();
        Ok(Reloaded { changes, warnings, status: self.told() })
    }

    /// What is known of this process.
    pub fn told(&self) -> Value {
        let mut status = self.status.to_json();
        if let Some(status) = status.as_object_mut() {
            status.insert("certificates".to_owned(), json!(expiry::certificates(&self.current.load())));
        }
        status
    }

    /// To those who can do it, and waits for what they say.
    pub async fn pass_on<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Ask,
    ) -> Result<T, String> {
        let (answer, became) = oneshot::channel();
        // an error says that nobody is there any more
        self.asks.send(ask(answer)).await.map_err(|_| ENDING)?;
        became.await.map_err(|_| ENDING)?
    }
}

impl From<Result<Value, String>> for Answer {
    fn from(became: Result<Value, String>) -> Answer {
        match became {
            Ok(value) => Answer::Ok(value),
            Err(why) => Answer::Error(why),
        }
    }
}

/// Asks the process that listens at `path`; for the command line.
///
/// # Errors
/// In words for the operator: nobody listens there, or what the process says.
pub fn ask(path: &Path, wish: Wish) -> Result<Value, String> {
    let failed = |why: io::Error| format!("upgrade_sock `{}`: {why}", path.display());
    let mut stream = net::UnixStream::connect(path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no weirgate runs that listens on `{}` (server.upgrade_sock)", path.display())
        }
        _ => failed(why),
    })?;
    let request = serde_json::to_string(&Request { wish }).map_err(|why| why.to_string())?;
    writeln!(stream, "{request}").map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(why)) => Err(why),
        Err(_) => Err(format!("the process at `{}` ended before it answered", path.display())),
    }
}
