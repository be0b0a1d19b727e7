//! Statements of an authority about a certificate (OCSP, RFC 6960), which are shown with it: whether one fits, and
//! until when it is good. Called by `certificate`.

use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// What a response says of one certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statement {
    pub good: bool,
    pub next_update: Option<ASN1Time>,
}

/// What this response (DER) says of this certificate. Its signature is for the clients to verify, who alone know whom
/// they believe.
///
/// # Errors
/// Why it says nothing, in words for the operator.
pub fn read(response: &[u8], leaf: &X509Certificate<'_>) -> Result<Statement, &'static str> {
    let response = Der(response).only(SEQUENCE).ok_or("it is not an OCSP response in DER")?;
    statement(response, leaf.raw_serial())
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const INTEGER: u8 = 0x02;
const TIME: u8 = 0x18;
const EXPLICIT_0: u8 = 0xa0;
/// `good [0] IMPLICIT NULL`.
const GOOD: u8 = 0x80;

/// The inside of an `OCSPResponse` (RFC 6960 §4.2.1).
fn statement(response: Der<'_>, serial: &[u8]) -> Result<Statement, &'static str> {
    const BROKEN: &str = "it is not a basic OCSP response";
    let (status, rest) = response.next(ENUMERATED).ok_or(BROKEN)?;
    if status.0 != [0] {
        return Err("the authority refused to answer");
    }
    let basic = || {
        let bytes = Der(rest.only(EXPLICIT_0)?.only(SEQUENCE)?.skip()?.0).only(OCTETS)?;
        let (data, _) = bytes.only(SEQUENCE)?.next(SEQUENCE)?;
        // the version, who says it, and when; then what is said
        let data = data.next(EXPLICIT_0).map_or(data, |(_, rest)| rest).skip()?;
        Some(data.next(TIME)?.1.next(SEQUENCE)?.0)
    };
    let mut singles = basic().ok_or(BROKEN)?;
    while let Some((single, rest)) = singles.next(SEQUENCE) {
        let about = || {
            let (id, rest) = single.next(SEQUENCE)?;
            Some((id.next(SEQUENCE)?.1.next(OCTETS)?.1.next(OCTETS)?.1.only(INTEGER)?, rest))
        };
        let (about, rest_of_it) = about().ok_or(BROKEN)?;
        if about.0 == serial {
            return validity(rest_of_it).ok_or(BROKEN);
        }
        singles = rest;
    }
    Err("it is about another certificate")
}

/// `certStatus`, `thisUpdate` and perhaps `nextUpdate`.
fn validity(rest: Der<'_>) -> Option<Statement> {
    let good = rest.0.first() == Some(&GOOD);
    let rest = rest.skip()?.next(TIME)?.1;
    let next_update = match rest.next(EXPLICIT_0) {
        Some((time, _)) => Some(ASN1Time::from_der(time.0).ok()?.1),
        None => None,
    };
    Some(Statement { good, next_update })
}

/// Elements of DER, one after the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the inside of the first element, and what follows it.
    fn split(self) -> Option<(u8, Der<'a>, Der<'a>)> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            0..=0x7f => (usize::from(*first), rest),
            // lengths of at most four bytes: no response is longer
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (inside, rest) = rest.split_at_checked(length)?;
        Some((*tag, Der(inside), Der(rest)))
    }

    /// The inside of the first element, if it has this tag, and what follows it.
    fn next(self, tag: u8) -> Option<(Der<'a>, Der<'a>)> {
        let (found, inside, rest) = self.split()?;
        (found == tag).then_some((inside, rest))
    }

    fn only(self, tag: u8) -> Option<Der<'a>> {
        Some(self.next(tag)?.0)
    }

    fn skip(self) -> Option<Der<'a>> {
        Some(self.split()?.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let inside = parts.concat();
        let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], &inside[..]].concat()
    }

    fn single(serial: &[u8], status: u8, next_update: Option<&str>) -> Vec<u8> {
        let id = element(
            SEQUENCE,
            &[
                &element(SEQUENCE, &[]),
                &element(OCTETS, &[b"n"]),
                &element(OCTETS, &[b"k"]),
                &element(INTEGER, &[serial]),
            ],
        );
        let next = next_update.map(|time| element(EXPLICIT_0, &[&element(TIME, &[time.as_bytes()])]));
        let this = element(TIME, &[b"20260101000000Z"]);
        element(SEQUENCE, &[&id, &[status, 0], &this, &next.unwrap_or_default()])
    }

    fn response(status: u8, singles: &[&[u8]]) -> Vec<u8> {
        let who = element(0xa1, &[]);
        let when = element(TIME, &[b"20260101000000Z"]);
        let data = element(SEQUENCE, &[&who, &when, &element(SEQUENCE, singles)]);
        let basic = element(SEQUENCE, &[&data]);
        let bytes = element(SEQUENCE, &[&element(0x06, &[b"oid"]), &element(OCTETS, &[&basic])]);
        [element(ENUMERATED, &[&[status]]), element(EXPLICIT_0, &[&bytes])].concat()
    }

    #[test]
    fn it_is_about_a_certificate() {
        let (good, revoked) = (single(b"1", 0x80, Some("20300101000000Z")), single(b"22", 0xa1, None));
        let both = response(0, &[&good, &revoked]);
        let found = statement(Der(&both), b"1").unwrap();
        assert!(found.good && found.next_update.is_some());
        let found = statement(Der(&both), b"22").unwrap();
        assert_eq!(found, Statement { good: false, next_update: None });
        assert_eq!(statement(Der(&both), b"2"), Err("it is about another certificate"));
        assert_eq!(statement(Der(&response(6, &[])), b"1"), Err("the authority refused to answer"));
    }

    #[test]
    fn what_is_broken_says_nothing() {
        let whole = response(0, &[&single(b"1", 0x80, Some("20300101000000Z"))]);
        for at in 0..whole.len() {
            assert!(statement(Der(&whole[..at]), b"1").is_err(), "cut at {at}");
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            let _ = statement(Der(&broken), b"1");
        }
        assert!(Der(&[0x30, 0x80]).split().is_none() && Der(&[0x30, 0x85, 1, 1, 1, 1, 1]).split().is_none());
    }
}
