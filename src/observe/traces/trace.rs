//! The trace of one request while it lasts. Begun and ended by `http`, which tells it about each try.

use super::context::{Flags, SpanId, Told, TraceId};
use super::propagation::{self, Telling};
use super::record::{Failure, Record, Request, Try};
use super::{Tracer, sampling};
use crate::config::plan::Sampling;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The trace of a request.
pub struct Trace {
    tracer: Arc<Tracer>,
    id: TraceId,
    /// Of the request.
    span: SpanId,
    flags: Flags,
    parent: Option<SpanId>,
    link: Option<(TraceId, SpanId)>,
    state: Option<HeaderValue>,
    began: SystemTime,
    /// Failures are told though the trace is not sampled.
    errors: bool,
    /// Of the current try.
    attempt: SpanId,
    /// Of a second try beside it, which may become the current one.
    second: Option<SpanId>,
    tries: Vec<(SpanId, Try)>,
    current: Current,
}

/// What is known of the current try, beside what its request knows.
#[derive(Debug, Default)]
pub struct Current {
    pub version: Option<&'static str>,
    pub status: Option<u16>,
    pub failure: Option<Failure>,
    pub failed_at: Option<Instant>,
    /// Why it was made.
    pub because: Option<Failure>,
}

impl Trace {
    pub(super) fn begin(tracer: Arc<Tracer>, told: Told, believed: bool, wanted: Sampling) -> Trace {
        let (told, link) = if believed { (told, None) } else { (Told::default(), told.parent) };
        let id = told.parent.map_or_else(TraceId::random, |(id, _)| id);
        let sampled = sampling::samples(&wanted, &told, &id);
        let state = told.state.as_deref().and_then(|state| HeaderValue::from_str(state).ok());
        Trace {
            id,
            span: SpanId::random(),
            flags: Flags { sampled, random: told.random, debug: told.debug },
            parent: told.parent.map(|(_, span)| span),
            link,
            state,
            began: SystemTime::now(),
            errors: wanted.errors && tracer.records(),
            attempt: SpanId::random(),
            second: None,
            tries: Vec::new(),
            current: Current::default(),
            tracer,
        }
    }

    pub fn id(&self) -> TraceId {
        self.id
    }

    /// Whether anything about it may be told.
    pub fn is_recorded(&self) -> bool {
        self.errors || (self.flags.sampled && self.tracer.records())
    }

    /// Another try begins, on the connection of the `second` or anew; what is kept of the one before was told.
    pub fn next_try(&mut self, second: bool) {
        self.attempt = self.second.take().filter(|_| second).unwrap_or_else(SpanId::random);
        self.current = Current { because: self.current.failure.take(), ..Current::default() };
    }

    /// What is known of the current try.
    pub fn current(&mut self) -> &mut Current {
        &mut self.current
    }

    /// The current try is over.
    pub fn try_over(&mut self, over: Try) {
        self.tries.push((self.attempt, over));
    }

    /// What the server of the current try is told: each header in turn, and one without a value is to be taken out.
    pub fn tell(&self, set: impl FnMut(HeaderName, Option<HeaderValue>)) {
        self.tell_of(self.attempt, set);
    }

    /// The same for that of a second try beside it.
    pub fn tell_second(&mut self, set: impl FnMut(HeaderName, Option<HeaderValue>)) {
        let second = *self.second.insert(SpanId::random());
        self.tell_of(second, set);
    }

    fn tell_of(&self, span: SpanId, set: impl FnMut(HeaderName, Option<HeaderValue>)) {
        let telling = Telling {
            trace: self.id,
            span,
            parent: self.span,
            flags: self.flags,
            state: self.state.as_ref(),
        };
        propagation::inject(&telling, &self.tracer.plan.propagation, set);
    }

    /// Whether a request that ends well, or has `failed`, is told.
    pub fn is_told(&self, failed: bool) -> bool {
        self.is_recorded() && (self.flags.sampled || failed)
    }

    /// The request is over, and [told](Trace::is_told).
    pub fn end(self: Box<Self>, request: Request) {
        let Trace { tracer, id, span, flags, parent, link, state, began, tries, .. } = *self;
        tracer.push(Record { trace: id, span, flags, parent, link, state, began, request, tries });
    }
}
