//! Checks of `error_pages`: one thing to show, its file read.

use super::{Checker, files};
use crate::config::decode::Located;
use crate::config::file;
use crate::config::plan::{self, Shows};
use crate::config::report::Code;
use http::HeaderValue;
use std::path::Path;
use std::sync::Arc;

/// An error page is no larger: each is kept in memory.
const LARGEST: u64 = 1024 * 1024;

impl Checker<'_> {
    /// In the order of the file: the first that fits is shown.
    pub(super) fn error_pages(
        &mut self,
        who: &str,
        pages: &[Located<file::ErrorPage>],
    ) -> Vec<Arc<plan::ErrorPage>> {
        pages.iter().filter_map(|page| self.error_page(who, page)).map(Arc::new).collect()
    }

    fn error_page(&mut self, who: &str, page: &Located<file::ErrorPage>) -> Option<plan::ErrorPage> {
        if page.status.0.is_empty() && self.whole {
            let message = format!("an error page of {who} is for no status\nadd `status: 5xx`");
            self.error(Code::MissingKey, page.span, &message);
        }
        if let Some(range) = page.status.0.iter().find(|range| range.from < 400) {
            let message = format!(
                "an error page of {who} is for status {range}, which is no error\nwrite one from 400 to 599"
            );
            self.error(Code::InvalidValue, page.span, &message);
        }
        let named: Vec<&str> = [
            page.file.as_ref().map(|_| "file"),
            page.body.as_ref().map(|_| "body"),
            page.redirect.as_ref().map(|_| "redirect"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if named.len() != 1 {
            // what it had may have been cut out because of a mistake
            if self.whole || named.len() > 1 {
                let message = match named.is_empty() {
                    true => format!("an error page of {who} shows nothing\nadd one of file, body, redirect"),
                    false => format!("an error page of {who} has {}\nkeep one of them", named.join(" and ")),
                };
                self.error(Code::Conflict, page.span, &message);
            }
            return None;
        }
        let shows = self.shows(page)?;
        Some(plan::ErrorPage { statuses: page.status.0.clone(), shows })
    }

    fn shows(&mut self, page: &file::ErrorPage) -> Option<Shows> {
        if let Some(to) = &page.redirect {
            let text = to.to_string();
            if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
                let message = format!("`{text}` is not a place to redirect to\nwrite a path such as /sorry");
                self.error(Code::InvalidValue, to.span, &message);
            }
            return Some(Shows::Redirect(to.value.clone()));
        }
        let guessed = page.file.as_ref().map_or("text/plain; charset=utf-8", |file| type_of(&file.value));
        let content_type = match &page.content_type {
            None => HeaderValue::from_static(guessed),
            Some(given) => match HeaderValue::from_str(&given.value) {
                Ok(value) => value,
                Err(_) => {
                    let message = format!("`{}` is not a content type\nwrite it as text/html", given.value);
                    self.error(Code::InvalidValue, given.span, &message);
                    return None;
                }
            },
        };
        if let Some(text) = &page.body {
            return Some(Shows::Text { text: text.clone(), content_type });
        }
        let file = page.file.as_ref()?;
        match files::read(&file.value, LARGEST) {
            Ok(content) => Some(Shows::File { content: content.into(), content_type }),
            Err(why) => {
                self.error(Code::BadFile, file.span, &why);
                None
            }
        }
    }
}

/// By the end of the file's name.
fn type_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
