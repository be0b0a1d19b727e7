//! The server behind the gate: `/100k` is 100 KB, `/api...` as much as JSON often is, everything else 13 bytes; what
//! comes with a request is read to its end. Called by `main`.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Starts it on a free address.
pub async fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // a gate that goes away is no business of the origin's
            tokio::spawn(async move { serving.await.ok() });
        }
    });
    Ok(address)
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    while let Some(Ok(_)) = request.body_mut().frame().await {}
    let body = match request.uri().path() {
        "/100k" => Bytes::from_static(&[b'x'; 100 * 1024]),
        path if path.starts_with("/api") => Bytes::from_static(&[b'j'; 2000]),
        _ => Bytes::from_static(b"hello, world\n"),
    };
    Ok(Response::new(Full::new(body)))
}
