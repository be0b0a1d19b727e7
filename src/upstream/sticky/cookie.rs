//! The sticky cookie: a server's address and the time of issue, encrypted and authenticated, so that
//! a client can neither read nor make one. Nothing is kept here: every replica with the same secret
//! understands it, also after a restart. See `docs/decisions/009-sticky-cookie.md`.
//!
//! ```text
//! value = base64url( version 1 | nonce 12 | sealed 31 + tag 16 )       80 characters, always
//! sealed = family 1 | address 16 | scope 4 | port 2 | milliseconds since 1970 8
//! ```

use crate::config::file::Secure;
use crate::config::plan;
use crate::config::secret::Secret;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use std::fmt::{self, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The form of what follows; also what the key is derived for.
const VERSION: u8 = 1;
const LABEL: &[u8] = b"weirgate sticky cookie 1";
const KEY: usize = 32;
const PLAIN: usize = 1 + 16 + 4 + 2 + 8;
const TOKEN: usize = 1 + NONCE_LEN + PLAIN + MAX_TAG_LEN;
/// Without padding, as 3 divides the length of the token.
const TEXT: usize = TOKEN / 3 * 4;
const _: () = assert!(TOKEN.is_multiple_of(3));

/// Seals and opens the sticky cookies of one group.
pub struct Cookie {
    name: String,
    key: RandomizedNonceKey,
    previous: Option<RandomizedNonceKey>,
    /// Authenticated with each cookie, so that it is worth nothing elsewhere.
    context: Box<[u8]>,
    ttl: Option<Duration>,
    secure: Secure,
    /// `; Path=/; ...`, what follows the value of each `Set-Cookie`, without `Secure`.
    attributes: String,
}

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub server: SocketAddr,
    /// The client is to be given a new one, for the same server.
    pub renew: bool,
}

impl Cookie {
    /// # Errors
    /// A sentence for the operator, when no key can be made of the secret.
    pub fn build(plan: &plan::StickyCookie, group: &str) -> Result<Cookie, String> {
        Ok(Cookie {
            name: plan.name.clone(),
            key: key(&plan.secret)?,
            previous: plan.previous_secret.as_ref().map(key).transpose()?,
            context: context(group, &plan.name),
            ttl: plan.ttl,
            secure: plan.secure,
            attributes: attributes(plan),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a value says that a client sent. `None` for what is not ours, forged, of another group,
    /// or past its time; clients may send anything.
    pub fn open(&self, value: &[u8], now: SystemTime) -> Option<Found> {
        if value.len() != TEXT {
            return None;
        }
        let mut token = [0; TOKEN];
        URL_SAFE_NO_PAD.decode_slice_unchecked(value, &mut token).ok()?;
        let (plain, current) = match (unseal(&self.key, &self.context, token), &self.previous) {
            (Some(plain), _) => (plain, true),
            (None, Some(previous)) => (unseal(previous, &self.context, token)?, false),
            (None, None) => return None,
        };
        let (server, issued) = parse(&plain)?;
        let now = millis(now);
        let half_gone = match self.ttl.map(whole_millis) {
            Some(ttl) if now.saturating_sub(issued) >= ttl => return None,
            // issued in a future that far, the clock was wrong then or is now
            Some(ttl) => now.abs_diff(issued) > ttl / 2,
            None => false,
        };
        Some(Found { server, renew: half_gone || !current })
    }

    /// The value of a `Set-Cookie` that names this server. `https`: whether the client used it.
    pub fn set(&self, server: SocketAddr, https: bool, now: SystemTime) -> Option<HeaderValue> {
        let mut text = format!("{}=", self.name);
        URL_SAFE_NO_PAD.encode_string(self.seal(server, now)?, &mut text);
        text.push_str(&self.attributes);
        let secure = match self.secure {
            Secure::Auto => https,
            Secure::Always => true,
            Secure::Never => false,
        };
        if secure {
            text.push_str("; Secure");
        }
        HeaderValue::try_from(text).ok()
    }

    /// `None` only if the system has no randomness.
    fn seal(&self, server: SocketAddr, now: SystemTime) -> Option<[u8; TOKEN]> {
        let mut plain = plain(server, millis(now));
        let aad = Aad::from(&self.context[..]);
        let (nonce, tag) = self.key.seal_in_place_separate_tag(aad, &mut plain).ok()?;
        Some(join([&[VERSION], nonce.as_ref(), &plain, tag.as_ref()]))
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie").field("name", &self.name).finish_non_exhaustive()
    }
}

/// HKDF (RFC 5869): whatever the form of the secret, the key is for this use alone.
fn key(secret: &Secret) -> Result<RandomizedNonceKey, String> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut bytes = [0; KEY];
    let secret = Salt::new(HKDF_SHA256, &[]).extract(secret.reveal());
    secret
        .expand(&[LABEL], Length(KEY))
        .and_then(|key| key.fill(&mut bytes))
        .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM_SIV, &bytes))
        .map_err(|_| "no key can be made of the secret of the sticky cookie".to_string())
}

