//! What `top` knows and what keys do to it. Pure: looks and keys come in, wishes go out, and `draw` shows it.

use super::answers::{Failure, Overview, Route, Server, Upstream};
use super::counts::{Counts, Numbers, Of};
use super::look::{Look, Wish};
use super::words;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;

/// Failures that are kept.
const FAILURES: usize = 200;

/// How far a page goes.
const PAGE: isize = 10;

/// What there is on the map, by name: a look that brings others leaves it chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    Route(String),
    Upstream(String),
    Server(String, String),
}

impl Chosen {
    pub fn of(&self) -> Of {
        match self.clone() {
            Chosen::Route(name) => Of::Route(name),
            Chosen::Upstream(name) => Of::Upstream(name),
            Chosen::Server(upstream, address) => Of::Server(upstream, address),
        }
    }

    fn upstream(&self) -> Option<&str> {
        match self {
            Chosen::Route(_) => None,
            Chosen::Upstream(name) | Chosen::Server(name, _) => Some(name),
        }
    }
}

/// What is on the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    /// Listeners, routes, upstreams and servers, and the last failures.
    #[default]
    Map,
    /// The server that is chosen.
    Server,
    Failures,
    /// The reload that was refused last.
    Refused,
}

/// What a key leads to beyond the screen.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
    Leave,
    Wish(Wish),
}

#[derive(Debug, Default)]
pub struct Model {
    /// Where the process is asked.
    pub place: String,
    pub overview: Overview,
    counts: Counts,
    /// The newest first.
    pub failures: VecDeque<Failure>,
    /// Why the last look was in vain.
    pub trouble: Option<String>,
    pub chosen: Option<Chosen>,
    pub view: View,
    /// The weight that is being typed.
    pub weight: Option<String>,
    /// What became of a wish.
    pub said: Option<Result<String, String>>,
    /// Lines that are above what is shown of a text.
    pub above: usize,
}

impl Model {
    pub fn new(place: String) -> Model {
        Model { place, ..Model::default() }
    }

    /// Takes in what the process has told, or why it has not.
    pub fn look(&mut self, look: Result<Look, String>) {
        match look {
            Err(why) => self.trouble = Some(why),
            Ok(look) => {
                self.trouble = None;
                self.overview = look.overview;
                self.counts.take(&look.page, look.at);
                for failure in look.failures {
                    self.failures.push_front(failure);
                }
                self.failures.truncate(FAILURES);
            }
        }
    }

    /// Takes in what became of a wish: the server as it is now, with its group.
    pub fn done(&mut self, done: Result<(String, Server), String>) {
        self.said = Some(done.map(|(name, server)| {
            let said = format!("done: {}, weight {}", words::state(&server.state), server.weight);
            let groups = self.overview.upstreams.iter_mut().filter(|upstream| upstream.name == name);
            let mut known = groups.flat_map(|upstream| &mut upstream.servers);
            // the next key is about what it is from now on, and the next look may be a second away
            if let Some(known) = known.find(|known| known.address == server.address) {
                *known = server;
            }
            said
        }));
    }

    pub fn numbers(&self, of: &Of) -> Option<&Numbers> {
        self.counts.of(of)
    }

    /// The server that is chosen, if it is there still.
    pub fn server(&self) -> Option<(&Upstream, &Server)> {
        let Some(Chosen::Server(name, address)) = &self.chosen else { return None };
        let upstream = self.overview.upstreams.iter().find(|upstream| upstream.name == *name)?;
        Some((upstream, upstream.servers.iter().find(|server| server.address == *address)?))
    }

    /// The reload that was refused, as long as none was done since.
    pub fn refused(&self) -> Option<&super::answers::Refused> {
        let status = &self.overview.status;
        status.last_refused.as_ref().filter(|refused| refused.at > status.config.since)
    }

    /// Whether requests on this route get to what is chosen.
    pub fn touches_route(&self, route: &Route) -> bool {
        match &self.chosen {
            None => true,
            Some(Chosen::Route(name)) => route.name == *name,
            Some(other) => other.upstream().is_some_and(|name| route.upstreams.iter().any(|to| to == name)),
        }
    }

    /// Whether what is chosen leads to this upstream, or is in it.
    pub fn touches_upstream(&self, upstream: &Upstream) -> bool {
        match &self.chosen {
            None => true,
            Some(Chosen::Route(name)) => {
                let mut chosen = self.overview.routes.iter().filter(|route| route.name == *name);
                chosen.any(|route| route.upstreams.contains(&upstream.name))
            }
            Some(other) => other.upstream() == Some(upstream.name.as_str()),
        }
    }

