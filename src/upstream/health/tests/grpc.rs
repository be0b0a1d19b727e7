//! gRPC checks of a server that is made to answer anything.

use super::{backend, failed, nobody, planned};
use crate::config::file::{self, GrpcCheck};
use crate::config::words::HostName;
use crate::units::Time;
use crate::upstream::Registry;
use crate::upstream::health::Probe;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use pingora_load_balancing::Backend;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answers: a status, headers, a body, and trailers.
#[derive(Clone, Default)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Vec<u8>>,
    trailers: Vec<(&'static str, &'static str)>,
}

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

/// What a well-behaved server answers when its status is this.
fn serving(status: u8) -> Answer {
    Answer {
        status: 200,
        headers: vec![GRPC],
        body: Some(vec![0, 0, 0, 0, 2, 8, status]),
        trailers: vec![("grpc-status", "0")],
    }
}

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

async fn serve(stream: TcpStream, answer: &Answer, seen: &Seen) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let (head, mut body) = request.into_parts();
        let (answer, seen) = (answer.clone(), seen.clone());
        tokio::spawn(async move {
            let mut message = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                message.extend_from_slice(&piece);
            }
            seen.lock().push((Request::from_parts(head, ()), message));
            let mut response = Response::new(());
            *response.status_mut() = answer.status.try_into().unwrap();
            *response.headers_mut() = map(&answer.headers);
            let mut stream = respond.send_response(response, answer.body.is_none()).unwrap();
            if let Some(body) = answer.body {
                let ends = answer.trailers.is_empty();
                stream.send_data(Bytes::from(body), ends).unwrap();
                if !ends {
                    stream.send_trailers(map(&answer.trailers)).unwrap();
                }
            }
        });
    }
    Ok(())
}

type Seen = Arc<parking_lot::Mutex<Vec<(Request<()>, Vec<u8>)>>>;

async fn server(answer: Answer) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let requests = seen.clone();
    let address = backend(move |stream, _| {
        let (answer, seen) = (answer.clone(), seen.clone());
        async move { serve(stream, &answer, &seen).await.map_err(std::io::Error::other) }
    })
    .await;
    (address, requests)
}

async fn grpc_within(address: SocketAddr, grpc: GrpcCheck, timeout: Time) -> Result<(), String> {
    let check = file::HealthCheck { grpc: Some(grpc), timeout, ..Default::default() };
    let probe = Probe::build(&planned(&check), &Registry::new()).unwrap();
    probe.check(&Backend::new(&address.to_string()).unwrap()).await
}

async fn grpc(address: SocketAddr, service: &str) -> Result<(), String> {
    let check = GrpcCheck { service: service.into(), authority: None };
    grpc_within(address, check, Time::secs(10)).await
}

#[tokio::test]
async fn only_serving_passes() {
    for (status, whole, of_service) in [
        (1, Ok(()), Ok(())),
        (2, failed("NOT_SERVING"), failed("service \"a.B\" is NOT_SERVING")),
        (0, failed("UNKNOWN, expected SERVING"), failed("service \"a.B\" is UNKNOWN, expected SERVING")),
        (
            3,
            failed("SERVICE_UNKNOWN, expected SERVING"),
            failed("service \"a.B\" is SERVICE_UNKNOWN, expected SERVING"),
        ),
        (
            9,
            failed("in state 9, expected SERVING"),
            failed("service \"a.B\" is in state 9, expected SERVING"),
        ),
    ] {
        let (address, _) = server(serving(status)).await;
        assert_eq!(grpc(address, "").await, whole, "{status}");
        assert_eq!(grpc(address, "a.B").await, of_service, "{status}");
    }
}

