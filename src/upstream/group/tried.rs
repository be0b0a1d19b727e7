//! Where one request has been.

use crate::upstream::Endpoint;
use std::sync::Arc;

/// The servers that one request has been sent to. The usual number of tries needs no allocation.
#[derive(Debug, Default, Clone)]
pub struct Tried {
    first: [Option<Arc<Endpoint>>; 3],
    more: Vec<Arc<Endpoint>>,
}

impl Tried {
    pub fn push(&mut self, endpoint: &Arc<Endpoint>) {
        match self.first.iter_mut().find(|slot| slot.is_none()) {
            Some(free) => *free = Some(endpoint.clone()),
            None => self.more.push(endpoint.clone()),
        }
    }

    pub fn contains(&self, endpoint: &Arc<Endpoint>) -> bool {
        let is_it = |tried: &Arc<Endpoint>| Arc::ptr_eq(tried, endpoint);
        self.first.iter().map_while(Option::as_ref).any(is_it) || self.more.iter().any(is_it)
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.first, [None, ..])
    }
}