    /// All that can be chosen, from top to bottom.
    fn choices(&self) -> Vec<Chosen> {
        let routes = self.overview.routes.iter().map(|route| Chosen::Route(route.name.clone()));
        let upstreams = self.overview.upstreams.iter().flat_map(|upstream| {
            let servers = upstream.servers.iter();
            let server = |server: &Server| Chosen::Server(upstream.name.clone(), server.address.clone());
            std::iter::once(Chosen::Upstream(upstream.name.clone())).chain(servers.map(server))
        });
        routes.chain(upstreams).collect()
    }

    fn choose(&mut self, step: isize) {
        let choices = self.choices();
        let last = choices.len().saturating_sub(1);
        let now = self.chosen.as_ref().and_then(|chosen| choices.iter().position(|one| one == chosen));
        let next = match now {
            Some(now) => now.saturating_add_signed(step).min(last),
            None if step == isize::MAX => last,
            None if step == isize::MIN || step > 0 => 0,
            None => last,
        };
        self.chosen = choices.into_iter().nth(next);
    }

    /// What this key does.
    pub fn key(&mut self, key: KeyEvent) -> Option<Deed> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Deed::Leave);
        }
        if self.weight.is_some() {
            return self.typed(key.code);
        }
        match (self.view, key.code) {
            (_, KeyCode::Char('q')) => return Some(Deed::Leave),
            (View::Map, code) => self.on_map(code),
            (View::Server, code) => return self.on_server(code),
            (View::Failures | View::Refused, KeyCode::Esc | KeyCode::Enter) => self.show(View::Map),
            (View::Failures | View::Refused, code) => {
                let last = self.lines().saturating_sub(1);
                self.above = self.above.saturating_add_signed(step(code).unwrap_or(0)).min(last);
            }
        }
        None
    }

    /// Of the text that is scrolled.
    fn lines(&self) -> usize {
        match (self.view, &self.overview.status.last_refused) {
            (View::Failures, _) => self.failures.len(),
            (View::Refused, Some(refused)) => refused.why.lines().count(),
            (View::Map | View::Server | View::Refused, _) => 0,
        }
    }

    fn show(&mut self, view: View) {
        (self.view, self.above, self.said) = (view, 0, None);
    }

    fn on_map(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter if self.server().is_some() => self.show(View::Server),
            KeyCode::Char('f') => self.show(View::Failures),
            KeyCode::Char('r') if self.overview.status.last_refused.is_some() => self.show(View::Refused),
            KeyCode::Esc => self.chosen = None,
            code => {
                if let Some(step) = step(code) {
                    self.choose(step);
                }
            }
        }
    }

    fn on_server(&mut self, code: KeyCode) -> Option<Deed> {
        if code == KeyCode::Esc {
            self.show(View::Map);
            return None;
        }
        let (_, server) = self.server()?;
        let call = match code {
            KeyCode::Char('d') if server.is("draining") => ("undrain", "{}".to_owned()),
            KeyCode::Char('d') => ("drain", "{}".to_owned()),
            KeyCode::Char('e') if server.is("ejected") => ("restore", "{}".to_owned()),
            KeyCode::Char('e') => ("eject", "{}".to_owned()),
            KeyCode::Char('+') => ("weight", weight(server.weight.saturating_add(1))),
            KeyCode::Char('-') => ("weight", weight(server.weight.saturating_sub(1).max(1))),
            KeyCode::Char('w') => {
                self.weight = Some(String::new());
                return None;
            }
            _ => return None,
        };
        self.wish(call.0, call.1)
    }

    /// A key while a weight is typed.
    fn typed(&mut self, code: KeyCode) -> Option<Deed> {
        let text = self.weight.as_mut()?;
        match code {
            KeyCode::Char(digit) if digit.is_ascii_digit() && text.len() < 5 => text.push(digit),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Esc => self.weight = None,
            KeyCode::Enter => {
                let text = self.weight.take().unwrap_or_default();
                match text.parse::<u16>() {
                    Ok(number) if number > 0 => return self.wish("weight", weight(number)),
                    _ => self.said = Some(Err("a weight is a number from 1 to 65535".to_owned())),
                }
            }
            _ => {}
        }
        None
    }

    fn wish(&mut self, call: &str, body: String) -> Option<Deed> {
        let Some(Chosen::Server(upstream, address)) = &self.chosen else { return None };
        let path =
            format!("/v1/upstreams/{}/servers/{}/{call}", super::encoded(upstream), super::encoded(address));
        self.said = Some(Ok(format!("{call} …")));
        Some(Deed::Wish(Wish { upstream: upstream.clone(), path, body }))
    }
}

fn weight(number: u16) -> String {
    format!("{{\"weight\":{number}}}")
}

/// How far a key goes.
fn step(code: KeyCode) -> Option<isize> {
    match code {
        KeyCode::Down | KeyCode::Char('j') => Some(1),
        KeyCode::Up | KeyCode::Char('k') => Some(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(PAGE),
        KeyCode::PageUp => Some(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Some(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => Some(isize::MAX),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