#[tokio::test]
async fn the_question_is_that_of_the_protocol() {
    let (address, seen) = server(serving(1)).await;
    let check = GrpcCheck { service: "a.B".into(), authority: Some(HostName("cart.internal".into())) };
    assert_eq!(grpc_within(address, check, Time::millis(9500)).await, Ok(()));
    assert_eq!(grpc(address, "").await, Ok(()));
    let seen = seen.lock();
    let (request, message) = &seen[0];
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "http://cart.internal/grpc.health.v1.Health/Check");
    let header = |name| request.headers().get(name).unwrap().to_str().unwrap();
    assert_eq!((header("content-type"), header("te")), ("application/grpc", "trailers"));
    assert_eq!(header("grpc-timeout"), "9500m");
    assert_eq!(message, &[0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
    let (request, message) = &seen[1];
    assert_eq!(request.uri().authority().unwrap(), address.to_string().as_str());
    assert_eq!(message, &[0; 5]);
}

#[tokio::test]
async fn a_status_other_than_ok_is_named() {
    // in a head without message, as most servers send it
    for (headers, reason) in [
        (
            vec![GRPC, ("grpc-status", "12")],
            "the server has no service grpc.health.v1.Health (UNIMPLEMENTED)",
        ),
        (vec![GRPC, ("grpc-status", "5")], "the server does not know service \"a.B\" (NOT_FOUND)"),
        (
            vec![GRPC, ("grpc-status", "14"), ("grpc-message", "going away")],
            "gRPC status 14 (UNAVAILABLE): going away",
        ),
        (vec![GRPC, ("grpc-status", "99")], "gRPC status 99 (unknown)"),
        (vec![GRPC, ("grpc-status", "oh")], "the answer is not valid gRPC"),
        (vec![GRPC, ("grpc-status", "0")], "the answer is not valid gRPC"),
        (vec![GRPC], "the answer is not valid gRPC"),
    ] {
        let (address, _) = server(Answer { status: 200, headers, ..Default::default() }).await;
        assert_eq!(grpc(address, "a.B").await, failed(reason));
    }
    // and in trailers after all
    let trailers = vec![("grpc-status", "13"), ("grpc-message", "oh")];
    let (address, _) = server(Answer { trailers, ..serving(1) }).await;
    assert_eq!(grpc(address, "").await, failed("gRPC status 13 (INTERNAL): oh"));
}

#[tokio::test]
async fn an_answer_of_another_kind_is_called_what_it_is() {
    let (address, _) = server(Answer { status: 404, ..Default::default() }).await;
    assert_eq!(grpc(address, "").await, failed("status 404, expected 200"));
    let (address, _) = server(Answer { headers: vec![("content-type", "text/html")], ..serving(1) }).await;
    assert_eq!(grpc(address, "").await, failed("the answer is not gRPC"));
    let (address, _) = server(Answer { trailers: Vec::new(), ..serving(1) }).await;
    assert_eq!(grpc(address, "").await, failed("the answer is not valid gRPC"), "no status at all");
    let (address, _) = server(Answer { body: Some(vec![0; 100_000]), ..serving(1) }).await;
    let reason = "the answer is longer than that of grpc.health.v1.Health";
    assert_eq!(grpc(address, "").await, failed(reason));
}

/// Says this and then reads until the check hangs up.
async fn reading(says: &'static str) -> SocketAddr {
    backend(move |mut stream, _| async move {
        stream.write_all(says.as_bytes()).await?;
        while stream.read_u8().await.is_ok() {}
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_speaks_something_else_fails() {
    assert_eq!(grpc(nobody().await, "").await, failed("connection refused"));
    // it goes on reading: with the connection reset, only that would be known
    let old = reading("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(grpc(old, "").await, failed("the answer is not valid HTTP/2"));
    let silent = reading("").await;
    let waited = grpc_within(silent, GrpcCheck::default(), Time::millis(100)).await;
    assert_eq!(waited, failed("no answer within 100ms"));
    let closing = backend(|stream, _| async move {
        drop(stream);
        Ok(())
    })
    .await;
    assert!(grpc(closing, "").await.is_err());
}
