//! What a client asks for before anything is agreed on: the name and the protocols in its ClientHello. Pure; `passing` asks
//! it on listeners that pass some names on unopened, and reads until it knows.
//!
//! A ClientHello (RFC 8446 §4.1.2) is a handshake message, which may come in several records (§5.1), and these in any
//! pieces. Whoever gets the connection reads it all again, and judges it: here is looked only at what decides where it goes,
//! and what cannot be read decides nothing.

use rustls_pki_types::DnsName;

/// No client is known to send more; nginx's `ssl_preread` takes as much.
pub const LONGEST: usize = 16 * 1024;

/// Of a record: type, version, length.
const RECORD_HEAD: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 §5.1.
const LONGEST_RECORD: usize = 1 << 14;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What is known of the first bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// More has to come.
    Partial,
    Hello(Hello),
    /// It is none, or one that cannot be read.
    Other,
}

/// What a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Lower case.
    pub name: Option<Box<str>>,
    /// What it wants to speak, the preferred ones first.
    pub alpn: Vec<Box<[u8]>>,
}

/// Looks at all that has come so far.
pub fn read(bytes: &[u8]) -> Seen {
    // what is behind that decides nothing
    let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let whole = match record(rest) {
            Ok(Some((piece, behind))) => {
                message.extend_from_slice(piece);
                rest = behind;
                true
            }
            Ok(None) => false,
            Err(Unreadable) => return Seen::Other,
        };
        match whole_message(&message) {
            Ok(Some(body)) => return hello(body).map_or(Seen::Other, Seen::Hello),
            Ok(None) if whole => {}
            Ok(None) if bytes.len() < LONGEST => return Seen::Partial,
            Ok(None) | Err(Unreadable) => return Seen::Other,
        }
    }
}

/// It is not what it should be.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// What a record holds, and what is behind it.
type Parted<'a> = (&'a [u8], &'a [u8]);

/// The first record; nothing when it is not whole.
fn record(bytes: &[u8]) -> Result<Option<Parted<'_>>, Unreadable> {
    // what is there must be right, as who speaks something else may wait for an answer
    let fits = |at: usize, expected: u8| bytes.get(at).is_none_or(|byte| *byte == expected);
    if !fits(0, HANDSHAKE) || !fits(1, 3) {
        return Err(Unreadable);
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > LONGEST_RECORD {
        return Err(Unreadable);
    }
    Ok(rest.split_at_checked(length))
}

/// The body of the ClientHello that begins here; nothing when it is not whole.
fn whole_message(message: &[u8]) -> Result<Option<&[u8]>, Unreadable> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Unreadable);
    }
    let Some((&[_, a, b, c], rest)) = message.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, a, b, c]);
    let length = usize::try_from(length).map_err(|_| Unreadable)?;
    if length > LONGEST {
        return Err(Unreadable);
    }
    Ok(rest.get(..length))
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut reader = Reader(body);
    // legacy_version, random
    reader.take(2 + 32)?;
    // legacy_session_id, cipher_suites, legacy_compression_methods
    reader.short()?;
    reader.long()?;
    reader.short()?;
    let mut hello = Hello::default();
    if reader.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.long()?);
    if !reader.is_empty() {
        return None;
    }
    let (mut names, mut protocols) = (0, 0);
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let body = extensions.long()?;
        match kind {
            SERVER_NAME => {
                names += 1;
                hello.name = server_name(body)?;
            }
            ALPN => {
                protocols += 1;
                hello.alpn = alpn(body)?;
            }
            _ => {}
        }
    }
    // of two, others may see the other one
    (names <= 1 && protocols <= 1).then_some(hello)
}

/// RFC 6066 §3. `Some(None)`: there is one that is no name in DNS, as an address is.
#[expect(clippy::option_option, reason = "there may rightly be none")]
fn server_name(body: &[u8]) -> Option<Option<Box<str>>> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.long()?);
    let (kind, name) = (list.byte()?, list.long()?);
    // of several, others may see another one; no client sends them
    if kind != 0 || !list.is_empty() || !reader.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address {
        return Some(None);
    }
    DnsName::try_from(text.as_str()).ok()?;
    Some(Some(text.into()))
}

/// RFC 7301 §3.1.
fn alpn(body: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut reader = Reader(body);
    let mut list = Reader(reader.long()?);
    let mut protocols = Vec::new();
    while !list.is_empty() {
        protocols.push(list.short()?.into());
    }
    reader.is_empty().then_some(protocols)
}

/// Reads on, or ends with `None` where there is not as much.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A vector whose length is one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A vector whose length is two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    /// What rustls sends first.
    fn sent(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client =
            ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of so many bytes.
    fn in_records(bytes: &[u8], size: usize) -> Vec<u8> {
        let message = &bytes[RECORD_HEAD..];
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1], &length[..], piece].concat()
        };
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_and_the_protocols_are_found_however_it_is_cut() {
        let bytes = sent("Raw.Example.com", &["h2", "http/1.1"]);
        let wanted = Seen::Hello(Hello {
            name: Some("raw.example.com".into()),
            alpn: vec![b"h2"[..].into(), b"http/1.1"[..].into()],
        });
        for size in [1, 2, 3, 4, 5, 7, 100, 1000, 16_000] {
            let records = in_records(&bytes, size);
            for end in 0..records.len() {
                assert_eq!(read(&records[..end]), Seen::Partial, "{end} bytes in records of {size}");
            }
            assert_eq!(read(&records), wanted);
            assert_eq!(read(&[&records[..], b"and more"].concat()), wanted);
        }
    }

    #[test]
    fn there_need_be_no_name() {
        assert_eq!(read(&sent("127.0.0.1", &[])), Seen::Hello(Hello::default()));
        let old = [&[CLIENT_HELLO, 0, 0, 41, 3, 3][..], &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
        assert_eq!(
            read(&in_records(&[&[0; RECORD_HEAD][..], &old].concat(), 999)),
            Seen::Hello(Hello::default())
        );
    }

    #[test]
    fn what_is_no_hello_is_known_at_its_first_wrong_byte() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x02",
            b"\x17\x03\x03",
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\xff\xff",
        ] {
            assert_eq!(read(other), Seen::Other, "{other:?}");
        }
        assert_eq!(read(b"\x16\x03\x01\0\x01\x02"), Seen::Other, "a ServerHello");
        assert_eq!(read(b"\x16\x03\x01\0\x04\x01\xff\xff\xff"), Seen::Other, "too long");
        // one that never ends
        let endless =
            in_records(&[&[0; RECORD_HEAD][..], &[CLIENT_HELLO, 0, 0x3f, 0xff], &[0; 10_000]].concat(), 1);
        assert_eq!(read(&endless[..LONGEST]), Seen::Other);
    }

    #[test]
    fn what_is_changed_by_chance_never_names_what_rustls_does_not_see() {
        let bytes = sent("raw.example.com", &["h2"]);
        for seed in 0..3000 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut changed = bytes.clone();
            for _ in 0..dice.usize(1..4) {
                let at = dice.usize(..changed.len());
                changed[at] = dice.u8(..);
            }
            let mut acceptor = rustls::server::Acceptor::default();
            acceptor.read_tls(&mut &changed[..]).unwrap();
            if let (Seen::Hello(hello), Ok(Some(accepted))) = (read(&changed), acceptor.accept()) {
                assert_eq!(hello.name.as_deref(), accepted.client_hello().server_name(), "seed {seed}");
            }
        }
    }
}
