//! Session tickets: what lets a client resume a session without a full handshake, whichever worker, replica or later
//! process it comes back to. The session is in the ticket, encrypted and authenticated; nothing is kept here but keys.
//!
//! ```text
//! ticket = key name 16 | nonce 12 | sealed ( seconds since 1970 8 | session ) | tag 16
//! ```
//!
//! Sealed with AES-256-GCM-SIV (RFC 8452), which stands random nonces for more tickets than are ever made. Each policy has
//! keys of its own, derived from a secret and the terms of the policy: a session that was opened without a certificate
//! does not open where one is asked for, nor after the authorities have changed. See docs/decisions/025-tls.md.

use crate::config::plan::{TicketKey, TlsPolicy};
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const LABEL: &[u8] = b"weirgate session tickets 1";
const NAME: usize = 16;
const TIME: usize = 8;
const LEAST: usize = NAME + NONCE_LEN + TIME + MAX_TAG_LEN;
/// How far the clocks of replicas may be apart, in seconds.
const SKEW: u64 = 300;
/// A random secret makes tickets for so long, in seconds.
const ROTATION: u64 = 12 * 60 * 60;

/// The secrets that the process makes for itself: the newest makes tickets, earlier ones open those that clients still
/// have. One for all listeners, as long as the process lives, and handed over to the one that takes its place.
pub struct RandomSecrets {
    /// The newest first.
    all: Mutex<Vec<(u64, TicketKey)>>,
    /// Changes with them.
    version: AtomicU64,
    /// When the next one is due.
    next: AtomicU64,
    /// The longest lifetime of tickets on any listener.
    kept: AtomicU64,
}

impl Default for RandomSecrets {
    fn default() -> Self {
        RandomSecrets {
            all: Mutex::default(),
            version: AtomicU64::new(1),
            next: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }
}

impl RandomSecrets {
    /// Goes on with those of the process before this one: when they were made, in seconds since 1970, and what they
    /// are. To be called before the first ticket.
    pub fn inherit(&self, mut inherited: Vec<(u64, TicketKey)>) {
        inherited.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
        let mut all = self.all.lock();
        if let Some((made, _)) = inherited.first() {
            self.next.store(made.saturating_add(ROTATION), Ordering::Release);
            *all = inherited;
        }
    }

    /// To be handed over.
    pub fn hand_out(&self) -> Vec<(u64, TicketKey)> {
        self.all.lock().clone()
    }

