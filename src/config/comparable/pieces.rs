//! Which routes and groups of two configurations differ, by their texts alone. What is the same on both sides is left out
//! before they are compared, where that changes nothing of the answer.

use super::Comparable;
use ahash::{AHashMap, AHashSet};
use serde_json::Value;
use std::ops::Range;

/// The routes, or the groups, in the text.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    /// What stands between the brackets.
    pub whole: Range<usize>,
    pieces: Vec<Piece>,
}

/// One of them.
#[derive(Debug, Clone)]
struct Piece {
    /// What it is called, as JSON.
    name: Range<usize>,
    whole: Range<usize>,
}

impl Section {
    /// So many will be pushed.
    pub fn reserve(&mut self, count: usize) {
        self.pieces.reserve_exact(count);
    }

    pub fn push(&mut self, name: Range<usize>, whole: Range<usize>) {
        self.pieces.push(Piece { name, whole });
    }
}

/// What a route's text begins with; its name follows.
pub(super) const BEFORE_NAME: &str = "{\"name\":";

/// Where the name of the route stands that begins here in the text: it is the first key.
pub(super) fn name_of_route(text: &str, from: usize, name: &str) -> Range<usize> {
    let at = from + BEFORE_NAME.len();
    debug_assert_eq!(text.get(at..at + name.len()), Some(name));
    at..at + name.len()
}

/// The texts of a section.
struct Texts<'a> {
    text: &'a str,
    pieces: &'a [Piece],
}

impl<'a> Texts<'a> {
    fn len(&self) -> usize {
        self.pieces.len()
    }

    fn at(&self, number: usize, range: impl Fn(&Piece) -> &Range<usize>) -> &'a str {
        self.pieces.get(number).and_then(|piece| self.text.get(range(piece).clone())).unwrap_or_default()
    }

    fn name(&self, number: usize) -> &'a str {
        self.at(number, |piece| &piece.name)
    }

    fn whole(&self, number: usize) -> &'a str {
        self.at(number, |piece| &piece.whole)
    }
}

impl Comparable {
    fn texts<'a>(&'a self, section: &'a Section) -> Texts<'a> {
        Texts { text: &self.text, pieces: &section.pieces }
    }

    /// As a tree, with these routes and groups only.
    pub(super) fn only(&self, routes: &[usize], groups: &[usize]) -> Value {
        let join = |section, kept: &[usize]| {
            let texts = self.texts(section);
            kept.iter().map(|number| texts.whole(*number)).collect::<Vec<_>>().join(",")
        };
        let part = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        let (all_routes, all_groups) = (&self.routes.whole, &self.upstreams.whole);
        let text = [
            part(0..all_routes.start),
            &join(&self.routes, routes),
            part(all_routes.end..all_groups.start),
            &join(&self.upstreams, groups),
            part(all_groups.end..self.text.len()),
        ];
        super::tree(&text.concat())
    }
}

/// The numbers of the routes that may differ, of the old and of the new one.
pub(super) fn differing_routes(old: &Comparable, new: &Comparable) -> (Vec<usize>, Vec<usize>) {
    let (old, new) = (old.texts(&old.routes), new.texts(&new.routes));
    let shorter = old.len().min(new.len());
    let same = |a: usize, b: usize| old.whole(a) == new.whole(b);
    let ahead = (0..shorter).take_while(|at| same(*at, *at)).count();
    let behind = (1..=shorter - ahead).take_while(|back| same(old.len() - back, new.len() - back)).count();
    let mut kept: (Vec<usize>, Vec<usize>) =
        ((ahead..old.len() - behind).collect(), (ahead..new.len() - behind).collect());
    // where every place has the route of the same name, none has moved
    if old.len() == new.len() && kept.0.iter().all(|at| old.name(*at) == new.name(*at)) {
        kept.0.retain(|at| !same(*at, *at));
        kept.1.clone_from(&kept.0);
    }
    // which of several of one name is which depends on all of them
    let names: AHashSet<&str> =
        kept.0.iter().map(|at| old.name(*at)).chain(kept.1.iter().map(|at| new.name(*at))).collect();
    let alone = |texts: &Texts<'_>, kept: &[usize]| {
        let all = (0..texts.len()).filter(|at| names.contains(texts.name(*at))).count();
        all == kept.len()
    };
    if alone(&old, &kept.0) && alone(&new, &kept.1) {
        return kept;
    }
    ((0..old.len()).collect(), (0..new.len()).collect())
}

/// The numbers of the groups that differ, of the old and of the new one.
pub(super) fn differing_groups(old: &Comparable, new: &Comparable) -> (Vec<usize>, Vec<usize>) {
    let (old, new) = (old.texts(&old.upstreams), new.texts(&new.upstreams));
    let differ = |these: &Texts<'_>, those: &Texts<'_>| {
        let known = by_name(those);
        let same = |number: &usize| {
            known.get(these.name(*number)).is_some_and(|other| those.whole(*other) == these.whole(*number))
        };
        (0..these.len()).filter(|number| !same(number)).collect()
    };
    (differ(&old, &new), differ(&new, &old))
}

fn by_name<'a>(texts: &Texts<'a>) -> AHashMap<&'a str, usize> {
    (0..texts.len()).map(|number| (texts.name(number), number)).collect()
}
