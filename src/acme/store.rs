//! The directory of one account with one authority: `account.json`, and for each certificate a file with its key
//! and chain. A file is replaced as a whole, so that whoever reads it, be it after a crash or in another process,
//! finds the old one or the new one. Locks keep processes that share the directory from ordering the same twice.
//!
//! ```text
//! STORAGE/acme-v02.api.letsencrypt.org-5f1ae4c0/    0700
//!   account.json                                    0600, as everything in it
//!   www.example.com-0c9b7d15.pem                    the private key, then the chain
//!   www.example.com-0c9b7d15.lock                   locked while it is ordered
//! ```

use super::held::Held;
use crate::config::plan::{Authority, Ordered};
use aws_lc_rs::digest::{Context, SHA256};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is stored is no larger.
const LARGEST: u64 = 1 << 20;

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "pem";

/// What an authority has given us.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// Nobody else has it while this lives; the kernel lets go of it with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// What tells that a file has been replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Store {
    /// Nothing is made before something is stored.
    pub fn of(authority: &Authority) -> Store {
        let host =
            authority.directory.parse::<::http::Uri>().ok().and_then(|url| url.host().map(str::to_owned));
        let account = authority.external_account.as_ref().map_or("", |account| account.key_id.as_str());
        let tag = tag(&[&authority.directory, account]);
        let name = format!("{}-{tag}", host.as_deref().unwrap_or("authority"));
        Store { dir: authority.storage.join(name) }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn account(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.dir.join(ACCOUNT))
    }

    pub fn put_account(&self, account: &[u8]) -> io::Result<()> {
        self.write(ACCOUNT, account)
    }

    /// The authority does not know it any more.
    pub fn remove_account(&self) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(ACCOUNT))
    }

    /// The certificate that is stored under this id.
    ///
    /// # Errors
    /// In words: it cannot be read, or what is there is none.
    pub fn certificate(&self, id: &str) -> Result<Option<Held>, String> {
        let path = self.certificate_path(id);
        let explain = |why: String| format!("`{}`: {why}", path.display());
        match read(&path) {
            Ok(Some(pem)) => Held::from_pem(&pem).map(Some).map_err(explain),
            Ok(None) => Ok(None),
            Err(why) => Err(explain(why.to_string())),
        }
    }

    pub fn put_certificate(&self, id: &str, pem: &[u8]) -> io::Result<()> {
        self.write(&format!("{id}.{CERTIFICATE}"), pem)
    }

    /// Changes with every [`put_certificate`](Store::put_certificate), whoever does it.
    pub fn stamp(&self, id: &str) -> Option<Stamp> {
        let meta = std::fs::metadata(self.certificate_path(id)).ok()?;
        Some(Stamp { inode: meta.ino(), size: meta.size(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Other certificates of this authority that are valid and cover one of these names, the one that lasts longest
    /// first: to be shown until there is one for all of them.
    pub fn stand_ins(&self, names: &[String], now: SystemTime) -> Vec<Held> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let stored = paths.filter(|path| path.extension().is_some_and(|end| end == CERTIFICATE));
        let read = stored.filter_map(|path| Held::from_pem(&read(&path).ok()??).ok());
        let fits = |held: &Held| held.is_valid(now) && names.iter().any(|name| held.covers(name));
        let mut held: Vec<_> = read.filter(fits).collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.not_after));
        held
    }

    /// `None` while another process, or another part of this one, holds it.
    pub fn lock(&self, id: &str) -> io::Result<Option<Lock>> {
        self.make()?;
        let path = self.dir.join(format!("{id}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
            Err((_, why)) => Err(why.into()),
        }
    }

    fn certificate_path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.{CERTIFICATE}"))
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    /// Under another name first, and on the disk before it takes its own.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.make()?;
        let hidden = self.dir.join(format!(".{name}.{}.{:08x}", std::process::id(), fastrand::u32(..)));
        let written =
            write_new(&hidden, content).and_then(|()| std::fs::rename(&hidden, self.dir.join(name)));
        if written.is_err() {
            std::fs::remove_file(&hidden).ok();
        }
        written?;
        // so that the new name survives, too
        File::open(&self.dir)?.sync_all()
    }
}

/// The name of the certificate's files, without their ending.
pub fn id(plan: &Ordered) -> String {
    let mut parts: Vec<&str> = plan.names.iter().map(String::as_str).collect();
    parts.extend(plan.authority.profile.as_deref().map(|_| "profile"));
    parts.extend(plan.authority.profile.as_deref());
    let first = plan.names.first().map_or("certificate", String::as_str);
    // a name may have 253 characters, a file's 255
    let short = first.get(..100).unwrap_or(first);
    format!("{short}-{}", tag(&parts))
}

