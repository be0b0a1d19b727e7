//! With Pingora's own connector, as a request uses it.

use super::*;
use futures_util::FutureExt;
use pingora_core::connectors::http::Connector as Connectors;
use pingora_core::protocols::http::client::HttpSession;
use pingora_http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server, a connector with room for so many, and the way from one to the other.
struct Setting {
    listener: TcpListener,
    connectors: Connectors<Keeper>,
    kept: Arc<Kept>,
    peer: HttpPeer,
}

async fn setting(room: usize) -> Setting {
    opened_by(&ServerConf::default(), room).await
}

/// For requests with a body.
async fn with_body() -> (Setting, HttpSession<()>, TcpStream) {
    let mut setting = setting(4).await;
    keep(&mut setting.peer, true);
    let (session, _) = setting.get().await;
    let (server, _) = setting.listener.accept().await.unwrap();
    (setting, session, server)
}

async fn opened_by(conf: &ServerConf, room: usize) -> Setting {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let mut peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
    keep(&mut peer, false);
    let keeper = Keeper::new(Arc::new(Opener::new(conf)), room);
    let kept = keeper.kept();
    Setting { listener, connectors: Connectors::new_custom(None, keeper), kept, peer }
}

impl Setting {
    /// A connection for a request, and whether it was kept.
    async fn get(&self) -> (HttpSession<()>, bool) {
        let (session, _) = self.connectors.get_http_session(&self.peer).await.unwrap();
        let HttpSession::H1(h1) = &session else { panic!("another protocol") };
        let known = self.kept.knew(&self.peer, h1.id());
        (session, known)
    }

    /// One request on it, answered with `answer`, of which the body is read.
    async fn ask(&self, session: &mut HttpSession<()>, server: &mut TcpStream, answer: &str) {
        let HttpSession::H1(h1) = session else { panic!("another protocol") };
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.insert_header("host", "a").unwrap();
        h1.write_request_header(Box::new(head)).await.unwrap();
        let mut request = [0; 512];
        assert!(server.read(&mut request).await.unwrap() > 0);
        server.write_all(answer.as_bytes()).await.unwrap();
        h1.read_response().await.unwrap();
        while h1.read_body_bytes().await.is_ok_and(|read| read.is_some()) {}
    }

    async fn release(&self, session: HttpSession<()>) {
        self.connectors.release_http_session(session, &self.peer, None).await;
    }

    /// A request on a connection that is new, and released after it.
    async fn one(&self, answer: &str) -> TcpStream {
        let (mut session, known) = self.get().await;
        assert!(!known);
        let (mut server, _) = self.listener.accept().await.unwrap();
        self.ask(&mut session, &mut server, answer).await;
        self.release(session).await;
        server
    }

    fn count(&self) -> usize {
        self.kept.shelf.lock().len()
    }

    /// Until so many are kept.
    async fn until(&self, count: usize) {
        let there = async {
            while self.count() != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), there).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let setting = setting(4).await;
    let mut server = setting.one(ANSWER).await;
    for _ in 0..3 {
        assert_eq!(setting.count(), 1);
        let (mut session, known) = setting.get().await;
        assert!(known && setting.count() == 0);
        setting.ask(&mut session, &mut server, ANSWER).await;
        setting.release(session).await;
    }
    // one that is in use is nobody else's
    let (first, known) = setting.get().await;
    let (second, anew) = setting.get().await;
    assert!(known && !anew);
    drop((first, second));
    assert_eq!(setting.count(), 0);
}

#[tokio::test]
async fn connections_come_from_the_address_that_is_asked_for() {
    let conf = ServerConf { client_bind_to_ipv4: vec!["127.0.0.5".into()], ..ServerConf::default() };
    let setting = opened_by(&conf, 4).await;
    let (_session, _) = setting.get().await;
    let (_, client) = setting.listener.accept().await.unwrap();
    assert_eq!(client.ip().to_string(), "127.0.0.5");
}

