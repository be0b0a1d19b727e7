//! Watches the files of the configuration, those it includes and those it names, and asks for a reload when one
//! has changed (`server.reload_on_change`). By looking at them, as that works on every file system, and for links
//! that are changed as a whole, as Kubernetes does it.

use super::reload::Ask;
use crate::config::Checked;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// How often they are looked at. A file is read when it has stayed the same from one look to the next.
const PACE: Duration = Duration::from_millis(500);

/// The clock of a file system may be behind by this much.
const TICK: Duration = Duration::from_millis(20);

/// What to watch.
#[derive(Debug, Default)]
pub struct Files {
    /// Whether a change is heeded.
    on: bool,
    paths: BTreeSet<PathBuf>,
    /// Before the first of them was read.
    read: Option<SystemTime>,
}

/// What tells that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Files {
    /// Those of a configuration that was read, beginning at `begun`. One with mistakes is watched, too: the
    /// next change may mend it.
    pub fn of(checked: &Checked, begun: SystemTime, on: bool) -> Files {
        let named = checked.files.keys().cloned();
        let read = checked.read.iter().cloned();
        Files { on, paths: named.chain(read).collect(), read: Some(begun) }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| stamp(path)).collect()
    }

    /// Where nobody else waits: a file system may take its time.
    async fn look(self: &Arc<Self>) -> Vec<Option<Stamp>> {
        let files = self.clone();
        tokio::task::spawn_blocking(move || files.stamps()).await.unwrap_or_default()
    }

    /// Whether one was changed when it had been read already. One from the future says nothing.
    fn changed_since(&self) -> bool {
        let Some(read) = self.read.and_then(|read| read.checked_sub(TICK)) else { return false };
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        self.paths.iter().filter_map(modified).any(|modified| (read..=SystemTime::now()).contains(&modified))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta: Metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

/// Looks at whatever is to be watched, until nobody says any more what that is.
pub async fn watch(mut files: watch::Receiver<Arc<Files>>, asks: mpsc::Sender<Ask>) {
    loop {
        let watched = files.borrow_and_update().clone();
        tokio::select! {
            next = files.changed() => {
                if next.is_err() {
                    return;
                }
            }
            () = until_changed(&watched) => {
                let ask = Ask::Reload { by: "a changed file".into(), answer: None };
                // the answer to it is the next list
                if asks.send(ask).await.is_err() || files.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Returns when a file has changed and stays as it is.
async fn until_changed(files: &Arc<Files>) {
    if !files.on {
        return std::future::pending().await;
    }
    let (known, mut before) = (files.look().await, None);
    let late = files.changed_since();
    loop {
        tokio::time::sleep(PACE).await;
        let now = files.look().await;
        if (late || now != known) && before.as_ref() == Some(&now) {
            return;
        }
        before = Some(now);
    }
}
