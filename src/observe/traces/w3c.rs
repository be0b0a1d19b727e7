//! `traceparent` and `tracestate` (W3C Trace Context, level 2). Pure. What is malformed is not there.

use super::context::{Flags, SpanId, Told, TraceId, hex, read_hex};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// `00-TRACE-SPAN-FLAGS`.
const LENGTH: usize = 55;

/// §3.3.1.1: members of a list.
const MOST_MEMBERS: usize = 32;

/// §3.3.1.5: at least so many characters are passed on. We pass on no more.
const LONGEST_STATE: usize = 512;

/// Members of more than so many characters go first where that is too long.
const LONG_MEMBER: usize = 128;

pub(super) fn read(headers: &HeaderMap) -> Option<Told> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    let (trace, span, flags) = parent(value.as_bytes())?;
    Some(Told {
        parent: Some((trace, span)),
        sampled: Some(flags & SAMPLED != 0),
        random: flags & RANDOM != 0,
        debug: false,
        state: state(headers),
    })
}

/// §3.2.2, and §3.2.4 of versions to come: those may be longer, behind a dash.
fn parent(value: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (head, more) = value.split_at_checked(LENGTH)?;
    let [version, trace, span, flags] = fields(head)?;
    let (mut version_byte, mut flag_bits) = ([0], [0]);
    read_hex(version, &mut version_byte)?;
    read_hex(flags, &mut flag_bits)?;
    let [version] = version_byte;
    let fits = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.first().is_none_or(|byte| *byte == b'-'),
    };
    fits.then_some(())?;
    let [flags] = flag_bits;
    Some((TraceId::parse(trace)?, SpanId::parse(span)?, flags))
}

fn fields(head: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = head.split(|byte| *byte == b'-');
    let four = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(four)
}

/// The span of that trace, as a server is told.
pub(super) fn traceparent(trace: TraceId, span: SpanId, flags: Flags) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let bits = if flags.sampled { SAMPLED } else { 0 } | if flags.random { RANDOM } else { 0 };
    let parts: [(usize, &[u8]); 3] = [(3, &trace.digits()), (36, &span.digits()), (53, &hex(bits))];
    for (at, digits) in parts {
        if let Some(place) = text.get_mut(at..at + digits.len()) {
            place.copy_from_slice(digits);
        }
    }
    // digits and dashes
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The list of all its lines (§3.3); `None` when it is malformed or empty.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut members: Vec<&str> = Vec::new();
    for line in headers.get_all(TRACESTATE) {
        for member in line.to_str().ok()?.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let again =
                members.iter().any(|known| known.split_once('=').is_some_and(|(known, _)| known == key));
            if again || !is_key(key) || !is_value(value) || members.len() == MOST_MEMBERS {
                return None;
            }
            members.push(member);
        }
    }
    shorten(&mut members);
    (!members.is_empty()).then(|| members.join(",").into())
}

/// §3.3.1.5: the long ones go first, then the last ones.
fn shorten(members: &mut Vec<&str>) {
    let too_long =
        |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>() > LONGEST_STATE + 1;
    while too_long(members) {
        match members.iter().rposition(|member| member.len() > LONG_MEMBER) {
            Some(long) => drop(members.remove(long)),
            None => drop(members.pop()),
        }
    }
}

/// §3.3.1.3.1.
fn is_key(key: &str) -> bool {
    let sign = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let part = |part: &str, most: usize, digit_first: bool| {
        let first = |byte: &u8| byte.is_ascii_lowercase() || (digit_first && byte.is_ascii_digit());
        part.len() <= most && part.as_bytes().first().is_some_and(first) && part.bytes().all(sign)
    };
    match key.split_once('@') {
        None => part(key, 256, true),
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
    }
}

/// §3.3.1.3.2; blanks at its end were cut.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn told(parents: &[&str], states: &[&str]) -> Option<Told> {
        let mut headers = HeaderMap::new();
        for (name, values) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
            for value in values {
                headers.append(&name, value.parse().unwrap());
            }
        }
        read(&headers)
    }

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        for (bits, sampled, random) in [("00", false, false), ("01", true, false), ("03", true, true)] {
            let text = format!("00-{TRACE}-{SPAN}-{bits}");
            let told = told(&[&text], &[]).unwrap();
            assert_eq!((told.sampled, told.random), (Some(sampled), random));
            let (trace, span) = told.parent.unwrap();
            assert_eq!(traceparent(trace, span, Flags { sampled, random, debug: false }), text);
        }
    }

    #[test]
    fn unknown_flags_are_not_passed_on_and_later_versions_are_read() {
        let unknown = told(&[&format!("00-{TRACE}-{SPAN}-fd")], &[]).unwrap();
        assert_eq!((unknown.sampled, unknown.random), (Some(true), false));
        assert!(told(&[&format!("cc-{TRACE}-{SPAN}-01-what-comes")], &[]).is_some());
        assert!(told(&[&format!("cc-{TRACE}-{SPAN}-01")], &[]).is_some());
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        for bad in [
            String::new(),
            good.to_uppercase(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-0"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-00000000000000000000000000000000-{SPAN}-01"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{SPAN}-{TRACE}-01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(told(&[&bad], &["a=b"]), None, "{bad}");
        }
        assert_eq!(told(&[&good, &good], &[]), None, "two");
    }

    fn state_of(lines: &[&str]) -> Option<String> {
        told(&[&format!("00-{TRACE}-{SPAN}-01")], lines).unwrap().state.map(String::from)
    }

    #[test]
    fn the_state_is_the_list_of_all_lines() {
        assert_eq!(state_of(&["a=1,b=2 ", "\t,c@sys=3"]).as_deref(), Some("a=1,b=2,c@sys=3"));
        assert_eq!(state_of(&[" , "]), None);
        let members: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert!(state_of(&[&members[..32].join(",")]).is_some());
        assert_eq!(state_of(&[&members.join(",")]), None, "too many");
    }

    #[test]
    fn a_malformed_state_is_dropped_whole() {
        let (long_key, long_value) = (format!("{}=1", "k".repeat(257)), format!("k={}", "v".repeat(257)));
        for bad in
            ["a", "A=1", "a=1,a=2", "@s=1", "a@=1", "a@1s=1", "a=b=c", "a=", "=1", &long_key, &long_value]
        {
            assert_eq!(state_of(&["ok=1", bad]), None, "{bad}");
        }
        assert_eq!(state_of(&["1a@s=x", "_=1"]), None);
        assert_eq!(state_of(&["1a@s=x"]).as_deref(), Some("1a@s=x"));
    }

    #[test]
    fn a_long_state_loses_long_members_first_and_then_the_last() {
        let short: Vec<String> = (0..4).map(|n| format!("k{n}={}", "v".repeat(120))).collect();
        let long = format!("long={}", "v".repeat(130));
        let all = format!("{long},{}", short.join(","));
        let kept = state_of(&[&all]).unwrap();
        assert_eq!(kept, short.join(","));
        let many = format!(
            "{},last=1",
            (0..5).map(|n| format!("k{n}={}", "v".repeat(110))).collect::<Vec<_>>().join(",")
        );
        let kept = state_of(&[&many]).unwrap();
        assert!(kept.len() <= LONGEST_STATE && kept.starts_with("k0=") && !kept.contains("last"), "{kept}");
    }
}
