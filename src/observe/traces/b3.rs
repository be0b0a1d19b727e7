//! `b3` and `X-B3-*`, the headers of Zipkin (openzipkin/b3-propagation). Pure. What is malformed is not there.

use super::context::{Flags, SpanId, Told, TraceId};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const B3: HeaderName = HeaderName::from_static("b3");
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
pub(super) const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
pub(super) const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
pub(super) const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
pub(super) const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// `TRACE-SPAN-DECISION-PARENT`, of which the last two may be missing; or `DECISION` alone.
pub(super) fn read(headers: &HeaderMap) -> Option<Told> {
    let value = headers.get(B3)?.as_bytes();
    let mut parts = value.split(|byte| *byte == b'-');
    let first = parts.next()?;
    let Some(span) = parts.next() else { return decision(first) };
    let parent = Some((trace_id(first)?, SpanId::parse(span)?));
    let decided = match parts.next() {
        Some(decided) => decision(decided)?,
        None => Told::default(),
    };
    if let Some(grandparent) = parts.next() {
        SpanId::parse(grandparent)?;
    }
    parts.next().is_none().then_some(Told { parent, ..decided })
}

fn decision(word: &[u8]) -> Option<Told> {
    match word {
        b"0" => Some(Told { sampled: Some(false), ..Told::default() }),
        b"1" => Some(Told { sampled: Some(true), ..Told::default() }),
        b"d" => Some(Told { sampled: Some(true), debug: true, ..Told::default() }),
        _ => None,
    }
}

