//! A connection that ends tells its task once, and leaves it in peace after that.

use super::Conn;
use crate::edge::frames::{FrameLimits, FrameWatch, PREFACE};
use crate::edge::tests::setup::accepted;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0........";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const WHOLE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection whose frames are watched, why it is to end once it is, and its client.
async fn watched() -> (Box<Conn>, Arc<OnceLock<&'static str>>, TcpStream) {
    let (mut conn, client) = accepted().await;
    let limits = FrameLimits { whole: WHOLE, silence: WHOLE, resets: 10 };
    let watch = FrameWatch::new(Instant::now(), limits);
    let breach = watch.breach();
    conn.watch_frames(watch);
    (conn, breach, client)
}

/// Polls until it is over; then as often again. How often the task was woken by the poll that ended it, and after.
async fn woken(mut conn: Box<Conn>, breach: &OnceLock<&'static str>) -> (usize, usize) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut poll = || {
        let before = wakes.0.load(Ordering::SeqCst);
        let mut bytes = [0; 4096];
        let polled = Pin::new(&mut *conn).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes));
        (polled, wakes.0.load(Ordering::SeqCst) - before)
    };
    for _ in 0..1000 {
        let (polled, at_the_end) = poll();
        if breach.get().is_none() {
            if polled.is_pending() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            continue;
        }
        assert!(polled.is_pending(), "nothing more is read");
        let after = (0..1000).map(|_| {
            let (polled, woken) = poll();
            assert!(matches!(polled, Poll::Pending));
            woken
        });
        return (at_the_end, after.sum());
    }
    panic!("it does not end");
}

#[tokio::test]
async fn one_that_is_flooded_wakes_its_task_once() {
    let (conn, breach, mut client) = watched().await;
    let flood = [PREFACE, SETTINGS, &PING.repeat(1500)].concat();
    client.write_all(&flood).await.unwrap();
    assert_eq!(woken(conn, &breach).await, (1, 0), "{breach:?}");
    assert_eq!(breach.get(), Some(&"a flood of HTTP/2 frames that ask for nothing"));
}

#[tokio::test]
async fn one_whose_frame_does_not_come_wakes_its_task_once() {
    let (conn, breach, mut client) = watched().await;
    client.write_all(&[PREFACE, SETTINGS, &PING[..10]].concat()).await.unwrap();
    assert_eq!(woken(conn, &breach).await, (1, 0), "{breach:?}");
    assert_eq!(breach.get(), Some(&super::SLOW_FRAME));
}
