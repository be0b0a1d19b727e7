//! The picture of a whole run, for the README: a bar for the CPU per request of each program without anything on, for
//! five of the workloads. Called by `report`. Plain SVG, which follows the reader's light or dark theme.

use std::fmt::Write as _;

use crate::common::machine;
use crate::kinds::{Dress, Kind, Who};
use crate::report::{Measured, Table};
use crate::workloads::Workload;

const WIDTH: f64 = 900.0;
/// Where bars begin, and how long the longest of a workload is.
const LEFT: f64 = 170.0;
const LONGEST: f64 = 600.0;
const TOP: f64 = 76.0;
const BAR: f64 = 18.0;
const STEP: f64 = 24.0;
/// Of the line above the bars of a workload, and the space below them.
const TITLE: f64 = 28.0;
const GAP: f64 = 14.0;

const SHOWN: [(Workload, &str); 5] = [
    (Workload::SmallH1, "small answers over HTTP/1.1"),
    (Workload::SmallTlsH1, "small answers over HTTP/1.1 and TLS"),
    (Workload::SmallTlsH2, "small answers over HTTP/2 and TLS"),
    (Workload::LargeH1, "answers of 100 KB over HTTP/1.1"),
    (Workload::Handshakes, "full TLS handshakes, one answer each"),
];

const STYLE: &str = "\
.ground{fill:#ffffff}.text{fill:#1f2933}.faint{fill:#52606d}.ours{fill:#2563eb}.theirs{fill:#7b8794}
@media(prefers-color-scheme:dark){
.ground{fill:#0d1117}.text{fill:#e6edf3}.faint{fill:#9aa5b1}.ours{fill:#58a6ff}.theirs{fill:#6e7681}}";

pub fn svg(tables: &[Table]) -> String {
    let (mut groups, mut y) = (String::new(), TOP);
    for (workload, title) in SHOWN {
        if let Some(table) = tables.iter().find(|table| table.workload == workload) {
            // writing to a String cannot fail
            let _ = group(&mut groups, table, title, &mut y);
        }
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img" font-family="system-ui, sans-serif" font-size="14">
<title>Processor time for a request, by program</title>
<style>
{STYLE}
</style>
<rect class="ground" width="100%" height="100%"/>
<text class="text" x="20" y="32" font-size="18" font-weight="600">Processor time for a request, in µs: less is better</text>
<text class="faint" x="20" y="56">forwarding alone, one worker on one core; {processor}, {date}</text>
{groups}</svg>
"#,
        processor = machine::processor(),
        date = machine::today(),
    )
}

/// A title, bars below it, and the bottom of it all in `y`.
fn group(text: &mut String, table: &Table, title: &str, y: &mut f64) -> std::fmt::Result {
    let bare = table.measured.iter().filter(|measured| measured.kind.dress == Dress::Bare);
    let bare: Vec<&Measured> = bare.collect();
    let longest = bare.iter().map(|measured| measured.total()).fold(f64::MIN_POSITIVE, f64::max);
    let base = *y + BAR * 0.75;
    writeln!(text, r#"<text class="text" x="20" y="{base:.1}" font-weight="600">{title}</text>"#)?;
    *y += TITLE;
    for measured in bare {
        bar(text, measured.kind, measured.total(), measured.total() / longest * LONGEST, *y)?;
        *y += STEP;
    }
    *y += GAP;
    Ok(())
}

fn bar(text: &mut String, kind: Kind, micros: f64, length: f64, y: f64) -> std::fmt::Result {
    let class = if kind.who == Who::Weirgate { "ours" } else { "theirs" };
    writeln!(
        text,
        r#"<text class="text" x="{x:.0}" y="{base:.1}" text-anchor="end">{name}</text>
<rect class="{class}" x="{LEFT}" y="{y:.1}" width="{length:.1}" height="{BAR}" rx="3"/>
<text class="text" x="{end:.1}" y="{base:.1}">{micros:.1}</text>"#,
        x = LEFT - 10.0,
        base = y + BAR * 0.75,
        name = name(kind.who),
        end = LEFT + length + 8.0,
    )
}

/// As it is written in prose.
fn name(who: Who) -> &'static str {
    match who {
        Who::MinimalPingora => "minimal Pingora",
        Who::Weirgate => "weirgate",
        Who::Nginx => "nginx",
        Who::Haproxy => "HAProxy",
        Who::Envoy => "Envoy",
        Who::Caddy => "Caddy",
    }
}
