//! What we aim at and where we are: ratios of CPU per request within one run. Printed, never asserted. Called by
//! `report`.

use std::fmt::Write as _;

use crate::kinds::{Dress, Kind, Who};
use crate::report::Table;
use crate::workloads::Workload;

const BARE: Kind = Kind { who: Who::Weirgate, dress: Dress::Bare };
const MINIMAL: Kind = Kind { who: Who::MinimalPingora, dress: Dress::Bare };

/// weirgate in any dress against the better of nginx and HAProxy in the same one, at the most.
fn against_best(workload: Workload, dress: Dress) -> Option<f64> {
    match (dress, workload) {
        (Dress::Production, _) => Some(1.3),
        (Dress::Bare, Workload::SmallH1) => Some(1.25),
        (Dress::Bare, Workload::SmallTlsH1) => Some(1.1),
        (Dress::Bare, Workload::SmallTlsH2) => Some(1.5),
        (Dress::Bare, Workload::LargeH1 | Workload::Upload100k) => Some(1.0),
        (Dress::Bare, Workload::Handshakes) => Some(0.8),
        (Dress::Bare, Workload::Resumed | Workload::HandshakesRsa | Workload::ResumedRsa) => Some(0.85),
        (Dress::Bare | Dress::Log | Dress::TwoRoutes | Dress::ManyRoutes, _) => None,
    }
}

/// weirgate against minimal Pingora, at the most.
fn against_minimal(dress: Dress) -> Option<f64> {
    match dress {
        Dress::Bare => Some(1.05),
        Dress::Production => Some(1.15),
        Dress::Log | Dress::TwoRoutes | Dress::ManyRoutes => None,
    }
}

/// Envoy against weirgate, at the least.
fn lead_on_envoy(workload: Workload) -> Option<f64> {
    match workload {
        Workload::SmallH1
        | Workload::SmallH1On64
        | Workload::SmallTlsH1
        | Workload::SmallTlsH2
        | Workload::SmallH2c => Some(1.7),
        Workload::LargeH1 | Workload::Upload100k => Some(1.15),
        Workload::SmallH1On2000
        | Workload::Handshakes
        | Workload::Resumed
        | Workload::HandshakesRsa
        | Workload::ResumedRsa
        | Workload::Body1k
        | Workload::Body10m
        | Workload::Upload1k
        | Workload::Upload10m
        | Workload::Routes => None,
    }
}

/// A request among ten thousand routes against one among two.
const ROUTES: f64 = 1.03;
/// With metrics and the access log on against without.
const RECORDING: f64 = 1.02;

pub fn text(tables: &[Table]) -> String {
    let mut lines = String::new();
    // writing to a String cannot fail
    tables.iter().for_each(|table| _ = write!(lines, "{}", of_table(table)));
    if lines.is_empty() { lines } else { format!("\n### Targets\n\n{lines}") }
}

fn of_table(table: &Table) -> String {
    let workload = table.workload;
    let mut lines = String::new();
    for dress in [Dress::Bare, Dress::Log, Dress::Production, Dress::TwoRoutes, Dress::ManyRoutes] {
        let ours = BARE.wearing(dress);
        let better = better_of_both(table, ours);
        if let (Some(most), Some(base)) = (against_best(workload, dress), better) {
            lines += &line(table, ours, base, Bound::AtMost(most));
        }
        if let Some(most) = against_minimal(dress) {
            lines += &line(table, ours, MINIMAL, Bound::AtMost(most));
        }
    }
    if let Some(least) = lead_on_envoy(workload) {
        lines += &line(table, Kind { who: Who::Envoy, ..BARE }, BARE, Bound::AtLeast(least));
    }
    for who in [Who::Weirgate, Who::Nginx, Who::Haproxy] {
        let bound = |most| if who == Who::Weirgate { Bound::AtMost(most) } else { Bound::None };
        let its = |dress| Kind { who, dress };
        lines += &line(table, its(Dress::Log), its(Dress::Bare), bound(RECORDING));
        lines += &line(table, its(Dress::ManyRoutes), its(Dress::TwoRoutes), bound(ROUTES));
    }
    lines
}

/// nginx or HAProxy in the same dress, whichever needs less against us.
fn better_of_both(table: &Table, ours: Kind) -> Option<Kind> {
    let peers = [Who::Nginx, Who::Haproxy].map(|who| Kind { who, ..ours });
    let measured = peers.into_iter().filter_map(|peer| Some((table.ratio(ours, peer)?, peer)));
    measured.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, peer)| peer)
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Said beside ours.
    None,
}

/// Nothing when either was not measured.
fn line(table: &Table, kind: Kind, base: Kind, bound: Bound) -> String {
    let (Some(ratio), Some(best)) = (table.ratio(kind, base), table.best_ratio(kind, base)) else {
        return String::new();
    };
    let word = |met| if met { "met" } else { "MISSED" };
    let verdict = match bound {
        Bound::AtMost(most) => format!(", target at most {most:.2}x: {}", word(ratio <= most)),
        Bound::AtLeast(least) => format!(", target at least {least:.2}x: {}", word(ratio >= least)),
        Bound::None => String::new(),
    };
    let (workload, kind, base) = (table.workload.name(), kind.name(), base.name());
    format!("- {workload}, {kind}: {ratio:.3}x {base} (best rounds {best:.3}x){verdict}\n")
}
