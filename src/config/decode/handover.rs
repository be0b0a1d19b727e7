//! How a place and a whole node cross serde, whose data model has neither.
//!
//! The deserializer leaves them here right before it calls a visitor, which picks them up at once: they live
//! for one call on one thread and are no state of the program. With any other deserializer nothing is left
//! here, and [`Located`](super::Located) has an unknown place, [`Raw`](super::Raw) a tree without places.

use std::cell::{Cell, RefCell};

use crate::config::report::Span;
use crate::config::yaml::Node;

/// The name under which [`Located`](super::Located) asks for its place.
pub const LOCATED: &str = "$weirgate::Located";
/// The name under which [`Raw`](super::Raw) asks for its node.
pub const RAW: &str = "$weirgate::Raw";

thread_local! {
    static HERE: Cell<Span> = const { Cell::new(Span::file(crate::config::report::FileId(0))) };
    static NODE: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// While it lives, `here()` is the place it was made with.
pub struct Here(Span);

impl Here {
    pub fn is(span: Span) -> Here {
        Here(HERE.replace(span))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// The place of the innermost node that is being read on this thread.
pub fn here() -> Span {
    HERE.get()
}

/// Leaves a node for [`take`].
pub fn leave(node: &Node) {
    NODE.with_borrow_mut(|slot| *slot = Some(node.clone()));
}

pub fn take() -> Option<Node> {
    NODE.with_borrow_mut(Option::take)
}
