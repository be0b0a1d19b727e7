//! The two messages of `grpc.health.v1.Health/Check`, written out by hand: they have one field each,
//! which is not worth a compiler of protocol buffers. Framed as gRPC frames messages: a byte that says
//! whether it is compressed, four with its length, and the message.

use bytes::{BufMut, Bytes, BytesMut};

/// An answer is no longer than this, with room for fields that nobody has thought of yet.
pub const LONGEST: usize = 1024;
/// A service's name is no longer than this.
const LONGEST_NAME: usize = 0x3fff;

/// What a server says about itself (`HealthCheckResponse.ServingStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    Other(u64),
}

/// `HealthCheckRequest { service }`, framed; `None` when the name is longer than any should be.
pub fn request(service: &str) -> Option<Bytes> {
    if service.len() > LONGEST_NAME {
        return None;
    }
    let mut message = BytesMut::with_capacity(service.len() + 3);
    // a field that has its default, the empty text, is left out
    if !service.is_empty() {
        // field 1, of the kind that says its length
        message.put_u8(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).ok()?);
    framed.put_slice(&message);
    Some(framed.freeze())
}

/// Reads a framed `HealthCheckResponse`; `None` when it is not exactly one, not compressed.
pub fn status(framed: &[u8]) -> Option<Status> {
    let (head, message) = framed.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = *head;
    if compressed != 0 || usize::try_from(u32::from_be_bytes(length)).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    let mut left = message;
    while !left.is_empty() {
        let key = varint(&mut left)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut left)?,
            (0, _) => return None,
            // unknown fields are passed over
            (_, 0) => drop(varint(&mut left)?),
            (_, 1) => left = left.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut left)?).ok()?;
                left = left.get(length..)?;
            }
            (_, 5) => left = left.get(4..)?,
            _ => return None,
        }
    }
    Some(match status {
        0 => Status::Unknown,
        1 => Status::Serving,
        2 => Status::NotServing,
        3 => Status::ServiceUnknown,
        other => Status::Other(other),
    })
}

fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}

/// Takes a number off the front; `None` when it does not end, or is beyond 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The name of a gRPC status (github.com/grpc/grpc/blob/master/doc/statuscodes.md).
pub fn status_name(code: u8) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(code)).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_protoc_makes_of_it() {
        assert_eq!(request("").unwrap().as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B").unwrap().as_ref(), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request(&"x".repeat(300)).unwrap();
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
        assert!(request(&"x".repeat(LONGEST_NAME + 1)).is_none());
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message].concat()
    }

    #[test]
    fn an_answer_is_read() {
        for (message, expected) in [
            (&[][..], Status::Unknown),
            (&[0x08, 0], Status::Unknown),
            (&[0x08, 1], Status::Serving),
            (&[0x08, 2], Status::NotServing),
            (&[0x08, 3], Status::ServiceUnknown),
            (&[0x08, 0xac, 0x02], Status::Other(300)),
            // the last one counts
            (&[0x08, 2, 0x08, 1], Status::Serving),
            // fields of each kind that are not known
            (
                &[0x10, 0x80, 1, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x22, 2, 8, 9, 0x2d, 1, 2, 3, 4, 0x08, 1],
                Status::Serving,
            ),
        ] {
            assert_eq!(status(&framed(message)), Some(expected), "{message:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let endless = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        for message in [&[0x08][..], &[0x08, 0x80], &[0x22, 9, 1], &[0x19, 1], &[0x0b], &[0x00, 1], &endless]
        {
            assert_eq!(status(&framed(message)), None, "{message:?}");
        }
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[0, 0, 0, 0]), None);
        assert_eq!(status(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
        assert_eq!(status(&[0, 0, 0, 0, 3, 8, 1]), None, "cut");
        assert_eq!(status(&[0, 0, 0, 0, 1, 8, 1]), None, "two messages, or what looks like it");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = framed(&(0..random.usize(0..20)).map(|_| random.u8(..)).collect::<Vec<_>>());
            status(&bytes);
            bytes.truncate(random.usize(0..=bytes.len()));
            status(&bytes);
        }
    }
}
