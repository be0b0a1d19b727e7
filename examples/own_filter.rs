//! A gate with a filter of its own. In YAML: `filters: [{ quota: { header: x-user, requests: 100 } }]`
use std::{collections::HashMap, sync::Mutex};
use weirgate::filter::{Answer, Exchange, Filter, FilterSettings, Flow};

/// Lets each user make so many requests.
#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Quota {
    /// The header that names the user.
    header: String,
    /// How many requests a user may make.
    requests: u32,
}

struct Counting {
    header: http::HeaderName,
    most: u32,
    made: Mutex<HashMap<Vec<u8>, u32>>,
}

/// What this request leaves for its later phases.
#[derive(Clone)]
struct Remaining(u32);

impl FilterSettings for Quota {
    const KEY: &'static str = "quota";
    type Filter = Counting;

    fn build(&self) -> Result<Counting, String> {
        let header = self.header.parse().map_err(|_| format!("`{}` is not a header name", self.header))?;
        Ok(Counting { header, most: self.requests, made: Mutex::default() })
    }
}

impl Filter for Counting {
    /// The request head: answer here, or remember something for later.
    fn request(&self, ex: &mut Exchange<'_>) -> Flow {
        let user = ex.request().headers.get(&self.header).map_or(Vec::new(), |v| v.as_bytes().to_vec());
        let made = {
            let mut made = self.made.lock().unwrap_or_else(|broken| broken.into_inner());
            let made = made.entry(user).or_default();
            *made += 1;
            *made
        };
        match self.most.checked_sub(made) {
            Some(remaining) => {
                ex.state().insert(Remaining(remaining));
                Flow::Continue
            }
            None => Flow::Answer(Answer::text(http::StatusCode::TOO_MANY_REQUESTS, "quota used up\n")),
        }
    }

    /// A piece of the request body.
    fn request_body(
        &self,
        _ex: &mut Exchange<'_>,
        body: &mut Option<bytes::Bytes>,
        _end: bool,
    ) -> Result<(), (http::StatusCode, &'static str)> {
        match body {
            Some(b) if b.starts_with(b"MZ") => Err((http::StatusCode::UNSUPPORTED_MEDIA_TYPE, "a program")),
            _ => Ok(()),
        }
    }

    /// The head on its way to the server.
    fn upstream_request(&self, _ex: &mut Exchange<'_>, head: &mut pingora_http::RequestHeader) {
        head.insert_header("X-Quota-Checked", "yes").ok();
    }

    /// The head of the response on its way to the client.
    fn response(&self, ex: &mut Exchange<'_>, head: &mut pingora_http::ResponseHeader) {
        if let Some(Remaining(n)) = ex.state().get::<Remaining>().cloned() {
            head.insert_header("X-Quota-Remaining", n.to_string()).ok();
        }
    }

    /// A piece of the response body.
    fn response_body(&self, _ex: &mut Exchange<'_>, body: &mut Option<bytes::Bytes>, _end: bool) {
        if let Some(b) = body {
            *b = b.to_ascii_uppercase().into();
        }
    }

    /// The trailers of the response, as gRPC has them.
    fn response_trailers(
        &self,
        _ex: &mut Exchange<'_>,
        trailers: &mut http::HeaderMap,
    ) -> Option<bytes::Bytes> {
        trailers.insert("x-quota-checked", http::HeaderValue::from_static("yes"));
        None
    }

    /// It is over.
    fn log(&self, ex: &mut Exchange<'_>) {
        log::info!("quota: {:?} {}", ex.response_status(), ex.path());
    }
}

fn main() -> Result<(), weirgate::Error> {
    let file = std::env::args().nth(1).unwrap_or("conf/examples/own-filter.yaml".into());
    weirgate::Gate::from_file(file).filter::<Quota>().run()
}
