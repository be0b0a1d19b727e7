use super::setup::{Gate, PATIENCE, listener, millis};
use super::tls::{connect, secure};
use crate::config::file::ListenerLimits;
use crate::config::plan;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type Driver = JoinHandle<Result<(), h2::Error>>;

async fn client<S>(io: S) -> (SendRequest<Bytes>, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    (send, tokio::spawn(connection))
}

/// Status and body of a request.
async fn ask(
    send: &mut SendRequest<Bytes>,
    path: &str,
    body: &'static [u8],
) -> Result<(u16, String), h2::Error> {
    let request = http::Request::post(format!("http://a{path}")).body(()).unwrap();
    let (response, mut stream) = send.clone().ready().await?.send_request(request, false)?;
    stream.send_data(Bytes::from_static(body), true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        text.extend_from_slice(&piece);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test]
async fn h2_is_spoken_when_alpn_says_so() {
    let gate = Gate::start(secure(true, true));
    let stream = connect(&gate, "one.example", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, _driver) = client(stream).await;
    for i in 0..3 {
        let (status, text) = ask(&mut send, &format!("/{i}"), b"body").await.unwrap();
        assert!(status == 200 && text.contains(&format!("/{i} body")), "{status} {text}");
    }
    let (mut one, mut two) = (send.clone(), send.clone());
    let (a, b) = tokio::join!(ask(&mut one, "/big", b""), ask(&mut two, "/b", b"x"));
    assert_eq!(a.unwrap().1.len(), 3_000_000);
    assert!(b.unwrap().1.ends_with("x"));
}

#[tokio::test]
async fn h2c_with_prior_knowledge_shares_the_port_with_http1() {
    let gate = Gate::start(plan::Listener { h2: true, ..listener() });
    let (mut send, _driver) = client(TcpStream::connect(gate.address).await.unwrap()).await;
    let (status, text) = ask(&mut send, "/h2c", b"").await.unwrap();
    assert!(status == 200 && text.contains("/h2c"), "{status} {text}");
    assert!(gate.connect().await.get("/h1").await.ends_with("GET /h1 "));
    // begins like the preface, and is not
    let answer = gate.exchange(b"PRI / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let only = Gate::start(plan::Listener { h1: false, h2: true, ..listener() });
    let (mut send, _driver) = client(TcpStream::connect(only.address).await.unwrap()).await;
    assert_eq!(ask(&mut send, "/", b"").await.unwrap().0, 200);
}

#[tokio::test]
async fn slow_frames_end_the_connection() {
    let limits = ListenerLimits { header_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(plan::Listener { h2: true, limits, ..listener() });
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let opened = [&preface[..], settings].concat();
    // HEADERS of 100 bytes of which one comes; HEADERS without END_HEADERS; half a frame header
    let headers = [&opened[..], b"\0\0\x64\x01\x05\0\0\0\x01\x82"].concat();
    let no_end = [&opened[..], b"\0\0\x01\x01\x01\0\0\0\x01\x82"].concat();
    let half = [&opened[..], b"\0\0\x64"].concat();
    for start in [&preface[..10], &preface[..], &headers, &no_end, &half] {
        let mut tcp = TcpStream::connect(gate.address).await.unwrap();
        tcp.write_all(start).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{}", start.escape_ascii());
    }
}

#[tokio::test]
async fn an_idle_h2_connection_is_closed_but_not_a_busy_one() {
    let limits = ListenerLimits { idle_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(plan::Listener { h2: true, limits, ..listener() });
    let (mut send, driver) = client(TcpStream::connect(gate.address).await.unwrap()).await;
    let slow = tokio::spawn(async move { ask(&mut send, "/slow", b"").await });
    gate.app.entered.acquire().await.unwrap().forget();
    // longer than the idle timeout
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    gate.app.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
    let closed = tokio::time::timeout(PATIENCE, driver).await;
    assert!(closed.is_ok(), "idle connection still open");
}

/// The listener changes: the connection is told to go, what is in flight on it is not disturbed.
#[tokio::test]
async fn a_changed_listener_lets_streams_finish() {
    let gate = Gate::start(plan::Listener { h2: true, ..listener() });
    let (mut send, _driver) = client(TcpStream::connect(gate.address).await.unwrap()).await;
    let mut other = send.clone();
    let slow = tokio::spawn(async move { ask(&mut send, "/slow", b"").await });
    gate.app.entered.acquire().await.unwrap().forget();
    let limits = ListenerLimits { max_streams: 7, ..ListenerLimits::default() };
    gate.change(&[plan::Listener { limits, ..gate.plan() }]).unwrap();
    let refused = async {
        while ask(&mut other, "/new", b"").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("GOAWAY");
    let (mut send, _driver) = client(TcpStream::connect(gate.address).await.unwrap()).await;
    assert_eq!(ask(&mut send, "/again", b"").await.unwrap().0, 200);
    gate.app.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
}

#[tokio::test]
async fn shutdown_lets_streams_finish() {
    let gate = Gate::start(plan::Listener { h2: true, ..listener() });
    let (mut send, _driver) = client(TcpStream::connect(gate.address).await.unwrap()).await;
    let mut other = send.clone();
    let slow = tokio::spawn(async move { ask(&mut send, "/slow", b"").await });
    gate.app.entered.acquire().await.unwrap().forget();
    gate.edge.shut_down();
    // GOAWAY reaches the client, which then opens nothing more
    let refused = async {
        while ask(&mut other, "/new", b"").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("GOAWAY");
    gate.app.release.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().0, 200);
    drop(other);
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
}
