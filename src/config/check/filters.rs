//! Checks of filter chains: each filter is decoded and built by the catalogue, `use:` is resolved.

use super::Checker;
use crate::config::decode::{Raw, decode_raw};
use crate::config::report::{Code, suggest};
use crate::filter::FilterPlan;

impl<'a> Checker<'a> {
    /// Decodes the chains under `filters:`. A chain may use others, but not itself.
    pub(super) fn named_chains(&mut self) {
        let file = self.file;
        for (name, _) in file.filters.iter() {
            let mut stack = Vec::new();
            self.named(&name.value, &mut stack);
        }
    }

    /// The chain of this name, decoded once. `None` when it does not exist or is in a cycle.
    fn named(&mut self, name: &str, stack: &mut Vec<&'a str>) -> Option<Vec<FilterPlan>> {
        if let Some(done) = self.chains.get(name) {
            return Some(done.clone());
        }
        let file = self.file;
        let (key, list) = file.filters.iter().find(|(key, _)| key.value == name)?;
        if stack.contains(&key.value.as_str()) {
            let message = format!("filter chain \"{name}\" uses itself: {} -> {name}", stack.join(" -> "));
            self.report.error(Code::FilterCycle, key.span, message).help("break the circle");
            return Some(Vec::new());
        }
        stack.push(&key.value);
        let chain = self.list(list, &format!("filter chain \"{name}\""), stack);
        stack.pop();
        self.chains.insert(&key.value, chain.clone());
        Some(chain)
    }

    /// The filters of a listener or route.
    pub(super) fn chain(&mut self, list: &'a [Raw], whose: &str) -> Vec<FilterPlan> {
        self.list(list, whose, &mut Vec::new())
    }

    fn list(&mut self, list: &'a [Raw], whose: &str, stack: &mut Vec<&'a str>) -> Vec<FilterPlan> {
        list.iter().flat_map(|raw| self.one(raw, whose, stack)).collect()
    }

    fn one(&mut self, raw: &Raw, whose: &str, stack: &mut Vec<&'a str>) -> Vec<FilterPlan> {
        let Some((key, key_span, settings)) = raw.as_single_key_map() else {
            self.report
                .error(
                    Code::FilterShape,
                    raw.span(),
                    format!("a filter of {whose} is not one key with its settings"),
                )
                .help("write each filter as its own list item: `- headers: { ... }` or `- use: NAME`");
            return Vec::new();
        };
        if key == "use" {
            return self.used(&settings, whose, stack);
        }
        match self.catalogue.get(key) {
            Some(entry) => entry.decode(self.document, &settings, self.report).into_iter().collect(),
            None => {
                let keys: Vec<_> = self.catalogue.keys().chain(["use"]).collect();
                let near = suggest(key, keys.iter().copied());
                let hint = near.map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
                self.report
                    .error(
                        Code::UnknownFilter,
                        key_span,
                        format!("{whose} uses unknown filter \"{key}\"{hint}"),
                    )
                    .help(format!("filters are {}", keys.join(", ")));
                Vec::new()
            }
        }
    }

    fn used(&mut self, settings: &Raw, whose: &str, stack: &mut Vec<&'a str>) -> Vec<FilterPlan> {
        let Some(name) = decode_raw::<String>(self.document, settings, self.report) else {
            return Vec::new();
        };
        if let Some(chain) = self.named(&name, stack) {
            let file = self.file;
            self.used_chains.extend(file.filters.names().find(|n| *n == name));
            return chain;
        }
        let file = self.file;
        self.unknown_name(
            settings.span(),
            format!("{whose} uses unknown filter chain"),
            &name,
            file.filters.names().collect::<Vec<_>>().into_iter(),
        );
        Vec::new()
    }
}
