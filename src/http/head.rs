//! Heads under our hands: setting headers of our own at the least cost. Used by `forwarded` and `answer`.
//!
//! Pingora keeps the headers of an HTTP/1 message in two maps, values and the spelling of names, and
//! reads a name anew for each insertion into them. Where the spelling need not be kept, the one map is
//! written to directly, with names that were read once.

use super::request_id::X_REQUEST_ID;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

/// How many headers of ours a head is made room for: those of `forwarded`, and some for filters.
const ROOM: usize = 8;

/// The name of a header that the gate writes.
#[derive(Debug)]
pub struct Name {
    /// As it is written on HTTP/1.
    written: &'static str,
    pub name: HeaderName,
}

pub static X_FORWARDED_FOR: Name = Name::new("X-Forwarded-For", HeaderName::from_static("x-forwarded-for"));
pub static X_FORWARDED_PROTO: Name =
    Name::new("X-Forwarded-Proto", HeaderName::from_static("x-forwarded-proto"));
pub static X_FORWARDED_HOST: Name =
    Name::new("X-Forwarded-Host", HeaderName::from_static("x-forwarded-host"));
pub static FORWARDED: Name = Name::new("Forwarded", header::FORWARDED);
pub static CLIENT_CERT: Name = Name::new("Client-Cert", HeaderName::from_static("client-cert"));
pub static X_CLIENT_CERT_SUBJECT: Name =
    Name::new("X-Client-Cert-Subject", HeaderName::from_static("x-client-cert-subject"));
pub static X_CLIENT_CERT_SAN: Name =
    Name::new("X-Client-Cert-San", HeaderName::from_static("x-client-cert-san"));
pub static X_CLIENT_CERT_FINGERPRINT: Name =
    Name::new("X-Client-Cert-Fingerprint", HeaderName::from_static("x-client-cert-fingerprint"));
pub static REQUEST_ID: Name = Name::new("X-Request-Id", X_REQUEST_ID);

impl Name {
    const fn new(written: &'static str, name: HeaderName) -> Name {
        Name { written, name }
    }
}

/// Headers that can be read and written.
pub trait Headers {
    fn map(&self) -> &HeaderMap;

    /// Replaces all headers of this name.
    ///
    /// # Errors
    /// The head has 32,768 headers.
    fn set(&mut self, name: &Name, value: HeaderValue) -> Result<()>;

    fn remove(&mut self, name: &HeaderName);
}

macro_rules! spelled {
    ($head:ty) => {
        impl Headers for $head {
            fn map(&self) -> &HeaderMap {
                &self.headers
            }

            fn set(&mut self, name: &Name, value: HeaderValue) -> Result<()> {
                self.insert_header(name.written, value)
            }

            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    };
}
spelled!(RequestHeader);
spelled!(ResponseHeader);

impl Headers for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: &Name, value: HeaderValue) -> Result<()> {
        match self.try_insert(&name.name, value) {
            Ok(_) => Ok(()),
            Err(e) => Err(pingora_core::Error::because(
                pingora_core::ErrorType::InvalidHTTPHeader,
                "too many headers",
                e,
            )),
        }
    }

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Lets `write` at the headers of a request, and forgets the spelling of names: a server sees them alike
/// from clients of HTTP/1 and HTTP/2 (docs/decisions/010-header-names.md).
pub fn write_request(
    head: &mut RequestHeader,
    write: impl FnOnce(&mut dyn Headers) -> Result<()>,
) -> Result<()> {
    // a target that stands beside its Uri would be lost on the way
    let target = head.uri.path_and_query().map(|target| target.as_str().as_bytes());
    if target != Some(head.raw_path()) {
        return write(head);
    }
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(head, empty));
    // a head that cannot grow says so when it is written to
    parts.headers.try_reserve(ROOM).ok();
    let written = write(&mut parts.headers);
    *head = RequestHeader::from(parts);
    written
}

/// As [`write_request`], for a response to a client of this version. HTTP/2 has no spelling of names
/// to keep (RFC 9113 §8.2): it is forgotten. Nor does the head keep the buffer that a server's answer was read into,
/// as its headers may stay for as long as the connection, in the table of HPACK (RFC 7541 §2.3.2).
pub fn write_response(
    head: &mut ResponseHeader,
    client: Version,
    write: impl FnOnce(&mut dyn Headers) -> Result<()>,
) -> Result<()> {
    if client != Version::HTTP_2 {
        return write(head);
    }
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = http::response::Parts::from(std::mem::replace(head, empty));
    parts.headers.try_reserve(ROOM).ok();
    let written = write(&mut parts.headers);
    detach(&mut parts.headers);
    *head = ResponseHeader::from(parts);
    written
}

/// Moves all values to memory that is exactly as large as they are.
fn detach(headers: &mut HeaderMap) {
    let mut values = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values_mut() {
        values.extend_from_slice(value.as_bytes());
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(values.split().freeze()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_request_say_the_same() {
        for target in ["/a/b?c=d", "*", "http://other.test/x"] {
            let spelled = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            let plain = RequestHeader::build_no_case("GET", target.as_bytes(), None).unwrap();
            for mut head in [spelled, plain] {
                head.insert_header("Accept", "*/*").unwrap();
                head.insert_header("X-Forwarded-For", "unknown").unwrap();
                write_request(&mut head, |headers| {
                    headers.set(&X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"))?;
                    headers.set(&FORWARDED, HeaderValue::from_static("for=192.0.2.1"))
                })
                .unwrap();
                let value = |name: &str| head.headers.get(name).unwrap().to_str().unwrap();
                assert!(!head.has_case() || target.starts_with("http:"), "{target}");
                assert_eq!(head.raw_path(), target.as_bytes());
                assert_eq!(head.headers.len(), 3);
                assert_eq!((value("x-forwarded-for"), value("forwarded")), ("192.0.2.1", "for=192.0.2.1"));
            }
        }
    }

    #[test]
    fn a_response_keeps_all_but_the_spelling() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut head = ResponseHeader::build(201, None).unwrap();
            head.append_header("X-A", "1").unwrap();
            head.append_header("x-a", "2").unwrap();
            write_response(&mut head, version, |headers| {
                headers.set(&REQUEST_ID, HeaderValue::from_static("id"))
            })
            .unwrap();
            assert_eq!(head.headers["x-request-id"], "id");
            assert_eq!(head.has_case(), version != Version::HTTP_2);
            assert_eq!(head.status, 201);
            assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    #[test]
    fn a_response_over_http_2_keeps_nothing_of_what_it_was_read_into() {
        let read = bytes::Bytes::from(b"one, two".repeat(512));
        let is_of_it = |value: &HeaderValue| read.as_ptr_range().contains(&value.as_bytes().as_ptr());
        for (version, kept) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
            let mut head = ResponseHeader::build(200, None).unwrap();
            for (name, range) in [("x-a", 0..3), ("x-a", 5..8), ("x-b", 0..0)] {
                let mut value = HeaderValue::from_maybe_shared(read.slice(range)).unwrap();
                value.set_sensitive(name == "x-b");
                head.append_header(name, value).unwrap();
            }
            write_response(&mut head, version, |_| Ok(())).unwrap();
            assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["one", "two"]);
            assert!(head.headers["x-b"].is_empty() && head.headers["x-b"].is_sensitive());
            assert_eq!(head.headers.get_all("x-a").iter().all(is_of_it), kept, "{version:?}");
        }
    }
}
