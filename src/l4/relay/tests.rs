use super::*;
use std::io;
use std::os::fd::AsFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3600);
const LONG: Limits = Limits { idle: HOUR, by: None, keepalive: None };

/// A side as the relay has it, and its other end, with room for so many bytes between them.
fn side(room: usize) -> (Stream, DuplexStream) {
    let (near, far) = duplex(room);
    (Stream::Tls(Box::new(near)), far)
}

async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let far = TcpStream::connect(listener.local_addr()?).await?;
    Ok((listener.accept().await?.0, far))
}

fn start(
    (client, server): (Stream, Stream),
    ahead: &'static [u8],
    limits: Limits,
) -> tokio::task::JoinHandle<(Ended, (u64, u64))> {
    tokio::spawn(async move {
        let (pipes, mut moved) = (Pipes::default(), (0, 0));
        let ahead = (client, Bytes::from_static(ahead));
        let ended = Relay::new(ahead, server, &pipes).run(limits, &mut moved).await;
        (ended, moved)
    })
}

async fn send(mut to: impl AsyncWriteExt + Unpin, bytes: Vec<u8>, pieces: &mut fastrand::Rng) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let here = pieces.usize(1..=40_000).min(rest.len());
        to.write_all(&rest[..here]).await.unwrap();
        rest = &rest[here..];
        if pieces.u8(..) < 64 {
            tokio::task::yield_now().await;
        }
    }
    to.shutdown().await.unwrap();
}

async fn receive(mut from: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn whatever_the_pieces_and_the_room_all_of_it_arrives_in_order() {
    for seed in 0..40 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (client, near) = side(dice.usize(1..70_000));
        let (server, far) = side(dice.usize(1..70_000));
        let [up, down] = [0; 2].map(|_| {
            let length = dice.usize(0..200_000);
            std::iter::repeat_with(|| dice.u8(..)).take(length).collect::<Vec<u8>>()
        });
        let relay = start((client, server), b"first ", LONG);
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let (mut one, mut other) = (dice.fork(), dice.fork());
        let (_, _, came_down, came_up) = tokio::join!(
            send(near_write, up.clone(), &mut one),
            send(far_write, down.clone(), &mut other),
            receive(near_read),
            receive(far_read)
        );
        assert_eq!(came_down, down, "seed {seed}");
        assert_eq!(came_up, [b"first ", &up[..]].concat(), "seed {seed}");
        let (ended, moved) = relay.await.unwrap();
        assert!(matches!(ended, Ended::ClientClosed | Ended::ServerClosed), "seed {seed}: {ended:?}");
        assert_eq!(moved, (up.len() as u64 + 6, down.len() as u64), "seed {seed}");
    }
}

#[tokio::test]
async fn what_goes_through_pipes_arrives_in_order_too() {
    for seed in 0..4 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (client, near) = sockets().await.unwrap();
        let (server, far) = sockets().await.unwrap();
        let [up, down] = [0; 2].map(|_| {
            let length = dice.usize(1_000_000..5_000_000);
            std::iter::repeat_with(|| dice.u8(..)).take(length).collect::<Vec<u8>>()
        });
        let relay = start((Stream::Tcp(client), Stream::Tcp(server)), b"", LONG);
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let (mut one, mut other) = (dice.fork(), dice.fork());
        let (_, _, came_down, came_up) = tokio::join!(
            send(near_write, up.clone(), &mut one),
            send(far_write, down.clone(), &mut other),
            receive(near_read),
            receive(far_read)
        );
        assert!(came_down == down && came_up == up, "seed {seed}");
        let (_, moved) = relay.await.unwrap();
        assert_eq!(moved, (up.len() as u64, down.len() as u64), "seed {seed}");
    }
}