/// Eight hexadecimal digits that are others for other parts.
fn tag(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    context.finish().as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content)?;
    Ok(Some(content))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::held::tests::pem;
    use super::*;
    use crate::config::file::AcmeChallenge;
    use crate::config::plan::Trust;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::time::Duration;

    pub fn ordered(storage: &Path, names: &[&str]) -> Arc<Ordered> {
        Arc::new(Ordered {
            authority: Arc::new(Authority {
                name: "test".into(),
                directory: "https://ca.example.com:14000/dir".into(),
                trust: Trust::System,
                contact: Vec::new(),
                external_account: None,
                challenge: AcmeChallenge::Http01,
                profile: None,
                storage: storage.to_owned(),
                renew_before: None,
                retry: (Duration::from_secs(1), Duration::from_secs(2)),
            }),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn what_is_stored_is_found_again_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ordered(&dir.path().join("deep/storage"), &["a.example.com"]);
        let (store, id) = (Store::of(&plan.authority), id(&plan));
        assert!(store.certificate(&id).unwrap().is_none() && store.account().unwrap().is_none());
        store.put_account(b"{}").unwrap();
        store.put_certificate(&id, pem(&["a.example.com"], |_| {}).as_bytes()).unwrap();
        assert_eq!(store.account().unwrap().unwrap(), b"{}");
        assert!(store.certificate(&id).unwrap().unwrap().covers("a.example.com"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(store.dir()), 0o700);
        let names: Vec<_> =
            std::fs::read_dir(store.dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.len(), 2, "nothing half written is left: {names:?}");
        assert!(names.iter().all(|path| mode(path) == 0o600));
        let folder = store.dir().file_name().unwrap().to_str().unwrap();
        assert!(folder.starts_with("ca.example.com-"), "{folder}");
    }

    #[test]
    fn a_replaced_certificate_has_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ordered(dir.path(), &["a.example.com"]);
        let store = Store::of(&plan.authority);
        assert_eq!(store.stamp("x"), None);
        store.put_certificate("x", b"one").unwrap();
        let first = store.stamp("x");
        assert_eq!(first, store.stamp("x"));
        store.put_certificate("x", b"two").unwrap();
        assert_ne!(first, store.stamp("x"));
        assert!(store.certificate("x").unwrap_err().contains("x.pem"));
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ordered(dir.path(), &["a.example.com"]);
        let store = Store::of(&plan.authority);
        let first = store.lock("a").unwrap();
        assert!(first.is_some() && store.lock("a").unwrap().is_none() && store.lock("b").unwrap().is_some());
        drop(first);
        assert!(store.lock("a").unwrap().is_some());
    }

    #[test]
    fn stand_ins_are_valid_and_cover_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ordered(dir.path(), &["a.example.com", "b.example.com"]);
        let store = Store::of(&plan.authority);
        assert!(store.stand_ins(&plan.names, SystemTime::now()).is_empty());
        let until = |year| {
            move |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(year, 1, 1)
        };
        store.put_certificate("old", pem(&["a.example.com"], until(2020)).as_bytes()).unwrap();
        store.put_certificate("soon", pem(&["a.example.com"], until(2090)).as_bytes()).unwrap();
        store
            .put_certificate("late", pem(&["b.example.com", "c.example.com"], until(2095)).as_bytes())
            .unwrap();
        store.put_certificate("other", pem(&["d.example.com"], until(2099)).as_bytes()).unwrap();
        store.put_certificate("damaged", b"none").unwrap();
        let found = store.stand_ins(&plan.names, SystemTime::now());
        assert_eq!(found.len(), 2);
        assert!(found[0].covers("b.example.com") && found[1].covers("a.example.com"));
    }

    #[test]
    fn an_id_is_that_of_the_names_and_the_profile() {
        let dir = Path::new("/nowhere");
        let (one, two) =
            (ordered(dir, &["a.example.com"]), ordered(dir, &["a.example.com", "b.example.com"]));
        assert_eq!(id(&one), id(&ordered(dir, &["a.example.com"])));
        assert_ne!(id(&one), id(&two));
        let mut authority = Authority::clone(&one.authority);
        authority.profile = Some("shortlived".into());
        assert_ne!(id(&Ordered { authority: Arc::new(authority), ..Ordered::clone(&one) }), id(&one));
        let mut staging = Authority::clone(&one.authority);
        staging.directory.push_str("/staging");
        assert_ne!(Store::of(&staging).dir(), Store::of(&one.authority).dir());
    }
}
