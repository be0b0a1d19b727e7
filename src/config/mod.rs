//! The life of a configuration: text becomes a located tree, the tree becomes the typed file.
//!
//! In reading order: [`load`] reads the files, includes and `${VAR}`; [`decode`] turns the tree into types and
//! finds every problem on the way; [`report`] holds what was found and shows it.

pub mod decode;
pub mod load;
pub mod report;
pub mod secret;
pub mod yaml;

mod env;
