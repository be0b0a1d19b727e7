//! Replies of the gate's own: short, as text or JSON by `Accept`, with the request id, and never
//! with a stack or an internal address. The one place that turns a [`Reject`] into bytes.

use super::refusal::Reject;
use http::{HeaderMap, header};

/// The kind of body a client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Json,
}

impl Kind {
    pub fn content_type(self) -> &'static str {
        match self {
            Kind::Text => "text/plain; charset=utf-8",
            Kind::Json => "application/json",
        }
    }

    /// JSON when the client prefers it to text by `Accept` (RFC 9110 §12.5.1), text otherwise.
    pub fn preferred(headers: &HeaderMap) -> Kind {
        let accept = headers.get_all(header::ACCEPT);
        Self::of_accept(accept.iter().filter_map(|v| v.to_str().ok()))
    }

    /// As [`Kind::preferred`], from the values of `Accept`.
    pub fn of_accept<'a>(values: impl Iterator<Item = &'a str>) -> Kind {
        let (mut json, mut text) = (0u16, 0u16);
        for range in values.flat_map(|v| v.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let q =
                parts.find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q="))).map_or(1000, thousandths);
            match media.as_str() {
                "application/json" | "application/problem+json" => json = json.max(q),
                m if m.starts_with("application/") && m.ends_with("+json") => json = json.max(q),
                m if m.starts_with("text/") => text = text.max(q),
                _ => {}
            }
        }
        if json > text { Kind::Json } else { Kind::Text }
    }
}

fn thousandths(q: &str) -> u16 {
    q.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// The body of a reply: `{"status":404,"error":"Not Found","request_id":"..."}` or a text of two lines.
pub fn body(reject: Reject, kind: Kind, request_id: &str) -> String {
    let status = reject.status();
    let error = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    match kind {
        Kind::Text => format!("{code} {error}\nrequest id: {request_id}\n"),
        Kind::Json => {
            format!("{{\"status\":{code},\"error\":\"{error}\",\"request_id\":\"{request_id}\"}}\n")
        }
    }
}

/// A whole HTTP/1.1 response that ends its connection, for a head that never became a request.
pub fn raw(reject: Reject, kind: Kind, request_id: &str) -> Vec<u8> {
    let status = reject.status();
    let body = body(reject, kind, request_id);
    format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nX-Request-Id: {request_id}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        httpdate::fmt_http_date(std::time::SystemTime::now()),
        kind.content_type(),
        body.len(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_only_for_those_who_prefer_it() {
        let kind = |accept: &str| Kind::of_accept(std::iter::once(accept));
        assert_eq!(kind("*/*"), Kind::Text);
        assert_eq!(kind("application/json"), Kind::Json);
        assert_eq!(kind("text/html, application/json;q=0.9"), Kind::Text);
        assert_eq!(kind("text/html;q=0.5, application/json;q=0.9"), Kind::Json);
        assert_eq!(kind("application/vnd.api+json, */*;q=0.1"), Kind::Json);
        assert_eq!(kind("application/json;q=abc"), Kind::Text);
        assert_eq!(kind(""), Kind::Text);
    }

    #[test]
    fn a_reply_is_short_and_carries_the_request_id() {
        let text = String::from_utf8(raw(Reject::NotFound, Kind::Json, "abc")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["request_id"], "abc");
    }
}
