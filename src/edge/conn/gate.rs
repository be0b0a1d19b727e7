//! Which of the bytes that arrive belong to the current request. Asked by `reading`, set by whoever has read a head.

use crate::edge::chunked::Chunked;

/// Which of the bytes that arrive the reader may have.
#[derive(Debug)]
pub enum Gate {
    /// All: between requests, in HTTP/2, and after an `Upgrade`.
    Open,
    /// What is left of a body of known length.
    Length(u64),
    Chunked(Chunked),
    /// None; the request is complete.
    Shut,
}

impl Gate {
    /// How many of `bytes` belong to the request; shuts at its end.
    pub fn admit(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let taken = match self {
            Gate::Open => bytes.len(),
            Gate::Shut => 0,
            Gate::Length(left) => {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                here as usize
            }
            Gate::Chunked(chunked) => chunked.feed(bytes)?,
        };
        let end = match self {
            Gate::Open | Gate::Shut => false,
            Gate::Length(left) => *left == 0,
            Gate::Chunked(chunked) => chunked.done(),
        };
        if end {
            *self = Gate::Shut;
        }
        Ok(taken)
    }
}