/// The same in several headers.
pub(super) fn read_multi(headers: &HeaderMap) -> Option<Told> {
    let get = |name| headers.get(name).map(HeaderValue::as_bytes);
    let decided = match (get(FLAGS), get(SAMPLED)) {
        (Some(b"1"), _) => Told { sampled: Some(true), debug: true, ..Told::default() },
        // some write it as a word
        (_, Some(b"1" | b"true")) => Told { sampled: Some(true), ..Told::default() },
        (_, Some(b"0" | b"false")) => Told { sampled: Some(false), ..Told::default() },
        (_, Some(_)) => return None,
        (_, None) => Told::default(),
    };
    match (get(TRACE_ID), get(SPAN_ID)) {
        (Some(trace), Some(span)) => {
            Some(Told { parent: Some((trace_id(trace)?, SpanId::parse(span)?)), ..decided })
        }
        (None, None) => decided.sampled.map(|_| decided),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

/// Of 128 bits, or of 64.
fn trace_id(digits: &[u8]) -> Option<TraceId> {
    if digits.len() != 16 {
        return TraceId::parse(digits);
    }
    let mut padded = [b'0'; 32];
    padded.as_mut_slice().get_mut(16..)?.copy_from_slice(digits);
    TraceId::parse(&padded)
}

/// The span of that trace and the one that it belongs to, as a server is told.
pub(super) fn single(trace: TraceId, (span, parent): (SpanId, SpanId), flags: Flags) -> HeaderValue {
    let decided = match flags {
        Flags { debug: true, .. } => "d",
        Flags { sampled: true, .. } => "1",
        Flags { .. } => "0",
    };
    value(&format!("{trace}-{span}-{decided}-{parent}"))
}

/// The same in several headers; those without a value are not to be there.
pub(super) fn multi(
    trace: TraceId,
    (span, parent): (SpanId, SpanId),
    flags: Flags,
) -> [(HeaderName, Option<HeaderValue>); 5] {
    let sampled = HeaderValue::from_static(if flags.sampled { "1" } else { "0" });
    [
        (TRACE_ID, Some(value(&trace.to_string()))),
        (SPAN_ID, Some(value(&span.to_string()))),
        (PARENT_ID, Some(value(&parent.to_string()))),
        // debug implies it
        (SAMPLED, Some(sampled).filter(|_| !flags.debug)),
        (FLAGS, flags.debug.then(|| HeaderValue::from_static("1"))),
    ]
}

/// Of digits and dashes.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    fn one(value: &str) -> Option<Told> {
        read(&HeaderMap::from_iter([(B3, value.parse().unwrap())]))
    }

    fn many(values: &[(HeaderName, &str)]) -> Option<Told> {
        read_multi(&values.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect())
    }

    fn parent() -> Option<(TraceId, SpanId)> {
        Some((TraceId::parse(TRACE.as_bytes())?, SpanId::parse(SPAN.as_bytes())?))
    }

    #[test]
    fn one_header() {
        let whole = one(&format!("{TRACE}-{SPAN}-1-{PARENT}")).unwrap();
        assert_eq!((whole.parent, whole.sampled, whole.debug), (parent(), Some(true), false));
        assert_eq!(
            one(&format!("{TRACE}-{SPAN}-d")).map(|told| (told.sampled, told.debug)),
            Some((Some(true), true))
        );
        let undecided = one(&format!("{TRACE}-{SPAN}")).unwrap();
        assert_eq!((undecided.parent, undecided.sampled), (parent(), None));
        let denied = one("0").unwrap();
        assert_eq!((denied.parent, denied.sampled), (None, Some(false)));
        let short = one(&format!("{SPAN}-{SPAN}-0")).unwrap().parent.unwrap().0;
        assert_eq!(short.to_string(), format!("0000000000000000{SPAN}"));
    }

    #[test]
    fn one_header_that_is_malformed_is_not_there() {
        for bad in [
            "",
            "2",
            "-",
            TRACE,
            &format!("{TRACE}-"),
            &format!("{TRACE}-{SPAN}-"),
            &format!("{TRACE}-{SPAN}-x"),
            &format!("{TRACE}-{SPAN}-1-"),
            &format!("{TRACE}-{SPAN}-1-{PARENT}-1"),
            &format!("{}-{SPAN}-1", TRACE.to_uppercase()),
            &format!("{TRACE}0-{SPAN}-1"),
        ] {
            assert_eq!(one(bad), None, "{bad}");
        }
    }

    #[test]
    fn several_headers() {
        let ids = [(TRACE_ID, TRACE), (SPAN_ID, SPAN)];
        let with = |more: &[(HeaderName, &str)]| many(&[&ids[..], more].concat());
        assert_eq!(with(&[(SAMPLED, "1"), (PARENT_ID, PARENT)]).unwrap().parent, parent());
        assert_eq!(with(&[]).unwrap().sampled, None);
        assert_eq!(with(&[(SAMPLED, "false")]).unwrap().sampled, Some(false));
        assert!(with(&[(FLAGS, "1"), (SAMPLED, "0")]).unwrap().debug);
        assert_eq!(many(&[(SAMPLED, "0")]).unwrap().sampled, Some(false));
        assert_eq!(with(&[(SAMPLED, "maybe")]), None);
        assert_eq!((many(&[]), many(&[(TRACE_ID, TRACE)]), many(&[(SPAN_ID, SPAN)])), (None, None, None));
        assert_eq!(many(&[(TRACE_ID, "zz"), (SPAN_ID, SPAN), (SAMPLED, "1")]), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let ((trace, span), above) = (parent().unwrap(), SpanId::parse(PARENT.as_bytes()).unwrap());
        for flags in [
            Flags::default(),
            Flags { sampled: true, ..Flags::default() },
            Flags { sampled: true, debug: true, random: false },
        ] {
            let read = one(single(trace, (span, above), flags).to_str().unwrap()).unwrap();
            assert_eq!((read.parent, read.sampled, read.debug), (parent(), Some(flags.sampled), flags.debug));
            let headers = multi(trace, (span, above), flags).into_iter();
            let headers = headers.filter_map(|(name, value)| Some((name, value?))).collect();
            assert_eq!(read_multi(&headers), Some(read));
        }
    }
}
