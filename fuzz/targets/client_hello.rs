//! The first bytes of a client that may be passed on unopened: whatever they are, they are waited for, understood or given
//! up, whichever pieces they come in; and the name in them is the one that rustls sees.

use weirgate::edge::hello::{LONGEST, Seen, read};

pub fn run(data: &[u8]) {
    let whole = read(data);
    if whole == Seen::Partial {
        assert!(data.len() < LONGEST, "waits for ever: {}", data.len());
    }
    if let (Seen::Hello(hello), Some(name)) = (&whole, seen_by_rustls(data)) {
        assert_eq!(hello.name.as_deref(), name.as_deref(), "{}", data.escape_ascii());
    }
    // as it comes: once it is known what it is, nothing that follows changes it
    for end in 0..data.len().min(600) {
        match read(&data[..end]) {
            Seen::Partial => {}
            known => return assert_eq!(known, whole, "after {end} of {}", data.escape_ascii()),
        }
    }
}

/// The name in a hello that it accepts.
fn seen_by_rustls(mut data: &[u8]) -> Option<Option<String>> {
    let mut acceptor = rustls::server::Acceptor::default();
    while !data.is_empty() {
        acceptor.read_tls(&mut data).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(str::to_owned));
        }
    }
    None
}
