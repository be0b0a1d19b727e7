use super::super::{binary as write_binary, local, text as write_text};
use super::*;

fn ends(client: &str, to: &str) -> Option<Ends> {
    Some(Ends { client: client.parse().unwrap(), to: to.parse().unwrap() })
}

fn announced(bytes: &[u8]) -> Announced {
    match read(bytes) {
        Ok(Seen::Header(announced, length)) if length == bytes.len() => announced,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

/// A header of version 2.
fn v2(command: u8, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, protocol]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

const V4: [u8; 12] = [192, 0, 2, 7, 203, 0, 113, 1, 0xd4, 0x31, 0, 80];

#[test]
fn version_1_as_others_write_it() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.7 203.0.113.1 54321 80\r\n", ends("192.0.2.7:54321", "203.0.113.1:80")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 1 65535\r\n", ends("[2001:db8::7]:1", "[2001:db8::1]:65535")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:203.0.113.1 0 80\r\n", ends("192.0.2.7:0", "203.0.113.1:80")),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", None),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 a b c d e f g h \u{e9}\r\n", None),
    ] {
        assert_eq!(announced(line.as_bytes()).ends, expected, "{line}");
    }
    let longest = format!("PROXY UNKNOWN{}\r\n", " x".repeat(46));
    assert_eq!((longest.len(), announced(longest.as_bytes()).ends), (107, None));
}

#[test]
fn what_is_not_version_1_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 192.0.2.7 203.0.113.1 1 2\r\n",
        "PROXY TCP5 192.0.2.7 203.0.113.1 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 1\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 1 2 3\r\n",
        "PROXY TCP4  192.0.2.7 203.0.113.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.07 203.0.113.1 1 2\r\n",
        "PROXY TCP4 2001:db8::7 203.0.113.1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 203.0.113.1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 1 2\n\r\n",
        "PROXY TCP4 192.0.2.7 203.0.113.1 1 2\r\r\n",
    ] {
        assert!(read(line.as_bytes()).is_err(), "{line:?}");
    }
    let endless = format!("PROXY UNKNOWN{}", " x".repeat(47));
    assert!(read(endless.as_bytes()).is_err());
    let too_long = format!("PROXY UNKNOWN{}\r\n", " x".repeat(47));
    assert!(read(too_long.as_bytes()).is_err());
}

#[test]
fn version_2_with_addresses() {
    assert_eq!(announced(&v2(0x21, 0x11, &V4)).ends, ends("192.0.2.7:54321", "203.0.113.1:80"));
    let mut v6 = [0; 36];
    v6[..2].copy_from_slice(&[0x20, 0x01]);
    v6[15] = 7;
    v6[31] = 1;
    v6[33] = 9;
    v6[35] = 80;
    assert_eq!(announced(&v2(0x21, 0x21, &v6)).ends, ends("[2001::7]:9", "[::1]:80"));
    assert_eq!(announced(&v2(0x21, 0x31, &[b'/'; 216])), Announced::default(), "unix sockets");
    assert_eq!(announced(&v2(0x21, 0x12, &V4)).ends, None, "a datagram");
    assert_eq!(announced(&v2(0x21, 0x00, &[1, 2, 3])), Announced::default(), "unspecified");
    assert_eq!(announced(&v2(0x20, 0x00, &[])), Announced::default(), "local");
    assert_eq!(announced(&v2(0x20, 0x11, &V4)), Announced::default(), "local, with addresses");
    assert_eq!(announced(&v2(0x20, 0xff, &[9; 5])), Announced::default(), "local, whatever the family");
}

#[test]
fn what_is_not_version_2_is_refused() {
    for (command, protocol, body) in [
        (0x22, 0x11, &V4[..]),
        (0x11, 0x11, &V4),
        (0x31, 0x11, &V4),
        (0x21, 0x41, &V4),
        (0x21, 0x13, &V4),
        (0x21, 0x11, &V4[..11]),
        (0x21, 0x21, &[0; 35]),
        (0x21, 0x31, &[0; 215]),
    ] {
        assert!(read(&v2(command, protocol, body)).is_err(), "{command:x} {protocol:x} {}", body.len());
    }
    // refused before it is all here
    assert!(read(&v2(0x21, 0x11, &[0; LONGEST])[..16]).is_err());
}

