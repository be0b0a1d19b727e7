//! Servers listed in a file. Its content is compared, not its dates: that notices every change on every
//! file system, a file renamed over it and a link pointed elsewhere included.

use super::{Source, backends, failure};
use crate::config::plan::{FileDiscovery, Member};
use crate::config::report::{Report, Sources};
use crate::config::servers_file;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::Result;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A file that has changed is taken in when it has been the same for this long: whoever writes it in place
/// is not done with the first half.
const SETTLED: Duration = Duration::from_millis(50);
/// How often a file that goes on changing is looked at before that counts as a failure.
const MOST_LOOKS: usize = 40;

/// A file that is looked at again and again.
pub struct FileSource {
    plan: FileDiscovery,
    hasher: ahash::RandomState,
    last: Mutex<Option<Arc<Seen>>>,
}

/// What a content of the file means.
struct Seen {
    hash: u64,
    /// The servers, or every mistake with its place.
    servers: std::result::Result<Vec<Member>, String>,
}

impl FileSource {
    pub fn new(plan: FileDiscovery) -> FileSource {
        FileSource { plan, hasher: ahash::RandomState::new(), last: Mutex::default() }
    }

    async fn look(&self) -> std::result::Result<Vec<Member>, String> {
        let (plan, hasher) = (self.plan.clone(), self.hasher.clone());
        let last = self.last.lock().clone();
        let looked = tokio::task::spawn_blocking(move || look(&plan, &hasher, last)).await;
        let seen = looked.map_err(|error| format!("reading it ended: {error}"))??;
        *self.last.lock() = Some(seen.clone());
        seen.servers.clone()
    }
}

/// What is in the file now; `last` when nothing has changed.
fn look(
    plan: &FileDiscovery,
    hasher: &ahash::RandomState,
    last: Option<Arc<Seen>>,
) -> std::result::Result<Arc<Seen>, String> {
    let read = || servers_file::read(&plan.path).map_err(|error| unreadable(&error));
    let mut bytes = read()?;
    let mut hash = hasher.hash_one(&bytes);
    if let Some(last) = last.filter(|last| last.hash == hash) {
        return Ok(last);
    }
    for _ in 0..MOST_LOOKS {
        std::thread::sleep(SETTLED);
        let again = read()?;
        let before = std::mem::replace(&mut hash, hasher.hash_one(&again));
        bytes = again;
        if before == hash {
            return Ok(Arc::new(Seen { hash, servers: parse(&plan.name, bytes) }));
        }
    }
    Err("it keeps changing".into())
}

fn parse(name: &str, bytes: Vec<u8>) -> std::result::Result<Vec<Member>, String> {
    let (mut sources, mut report) = (Sources::default(), Report::new());
    servers_file::parse(name, bytes, &mut sources, &mut report)
        .ok_or_else(|| format!("it has mistakes:\n{}", report.render_text(&sources).trim_end()))
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".into(),
        _ => format!("it cannot be read: {error}"),
    }
}

#[async_trait]
impl ServiceDiscovery for FileSource {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let servers = self.look().await.map_err(failure)?;
        Ok((backends(servers), HashMap::new()))
    }
}

impl Source for FileSource {
    fn good_for(&self) -> Duration {
        self.plan.interval
    }

    /// Looking costs next to nothing, and whoever mends the file wants to see it work.
    fn retry_after(&self, _failures: u32, _random: f64) -> Duration {
        self.plan.interval
    }

    fn each_reason_is_news(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::discover::members;

    fn at(path: &std::path::Path) -> FileDiscovery {
        let name = "servers.yaml".to_owned();
        FileDiscovery { name, path: path.to_owned(), interval: Duration::from_secs(1) }
    }

    async fn servers(source: &FileSource) -> std::result::Result<Vec<String>, String> {
        match source.discover().await {
            Ok((backends, _)) => Ok(members(backends).iter().map(|m| m.address.to_string()).collect()),
            Err(error) => Err(error.context.as_ref().map(|c| c.as_str().to_owned()).unwrap_or_default()),
        }
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_its_content_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.yaml");
        let source = FileSource::new(at(&path));
        assert_eq!(servers(&source).await.unwrap_err(), "it does not exist");
        std::fs::write(&path, "- 127.0.0.1:3001\n").unwrap();
        assert_eq!(servers(&source).await.unwrap(), ["127.0.0.1:3001"]);
        // the same size, perhaps within the same tick of the clock
        std::fs::write(&path, "- 127.0.0.1:3002\n").unwrap();
        assert_eq!(servers(&source).await.unwrap(), ["127.0.0.1:3002"]);
        let beside = dir.path().join("new");
        std::fs::write(&beside, "[\"127.0.0.1:3003\"]").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert_eq!(servers(&source).await.unwrap(), ["127.0.0.1:3003"]);
        assert_eq!(servers(&source).await.unwrap(), ["127.0.0.1:3003"], "an unchanged file says the same");
    }

    #[tokio::test]
    async fn mistakes_are_told_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.yaml");
        std::fs::write(&path, "- 127.0.0.1:3001\n- nonsense\n").unwrap();
        let source = FileSource::new(at(&path));
        for _ in 0..2 {
            let said = servers(&source).await.unwrap_err();
            assert!(said.contains("\nservers.yaml:2:3: error"), "{said}");
        }
    }
}
