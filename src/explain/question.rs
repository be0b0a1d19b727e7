//! A question becomes the head of a request, as a client would send it.

use crate::config::plan::Listener;
use crate::http::ClientCertificate;
use http::Version;
use pingora_http::RequestHeader;
use std::net::IpAddr;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub method: String,
    /// `https://www.example.com/path?query`, or only `/path?query`.
    pub url: String,
    /// A `Host` among them replaces that of the URL.
    pub headers: Vec<(String, String)>,
    /// The name of the listener; found by the URL without it.
    pub listener: Option<String>,
    /// The address of the peer; 127.0.0.1 without it.
    pub client: Option<IpAddr>,
    /// What it has shown, if it comes over TLS.
    pub certificate: Option<ClientCertificate>,
}

/// The parts of a URL.
#[derive(Debug)]
pub(super) struct Target {
    /// Whether it is https; `None` when the URL is only a path.
    pub https: Option<bool>,
    /// Host and port as written; empty when the URL is only a path.
    pub authority: String,
    /// Path and query, without fragment.
    pub path: String,
}

/// A head as bytes, for the edge, and as parsed, for routing.
pub(super) struct Head {
    pub bytes: Vec<u8>,
    /// `None` when it cannot be parsed.
    pub parsed: Option<RequestHeader>,
}

impl Question {
    /// # Errors
    /// For URLs of other schemes or without host.
    pub(super) fn target(&self) -> Result<Target, String> {
        // what is behind it, no client sends
        let url = self.url.split('#').next().unwrap_or_default();
        if url.starts_with('/') || url == "*" {
            return Ok(Target { https: None, authority: String::new(), path: url.to_string() });
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("`{url}` is no URL: write http://HOST/PATH, https://HOST/PATH or /PATH"));
        };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("`{scheme}` is not spoken here: write http:// or https://")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(format!("`{url}` has no host"));
        }
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Ok(Target { https: Some(https), authority: authority.to_string(), path })
    }
}

impl Target {
    /// The port that a client would connect to.
    pub(super) fn port(&self) -> Option<u16> {
        let behind = self.authority.rsplit_once(']').map_or(self.authority.as_str(), |(_, rest)| rest);
        match behind.rsplit_once(':') {
            Some((_, port)) => port.parse().ok(),
            None => self.https.map(|https| if https { 443 } else { 80 }),
        }
    }

    /// The name that a client would ask for by SNI.
    pub(super) fn host(&self) -> Option<String> {
        let host =
            self.authority.split(':').next().filter(|host| !host.is_empty() && self.https == Some(true));
        host.map(str::to_ascii_lowercase)
    }

    /// The address that a client would connect to, where the host is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let host = match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, _)) => v6,
            None => self.authority.split(':').next().unwrap_or_default(),
        };
        host.parse().ok()
    }

    pub(super) fn path_and_query(&self) -> (&str, Option<&str>) {
        match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.path, None),
        }
    }

    /// The head as this listener would get it.
    pub(super) fn head(&self, question: &Question, listener: &Listener) -> Head {
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let mut fields: Vec<(&str, &str)> = Vec::new();
        let own = match self.authority.is_empty() {
            true => listener.address.ip().map_or("localhost".to_string(), |address| address.to_string()),
            false => self.authority.clone(),
        };
        if !question.headers.iter().any(|(name, _)| is_host(name)) {
            fields.push(("Host", &own));
        }
        fields.extend(question.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut text = format!("{} {} HTTP/1.1\r\n", question.method, self.path);
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Head { bytes: text.into_bytes(), parsed: self.parse(question, listener, &fields) }
    }

    fn parse(
        &self,
        question: &Question,
        listener: &Listener,
        fields: &[(&str, &str)],
    ) -> Option<RequestHeader> {
        let method = question.method.as_bytes();
        let mut head = RequestHeader::build(method, self.path.as_bytes(), Some(fields.len())).ok()?;
        for (name, value) in fields {
            head.append_header((*name).to_string(), value.trim_ascii()).ok()?;
        }
        // a listener without HTTP/1 is asked in HTTP/2
        head.set_version(if listener.h1 { Version::HTTP_11 } else { Version::HTTP_2 });
        Some(head)
    }
}
