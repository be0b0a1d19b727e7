//! The least HTTP/1.1 client that a load needs. Called by our own loads and by probes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::machine::Cores;

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

/// Runs each client on a thread of its own, which is kept to these cores and wakes on time. What they have brought home.
pub fn together<C: Send, T: Send + Default>(
    clients: Vec<C>,
    cores: &Cores,
    run: impl Fn(C) -> T + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let run = &run;
        let start = |client: C| {
            scope.spawn(move || {
                cores.pin_thread();
                wake_on_time();
                run(client)
            })
        };
        let threads: Vec<_> = clients.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Reads what is left of an answer over HTTP/2, and lets more come as it does.
pub async fn drain(mut body: h2::RecvStream) -> Result<()> {
    while let Some(piece) = body.data().await {
        let length = piece?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
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
