//! What is counted of one thing, found again by its name: for as long as anybody uses it, by the configurations that
//! follow each other; and by a process that takes the place of this one, which is told the counts by their names.

use super::cells::Cells;
use super::histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Some of the numbers of a set.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    pub first: usize,
    pub places: Places,
}

#[derive(Debug, Clone, Copy)]
pub enum Places {
    One,
    /// One for each value of a label.
    Each(&'static [&'static str]),
    /// One for each pair of values, the second running faster.
    Pairs(&'static [&'static str], &'static [&'static str]),
    Histogram,
}

impl Part {
    pub const fn one(name: &'static str, first: usize) -> Part {
        Part { name, first, places: Places::One }
    }

    pub const fn each(name: &'static str, first: usize, words: &'static [&'static str]) -> Part {
        Part { name, first, places: Places::Each(words) }
    }

    pub const fn histogram(name: &'static str, first: usize) -> Part {
        Part { name, first, places: Places::Histogram }
    }

    pub const fn pairs(
        name: &'static str,
        first: usize,
        words: &'static [&'static str],
        more: &'static [&'static str],
    ) -> Part {
        Part { name, first, places: Places::Pairs(words, more) }
    }

    /// Each place with what it is called.
    fn named(&self) -> Vec<(usize, String)> {
        let names: Vec<String> = match self.places {
            Places::One => vec![String::new()],
            Places::Each(words) => words.iter().map(|word| format!(".{word}")).collect(),
            Places::Pairs(words, more) => words
                .iter()
                .flat_map(|word| more.iter().map(move |second| format!(".{word}.{second}")))
                .collect(),
            Places::Histogram => {
                (0..histogram::PLACES).map(|place| format!(".{}", histogram::place_name(place))).collect()
            }
        };
        let named = |(place, name)| (self.first + place, format!("{}{name}", self.name));
        names.into_iter().enumerate().map(named).collect()
    }
}

/// A thing that is counted.
pub trait Kept {
    /// What such things are called where counts are handed over.
    const KIND: &'static str;
    /// All numbers that go on in another process.
    fn parts() -> Vec<Part>;
    fn cells(&self) -> &Cells;
}

/// What has been counted of one thing, as another process is told. What a version does not know it leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    kind: String,
    of: Vec<String>,
    counts: Vec<(String, u64)>,
}

impl Counts {
    pub(super) fn of<T: Kept>(names: &[&str], kept: &T) -> Counts {
        let named = T::parts().into_iter().flat_map(|part| part.named());
        let counts =
            named.map(|(place, name)| (name, kept.cells().sum(place))).filter(|(_, count)| *count > 0);
        Counts {
            kind: T::KIND.to_owned(),
            of: names.iter().map(ToString::to_string).collect(),
            counts: counts.collect(),
        }
    }

    fn are_of<T: Kept>(&self, names: &[&str]) -> bool {
        self.kind == T::KIND && self.of == names
    }

    fn add_to<T: Kept>(&self, kept: &T) {
        let named: BTreeMap<String, usize> =
            T::parts().into_iter().flat_map(|part| part.named()).map(|(place, name)| (name, place)).collect();
        for (name, count) in &self.counts {
            if let Some(place) = named.get(name) {
                kept.cells().add(*place, *count);
            }
        }
    }
}

/// What another process has counted of things that have not come here yet.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<BTreeMap<(String, Vec<String>), Counts>>);

impl Inherited {
    pub fn add(&self, all: Vec<Counts>) {
        self.0
            .lock()
            .extend(all.into_iter().map(|counts| ((counts.kind.clone(), counts.of.clone()), counts)));
    }

    pub fn forget(&self) {
        self.0.lock().clear();
    }

    /// Goes on from what the other process has counted, once.
    pub fn give<T: Kept>(&self, names: &[&str], kept: &T) {
        let mut all = self.0.lock();
        if all.is_empty() {
            return;
        }
        let key = (T::KIND.to_owned(), names.iter().map(ToString::to_string).collect());
        if let Some(counts) = all.remove(&key) {
            debug_assert!(counts.are_of::<T>(names));
            counts.add_to(kept);
        }
    }
}

/// All things of a kind, by their names: a route has one, a server that of its upstream and its own.
#[derive(Debug)]
pub struct Named<const N: usize, T>(Mutex<BTreeMap<[String; N], Arc<T>>>);

impl<const N: usize, T> Default for Named<N, T> {
    fn default() -> Self {
        Named(Mutex::default())
    }
}

impl<const N: usize, T: Kept + Default> Named<N, T> {
    /// The one there is, or another.
    pub fn get(&self, names: [&str; N], inherited: &Inherited) -> Arc<T> {
        let mut all = self.0.lock();
        let build = || {
            let kept = T::default();
            inherited.give(&names, &kept);
            Arc::new(kept)
        };
        all.entry(names.map(str::to_owned)).or_insert_with(build).clone()
    }

    /// Forgets those that nobody uses any more.
    pub fn prune(&self) {
        self.0.lock().retain(|_, kept| Arc::strong_count(kept) > 1);
    }

    pub fn counts(&self) -> Vec<Counts> {
        let all = self.0.lock();
        all.iter().map(|(names, kept)| Counts::of(&names.each_ref().map(String::as_str), &**kept)).collect()
    }
}