#[tokio::test]
async fn silence_ends_it_and_so_does_its_time() {
    let ((client, _near), (server, _far)) = (side(10), side(10));
    let short = Duration::from_millis(50);
    let (ended, _) = start((client, server), b"", Limits { idle: short, ..LONG }).await.unwrap();
    assert_eq!(ended, Ended::IdleTimeout);
    let ((client, mut near), (server, _far)) = (side(10), side(100));
    near.write_all(b"x").await.unwrap();
    let relay = start((client, server), b"", Limits { by: Some(Instant::now() + short), ..LONG });
    let (ended, moved) = relay.await.unwrap();
    assert_eq!((ended, moved), (Ended::TotalTimeout, (1, 0)));
}

#[tokio::test]
async fn what_was_said_before_a_server_broke_is_still_read() {
    let (client, mut near) = side(100_000);
    let (server, far) = sockets().await.unwrap();
    let relay = start((client, Stream::Tcp(server)), b"", LONG);
    let mut far = far;
    far.write_all(b"no, thank you").await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"no, thank you");
    // it takes a while until the relay hears that nobody is there
    while near.write_all(b"and the rest").await.is_ok() && !relay.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(relay.await.unwrap().0, Ended::ServerReset);
}

/// A peer that has said something and is gone: whoever writes to it hears why, and then whoever reads finds an end, as
/// the system says it.
struct Gone {
    said: &'static [u8],
    why: io::ErrorKind,
}

impl tokio::io::AsyncRead for Gone {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(std::mem::take(&mut self.said));
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Gone {
    fn poll_write(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.why.into()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn half_an_answer_never_ends_as_a_whole_one_does() {
    let (reset, ended_before) = (io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe);
    for (why, end) in [(reset, Some(reset)), (ended_before, None)] {
        let (client, mut near) = sockets().await.unwrap();
        let server = Stream::Tls(Box::new(Gone { said: b"half an ans", why }));
        // what is sent first finds that nobody is there any more
        let relay = start((Stream::Tcp(client), server), b"question", LONG);
        let mut said = [0; 11];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"half an ans");
        let rest = near.read(&mut [0]).await.map_err(|e| e.kind());
        assert_eq!(rest, end.map_or(Ok(0), Err), "{why}");
        assert_eq!(relay.await.unwrap().0, Ended::ServerReset);
    }
}

#[tokio::test]
async fn who_lasts_is_probed() {
    let ((client, near), (server, far)) = (sockets().await.unwrap(), sockets().await.unwrap());
    let kept: socket2::Socket = server.as_fd().try_clone_to_owned().unwrap().into();
    let relay = start(
        (Stream::Tcp(client), Stream::Tcp(server)),
        b"",
        Limits { keepalive: Some(Duration::from_secs(60)), ..LONG },
    );
    assert!(!kept.keepalive().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !kept.keepalive().unwrap() {
        assert!(Instant::now() < deadline, "it has lasted for long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kept.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    assert!(!relay.is_finished(), "and goes on");
    let (mut near, mut far) = (near, far);
    near.write_all(b"still").await.unwrap();
    let mut said = [0; 5];
    far.read_exact(&mut said).await.unwrap();
    drop(far);
    assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
    drop(near);
    assert_eq!(relay.await.unwrap(), (Ended::ServerClosed, (5, 0)));
}

#[tokio::test]
async fn a_deadline_ends_it_though_bytes_are_stuck_in_a_pipe() {
    let (client, mut near) = sockets().await.unwrap();
    let (server, far) = sockets().await.unwrap();
    let by = Some(Instant::now() + Duration::from_millis(500));
    let relay = start((Stream::Tcp(client), Stream::Tcp(server)), b"", Limits { by, ..LONG });
    let much = vec![7; 256 << 20];
    let sent = tokio::spawn(async move { near.write_all(&much).await });
    let (ended, moved) = relay.await.unwrap();
    assert_eq!(ended, Ended::TotalTimeout);
    assert!(sent.await.unwrap().is_err(), "nobody takes the rest");
    let came = receive(far).await.len();
    assert_eq!((came as u64, 0), moved, "what was taken was sent, and no more is counted");
    assert!((1..256 << 20).contains(&came));
}
