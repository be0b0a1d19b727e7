//! The dashboard: one page, which asks `/v1/overview`, `/v1/errors` and `/metrics` and shows what they say. Part of the
//! program, so that nothing is built or fetched; its policy (`answer`) lets it load and ask nothing else.

pub const PAGE: &str = include_str!("page/index.html");
pub const SCRIPT: &str = include_str!("page/app.js");
pub const ICON: &str = include_str!("page/icon.svg");
pub const STYLE: &str = include_str!("page/app.css");
