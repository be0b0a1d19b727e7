//! The screen: who it is, the map, the last failures and the keys; over it what was asked for. Called after each event, and
//! draws all of it anew: the terminal is sent what has changed.

mod details;

use super::answers::Failure;
use super::counts::{Numbers, Of};
use super::looks::Looks;
use super::model::{Model, View};
use super::rows::{Row, rows};
use super::words;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Lines of failures under the map, where there is room.
const FAILURES: u16 = 6;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, looks: Looks) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let head = head(model, looks);
    let (top, rest) = split(area, u16::try_from(head.len()).unwrap_or(u16::MAX));
    for (line, y) in head.iter().zip(top.top()..top.bottom()) {
        buffer.set_line(top.x, y, line, top.width);
    }
    let (middle, bottom) = split(rest, rest.height.saturating_sub(1));
    match model.view {
        View::Map | View::Server => {
            let below = if middle.height >= 3 * FAILURES { FAILURES } else { 0 };
            let (map, tail) = split(middle, middle.height - below);
            draw_map(buffer, map, model, looks);
            draw_failures(buffer, tail, model, looks);
        }
        View::Failures => draw_failures(buffer, middle, model, looks),
        View::Refused => details::refused(buffer, middle, model, looks),
    }
    if model.view == View::Server {
        details::server(buffer, middle, model, looks);
    }
    if !bottom.is_empty() {
        buffer.set_line(bottom.x, bottom.y, &keys(model, looks), bottom.width);
    }
}

/// The first lines of an area, and the others.
fn split(area: Rect, lines: u16) -> (Rect, Rect) {
    let lines = lines.min(area.height);
    let rest = Rect { y: area.y + lines, height: area.height - lines, ..area };
    (Rect { height: lines, ..area }, rest)
}

/// Who it is and how it does.
fn head(model: &Model, looks: Looks) -> Vec<Line<'static>> {
    let (overview, status) = (&model.overview, &model.overview.status);
    let state = if overview.state == "ready" { looks.good() } else { looks.warn() };
    let all = model.numbers(&Of::All);
    let share = all.and_then(|all| all.share);
    let mut lines = vec![
        Line::from(vec![
            Span::styled(format!(" weirgate {}  ", status.version), looks.strong()),
            Span::styled(overview.state.clone(), state),
            Span::styled(format!("   process {} at {}   ", status.pid, model.place), looks.quiet()),
            Span::styled(words::rate(all.and_then(|all| all.rate)), looks.strong()),
            Span::styled(format!("  {} errors", words::share(share)), looks.share(share)),
        ]),
        Line::styled(
            format!(
                " configuration {} since {}  {}  reloads {}, refused {}",
                status.config.hash,
                words::clock(&status.config.since),
                status.config.file,
                status.reloads,
                status.refusals
            ),
            looks.quiet(),
        ),
    ];
    if let Some(refused) = model.refused() {
        let first = refused.why.lines().next().unwrap_or_default();
        let at = words::clock(&refused.at);
        lines.push(Line::styled(
            format!(" reload refused at {at} by {}: {first}  (r)", refused.by),
            looks.bad(),
        ));
    }
    if let Some(why) = &model.trouble {
        lines.push(Line::styled(format!(" {why}; asking again"), looks.bad()));
    }
    lines
}

