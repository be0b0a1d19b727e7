//! What a plan keeps of the one it takes the place of: the ids of listeners, by which connections that were
//! accepted before are known, and the filters that are as they were, with what they have counted. Called by
//! `run::reload`.

use super::{Listener, ListenerId, Plan, Route};
use crate::filter::FilterPlan;
use std::collections::HashMap;
use std::sync::Arc;

/// The id of every listener name that there ever was: one that was removed and returns is the same.
#[derive(Debug, Clone, Default)]
pub struct ListenerIds(HashMap<String, ListenerId>);

impl ListenerIds {
    /// Those of the first plan.
    pub fn of(plan: &Plan) -> ListenerIds {
        ListenerIds(plan.listeners.iter().map(|listener| (listener.name.clone(), listener.id)).collect())
    }

    fn get(&mut self, name: &str) -> ListenerId {
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let id = ListenerId(self.0.len());
        self.0.insert(name.to_owned(), id);
        id
    }
}

impl Plan {
    /// Makes this plan the successor of `before`. A plan that says the same is equal to it from then on.
    pub fn succeed(&mut self, before: &Plan, ids: &mut ListenerIds) {
        self.identify(ids);
        self.keep_filters(before);
        self.keep_routes(before);
    }

    /// A route that is like the one at its place is that one, counted from the top or from the bottom: a reload that
    /// changes little allocates little.
    fn keep_routes(&mut self, before: &Plan) {
        let count = self.routes.len();
        for (place, route) in self.routes.iter_mut().enumerate() {
            if let Some(same) = like(&before.routes, (place, count), route)
                && !Arc::ptr_eq(same, route)
            {
                *route = same.clone();
            }
        }
    }

    fn identify(&mut self, ids: &mut ListenerIds) {
        let known: Vec<ListenerId> = self.listeners.iter().map(|listener| ids.get(&listener.name)).collect();
        if known.iter().enumerate().all(|(place, id)| id.0 == place) {
            return;
        }
        for (listener, id) in self.listeners.iter_mut().zip(&known) {
            Arc::make_mut(listener).id = *id;
        }
        for route in self.routes.iter_mut().filter(|route| !route.matcher.listeners.is_empty()) {
            for id in &mut Arc::make_mut(route).matcher.listeners {
                *id = known.get(id.0).copied().unwrap_or(*id);
            }
        }
    }

    fn keep_filters(&mut self, before: &Plan) {
        let by_name: HashMap<&str, &Arc<Listener>> =
            before.listeners.iter().map(|listener| (listener.name.as_str(), listener)).collect();
        for listener in self.listeners.iter_mut().filter(|listener| !listener.filters.is_empty()) {
            if let Some(before) = by_name.get(listener.name.as_str()) {
                keep(&mut Arc::make_mut(listener).filters, &before.filters);
            }
        }
        let by_name: HashMap<&str, &Arc<Route>> =
            with_filters(&before.routes).map(|route| (route.name.as_str(), route)).collect();
        for route in self.routes.iter_mut().filter(|route| !route.filters.is_empty()) {
            if let Some(before) = by_name.get(route.name.as_str()) {
                keep(&mut Arc::make_mut(route).filters, &before.filters);
            }
        }
    }
}

/// The one of these that is like the route at this place of so many, counted from the top or from the bottom.
pub fn like<'a>(
    before: &'a [Arc<Route>],
    (place, count): (usize, usize),
    route: &Route,
) -> Option<&'a Arc<Route>> {
    let from_below = (place + before.len()).checked_sub(count);
    let candidates = [Some(place), from_below].into_iter().flatten();
    let is_like = |other: &&Arc<Route>| std::ptr::eq(Arc::as_ptr(other), route) || other.as_ref() == route;
    candidates.filter_map(|at| before.get(at)).find(is_like)
}

fn with_filters(routes: &[Arc<Route>]) -> impl Iterator<Item = &Arc<Route>> {
    routes.iter().filter(|route| !route.filters.is_empty())
}

