//! The first line of a head: method, target and version. Pure; read by the scanner in `head`.

use super::{HeadLimits, TARGET, TOKEN, is};
use crate::http::{Reject, valid_authority};
use pingora_http::authority::{RawTargetAuthority, raw_target_authority};

/// The longest method looked at; the longest registered one has 17 characters.
const MAX_METHOD: usize = 32;

/// What the rest of the head is judged by.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine {
    pub http_11: bool,
    pub get: bool,
    /// Where the authority of an absolute-form target is.
    pub authority: Option<(usize, usize)>,
}

/// Two parts of a line.
pub type Cut<'a> = (&'a [u8], &'a [u8]);

/// Method and what follows the space after it; `None` while the method may go on.
pub fn method_of(line: &[u8]) -> Result<Option<Cut<'_>>, Reject> {
    let end = line.iter().take(MAX_METHOD + 1).position(|b| !is(*b, TOKEN));
    let Some(end) = end else {
        return if line.len() > MAX_METHOD { Err(Reject::NotImplemented) } else { Ok(None) };
    };
    match (line.split_at_checked(end), line.get(end)) {
        (Some((method, rest)), Some(b' ')) if end > 0 => {
            Ok(Some((method, rest.get(1..).unwrap_or_default())))
        }
        _ => Err(Reject::BadRequest("malformed request line")),
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 §3), which begins at `begin`.
pub fn request_line(line: &[u8], begin: usize, limits: &HeadLimits) -> Result<RequestLine, Reject> {
    const MALFORMED: Reject = Reject::BadRequest("malformed request line");
    let (method, rest) = method_of(line)?.ok_or(MALFORMED)?;
    let at = position(rest, b' ').ok_or(MALFORMED)?;
    let (target, version) = rest.split_at_checked(at).ok_or(MALFORMED)?;
    if target.len() > limits.uri_bytes {
        return Err(Reject::UriTooLong);
    }
    let http_11 = match version {
        b" HTTP/1.1" => true,
        b" HTTP/1.0" => false,
        [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Reject::VersionNotSupported);
        }
        _ => return Err(MALFORMED),
    };
    let authority = check_target(method, target)?;
    let offset = begin + method.len() + 1;
    Ok(RequestLine {
        http_11,
        get: method == b"GET",
        authority: authority.map(|(from, to)| (offset + from, offset + to)),
    })
}

/// The forms of RFC 9112 §3.2, and where the authority of an absolute-form is in it.
fn check_target(method: &[u8], target: &[u8]) -> Result<Option<(usize, usize)>, Reject> {
    if target.is_empty() || !target.iter().all(|b| is(*b, TARGET)) {
        return Err(Reject::BadRequest("malformed request target"));
    }
    // a tunnel to anywhere, and an echo of what browsers keep from scripts (as nginx has it)
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(Reject::MethodNotAllowed);
    }
    if target.first() == Some(&b'/') {
        return Ok(None);
    }
    if target == b"*" {
        return if method == b"OPTIONS" {
            Ok(None)
        } else {
            Err(Reject::BadRequest("request target * is for OPTIONS"))
        };
    }
    match raw_target_authority(target) {
        RawTargetAuthority::Absolute { scheme, authority, .. }
            if (scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https"))
                && valid_authority(authority) =>
        {
            let from = scheme.len() + 3;
            Ok(Some((from, from + authority.len())))
        }
        RawTargetAuthority::Absolute { .. }
        | RawTargetAuthority::AmbiguousAuthority
        | RawTargetAuthority::None => Err(Reject::BadRequest("malformed request target")),
    }
}

pub fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    memchr::memchr(byte, bytes)
}
