//! `weirgate routes`: the table of routes, in the order in which they are tried.

use super::{ConfigFile, Format, OK, USAGE, err, out};
use crate::Gate;
use crate::config::plan::Plan;
use crate::config::words::HostPattern;
use crate::http::route::{self, Condition};
use serde::Serialize;
use std::collections::HashMap;

#[derive(clap::Args)]
pub(super) struct Routes {
    #[command(flatten)]
    config: ConfigFile,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A line of the table. A route for several hosts has a line for each, and so does a listener that passes connections on.
#[derive(Serialize)]
struct Row<'a> {
    host: String,
    path: String,
    conditions: Vec<Condition>,
    action: String,
    filters: Vec<&'static str>,
    name: &'a str,
    /// The route that takes all of its requests.
    hidden_by: Option<&'a str>,
}

pub(super) fn routes(arguments: &Routes) -> u8 {
    let checked = Gate::from_file(&arguments.config.file).check();
    let Some(plan) = &checked.plan else {
        err(checked.report.render_text(&checked.sources).trim_end());
        return USAGE;
    };
    let rows = rows(plan);
    match arguments.format {
        Format::Text => out(&table(&rows)),
        Format::Json => out(&format!("{:#}\n", serde_json::to_value(&rows).unwrap_or_default())),
    };
    OK
}

fn rows(plan: &Plan) -> Vec<Row<'_>> {
    let hidden: HashMap<usize, usize> = route::hidden(&plan.routes).into_iter().collect();
    let row = |(host, at): (Option<HostPattern>, usize)| {
        let route = plan.routes.get(at)?;
        let by = hidden.get(&at).and_then(|by| plan.routes.get(*by));
        Some(Row {
            host: host.map_or_else(|| "*".to_string(), |host| host.to_string()),
            path: route::path_words(&route.matcher.path),
            conditions: route::conditions(&route.matcher, &plan.listeners),
            action: route::action_words(route, &plan.upstreams),
            filters: route.filters.iter().map(|filter| filter.key).collect(),
            name: &route.name,
            hidden_by: by.map(|route| route.name.as_str()),
        })
    };
    let passed = plan.listeners.iter().flat_map(|listener| {
        let tcp = listener.tcp.iter().map(|tcp| ("-".to_string(), "tcp", &[][..], &tcp.upstream));
        let udp = listener.udp.iter().map(|udp| ("-".to_string(), "udp", &[][..], &udp.upstream));
        let unopened = listener.tls.iter().flat_map(|tls| tls.settings.passthrough.all());
        let unopened = unopened.map(|one| (one.shown(), "tls", &one.alpn[..], &one.group));
        unopened.chain(tcp).chain(udp).map(|(host, kind, alpn, upstream)| Row {
            host,
            path: format!("{kind} {}", listener.address),
            conditions: offers(alpn),
            action: format!("upstream {upstream}"),
            filters: Vec::new(),
            name: &listener.name,
            hidden_by: None,
        })
    });
    route::precedence(&plan.routes).into_iter().filter_map(row).chain(passed).collect()
}

/// The protocols of which a client has to offer one.
fn offers(alpn: &[Box<str>]) -> Vec<Condition> {
    let condition = || Condition { key: "alpn".to_string(), wants: format!("[{}]", alpn.join(", ")) };
    (!alpn.is_empty()).then(condition).into_iter().collect()
}

/// Columns as wide as they must be.
fn table(rows: &[Row<'_>]) -> String {
    let none = |text: String| if text.is_empty() { "-".to_string() } else { text };
    let mut lines = vec![["HOST", "PATH", "CONDITIONS", "ACTION", "FILTERS", "ROUTE"].map(str::to_string)];
    for row in rows {
        let condition = |c: &Condition| format!("{}: {}", c.key, c.wants);
        let conditions: Vec<String> = row.conditions.iter().map(condition).collect();
        let hidden = row.hidden_by.map(|by| format!("  ! never chosen: {by} takes its requests"));
        lines.push([
            row.host.clone(),
            row.path.clone(),
            none(conditions.join("; ")),
            row.action.clone(),
            none(row.filters.join(", ")),
            format!("{}{}", row.name, hidden.unwrap_or_default()),
        ]);
    }
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| match widths.get(column) {
            Some(width) => format!("{cell:<width$}"),
            None => cell.clone(),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}
