//! With Pingora's own connector, as a request uses it.

use super::*;
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

async fn opened_by(conf: &ServerConf, room: usize) -> Setting {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let mut peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
    keep(&mut peer);
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
