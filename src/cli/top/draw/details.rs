//! What is shown over the map or in its place: a server with its facts, and the report of a reload that was refused.

use crate::cli::top::answers::{Server, Upstream};
use crate::cli::top::counts::Of;
use crate::cli::top::looks::Looks;
use crate::cli::top::model::Model;
use crate::cli::top::rows::reason;
use crate::cli::top::words;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Widget, Wrap};

/// The server that is chosen.
pub(super) fn server(buffer: &mut Buffer, area: Rect, model: &Model, looks: Looks) {
    let (title, lines) = match model.server() {
        Some((upstream, server)) => {
            (format!(" {}  {} ", upstream.name, server.address), lines(model, (upstream, server), looks))
        }
        None => (String::from(" server "), vec![Line::styled("it is no longer there", looks.warn())]),
    };
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let width = area.width.min(76);
    let (left, top) = ((area.width - width) / 2, (area.height - height) / 2);
    let inside = Rect { x: area.x + left, y: area.y + top, width, height };
    Clear.render(inside, buffer);
    let frame = Block::bordered().title(title).title_style(looks.strong()).padding(Padding::horizontal(1));
    Paragraph::new(lines).block(frame).render(inside, buffer);
}

fn lines(model: &Model, (upstream, server): (&Upstream, &Server), looks: Looks) -> Vec<Line<'static>> {
    let state = words::state(&server.state);
    let mut lines = match server.why.as_slice() {
        [] => vec![Line::styled(state, looks.state(&server.state))],
        whys => whys.iter().map(|why| Line::styled(reason(why), looks.state(&why.state))).collect(),
    };
    let numbers = model.numbers(&Of::Server(upstream.name.clone(), server.address.clone()));
    let numbers = numbers.cloned().unwrap_or_default();
    let warmth = (server.warmth < 100).then(|| format!("{}%", server.warmth));
    let facts = [
        ("since", Some(words::clock(&server.since).to_owned())),
        ("in flight", Some(server.in_flight.to_string())),
        ("rate", Some(words::rate(numbers.rate))),
        ("errors", Some(words::share(numbers.share))),
        ("p50", Some(words::time(numbers.p50))),
        ("p99", Some(words::time(numbers.p99))),
        ("weight", Some(server.weight.to_string())),
        ("tier", (server.priority > 0).then(|| server.priority.to_string())),
        ("zone", server.zone.clone()),
        ("host", server.host.clone()),
        ("warm", warmth),
        ("last failed check", server.last_check_failure.clone()),
    ];
    for (name, value) in facts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        lines.push(Line::from(vec![
            Span::styled(format!("{name:<18}"), looks.quiet()),
            Span::styled(value, looks.plain()),
        ]));
    }
    lines.push(Line::styled(words::sparkline(numbers.rates.iter(), 60), looks.line()));
    match &model.said {
        None => {}
        Some(Ok(said)) => lines.push(Line::styled(said.clone(), looks.good())),
        Some(Err(why)) => lines.push(Line::styled(why.clone(), looks.bad())),
    }
    lines
}

/// The report of the reload that was refused last, as `check` prints it.
pub(super) fn refused(buffer: &mut Buffer, area: Rect, model: &Model, looks: Looks) {
    let Some(refused) = &model.overview.status.last_refused else { return };
    let title = format!(" reload refused at {} by {} ", words::clock(&refused.at), refused.by);
    let above = model.above.min(refused.why.lines().count().saturating_sub(1));
    let frame = Block::bordered().title(title).title_style(looks.bad()).padding(Padding::horizontal(1));
    Paragraph::new(refused.why.clone())
        .wrap(Wrap { trim: false })
        .scroll((u16::try_from(above).unwrap_or(u16::MAX), 0))
        .block(frame)
        .render(area, buffer);
}
