//! Which routes have nothing to hide, by their text: they are written as they are, without a tree of each. Called by
//! `comparable`.

mod fields;

use crate::config::check::FileDigests;
use crate::config::file::Route;
use crate::config::secret;
use fields::Fields;
use regex::bytes::Regex;

/// Writes routes one after the other, each as it is if nothing in it looks like something to hide.
pub(super) struct Plain {
    /// Finds nothing in `usual`. `None` when there is too much to look for.
    suspicion: Option<Regex>,
    /// A route that says nothing.
    usual: Fields,
    /// The last route in which there was nothing to hide.
    clean: Fields,
    /// Room for the next one.
    next: Fields,
    /// And for what it says.
    brief: Vec<u8>,
}

impl Plain {
    /// What there is to hide are values of these variables, the contents of these files, and what `secret` knows.
    pub fn hiding<'a>(variables: impl Iterator<Item = &'a str>, files: &'a FileDigests) -> Plain {
        let mut usual = Fields::default();
        usual.take(&Route::default());
        // what is found in every route tells nothing of one
        let suspicion = suspicion(variables, files)
            .filter(|suspicion| usual.iter().all(|field| !suspicion.is_match(field)));
        Plain { suspicion, clean: usual.clone(), usual, next: Fields::default(), brief: Vec::new() }
    }

    /// In JSON, without what is as usual, but for its name; `None` when there may be something to hide in it.
    ///
    /// Nothing is hidden but a whole text, or what stands below a key, and both are within one field. Routes are much
    /// alike, so that most fields were looked through for the route before.
    pub fn json(&mut self, route: &Route) -> Option<&str> {
        let Plain { suspicion, usual, clean, next, brief } = self;
        let suspicion = suspicion.as_ref()?;
        next.take(route)?;
        brief.clear();
        for (place, ((field, usual), clean)) in next.iter().zip(usual.iter()).zip(clean.iter()).enumerate() {
            // the name is first
            if place > 0 && field == usual {
                continue;
            }
            if field != clean && suspicion.is_match(field) {
                return None;
            }
            brief.extend_from_slice(field);
        }
        brief.push(b'}');
        std::mem::swap(clean, next);
        std::str::from_utf8(brief).ok()
    }
}

/// Finds something in every JSON text in which there is something to hide, and in some others.
fn suspicion<'a>(variables: impl Iterator<Item = &'a str>, files: &'a FileDigests) -> Option<Regex> {
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
