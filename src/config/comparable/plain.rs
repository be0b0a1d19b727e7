//! Which routes have nothing to hide, by their text: they are written as they are, without a tree of each. Called by
//! `comparable`.

use crate::config::check::FileDigests;
use crate::config::secret;
use regex::Regex;

/// Finds something in every JSON text in which there is something to hide (these values of variables, the names of these
/// files, what `secret` knows), and in some others. `None` when there is too much to look for.
pub(super) fn suspicion<'a>(
    variables: impl Iterator<Item = &'a str>,
    files: &'a FileDigests,
) -> Option<Regex> {
    // one file may be written in several ways (`a//b`), but not its last name
    let files = files.keys().filter_map(|path| path.file_name().unwrap_or(path.as_os_str()).to_str());
    let texts = variables.chain(files).filter(|text| !text.is_empty()).map(within_json);
    let all: Vec<String> = [secret::signs()].into_iter().chain(texts).collect();
    Regex::new(&all.join("|")).ok()
}

/// A pattern for a text as it stands in JSON.
fn within_json(text: &str) -> String {
    // a string can be written
    let json = serde_json::to_string(text).unwrap_or_default();
    regex::escape(json.get(1..json.len().saturating_sub(1)).unwrap_or_default())
}
