//! Who may ask what. Pure: asked by `server` for every request, before anything is done.
//!
//! Whoever can connect from this machine may read; a token, where there is one, is needed for whatever changes anything,
//! and on an address that others can reach for everything. Browsers on this machine can connect too, and the pages in
//! them are written by anybody: `Host` has to be ours (DNS rebinding), and what changes anything comes from no page of
//! another origin (CSRF): such pages cannot send JSON without asking first, and browsers say where they come from.

use crate::config::plan;
use crate::config::words::HostPattern;
use aws_lc_rs::{constant_time, digest};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::Authority;
use http::{Method, StatusCode};
use std::net::IpAddr;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whether the process lives and is ready: anybody may know, as those who ask (load balancers, orchestrators) have
    /// no token and name the address as they like.
    Anybody,
    /// The page itself, which knows nothing.
    Page,
    /// Something is looked at.
    Read,
    /// Something is changed, or read of the machine.
    Write,
}

/// What is known of who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// It has shown a certificate that was believed.
    pub certificate: bool,
}

/// Why somebody is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    ForeignHost,
    ForeignPage,
    NotJson,
    NoToken,
    WrongToken,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Refusal::ForeignPage => StatusCode::FORBIDDEN,
            Refusal::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
        }
    }

    pub fn why(self) -> &'static str {
        match self {
            Refusal::ForeignHost => {
                "this Host is not that of the admin address; use its IP address or localhost, or name it in admin.hosts"
            }
            Refusal::ForeignPage => "a page of another origin may not ask this",
            Refusal::NotJson => {
                "what changes anything is sent as JSON: Content-Type: application/json (application/yaml for a configuration)"
            }
            Refusal::NoToken => "a token is needed: Authorization: Bearer TOKEN (admin.token)",
            Refusal::WrongToken => "this is not the token (admin.token)",
        }
    }
}

/// Whether this may be done for whoever asks.
///
/// # Errors
/// Why not.
pub fn admit(admin: &plan::Admin, access: Access, asker: Asker<'_>) -> Result<(), Refusal> {
    if access == Access::Anybody {
        return Ok(());
    }
    if !is_ours(admin, asker.headers) {
        return Err(Refusal::ForeignHost);
    }
    let needs_token = match access {
        Access::Anybody | Access::Page => return Ok(()),
        Access::Read => admin.is_exposed() && !asker.certificate,
        Access::Write => true,
    };
    if comes_from_elsewhere(asker.headers) {
        return Err(Refusal::ForeignPage);
    }
    if access == Access::Write && asker.method != Method::GET && !is_json(asker.headers) {
        return Err(Refusal::NotJson);
    }
    match &admin.token {
        Some(token) if needs_token => shows(asker.headers, token.reveal()),
        Some(_) | None => Ok(()),
    }
}

/// Whether `Host` is an address, which no page can have for a name, or one of our names.
fn is_ours(admin: &plan::Admin, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    bare.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || admin.hosts.iter().any(|pattern| match pattern {
            HostPattern::Exact(exact) => *exact == name,
            HostPattern::Below(below) => name.split_once('.').is_some_and(|(_, rest)| rest == below),
        })
}

/// Whether a browser says that a page of another origin has sent this (Fetch Metadata; RFC 6454 for those that do not
/// say it).
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return true;
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let own = |scheme: &str| origin.strip_prefix(scheme).is_some_and(|host| text(header::HOST) == Some(host));
    !own("http://") && !own("https://")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/yaml"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// Compared by digests, in the same time whatever is shown.
fn shows(headers: &HeaderMap, token: &[u8]) -> Result<(), Refusal> {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).ok_or(Refusal::NoToken)?;
    let (scheme, rest) = shown.split_at_checked(7).ok_or(Refusal::NoToken)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Refusal::NoToken);
    }
    let digest = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let same =
        constant_time::verify_slices_are_equal(digest(rest.trim_ascii()).as_ref(), digest(token).as_ref());
    same.map_err(|_| Refusal::WrongToken)
}

#[cfg(test)]
mod tests;
