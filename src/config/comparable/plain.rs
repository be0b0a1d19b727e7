//! Which routes have nothing to hide, by their text: they are written as they are, without a tree of each. Called by
//! `comparable`.

use crate::config::check::FileDigests;
use crate::config::secret;
use regex::Regex;

/// More texts than this are not looked for one by one.
const FEW: usize = 16;

/// What there would be to hide.
pub(super) struct Suspicion {
    words: Option<Regex>,
    /// Values of variables, and names of files, as they stand in JSON; `None` when there are too many.
    texts: Option<Vec<String>>,
}

impl Suspicion {
    pub fn new<'a>(variables: impl Iterator<Item = &'a str>, files: &FileDigests) -> Suspicion {
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        // part of a value, or the whole of one
        let variables =
            variables.filter(|real| !real.is_empty()).map(|real| json(real).trim_matches('"').to_owned());
        let files = files.keys().filter_map(|path| path.to_str()).map(json);
        let texts: Vec<String> = variables.chain(files).take(FEW + 1).collect();
        Suspicion { words: secret::suspicion(), texts: (texts.len() <= FEW).then_some(texts) }
    }

    /// Whether something in this JSON may have to be hidden; where that is so, it is.
    pub fn falls_on(&self, json: &str) -> bool {
        let (Some(words), Some(texts)) = (&self.words, &self.texts) else { return true };
        words.is_match(json) || texts.iter().any(|text| json.contains(text.as_str()))
    }
}