    /// Makes a secret when one is due, and forgets those that no ticket can be of any more. The version of the set.
    fn current(&self, now: u64) -> u64 {
        if now >= self.next.load(Ordering::Acquire) {
            let mut all = self.all.lock();
            // another worker may have been here first
            if now >= self.next.load(Ordering::Acquire)
                && let Some(fresh) = TicketKey::random()
            {
                let kept = ROTATION + self.kept.load(Ordering::Acquire) + SKEW;
                all.retain(|(made, _)| now.saturating_sub(*made) <= kept);
                all.insert(0, (now, fresh));
                self.next.store(now.saturating_add(ROTATION), Ordering::Release);
                self.version.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.version.load(Ordering::Acquire)
    }
}

/// The tickets of one policy.
pub struct Tickets {
    secrets: Secrets,
    /// What keys are derived for.
    context: [u8; 32],
    lifetime: u64,
    keys: ArcSwap<Keys>,
}

enum Secrets {
    /// Of the process.
    Random(Arc<RandomSecrets>),
    /// Of files: they do not change.
    Given,
}

/// The first makes tickets.
struct Keys {
    version: u64,
    all: Vec<Key>,
}

struct Key {
    name: [u8; NAME],
    key: RandomizedNonceKey,
}

impl Tickets {
    /// With these keys, of which the first makes tickets; without any, with those of the process.
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn build(
        policy: &TlsPolicy,
        given: &[TicketKey],
        lifetime: Duration,
        random: &Arc<RandomSecrets>,
    ) -> Result<Arc<dyn ProducesTickets>, String> {
        let context = context(policy);
        let lifetime = lifetime.as_secs();
        let keys = given.iter().map(|secret| derive(secret, &context)).collect::<Option<Vec<_>>>();
        let keys = keys.ok_or("no keys for session tickets can be derived")?;
        let secrets = match given.is_empty() {
            true => {
                random.kept.fetch_max(lifetime, Ordering::AcqRel);
                Secrets::Random(random.clone())
            }
            false => Secrets::Given,
        };
        let keys = ArcSwap::from_pointee(Keys { version: 0, all: keys });
        Ok(Arc::new(Tickets { secrets, context, lifetime, keys }))
    }

    fn keys(&self, now: u64) -> arc_swap::Guard<Arc<Keys>> {
        let keys = self.keys.load();
        let Secrets::Random(secrets) = &self.secrets else { return keys };
        let version = secrets.current(now);
        if keys.version == version {
            return keys;
        }
        let all = secrets.hand_out();
        let all = all.iter().filter_map(|(_, secret)| derive(secret, &self.context)).collect();
        self.keys.store(Arc::new(Keys { version, all }));
        self.keys.load()
    }

    fn seal(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.keys(now);
        let Key { name, key } = keys.all.first()?;
        let mut sealed = Vec::with_capacity(TIME + session.len());
        sealed.extend_from_slice(&now.to_be_bytes());
        sealed.extend_from_slice(session);
        let (nonce, tag) = key.seal_in_place_separate_tag(Aad::from(name), &mut sealed).ok()?;
        Some([&name[..], nonce.as_ref(), &sealed, tag.as_ref()].concat())
    }

    /// `None` for what is not ours, forged, of another policy, or past its time; clients may send anything.
    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() < LEAST {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys(now);
        let key = keys.all.iter().find(|key| key.name == name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = key.key.open_in_place(nonce, Aad::from(name), &mut sealed).ok()?;
        let (made, session) = plain.split_at_checked(TIME)?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        let in_time = now.saturating_sub(made) <= self.lifetime && made <= now.saturating_add(SKEW);
        in_time.then(|| session.to_vec())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.lifetime).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The same for the same terms in every process, and for no others: each part stands behind its length.
fn context(policy: &TlsPolicy) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(format!("{:?} {:?}", policy.min_version, policy.max_version).as_bytes());
    if let Some(auth) = &policy.client_auth {
        part(if auth.required { b"required" } else { b"optional" });
        part(&(auth.ca.len() as u64).to_be_bytes());
        auth.ca.iter().for_each(|authority| part(authority));
        auth.crl.iter().for_each(|list| part(list));
    }
    let mut context = [0; 32];
    let digest = hash.finish();
    context.copy_from_slice(digest.as_ref());
    context
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(secret: &TicketKey, context: &[u8; 32]) -> Option<Key> {
    let prk = Salt::new(HKDF_SHA256, LABEL).extract(secret.secret());
    let mut name = [0; NAME];
    expand(&prk, context, b"name", &mut name)?;
    let mut key = [0; 32];
    expand(&prk, context, b"key", &mut key)?;
    Some(Key { name, key: RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()? })
}

fn expand(prk: &Prk, context: &[u8], what: &[u8], out: &mut [u8]) -> Option<()> {
    prk.expand(&[context, what], Length(out.len())).ok()?.fill(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::TlsVersion;
    use crate::config::plan::ClientAuth;
    use rustls_pki_types::CertificateDer;

    const DAY: u64 = 24 * 60 * 60;

    fn secrets() -> Arc<RandomSecrets> {
        Arc::new(RandomSecrets::default())
    }

    fn of(policy: &TlsPolicy, given: &[TicketKey], random: &Arc<RandomSecrets>) -> Tickets {
        random.kept.fetch_max(DAY / 2, Ordering::AcqRel);
        let context = context(policy);
        let keys = given.iter().map(|secret| derive(secret, &context).unwrap()).collect();
        Tickets {
            secrets: if given.is_empty() { Secrets::Random(random.clone()) } else { Secrets::Given },
            context,
            lifetime: DAY / 2,
            keys: ArcSwap::from_pointee(Keys { version: 0, all: keys }),
        }
    }

    fn key(byte: u8) -> TicketKey {
        TicketKey::new(&[byte; 32])
    }

    #[test]
    fn a_ticket_opens_until_its_time_is_over() {
        for given in [vec![], vec![key(1)]] {
            let tickets = of(&TlsPolicy::default(), &given, &secrets());
            let ticket = tickets.seal(b"session", 1_000_000).unwrap();
            assert_eq!(ticket.len(), LEAST + 7);
            assert!(!ticket.windows(7).any(|part| part == b"session"));
            assert!(tickets.open(&ticket, 1_000_000 - SKEW).is_some(), "of a replica whose clock is ahead");
            assert!(tickets.open(&ticket, 1_000_000 - SKEW - 1).is_none());
            for (later, opens) in [(0, true), (DAY / 2, true), (DAY / 2 + 1, false), (30 * DAY, false)] {
                let opened = tickets.open(&ticket, 1_000_000 + later);
                assert_eq!(opened.as_deref(), opens.then_some(&b"session"[..]), "{later}");
            }
        }
    }

    #[test]
    fn what_is_not_a_ticket_opens_nothing() {
        let tickets = of(&TlsPolicy::default(), &[key(1)], &secrets());
        let ticket = tickets.seal(b"session", 1_000).unwrap();
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(tickets.open(&forged, 1_000), None, "byte {at}");
            assert_eq!(tickets.open(&ticket[..at], 1_000), None, "cut at {at}");
        }
        assert_ne!(ticket, tickets.seal(b"session", 1_000).unwrap());
    }

    #[test]
    fn every_term_has_keys_of_its_own() {
        let auth = |required, ca: u8, crl: &[u8]| TlsPolicy {
            client_auth: Some(Arc::new(ClientAuth {
                ca: vec![CertificateDer::from(vec![ca])],
                crl: crl.iter().map(|byte| vec![*byte].into()).collect(),
                required,
            })),
            ..TlsPolicy::default()
        };
        let policies = [
            TlsPolicy::default(),
            TlsPolicy { min_version: TlsVersion::V1_3, ..TlsPolicy::default() },
            auth(true, 1, &[]),
            auth(false, 1, &[]),
            auth(true, 2, &[]),
            auth(true, 1, &[2]),
            auth(true, 1, &[3]),
        ];
        for (i, made) in policies.iter().enumerate() {
            let ticket = of(made, &[key(1)], &secrets()).seal(b"session", 1_000).unwrap();
            for (j, asked) in policies.iter().enumerate() {
                let opened = of(asked, &[key(1)], &secrets()).open(&ticket, 1_000);
                assert_eq!(opened.is_some(), i == j, "made by {i}, opened by {j}");
            }
        }
    }

    #[test]
    fn given_keys_are_exchanged_one_after_the_other() {
        let policy = TlsPolicy::default();
        let of =
            |keys: &[u8]| of(&policy, &keys.iter().map(|byte| key(*byte)).collect::<Vec<_>>(), &secrets());
        let (old, both, new) = (of(&[1]), of(&[2, 1]), of(&[2]));
        let ticket = old.seal(b"session", 1_000).unwrap();
        assert!(both.open(&ticket, 1_000).is_some() && new.open(&ticket, 1_000).is_none());
        let ticket = both.seal(b"session", 1_000).unwrap();
        assert!(
            new.open(&ticket, 1_000).is_some() && old.open(&ticket, 1_000).is_none(),
            "the first makes them"
        );
    }

    #[test]
    fn random_secrets_rotate_and_are_forgotten() {
        let secrets = secrets();
        let [one, other] = [(); 2].map(|()| of(&TlsPolicy::default(), &[], &secrets));
        let ticket = one.seal(b"session", 1_000_000).unwrap();
        assert!(other.open(&ticket, 1_000_000).is_some(), "the same for all listeners");
        let later = 1_000_000 + ROTATION - 1;
        let last = one.seal(b"session", later).unwrap();
        assert_eq!(last[..NAME], ticket[..NAME]);
        let after = one.seal(b"session", later + 1).unwrap();
        assert_ne!(after[..NAME], ticket[..NAME], "a new secret");
        assert!(other.open(&last, later + DAY / 2).is_some(), "the one before still opens");
        for day in 1..20 {
            one.seal(b"session", later + day * DAY).unwrap();
            assert!(secrets.hand_out().len() <= 3, "day {day}: {}", secrets.hand_out().len());
        }
    }

    #[test]
    fn the_next_process_opens_what_this_one_made() {
        let secrets = secrets();
        let ticket = of(&TlsPolicy::default(), &[], &secrets).seal(b"session", 1_000_000).unwrap();
        let inheriting = RandomSecrets::default();
        inheriting.inherit(secrets.hand_out());
        let next = of(&TlsPolicy::default(), &[], &Arc::new(inheriting));
        assert!(next.open(&ticket, 1_000_100).is_some());
        assert_eq!(next.seal(b"session", 1_000_100).unwrap()[..NAME], ticket[..NAME]);
    }
}
