//! What a client is shown instead of the gate's own short reply: the first of its route's
//! `error_pages` that is for the status, or else of the file's. Called by `answer`.

use super::answer::{CONTENT_TYPE, Reply};
use super::ctx::Ctx;
use crate::config::plan::{ErrorPage, Shows};
use crate::template::Template;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use pingora_http::RequestHeader;

/// `None`: nothing is configured for this status.
pub fn reply(head: &RequestHeader, ctx: &Ctx, status: StatusCode) -> Option<Reply> {
    let request = ctx.request.as_ref()?;
    let info = &request.info;
    let own = info.route.iter().flat_map(|route| &route.error_pages);
    let shared = request.error_pages.iter().flat_map(|pages| pages.iter());
    let page: &ErrorPage = own.chain(shared).find(|page| page.is_for(status.as_u16()))?;
    let render = |text: &Template| text.render(|placeholder, out| info.fill(head, placeholder, out));
    Some(match &page.shows {
        Shows::File { content, content_type } => {
            Reply { status, headers: vec![(CONTENT_TYPE, content_type.clone())], body: content.clone() }
        }
        Shows::Text { text, content_type } => {
            Reply { status, headers: vec![(CONTENT_TYPE, content_type.clone())], body: render(text).into() }
        }
        Shows::Redirect(to) => Reply {
            status: StatusCode::FOUND,
            // what the client has written may not fit into a header
            headers: vec![(Bytes::from_static(b"Location"), HeaderValue::from_str(&render(to)).ok()?)],
            body: Bytes::new(),
        },
    })
}
