//! The key of a request: what of it makes it the same as another. Read by `split` for the group and
//! by `forward` for the server.

use super::{cookie, query};
use crate::config::file;
use crate::filter::RequestInfo;
use crate::upstream::balance::ClientKey;
use pingora_http::RequestHeader;
use std::borrow::Cow;
use std::ops::Deref;

/// The bytes of a key. Most are parts of the request and are not copied.
#[derive(Debug, Clone)]
pub enum Key<'a> {
    Borrowed(&'a [u8]),
    Client(ClientKey),
    Owned(Vec<u8>),
}

impl Deref for Key<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Key::Borrowed(bytes) => bytes,
            Key::Client(client) => client,
            Key::Owned(bytes) => bytes,
        }
    }
}

/// The first of these keys that the request has. An empty one tells nobody from others: all who
/// have it would go to one server.
pub fn first<'a>(
    keys: impl IntoIterator<Item = &'a file::Key>,
    head: &'a RequestHeader,
    info: &'a RequestInfo,
) -> Option<Key<'a>> {
    keys.into_iter().find_map(|key| of(key, head, info).filter(|key| !key.is_empty()))
}

/// `None` when the request does not have it.
fn of<'a>(key: &'a file::Key, head: &'a RequestHeader, info: &'a RequestInfo) -> Option<Key<'a>> {
    match key {
        file::Key::Client => Some(Key::Client(ClientKey::of(info.client.ip()))),
        file::Key::Path => Some(Key::Borrowed(match &info.normalised_path {
            Some(path) => path.as_bytes(),
            None => head.uri.path().as_bytes(),
        })),
        file::Key::Host => Some(Key::Borrowed(info.host.as_bytes())).filter(|host| !host.is_empty()),
        file::Key::Header(name) => head.headers.get(name.as_str()).map(|v| Key::Borrowed(v.as_bytes())),
        file::Key::Cookie(name) => cookie::values(&head.headers, name).next().map(Key::Borrowed),
        file::Key::Query(name) => query::values(head.uri.query()?, name).next().map(|value| match value {
            Cow::Borrowed(text) => Key::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Key::Owned(text.into_bytes()),
        }),
    }
}