/// A filter with the settings of one before it is that one; of several with the same, each is another.
fn keep(filters: &mut [FilterPlan], before: &[FilterPlan]) {
    let mut left: Vec<&FilterPlan> = before.iter().collect();
    for filter in filters {
        if let Some(place) = left.iter().position(|known| *known == filter) {
            filter.filter = left.remove(place).filter.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::{check_document, check_file_after};
    use crate::config::load::load_str;
    use crate::config::report::Report;
    use crate::filter::Catalogue;

    fn plan(text: &str) -> Plan {
        let mut report = Report::new();
        let document = load_str("test.yaml", text, &|_| None, &mut report);
        let checked = check_document(document, &Catalogue::standard(), report);
        checked.plan.unwrap_or_else(|| panic!("{}", checked.report.render_text(&checked.sources)))
    }

    const BEFORE: &str = "
listeners:
  - { name: web, address: 127.0.0.1:8080, filters: [{ ip: { deny: [10.0.0.0/8] } }] }
  - { name: admin, address: 127.0.0.1:8081 }
routes:
  - { name: a, path: /a, listeners: [admin], upstream: api, filters: [{ ip: { allow: [10.0.0.0/8] } }, { ip: { deny: [10.1.0.0/16] } }] }
  - { name: b, path: /b, listeners: [web], upstream: api }
upstreams: { api: { servers: [127.0.0.1:3001] } }
";

    fn is_same(one: &FilterPlan, other: &FilterPlan) -> bool {
        Arc::ptr_eq(&one.filter, &other.filter)
    }

    #[test]
    fn a_plan_that_says_the_same_is_equal() {
        let before = plan(BEFORE);
        let mut ids = ListenerIds::of(&before);
        let mut after = plan(BEFORE);
        after.succeed(&before, &mut ids);
        assert!(after == before);
        assert!(is_same(&after.routes[0].filters[1], &before.routes[0].filters[1]));
        assert!(is_same(&after.listeners[0].filters[0], &before.listeners[0].filters[0]));
    }

    #[test]
    fn routes_that_are_the_same_are_taken_while_they_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("test.yaml");
        let check = |text: &str, before: &[Arc<Route>]| {
            std::fs::write(&file, text).unwrap();
            check_file_after(&file, &Catalogue::standard(), before).plan.unwrap()
        };
        let more = "routes:
  - { name: c, path: /c, upstream: api, timeouts: { response: 3s } }
  - { name: d, path: /d, upstream: api, retry: { attempts: 4 } }";
        let text = BEFORE.replace("routes:", more);
        let before = plan(&text);
        let (c, d) = (more.lines().nth(1).unwrap(), more.lines().nth(2).unwrap());
        for (text, same) in [
            (text.clone(), [true, true]),
            (text.replace("/c, upstream", "/e, upstream"), [false, true]),
            (text.replace("attempts: 4", "attempts: 5"), [true, false]),
            // by their places from the top, and from the bottom
            (text.replace(d, &format!("{d}\n  - {{ path: /x, upstream: api }}")), [true, true]),
            (text.replace(c, &format!("  - {{ path: /x, upstream: api }}\n{c}")), [true, true]),
        ] {
            let mut after = check(&text, &before.routes);
            assert!(after == plan(&text), "the same as without those before: {text}");
            let is_taken = |name| {
                let [old, new] =
                    [&before, &after].map(|plan| plan.routes.iter().find(|route| route.name == name));
                old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new))
            };
            assert_eq!(["c", "d"].map(is_taken), same, "{text}");
            // their filters and listeners are not known yet
            assert_eq!(["a", "b"].map(is_taken), [false, false], "{text}");
            after.succeed(&before, &mut ListenerIds::of(&before));
            let kept =
                after.routes.iter().filter(|route| before.routes.iter().any(|old| Arc::ptr_eq(old, route)));
            assert_eq!(kept.count(), 2 + same.iter().filter(|same| **same).count(), "{text}");
        }
    }

    #[test]
    fn listeners_keep_their_ids_and_routes_mean_the_same_ones() {
        let before = plan(BEFORE);
        let mut ids = ListenerIds::of(&before);
        let swapped = "
listeners:
  - { name: new, address: 127.0.0.1:8082 }
  - { name: admin, address: 127.0.0.1:8081 }
routes:
  - { name: a, path: /a, listeners: [admin, new], upstream: api, filters: [{ ip: { deny: [10.1.0.0/16] } }] }
upstreams: { api: { servers: [127.0.0.1:3001] } }
";
        let mut middle = plan(swapped);
        middle.succeed(&before, &mut ids);
        let of = |plan: &Plan| plan.listeners.iter().map(|listener| listener.id.0).collect::<Vec<_>>();
        assert_eq!(of(&middle), [2, 1]);
        assert_eq!(middle.routes[0].matcher.listeners, [ListenerId(1), ListenerId(2)]);
        assert!(is_same(&middle.routes[0].filters[0], &before.routes[0].filters[1]));
        // and back: the one that returns is known
        let mut after = plan(BEFORE);
        after.succeed(&middle, &mut ids);
        assert!(after == before);
    }
}
