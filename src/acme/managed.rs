//! One certificate as listeners see it: whatever there is of it now, exchanged while they show it. And what there
//! is to be known of it, for whoever asks.

use super::held::Held;
use super::store::{self, Stamp, Store};
use crate::config::plan;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::SystemTime;

/// A certificate that is ordered, and renewed for as long as this lives and somebody keeps it.
#[derive(Debug)]
pub struct Managed {
    plan: Arc<plan::Ordered>,
    id: String,
    store: Store,
    shown: ArcSwap<Shown>,
    standing: Mutex<Standing>,
}

/// What is shown.
#[derive(Debug, Default)]
struct Shown {
    /// The certificate for all the names.
    whole: Option<Arc<Held>>,
    /// Until there is one: others that cover some of them.
    stand_ins: Vec<Held>,
    /// The file that it was read from.
    stamp: Option<Stamp>,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The end of the certificate that is shown.
    pub expires: Option<SystemTime>,
    /// When it is ordered the next time.
    pub next: Option<SystemTime>,
    /// It is being ordered.
    pub ordering: bool,
    /// Orders that failed since one did not.
    pub failures: u32,
    /// The last of them, and when that was.
    pub last_error: Option<(SystemTime, String)>,
}

impl Managed {
    /// With what is stored for it.
    pub(super) fn from_storage(plan: Arc<plan::Ordered>) -> Managed {
        let store = Store::of(&plan.authority);
        let (id, shown, standing) = (store::id(&plan), ArcSwap::default(), Mutex::default());
        let managed = Managed { plan, id, store, shown, standing };
        if let Err(why) = managed.look() {
            managed.standing.lock().last_error = Some((SystemTime::now(), why));
        }
        if managed.held().is_none() {
            let stand_ins = managed.store.stand_ins(&managed.plan.names, SystemTime::now());
            managed.shown.store(Arc::new(Shown { stand_ins, ..Shown::default() }));
        }
        managed
    }

    pub fn plan(&self) -> &Arc<plan::Ordered> {
        &self.plan
    }

    /// What to show to a client that asks for this name, lower case; without one, the certificate there is. `None`
    /// until there is one.
    pub fn certified(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.load();
        let stand_in = || shown.stand_ins.iter().find(|held| name.is_some_and(|name| held.covers(name)));
        shown.whole.as_deref().or_else(stand_in).map(|held| held.certified.clone())
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The certificate for all the names.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.shown.load().whole.clone()
    }

    /// Shows what is stored now, if it is another one than before; whether it is. Reads files.
    ///
    /// # Errors
    /// In words: what is stored cannot be shown. What was shown stays.
    pub(super) fn look(&self) -> Result<bool, String> {
        let stamp = self.store.stamp(&self.id);
        if stamp.is_none() || stamp == self.shown.load().stamp {
            return Ok(false);
        }
        let Some(held) = self.store.certificate(&self.id)? else { return Ok(false) };
        self.show(held, stamp);
        Ok(true)
    }

    /// Shows this one from now on, and stores it as `pem`.
    ///
    /// # Errors
    /// It cannot be stored; it is shown all the same.
    pub(super) fn replace(&self, pem: &str, held: Held) -> std::io::Result<()> {
        let stored = self.store.put_certificate(&self.id, pem.as_bytes());
        let stamp = self.store.stamp(&self.id);
        self.show(held, stamp);
        stored
    }

    fn show(&self, held: Held, stamp: Option<Stamp>) {
        let expires = held.not_after;
        self.shown.store(Arc::new(Shown { whole: Some(Arc::new(held)), stand_ins: Vec::new(), stamp }));
        self.standing.lock().expires = Some(expires);
    }

    pub(super) fn stands(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::super::held::tests::pem;
    use super::super::store::tests::ordered;
    use super::*;

    #[test]
    fn what_is_stored_is_shown_and_what_replaces_it_too() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ordered(dir.path(), &["a.example.com"]);
        let managed = Managed::from_storage(plan.clone());
        assert!(managed.certified(Some("a.example.com")).is_none() && managed.certified(None).is_none());
        assert_eq!(managed.look(), Ok(false));
        let one = pem(&["a.example.com"], |_| {});
        managed.store().put_certificate(managed.id(), one.as_bytes()).unwrap();
        assert_eq!(managed.look(), Ok(true));
        assert_eq!(managed.look(), Ok(false));
        let shown = managed.certified(None).unwrap();
        managed.store().put_certificate(managed.id(), b"damaged").unwrap();
        assert!(managed.look().is_err());
        assert!(Arc::ptr_eq(&shown, &managed.certified(None).unwrap()));
        let two = pem(&["a.example.com"], |_| {});
        managed.store().put_certificate(managed.id(), two.as_bytes()).unwrap();
        assert_eq!(managed.look(), Ok(true));
        assert!(!Arc::ptr_eq(&shown, &managed.certified(None).unwrap()));
        assert!(Managed::from_storage(plan).certified(None).is_some(), "after a restart");
    }

    #[test]
    fn a_name_that_another_certificate_covers_is_served_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let before = Managed::from_storage(ordered(dir.path(), &["a.example.com"]));
        before.store().put_certificate(before.id(), pem(&["a.example.com"], |_| {}).as_bytes()).unwrap();
        let after = Managed::from_storage(ordered(dir.path(), &["a.example.com", "b.example.com"]));
        assert!(after.certified(Some("a.example.com")).is_some());
        assert!(after.certified(Some("b.example.com")).is_none() && after.certified(None).is_none());
        assert!(after.held().is_none() && after.standing().expires.is_none());
        let both = pem(&["a.example.com", "b.example.com"], |_| {});
        after.store().put_certificate(after.id(), both.as_bytes()).unwrap();
        assert_eq!(after.look(), Ok(true));
        assert!(after.certified(Some("b.example.com")).is_some());
    }

    #[test]
    fn the_same_plan_has_the_same_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let one = registry.managed(&ordered(dir.path(), &["a.example.com"]));
        assert!(Arc::ptr_eq(&one, &registry.managed(&ordered(dir.path(), &["a.example.com"]))));
        assert!(!Arc::ptr_eq(&one, &registry.managed(&ordered(dir.path(), &["b.example.com"]))));
    }
}
