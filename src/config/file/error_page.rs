//! `error_pages`: what clients are shown instead of the gate's own short replies.

use crate::config::decode::Located;
use crate::config::file::OneOrMany;
use crate::config::words::StatusRange;
use crate::template::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What clients are shown instead of the gate's own reply with one of these statuses: exactly one
/// of `file`, `body` and `redirect`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorPage {
    /// From 400 to 599: `404`, `5xx`, `500-504`, or a list of these.
    pub status: OneOrMany<StatusRange>,
    /// A file that is sent as it is. It is read when the configuration is.
    pub file: Option<Located<PathBuf>>,
    /// A text. Placeholders as in `respond`.
    pub body: Option<Template>,
    /// Where clients are sent instead (302). Placeholders as in `respond`.
    pub redirect: Option<Located<Template>>,
    /// The type of `file` and `body`; without it that of the file's name, or text.
    pub content_type: Option<Located<String>>,
}
