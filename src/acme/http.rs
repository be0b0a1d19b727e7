//! How requests get to an authority: HTTP/1.1 over TLS, with its certificate verified, in bounded time and size.
//! The protocol above it is the library's.

use crate::config::plan::Trust;
use crate::roots;
use ::http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// RFC 8555 §6.1 asks for a name that an authority can tell clients apart by.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("weirgate/", env!("CARGO_PKG_VERSION")));

/// An answer is here within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// And no larger: a chain of certificates has some kilobytes.
const LARGEST: usize = 1 << 20;

type Inner = Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>;

/// A way to authorities.
#[derive(Clone, Debug)]
pub struct Carrier {
    client: Inner,
    /// When the last answer that refused us said to come back.
    come_back: Arc<Mutex<Option<SystemTime>>>,
}

impl Carrier {
    /// # Errors
    /// In words: no trusted authorities are found on this system.
    pub fn new(trust: &Trust) -> Result<Carrier, String> {
        let tls = roots::client(trust)?;
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Carrier { client: Client::builder(TokioExecutor::new()).build(https), come_back: Arc::default() })
    }

    /// The same for another order, over the same connections.
    pub fn for_another(&self) -> Carrier {
        Carrier { client: self.client.clone(), come_back: Arc::default() }
    }

    /// How long to wait, if an answer since this was last asked said so.
    pub fn come_back(&self) -> Option<Duration> {
        self.come_back.lock().take()?.duration_since(SystemTime::now()).ok()
    }
}

impl HttpClient for Carrier {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let answer = self.client.request(request);
        let come_back = self.come_back.clone();
        Box::pin(async move {
            let whole = async {
                let (parts, body) = answer.await.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
                let body = Limited::new(body, LARGEST).collect().await.map_err(Error::Other)?;
                Ok::<_, Error>(Response::from_parts(parts, body.to_bytes()))
            };
            let silent = || Error::Other(format!("no answer within {} s", PATIENCE.as_secs()).into());
            let answer = tokio::time::timeout(PATIENCE, whole).await.map_err(|_| silent())??;
            if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                *come_back.lock() = retry_after(answer.headers());
            }
            if is_foreign(&answer) {
                return Err(Error::Other(format!("the authority answers {}", answer.status()).into()));
            }
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

/// An error that does not come from an ACME server, but from something before it.
fn is_foreign(answer: &Response<Bytes>) -> bool {
    let json = |value: &HeaderValue| value.as_bytes().windows(4).any(|word| word == b"json");
    let refused = answer.status().is_client_error() || answer.status().is_server_error();
    refused && !answer.headers().get(CONTENT_TYPE).is_some_and(json)
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<SystemTime> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(seconds) => Some(SystemTime::now() + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_back() {
        let after = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers).and_then(|at| at.duration_since(SystemTime::now()).ok())
        };
        assert!(after("120").is_some_and(|wait| wait > Duration::from_secs(110)));
        assert!(
            after("Fri, 01 Jan 2100 00:00:00 GMT").is_some_and(|wait| wait > Duration::from_secs(86_400))
        );
        assert_eq!((after("soon"), after("-1"), after("Sun, 06 Nov 1994 08:49:37 GMT")), (None, None, None));
    }

    #[test]
    fn what_stands_before_an_authority_speaks_no_json() {
        let answer = |status: u16, kind: &str| {
            Response::builder().status(status).header(CONTENT_TYPE, kind).body(Bytes::new()).unwrap()
        };
        assert!(is_foreign(&answer(502, "text/html")));
        assert!(!is_foreign(&answer(429, "application/problem+json")));
        assert!(!is_foreign(&answer(200, "application/pem-certificate-chain")));
    }
}
