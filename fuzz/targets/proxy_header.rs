//! The header of the PROXY protocol: whatever comes, it is waited for, taken or refused, whichever pieces it comes in; and
//! what is taken says the same when it is written again.

use weirgate::proxy_protocol::{LONGEST, Seen, binary, read, text};

pub fn run(data: &[u8]) {
    let whole = read(data);
    if let Ok(Seen::Header(announced, length)) = &whole {
        assert!(*length <= data.len() && *length <= LONGEST, "{length} of {}", data.len());
        // what follows it does not count
        assert_eq!(read(&data[..*length]), whole, "{}", data.escape_ascii());
        for written in [text(announced.ends), binary(announced.ends, None, None)] {
            let Ok(Seen::Header(again, _)) = read(&written) else { panic!("{}", written.escape_ascii()) };
            assert_eq!(again.ends, announced.ends, "{}", written.escape_ascii());
        }
        assert!(announced.ends.is_none_or(|ends| !ends.client.ip().is_unspecified()));
    }
    if whole == Ok(Seen::Partial) {
        assert!(data.len() < LONGEST, "waits for ever: {}", data.len());
    }
    // as it comes: once it is known what it is, nothing that follows changes it
    for end in 0..data.len().min(400) {
        match read(&data[..end]) {
            Ok(Seen::Partial) => {}
            known => return assert_eq!(known, whole, "after {end} of {}", data.escape_ascii()),
        }
    }
}
