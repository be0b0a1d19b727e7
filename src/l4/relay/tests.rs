use super::*;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

const HOUR: Duration = Duration::from_secs(3600);

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
    limits: (Duration, Option<Instant>),
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
        let relay = start((client, server), b"first ", (HOUR, None));
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
        let relay = start((Stream::Tcp(client), Stream::Tcp(server)), b"", (HOUR, None));
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
    let (ended, _) = start((client, server), b"", (short, None)).await.unwrap();
    assert_eq!(ended, Ended::IdleTimeout);
    let ((client, mut near), (server, _far)) = (side(10), side(100));
    near.write_all(b"x").await.unwrap();
    let relay = start((client, server), b"", (HOUR, Some(Instant::now() + short)));
    let (ended, moved) = relay.await.unwrap();
    assert_eq!((ended, moved), (Ended::TotalTimeout, (1, 0)));
}

#[tokio::test]
async fn what_was_said_before_a_server_broke_is_still_read() {
    let (client, mut near) = side(100_000);
    let (server, far) = sockets().await.unwrap();
    let relay = start((client, Stream::Tcp(server)), b"", (HOUR, None));
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