#[test]
fn extensions_are_taken_or_left() {
    let with = |extras: &[u8]| v2(0x21, 0x11, &[&V4, extras].concat());
    let told = announced(&with(b"\xee\0\x02xy\x02\0\x06a.test\x04\0\0\x20\0\x05\x01\0\0\0\0\x01\0\x02h2"));
    assert!(told.tls && told.ends.is_some());
    assert_eq!(told.authority.as_deref(), Some("a.test"));
    let plain = announced(&with(b"\x20\0\x05\0\0\0\0\0\x02\0\x03a\nb"));
    assert_eq!((plain.tls, plain.authority), (false, None), "names are not believed to be printable");
    for cut in [&b"\x02"[..], b"\x02\0", b"\x02\0\x02a", b"\x02\0\x01ab"] {
        assert!(read(&with(cut)).is_err(), "{cut:?}");
    }
}

#[test]
fn a_checksum_is_verified_where_there_is_one() {
    // the test vector of RFC 3720 §B.4, and that of everybody
    assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    let mut header = v2(0x21, 0x11, &[&V4[..], b"\x03\0\x04\0\0\0\0\x02\0\x01a"].concat());
    let sum = !crc32c(!0, &header);
    let at = header.len() - 8;
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(announced(&header).authority.as_deref(), Some("a"));
    for i in (16..28).chain(at..at + 4).chain([header.len() - 1]) {
        let mut changed = header.clone();
        changed[i] ^= 1;
        assert!(!matches!(read(&changed), Ok(Seen::Header(..))), "byte {i} is covered");
    }
    assert!(read(&v2(0x21, 0x11, &[&V4[..], b"\x03\0\x03\0\0\0"].concat())).is_err());
}

/// However a header is cut, it is not taken for anything else, and what follows it is left alone.
#[test]
fn pieces_are_waited_for() {
    let headers = [
        b"PROXY TCP4 192.0.2.7 203.0.113.1 54321 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, 0x11, &V4),
        local(),
    ];
    for header in headers {
        for cut in 0..header.len() {
            assert_eq!(read(&header[..cut]), Ok(Seen::Partial), "{cut} of {}", header.escape_ascii());
        }
        let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert!(matches!(read(&followed), Ok(Seen::Header(_, length)) if length == header.len()));
    }
}

#[test]
fn other_protocols_are_told_apart_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PO", b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\r\nG", b"PROXYX"]
    {
        assert_eq!(read(bytes), Ok(Seen::Other), "{}", bytes.escape_ascii());
    }
    for bytes in [&b""[..], b"P", b"PR", b"PROXY", b"\r\n", b"\r\n\r\n\0"] {
        assert_eq!(read(bytes), Ok(Seen::Partial), "{}", bytes.escape_ascii());
    }
    assert!(read(b"PROXY / HTTP/1.1\r\n").is_err(), "no method has this name");
}

#[test]
fn what_is_written_is_read_back() {
    for ends in [
        ends("192.0.2.7:54321", "203.0.113.1:80"),
        ends("[2001:db8::7]:1", "[2001:db8::1]:443"),
        ends("[2001:db8::7]:1", "203.0.113.1:443"),
        None,
    ] {
        assert_eq!(announced(&write_text(ends)).ends, ends);
        let told = announced(&write_binary(ends, Some("h2"), Some("a.test")));
        assert_eq!(told.ends, ends);
        assert_eq!(told.authority.as_deref(), ends.and(Some("a.test")));
    }
    assert_eq!(announced(&local()), Announced::default());
    assert_eq!(announced(super::super::unknown()), Announced::default());
    let header = write_binary(ends("192.0.2.7:1", "203.0.113.1:2"), Some("h2"), None);
    assert!(header.ends_with(b"\x01\0\x02h2"));
}
