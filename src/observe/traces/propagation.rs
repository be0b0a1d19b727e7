//! Traces in headers: what a request brings, and what is told to its server. In the spellings that the configuration
//! names, and in no others: those are passed on as they came.

use super::context::{Flags, SpanId, Told, TraceId};
use super::{b3, w3c};
use crate::config::file::Propagator;
use http::{HeaderMap, HeaderName, HeaderValue};

/// By the first of the spellings in which something well-formed is said.
pub(super) fn extract(headers: &HeaderMap, propagators: &[Propagator]) -> Option<Told> {
    propagators.iter().find_map(|propagator| match propagator {
        Propagator::TraceContext => w3c::read(headers),
        Propagator::B3 => b3::read(headers),
        Propagator::B3Multi => b3::read_multi(headers),
    })
}

/// What a server is told: of this span, which belongs to another.
pub(super) struct Telling<'a> {
    pub trace: TraceId,
    pub span: SpanId,
    pub parent: SpanId,
    pub flags: Flags,
    pub state: Option<&'a HeaderValue>,
}

/// Each header in turn; one without a value is to be taken out.
pub(super) fn inject(
    telling: &Telling<'_>,
    propagators: &[Propagator],
    mut set: impl FnMut(HeaderName, Option<HeaderValue>),
) {
    let Telling { trace, span, parent, flags, state } = *telling;
    for propagator in propagators {
        match propagator {
            Propagator::TraceContext => {
                set(w3c::TRACEPARENT, Some(w3c::traceparent(trace, span, flags)));
                set(w3c::TRACESTATE, state.cloned());
            }
            Propagator::B3 => set(b3::B3, Some(b3::single(trace, (span, parent), flags))),
            Propagator::B3Multi => {
                b3::multi(trace, (span, parent), flags)
                    .into_iter()
                    .for_each(|(name, value)| set(name, value));
            }
        }
    }
}
