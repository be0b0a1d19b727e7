//! Reads a located tree into types, and finds every problem, not the first.
//!
//! Serde stops at its first error. Here an error is recorded with its place, the offending entry is pruned
//! from a working copy of the tree, and the whole is read again until it succeeds. A key that is missing only
//! because it was pruned is not reported again. Called by `check` with the root of a document, and by the
//! filter catalogue with the [`Raw`] settings of one filter.

mod de;
mod describe;
mod error;
mod handover;
mod located;
mod raw;

pub use located::Located;
pub use raw::Raw;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::config::load::Document;
use crate::config::report::{Code, Report, suggest};
use crate::config::yaml::{Data, Node};
use de::NodeDeserializer;
use error::{Error, Kind, Step};

/// Reading stops after this many problems, because each costs one more pass.
const MOST_PROBLEMS: usize = 200;

/// Reads `node` as a `T`. Every problem goes to `report`; what had a problem is left out of the result, or
/// has its default. When not even that is possible the result is `T::default()`.
pub fn decode<T: DeserializeOwned + Default>(_doc: &Document, node: &Node, report: &mut Report) -> T {
    read(node, report).0.unwrap_or_default()
}

/// Reads a node kept for later as a `T`; `None` when there was a problem, which is in `report`.
pub fn decode_raw<T: DeserializeOwned>(_doc: &Document, raw: &Raw, report: &mut Report) -> Option<T> {
    decode_whole(raw.node(), report)
}

/// Reads `node` as a `T`; `None` when there was a problem, which is in `report`.
pub fn decode_whole<T: DeserializeOwned>(node: &Node, report: &mut Report) -> Option<T> {
    match read(node, report) {
        (value, 0) => value,
        (_, _) => None,
    }
}

/// The value, if there is one, and the number of problems.
fn read<T: DeserializeOwned>(node: &Node, report: &mut Report) -> (Option<T>, usize) {
    let mut work = node.clone();
    for problems in 0..MOST_PROBLEMS {
        let error = match T::deserialize(NodeDeserializer::new(&work)) {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        if !is_consequence(&work, &error) {
            describe::report(&work, &error, report);
        }
        if !prune(&mut work, &error.path()) {
            return (None, problems + 1);
        }
    }
    report
        .error(
            Code::TooManyProblems,
            node.span,
            format!("more than {MOST_PROBLEMS} problems; the rest is not shown"),
        )
        .help("correct these and check again");
    (None, MOST_PROBLEMS)
}

/// Whether an error only follows from something pruned before, so that telling it would be noise.
fn is_consequence(work: &Node, error: &Error) -> bool {
    let path = error.path();
    if matches!(path.last(), Some(Step::Key(_))) {
        return false;
    }
    let Some(node) = at(work, &path) else { return false };
    match error.kind() {
        Kind::Consequence => true,
        Kind::MissingField(field) => node.entries().iter().any(|entry| {
            let name = &*entry.key.name;
            entry.value.is_pruned() && (name == *field || suggest(name, [*field]).is_some())
        }),
        Kind::Custom(_) | Kind::InvalidValue { .. } | Kind::InvalidLength { .. } => {
            node.entries().iter().any(|entry| entry.value.is_pruned())
                || node.items().iter().any(Node::is_pruned)
        }
        Kind::WrongType { .. }
        | Kind::UnknownField { .. }
        | Kind::UnknownVariant { .. }
        | Kind::DuplicateField(_)
        | Kind::SeveralVariants
        | Kind::NoSettings(_) => false,
    }
}

/// The node at the end of a path; for the place of a key, its value.
fn at<'a>(node: &'a Node, path: &[Step]) -> Option<&'a Node> {
    path.iter().try_fold(node, |node, step| match step {
        Step::Key(index) | Step::Value(index) => node.entries().get(*index).map(|entry| &entry.value),
        Step::Item(index) => node.items().get(*index),
    })
}

/// Marks the node at the end of a path as pruned; indices of its neighbours stay as they are. `false` when
/// the path is empty, that is, when nothing would be left.
fn prune(root: &mut Node, path: &[Step]) -> bool {
    if path.is_empty() {
        return false;
    }
    let mut node = root;
    for step in path {
        let next = match (step, &mut node.data) {
            (Step::Key(index) | Step::Value(index), Data::Mapping(entries)) => {
                Arc::make_mut(entries).get_mut(*index).map(|entry| &mut entry.value)
            }
            (Step::Item(index), Data::Sequence(items)) => Arc::make_mut(items).get_mut(*index),
            (
                Step::Key(_) | Step::Value(_) | Step::Item(_),
                Data::Scalar(_) | Data::Sequence(_) | Data::Mapping(_) | Data::Pruned,
            ) => None,
        };
        match next {
            Some(next) => node = next,
            None => return false,
        }
    }
    node.data = Data::Pruned;
    true
}

#[cfg(test)]
mod tests;
