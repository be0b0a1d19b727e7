//! The life of a configuration: text becomes a located tree, the tree becomes the typed file.
//!
//! In reading order: [`load`] reads the files, includes and `${VAR}`; [`decode`] turns the tree into types and
//! finds every problem on the way; [`file`](mod@file) is the shape, [`check`] holds it against itself and the world and
//! makes the [`plan`]; [`report`] holds what was found and shows it.
//! [`Comparable`] and [`diff()`] tell how two configurations differ.
//! [`servers_file`] reads lists of servers that stand in files of their own, then and while the gate runs.

pub mod check;
mod comparable;
pub mod decode;
mod diff;
pub mod file;
pub mod load;
pub mod plan;
pub mod report;
mod schema;
pub mod secret;
pub mod servers_file;
pub mod words;
pub mod yaml;

mod env;

pub use check::{Checked, check_file, check_file_after, check_text};
pub use comparable::Comparable;
pub use diff::{Change, What, diff};
pub use schema::{print, resolved, schema_text};
