//! Which items have changed places, where the order means something.

use super::Side;
use super::items::Pair;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// An item that stands on another side of one of its neighbours now.
#[derive(Debug, PartialEq)]
pub(super) struct Moved {
    pub item: String,
    pub now: Side,
    pub of: String,
}

/// A list in which the order always means something.
pub(super) fn list(kept: &[Pair]) -> Vec<Moved> {
    let all: Vec<usize> = (0..kept.len()).collect();
    moved(kept, &all, |_, _| true).into_iter().map(|(_, moved)| moved).collect()
}

/// The order of routes means something only between those that the search tries one after the other
/// for the same request: patterns, and routes with the same host, path and number of conditions.
pub(super) fn routes(kept: &[Pair], new: &[Value]) -> Vec<Moved> {
    if kept.is_sorted_by_key(|pair| pair.old) {
        return Vec::new();
    }
    let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, pair) in kept.iter().enumerate() {
        let Some(route) = new.get(pair.new) else { continue };
        for group in groups_of(route) {
            groups.entry(group).or_default().push(at);
        }
    }
    let route = |at: usize| kept.get(at).and_then(|pair| new.get(pair.new)).unwrap_or(&Value::Null);
    let mut found: Vec<(usize, Moved)> = Vec::new();
    for group in groups.values().filter(|group| group.len() > 1) {
        found.extend(moved(kept, group, |a, b| meet(route(a), route(b))));
    }
    // a route for several hosts may have moved in each of them
    found.sort_by(|(a, x), (b, y)| (a, &x.of).cmp(&(b, &y.of)));
    found.dedup();
    found.into_iter().map(|(_, moved)| moved).collect()
}

/// As few items as possible that have moved, so that the others have not; `members` are positions in
/// `kept`, ascending, and `meet` says whether the order of two of them matters.
fn moved(kept: &[Pair], members: &[usize], meet: impl Fn(usize, usize) -> bool) -> Vec<(usize, Moved)> {
    let old = |at: usize| kept.get(at).map_or(0, |pair| pair.old);
    let stayed = longest_increasing(members, old);
    let mut found = Vec::new();
    for (place, item) in members.iter().enumerate().filter(|(_, at)| !stayed.contains(at)) {
        let (before, after) = (members.get(..place), members.get(place + 1..));
        let passes = |other: &&usize| meet(*item, **other);
        let behind = after.into_iter().flatten().filter(|other| old(**other) < old(*item)).find(passes);
        let ahead =
            || before.into_iter().flatten().rev().filter(|other| old(**other) > old(*item)).find(passes);
        let passed = behind.map(|at| (Side::Before, at)).or_else(|| ahead().map(|at| (Side::After, at)));
        if let (Some((now, of)), Some(pair)) = (passed, kept.get(*item)) {
            let of = kept.get(*of).map_or_else(String::new, |pair| pair.label.clone());
            found.push((*item, Moved { item: pair.label.clone(), now, of }));
        }
    }
    found
}

/// The members of a longest subsequence that is in the old order still (patience sorting).
fn longest_increasing(members: &[usize], old: impl Fn(usize) -> usize) -> BTreeSet<usize> {
    // the last member of the best sequence of each length, and who stands before each member in its own
    let mut last: Vec<usize> = Vec::new();
    let mut previous: HashMap<usize, usize> = HashMap::new();
    for at in members {
        let length = last.partition_point(|other| old(*other) < old(*at));
        if let Some(before) = length.checked_sub(1).and_then(|shorter| last.get(shorter)) {
            previous.insert(*at, *before);
        }
        match last.get_mut(length) {
            Some(slot) => *slot = *at,
            None => last.push(*at),
        }
    }
    std::iter::successors(last.last().copied(), |at| previous.get(at).copied()).collect()
}

/// The groups of routes among which the order in the file decides; one for each host.
fn groups_of(route: &Value) -> Vec<String> {
    let text = |key: &str| route.get(key).and_then(Value::as_str);
    let path = match (text("exact"), text("regex"), text("path")) {
        (Some(exact), _, _) => format!("={exact}\n{}", conditions(route)),
        // patterns are tried in file order, whatever conditions they have
        (None, Some(_), _) => "~".to_string(),
        (None, None, path) => {
            format!("{}\n{}", path.unwrap_or_default().trim_end_matches('/'), conditions(route))
        }
    };
    let hosts = match route.get("host") {
        Some(Value::Array(hosts)) if !hosts.is_empty() => hosts.as_slice(),
        _ => &[Value::Null],
    };
    hosts.iter().map(|host| format!("{host}\n{path}")).collect()
}

/// How many conditions a route has, as `http::route` counts them.
fn conditions(route: &Value) -> usize {
    let length = |key: &str| match route.get(key) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    let once: usize = ["listeners", "methods", "client"].iter().map(|key| length(key).min(1)).sum();
    once + ["headers", "query", "cookies"].iter().map(|key| length(key)).sum::<usize>()
}

/// Whether one request could take either route.
fn meet(a: &Value, b: &Value) -> bool {
    let common = |key: &str| match (a.get(key), b.get(key)) {
        (Some(Value::Array(a)), Some(Value::Array(b))) if !a.is_empty() && !b.is_empty() => {
            // GET includes HEAD
            let same =
                |x: &Value, y: &Value| x == y || (x == "GET" && y == "HEAD") || (x == "HEAD" && y == "GET");
            a.iter().any(|x| b.iter().any(|y| same(x, y)))
        }
        _ => true,
    };
    // of one pattern, the one with more conditions is tried first wherever it stands
    let pattern = |route: &Value| route.get("regex").and_then(Value::as_str).map(str::to_owned);
    let decided = pattern(a).is_some() && pattern(a) == pattern(b) && conditions(a) != conditions(b);
    common("methods") && common("listeners") && !decided
}