#[tokio::test]
async fn what_the_server_has_closed_is_not_kept() {
    let setting = setting(4).await;
    for _ in 0..20 {
        drop(setting.one(ANSWER).await);
        // by the tender: nobody asks for it
        setting.until(0).await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_without_being_asked_is_not_asked_again() {
    let setting = setting(4).await;
    let mut server = setting.one(ANSWER).await;
    server.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    setting.until(0).await;
    // with the answer to another request
    let _server = setting.one(&format!("{ANSWER}HTTP/1.1 200 OK\r\n")).await;
    assert_eq!(setting.count(), 0);
}

#[tokio::test]
async fn only_a_complete_answer_gives_a_connection_back() {
    let setting = setting(4).await;
    let close = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    drop(setting.one(close).await);
    assert_eq!(setting.count(), 0);
    let (mut session, _) = setting.get().await;
    let (mut server, _) = setting.listener.accept().await.unwrap();
    let HttpSession::H1(h1) = &mut session else { panic!("another protocol") };
    let head = RequestHeader::build("GET", b"/", None).unwrap();
    h1.write_request_header(Box::new(head)).await.unwrap();
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
    h1.read_response().await.unwrap();
    setting.release(session).await;
    assert_eq!(setting.count(), 0);
}

#[tokio::test]
async fn there_is_room_for_so_many() {
    let setting = setting(2).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let (mut session, _) = setting.get().await;
        let (mut server, _) = setting.listener.accept().await.unwrap();
        setting.ask(&mut session, &mut server, ANSWER).await;
        sessions.push((session, server));
    }
    let mut servers = Vec::new();
    for (session, server) in sessions {
        setting.release(session).await;
        servers.push(server);
    }
    assert_eq!(setting.count(), 2);
    // the first was closed
    assert_eq!(servers[0].read(&mut [0]).await.unwrap(), 0);
}

/// A head that says how long the body is.
fn head(length: &str) -> Box<RequestHeader> {
    let mut head = RequestHeader::build("POST", b"/", None).unwrap();
    head.insert_header("content-length", length).unwrap();
    Box::new(head)
}

/// What has come to the server by now: writing to a connection of this machine delivers.
fn come(server: &TcpStream) -> String {
    let mut seen = [std::mem::MaybeUninit::uninit(); 512];
    let seen = match socket2::SockRef::from(server).recv_with_flags(&mut seen, nix::libc::MSG_DONTWAIT) {
        // SAFETY: so many were written.
        Ok(count) => seen[..count].iter().map(|byte| unsafe { byte.assume_init() }).collect(),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            Vec::new()
        }
    };
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn a_head_waits_for_its_body() {
    let (setting, mut session, mut server) = with_body().await;
    let HttpSession::H1(h1) = &mut session else { panic!("another protocol") };
    h1.write_request_header(head("6")).await.unwrap();
    assert_eq!(come(&server), "");
    h1.write_body(b"a b").await.unwrap();
    assert_eq!(come(&server), "POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\na b");
    h1.write_body(b"ody").await.unwrap();
    assert_eq!(come(&server), "ody");
    server.write_all(ANSWER.as_bytes()).await.unwrap();
    h1.read_response().await.unwrap();
    while h1.read_body_bytes().await.is_ok_and(|read| read.is_some()) {}
    setting.release(session).await;
    assert_eq!(setting.count(), 1);
}

#[tokio::test]
async fn a_head_does_not_wait_for_a_body_that_does_not_come() {
    // while the answer is awaited
    let (_setting, mut session, mut server) = with_body().await;
    let HttpSession::H1(h1) = &mut session else { panic!("another protocol") };
    h1.write_request_header(head("6")).await.unwrap();
    let answers = async {
        assert!(server.read(&mut [0; 512]).await.unwrap() > 0);
        server.write_all(ANSWER.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(h1.read_response(), answers);
    answer.unwrap();
    // and where there is none after all
    let (_setting, mut session, server) = with_body().await;
    let HttpSession::H1(h1) = &mut session else { panic!("another protocol") };
    h1.write_request_header(head("0")).await.unwrap();
    h1.finish_body().await.unwrap();
    assert_eq!(come(&server), "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
}

/// As Pingora asks when it is done with a connection.
async fn is_kept(setting: &Setting, mut stream: Stream) -> bool {
    let before = setting.count();
    assert!(stream.read(&mut [0]).now_or_never().is_some());
    drop(stream);
    setting.count() > before
}

#[tokio::test]
async fn a_connection_whose_request_was_not_sent_is_not_kept() {
    let mut setting = setting(4).await;
    keep(&mut setting.peer, true);
    let keeper = Keeper { opener: Arc::new(Opener::new(&ServerConf::default())), kept: setting.kept.clone() };
    let lent = async || match keeper.get_http_session(&setting.peer).await.unwrap() {
        (Connection::Stream(stream), _) => stream,
        (Connection::Session(()), _) => panic!("another protocol"),
    };
    assert!(!is_kept(&setting, lent().await).await);
    let mut held = lent().await;
    held.write_all(b"a head").await.unwrap();
    assert!(!is_kept(&setting, held).await);
    let mut sent = lent().await;
    sent.write_all(b"a head").await.unwrap();
    sent.write_all(b"a body").await.unwrap();
    assert!(is_kept(&setting, sent).await);
}
