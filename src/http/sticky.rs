//! Stickiness on the wire: what a request brings that names its server, and what the response must
//! set so that the next one does. Called by `forward` before a try and by the switchboard for every
//! response head of a server; what the values mean is for `upstream::sticky`.

use super::cookie;
use super::ctx::{Ctx, Forward};
use crate::config::plan::LearnFrom;
use crate::upstream::sticky::learned::Session;
use crate::upstream::sticky::{Cookie, Learned};
use crate::upstream::{Endpoint, Group, Sticky};
use http::{HeaderMap, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// A browser sends one. A client that sends many does not make us try them all.
const LOOKED_AT: usize = 8;

/// What a request brought that names a server.
#[derive(Debug, Default)]
pub struct Brought {
    server: Option<SocketAddr>,
    /// The cookie is to be issued anew, whoever answers.
    renew: bool,
    /// The value that is known, when it was learned.
    session: Option<Session>,
}

impl Brought {
    /// Whether the request belongs to one server, as far as it can tell.
    pub fn is_bound(&self) -> bool {
        self.server.is_some()
    }
}

/// The server that the request is to go back to, on the first try; and on the second, when the
/// first only met a connection that the server had closed as idle.
pub fn server(group: &Group, head: &RequestHeader, forward: &mut Forward) -> Option<Arc<Endpoint>> {
    let sticky = group.sticky()?;
    if !(forward.attempts == 0 || (forward.attempts == 1 && forward.stale)) {
        return None;
    }
    let brought = forward.sticky.get_or_insert_with(|| match sticky {
        Sticky::Cookie(own) => of_cookie(own, &head.headers),
        Sticky::Learned(learned) => of_session(learned, &head.headers),
    });
    let kept = group.kept(brought.server?)?;
    forward.stale = false;
    Some(kept)
}

fn of_cookie(own: &Cookie, headers: &HeaderMap) -> Brought {
    let now = SystemTime::now();
    let mut values = cookie::values(headers, own.name()).take(LOOKED_AT);
    values.find_map(|value| own.open(value, now)).map_or_else(Brought::default, |found| Brought {
        server: Some(found.server),
        renew: found.renew,
        session: None,
    })
}

fn of_session(learned: &Learned, headers: &HeaderMap) -> Brought {
    let known = |value: &[u8]| {
        let session = learned.session(value)?;
        learned.server(&session).map(|server| (session, server))
    };
    let found = match &learned.plan().from {
        LearnFrom::Cookie(name) => cookie::values(headers, name).take(LOOKED_AT).find_map(known),
        LearnFrom::Header(name) => {
            headers.get_all(name).iter().take(LOOKED_AT).find_map(|value| known(value.as_bytes()))
        }
    };
    found.map_or_else(Brought::default, |(session, server)| Brought {
        server: Some(server),
        renew: false,
        session: Some(session),
    })
}

/// Servers do not see the gate's own cookie.
pub fn keep_to_ourselves(forward: &Forward, head: &mut RequestHeader) {
    match forward.group.as_ref().and_then(|group| group.sticky()) {
        Some(Sticky::Cookie(own)) => cookie::remove(head, own.name()),
        Some(Sticky::Learned(_)) | None => {}
    }
}

/// A server has answered: the client is told where it belongs, unless it knows.
pub fn answered(ctx: &Ctx, head: &mut ResponseHeader) {
    let forward = &ctx.forward;
    let Some(sticky) = forward.group.as_ref().and_then(|group| group.sticky()) else {
        return;
    };
    let Some(server) = forward.endpoint.as_ref().map(|try_on| try_on.endpoint().address()) else {
        return;
    };
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let nothing = Brought::default();
    let brought = forward.sticky.as_ref().unwrap_or(&nothing);
    match sticky {
        Sticky::Cookie(own) => {
            if brought.renew || brought.server != Some(server) {
                let https = ctx.request.as_ref().is_some_and(|request| request.info.https);
                set(own, server, https, head);
            }
        }
        Sticky::Learned(learned) => learn(learned, brought, server, head),
    }
}

fn set(own: &Cookie, server: SocketAddr, https: bool, head: &mut ResponseHeader) {
    if let Some(cookie) = own.set(server, https, SystemTime::now())
        // beside those of the server; only a head with 32,768 headers refuses it
        && head.append_header(header::SET_COOKIE, cookie).is_ok()
        && !is_private(&head.headers)
    {
        // a shared cache would send everybody to this server
        head.append_header(header::CACHE_CONTROL, "private").ok();
    }
}

/// Whether shared caches may not store it as it is (RFC 9111 §5.2.2). `private="set-cookie"` would do as
/// well, but not all of them know this form.
fn is_private(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL);
    let directives = values.iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    directives
        .map(<[u8]>::trim_ascii)
        .any(|word| word.eq_ignore_ascii_case(b"private") || word.eq_ignore_ascii_case(b"no-store"))
}

/// Remembers what the server set; and where a session went that could not go where it was known.
fn learn(learned: &Learned, brought: &Brought, server: SocketAddr, head: &ResponseHeader) {
    if let Some(session) = brought.session.filter(|_| brought.server != Some(server)) {
        learned.remember(session, server);
    }
    let remember = |value: &[u8]| {
        if let Some(session) = learned.session(value) {
            learned.remember(session, server);
        }
    };
    match &learned.plan().from {
        LearnFrom::Cookie(name) => {
            let set = head.headers.get_all(header::SET_COOKIE);
            set.iter().filter_map(|value| value_set(value.as_bytes(), name)).for_each(remember);
        }
        LearnFrom::Header(name) => {
            head.headers.get_all(name).iter().for_each(|value| remember(value.as_bytes()));
        }
    }
}

/// The value that a `Set-Cookie` gives to the cookie `name` (RFC 6265 §5.2), as a request brings it.
fn value_set<'a>(set_cookie: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = set_cookie.split(|b| *b == b';').next()?;
    let at = pair.iter().position(|b| *b == b'=')?;
    let (key, value) = pair.split_at_checked(at)?;
    (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_set_cookie_sets() {
        for (text, value) in [
            ("SID=abc", Some("abc")),
            ("SID=a=b; Path=/; HttpOnly", Some("a=b")),
            (" SID = \"x y\" ;Path=/", Some("\"x y\"")),
            ("SID=; Max-Age=0", Some("")),
            ("sid=abc", None),
            ("OTHER=1; SID=abc", None),
            ("SID", None),
            ("", None),
        ] {
            assert_eq!(value_set(text.as_bytes(), "SID"), value.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn which_answers_shared_caches_keep() {
        for (values, private) in [
            (&[][..], false),
            (&["public, max-age=60"], false),
            (&["max-age=60", "no-cache"], false),
            (&["private=\"x-name\""], false),
            (&["max-age=60, Private"], true),
            (&["max-age=60", "no-store"], true),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(is_private(&headers), private, "{values:?}");
        }
    }
}
