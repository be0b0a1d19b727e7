//! The lines of the map, from top to bottom: listeners, routes, upstreams, and the servers of each with what is wrong with them.

use super::answers::{Listener, Overview, Route, Server, Upstream, Why};
use super::counts::Of;
use super::looks::Looks;
use super::model::{Chosen, Model};
use super::words;
use ratatui::text::{Line, Span};

/// A line.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// What follows, and whether it has numbers.
    Title(&'static str, bool),
    Listener(&'a Listener),
    Route(&'a Route),
    /// So many routes are not shown.
    More(usize),
    Upstream(&'a Upstream),
    Server(&'a Upstream, &'a Server),
    Why(&'a Upstream, &'a Why),
}

/// All of them.
pub fn rows(overview: &Overview) -> Vec<Row<'_>> {
    let mut rows = vec![Row::Title("LISTENERS", false)];
    rows.extend(overview.listeners.iter().map(Row::Listener));
    rows.push(Row::Title("ROUTES", true));
    rows.extend(overview.routes.iter().map(Row::Route));
    match overview.routes_total.saturating_sub(overview.routes.len()) {
        0 => {}
        more => rows.push(Row::More(more)),
    }
    rows.push(Row::Title("UPSTREAMS", true));
    for upstream in &overview.upstreams {
        rows.push(Row::Upstream(upstream));
        for server in &upstream.servers {
            rows.push(Row::Server(upstream, server));
            rows.extend(server.why.iter().map(|why| Row::Why(upstream, why)));
        }
    }
    rows
}

impl Row<'_> {
    /// What is chosen when it is this.
    pub fn choice(self) -> Option<Chosen> {
        match self {
            Row::Route(route) => Some(Chosen::Route(route.name.clone())),
            Row::Upstream(upstream) => Some(Chosen::Upstream(upstream.name.clone())),
            Row::Server(upstream, server) => {
                Some(Chosen::Server(upstream.name.clone(), server.address.clone()))
            }
            Row::Title(..) | Row::Listener(_) | Row::More(_) | Row::Why(..) => None,
        }
    }

    /// Whose numbers are beside it.
    pub fn of(self) -> Option<Of> {
        self.choice().map(|choice| choice.of())
    }

    /// Whether it has to do with what is chosen.
    pub fn matters(self, model: &Model) -> bool {
        match self {
            Row::Title(..) | Row::Listener(_) | Row::More(_) => true,
            Row::Route(route) => model.touches_route(route),
            Row::Upstream(upstream) | Row::Server(upstream, _) | Row::Why(upstream, _) => {
                model.touches_upstream(upstream)
            }
        }
    }

    /// What it says, but for the numbers.
    pub fn line(self, looks: Looks) -> Line<'static> {
        match self {
            Row::Title(title, _) => Line::styled(format!(" {title}"), looks.quiet()),
            Row::Listener(listener) => of_listener(listener, looks),
            Row::Route(route) => of_route(route, looks),
            Row::More(more) => Line::styled(format!("   and {more} more"), looks.quiet()),
            Row::Upstream(upstream) => of_upstream(upstream, looks),
            Row::Server(_, server) => of_server(server, looks),
            Row::Why(_, why) => Line::styled(format!("       {}", reason(why)), looks.state(&why.state)),
        }
    }
}

fn of_listener(listener: &Listener, looks: Looks) -> Line<'static> {
    let mut words: Vec<String> = listener.protocols.clone();
    words.extend(listener.tls.then(|| "TLS".to_owned()));
    if !listener.passes_to.is_empty() {
        words.push(format!("→ {}", listener.passes_to.join(", ")));
    }
    Line::from(vec![
        Span::styled(format!("   {:<14} ", listener.name), looks.strong()),
        Span::styled(
            format!("{}  {}   {} open", listener.address, words.join(" "), listener.open),
            looks.plain(),
        ),
    ])
}

fn of_route(route: &Route, looks: Looks) -> Line<'static> {
    let mut words = vec![route.hosts.join(", "), route.path.clone()];
    words.extend(route.conditions.clone());
    words.retain(|word| !word.is_empty());
    let to = if route.upstreams.is_empty() { route.action.clone() } else { route.upstreams.join(", ") };
    Line::from(vec![
        Span::styled(format!("   {:<14} ", route.name), looks.strong()),
        Span::styled(format!("{} ", words.join(" ")), looks.quiet()),
        Span::styled(format!("→ {to}"), looks.plain()),
    ])
}

fn of_upstream(upstream: &Upstream, looks: Looks) -> Line<'static> {
    let all = upstream.servers.len();
    let standing = match upstream.usable {
        0 => looks.bad(),
        usable if usable < all => looks.warn(),
        _ => looks.good(),
    };
    let waiting = upstream.queued.filter(|queued| *queued > 0);
    let waiting = waiting.map_or_else(String::new, |queued| format!(", {queued} waiting"));
    let panic = if upstream.panics { "  panic: health is ignored" } else { "" };
    let rest = format!("  {} in flight{waiting}  {}", upstream.in_flight, upstream.balance);
    Line::from(vec![
        Span::styled(format!("   {:<14} ", upstream.name), looks.strong()),
        Span::styled(format!("{} of {all} usable", upstream.usable), standing),
        Span::styled(panic, looks.bad()),
        Span::styled(rest, looks.quiet()),
    ])
}

fn of_server(server: &Server, looks: Looks) -> Line<'static> {
    let weight = if server.weight == 1 { String::new() } else { format!("×{}  ", server.weight) };
    let backup = if server.priority == 0 { String::new() } else { format!("backup {}  ", server.priority) };
    Line::from(vec![
        Span::styled(format!("     {:<21} ", server.address), looks.plain()),
        Span::styled(format!("{:<12}", words::state(&server.state)), looks.state(&server.state)),
        Span::styled(format!("{weight}{backup}{} in flight", server.in_flight), looks.quiet()),
    ])
}

/// Why a server is what it is.
pub fn reason(why: &Why) -> String {
    let left = why.left_ms.map_or_else(String::new, |left| format!(", {} s left", left.div_ceil(1000)));
    let since = why.since.as_ref().map_or_else(String::new, |at| format!(", since {}", words::clock(at)));
    format!("{}: {}{since}{left}", words::state(&why.state), why.reason)
}