/// Version, group and name, each with its length so that no two read alike.
fn context(group: &str, name: &str) -> Box<[u8]> {
    let mut context = vec![VERSION];
    for part in [group, name] {
        context.extend_from_slice(&(part.len() as u64).to_be_bytes());
        context.extend_from_slice(part.as_bytes());
    }
    context.into_boxed_slice()
}

fn attributes(plan: &plan::StickyCookie) -> String {
    let mut text = format!("; Path={}", plan.path);
    if let Some(domain) = &plan.domain {
        // writing to a String never fails, here and below
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(ttl) = plan.ttl {
        let _ = write!(text, "; Max-Age={}", whole_millis(ttl).div_ceil(1000));
    }
    if plan.http_only {
        text.push_str("; HttpOnly");
    }
    let _ = write!(text, "; SameSite={}", plan.same_site.as_str());
    text
}

fn unseal(key: &RandomizedNonceKey, context: &[u8], mut token: [u8; TOKEN]) -> Option<[u8; PLAIN]> {
    let (version, rest) = token.split_first_mut()?;
    let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
    if *version != VERSION {
        return None;
    }
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, Aad::from(context), sealed).ok()?;
    (&*plain).try_into().ok()
}

/// The same length for every server, so that the length tells nothing.
fn plain(server: SocketAddr, issued: u64) -> [u8; PLAIN] {
    let (family, address, scope) = match server {
        SocketAddr::V4(server) => (4, server.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(server) => (6, *server.ip(), server.scope_id()),
    };
    let (scope, port) = (u32::to_be_bytes(scope), server.port().to_be_bytes());
    join([&[family], &address.octets(), &scope, &port, &issued.to_be_bytes()])
}

/// The parts one after another, which together have this length.
fn join<const LENGTH: usize, const PARTS: usize>(parts: [&[u8]; PARTS]) -> [u8; LENGTH] {
    debug_assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), LENGTH);
    let mut whole = [0; LENGTH];
    whole.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
    whole
}

/// The server and the time of issue.
fn parse(plain: &[u8; PLAIN]) -> Option<(SocketAddr, u64)> {
    let (family, rest) = plain.split_first()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let (scope, rest) = rest.split_first_chunk::<4>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let issued = u64::from_be_bytes(rest.try_into().ok()?);
    let (address, port) = (Ipv6Addr::from(*address), u16::from_be_bytes(*port));
    let server = match family {
        4 => SocketAddr::from((address.to_ipv4_mapped()?, port)),
        6 => SocketAddrV6::new(address, port, 0, u32::from_be_bytes(*scope)).into(),
        _ => return None,
    };
    Some((server, issued))
}

/// Since 1970; 0 before.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, whole_millis)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