/// What the keys do now.
fn keys(model: &Model, looks: Looks) -> Line<'static> {
    if let Some(text) = &model.weight {
        return Line::from(vec![
            Span::styled(format!(" weight: {text}_ "), looks.strong()),
            Span::styled("  Enter sets it  Esc leaves it", looks.quiet()),
        ]);
    }
    let words: &[(&str, &str)] = match model.view {
        View::Map => &[
            ("↑↓", "choose"),
            ("Enter", "server"),
            ("f", "failures"),
            ("r", "refused reload"),
            ("q", "leave"),
        ],
        View::Server => &[
            ("d", "drain/undrain"),
            ("w", "weight"),
            ("+ -", "weight"),
            ("e", "eject/restore"),
            ("Esc", "back"),
            ("q", "leave"),
        ],
        View::Failures | View::Refused => &[("↑↓", "scroll"), ("Esc", "back"), ("q", "leave")],
    };
    let spans = words.iter().flat_map(|(key, word)| {
        [Span::styled(format!(" {key} "), looks.chosen()), Span::styled(format!(" {word}  "), looks.plain())]
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// Where the numbers beside a line are: as many as there is room for.
struct Columns {
    rate: u16,
    share: Option<u16>,
    p50: Option<u16>,
    p99: Option<u16>,
    spark: Option<(u16, u16)>,
    /// Where the text ends.
    text: u16,
}

impl Columns {
    fn of(width: u16) -> Columns {
        let spark = match width {
            0..110 => 0,
            110..130 => 14,
            _ => 30,
        };
        let mut right = width.saturating_sub(1);
        let mut take = |room: u16| {
            right = right.saturating_sub(room);
            right
        };
        let spark = (spark > 0).then(|| (take(spark), spark - 1));
        let p99 = (width >= 60).then(|| take(8));
        let p50 = (width >= 72).then(|| take(8));
        let share = (width >= 50).then(|| take(8));
        let rate = take(8);
        Columns { rate, share, p50, p99, spark, text: rate.saturating_sub(1) }
    }
}

fn draw_map(buffer: &mut Buffer, area: Rect, model: &Model, looks: Looks) {
    let rows = rows(&model.overview);
    let columns = Columns::of(area.width);
    let chosen = model.chosen.as_ref();
    let at = rows.iter().position(|row| chosen.is_some() && row.choice().as_ref() == chosen);
    let height = usize::from(area.height);
    let above = at.unwrap_or(0).saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    for ((row, y), index) in rows.iter().skip(above).zip(area.top()..area.bottom()).zip(above..) {
        let line = Rect { y, height: 1, ..area };
        draw_row(buffer, line, *row, &columns, (model, looks));
        if !row.matters(model) {
            buffer.set_style(line, looks.quiet().remove_modifier(Modifier::BOLD));
        }
        if Some(index) == at {
            buffer.set_style(line, looks.chosen());
        }
    }
}

fn draw_row(
    buffer: &mut Buffer,
    area: Rect,
    row: Row<'_>,
    columns: &Columns,
    (model, looks): (&Model, Looks),
) {
    let heads = matches!(row, Row::Title(_, true));
    let of = row.of();
    let width = if heads || of.is_some() { columns.text } else { area.width };
    buffer.set_line(area.x, area.y, &row.line(looks), width);
    if heads {
        draw_heads(buffer, area, columns, looks);
    }
    if let Some(of) = of {
        let nothing = Numbers::default();
        draw_numbers(buffer, area, columns, model.numbers(&of).unwrap_or(&nothing), looks);
    }
}

/// A text at the right end of a column.
fn put(buffer: &mut Buffer, area: Rect, x: u16, (text, style): (&str, Style)) {
    buffer.set_stringn(area.x + x, area.y, format!("{text:>7}"), 7, style);
}

fn draw_heads(buffer: &mut Buffer, area: Rect, columns: &Columns, looks: Looks) {
    let named =
        [(Some(columns.rate), "rate"), (columns.share, "errors"), (columns.p50, "p50"), (columns.p99, "p99")];
    for (x, head) in named.into_iter().filter_map(|(x, head)| Some((x?, head))) {
        put(buffer, area, x, (head, looks.quiet()));
    }
    if let Some((x, width)) = columns.spark {
        buffer.set_stringn(area.x + x + 1, area.y, "last minute", usize::from(width), looks.quiet());
    }
}

fn draw_numbers(buffer: &mut Buffer, area: Rect, columns: &Columns, numbers: &Numbers, looks: Looks) {
    let shown = [
        (Some(columns.rate), words::rate(numbers.rate), looks.plain()),
        (columns.share, words::share(numbers.share), looks.share(numbers.share)),
        (columns.p50, words::time(numbers.p50), looks.plain()),
        (columns.p99, words::time(numbers.p99), looks.plain()),
    ];
    for (x, text, style) in shown.into_iter().filter_map(|(x, text, style)| Some((x?, text, style))) {
        put(buffer, area, x, (&text, style));
    }
    if let Some((x, width)) = columns.spark {
        let width = usize::from(width.saturating_sub(1));
        let line = words::sparkline(numbers.rates.iter(), width);
        buffer.set_stringn(area.x + x + 1, area.y, format!("{line:>width$}"), width, looks.line());
    }
}

/// The last requests that failed, the newest first.
fn draw_failures(buffer: &mut Buffer, area: Rect, model: &Model, looks: Looks) {
    let mut lines = area.top()..area.bottom();
    if let Some(y) = lines.next() {
        let title = if model.failures.is_empty() { " FAILURES  none" } else { " FAILURES" };
        buffer.set_stringn(area.x, y, title, usize::from(area.width), looks.quiet());
    }
    let above = model.above.min(model.failures.len().saturating_sub(1));
    for (failure, y) in model.failures.iter().skip(above).zip(lines) {
        buffer.set_line(area.x, y, &of_failure(failure, looks), area.width);
    }
}

fn of_failure(failure: &Failure, looks: Looks) -> Line<'static> {
    let status = if failure.status == 0 { "–".to_owned() } else { failure.status.to_string() };
    let server = failure.server.as_ref().or(failure.upstream.as_ref()).or(failure.route.as_ref());
    let server = server.cloned().unwrap_or_default();
    Line::from(vec![
        Span::styled(format!("   {} ", words::clock(&failure.at)), looks.quiet()),
        Span::styled(format!("{status:<4}"), looks.bad()),
        Span::styled(format!("{} {}{}  ", failure.method, failure.host, failure.path), looks.plain()),
        Span::styled(
            format!("{server}  {}  ", words::time(Some(failure.duration_ms / 1000.0))),
            looks.quiet(),
        ),
        Span::styled(failure.reason.clone(), looks.plain()),
    ])
}

#[cfg(test)]
mod tests;
