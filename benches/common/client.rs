//! The least HTTP/1.1 client that a load needs. Called by our own loads and by probes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// One exchange may take this long; more is an error.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that waits for nothing for ever.
pub fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sleeps of this thread otherwise end up to 50 µs late, so that the kernel may wake several threads at once.
pub fn wake_on_time() {
    // SAFETY: this option takes one plain integer, nanoseconds.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Sends one GET on `stream` and reads one answer with a Content-Length: head and body. Anything but a 200 is an
/// error.
pub fn get(stream: &mut (impl Read + Write), path: &str) -> Result<Vec<u8>> {
    // one write, or the second half waits for the first to be acknowledged
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).context("write")?;
    stream.flush().context("write")?;
    let mut answer = Vec::with_capacity(1024);
    let mut chunk = [0; 4096];
    let deadline = Instant::now() + PATIENCE;
    while !complete(&answer)? {
        let read = stream.read(&mut chunk).context("read")?;
        if read == 0 || Instant::now() > deadline {
            bail!("the answer stopped after {} bytes", answer.len());
        }
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    Ok(answer)
}

/// Sends a whole request on `stream` and reads one answer with a Content-Length, of which nothing is kept: the length of
/// its body. Anything but a 200 is an error.
pub fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Result<usize> {
    stream.write_all(request).context("write")?;
    stream.flush().context("write")?;
    let mut room = vec![0; 16 * 1024];
    let (mut filled, deadline) = (0, Instant::now() + PATIENCE);
    let (whole, body) = loop {
        let read = stream.read(room.get_mut(filled..).unwrap_or_default()).context("read")?;
        filled += read;
        match measure(room.get(..filled).unwrap_or_default())? {
            Some((head, body)) => break (head + body, body),
            None if read == 0 => bail!("the answer stopped in its head"),
            None => {}
        }
    };
    while filled < whole {
        let read = stream.read(&mut room).context("read")?;
        if read == 0 || Instant::now() > deadline {
            bail!("the answer stopped after {filled} bytes");
        }
        filled += read;
    }
    Ok(body)
}

fn complete(answer: &[u8]) -> Result<bool> {
    Ok(measure(answer)?.is_some_and(|(head, body)| answer.len() >= head + body))
}

/// The lengths of an answer's head and body, once the head is there.
fn measure(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer)? else { return Ok(None) };
    if response.code != Some(200) {
        bail!("status {:?}", response.code);
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("no Content-Length")?;
    Ok(Some((head, std::str::from_utf8(length.value)?.parse()?)))
}
