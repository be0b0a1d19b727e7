//! The picture of a table: a bar for the p99 of each contender. Called by `run`. Plain SVG, for docs/balancing.md.

use std::fmt::Write as _;

use crate::args::Options;
use crate::common::programs::Program;
use crate::report::{Measured, Table};

const WIDTH: f64 = 900.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 260.0;
const LONGEST: f64 = 330.0;
const TOP: f64 = 84.0;
const BAR: f64 = 20.0;
const STEP: f64 = 28.0;
/// Between two programs.
const GAP: f64 = 16.0;

pub fn svg(table: &Table, options: &Options) -> String {
    let longest = table.measured.iter().map(Measured::p99).fold(f64::MIN_POSITIVE, f64::max);
    let mut bars = String::new();
    let mut y = TOP;
    let mut before: Option<Program> = None;
    for one in &table.measured {
        if before.is_some_and(|before| before != one.contender.program) {
            y += GAP;
        }
        before = Some(one.contender.program);
        // writing to a String cannot fail
        let _ = bar(&mut bars, one, y, one.p99() / longest * LONGEST);
        y += STEP;
    }
    let height = y + 14.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif" font-size="14" fill="#1f2933">
<title>p99 by balancing algorithm when one of three servers is slow</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="32" font-size="18" font-weight="600">99 of 100 requests are answered within this time</text>
<text x="20" y="56" fill="#52606d">three servers, one of them {slow} ms slower; {load}</text>
{bars}</svg>
"##,
        slow = options.slow().as_millis(),
        load = table.load.title(),
    )
}

fn bar(text: &mut String, one: &Measured, y: f64, length: f64) -> std::fmt::Result {
    let colour = match one.contender.program {
        Program::Weirgate => "#2563eb",
        Program::Nginx => "#7b8794",
        Program::Haproxy => "#9aa5b1",
    };
    let base = y + BAR * 0.75;
    writeln!(
        text,
        r##"<text x="{x:.0}" y="{base:.1}" text-anchor="end">{name}</text>
<rect x="{LEFT}" y="{y:.1}" width="{length:.1}" height="{BAR}" rx="3" fill="{colour}"/>
<text x="{end:.1}" y="{base:.1}">{p99:.1} ms <tspan fill="#52606d">{share:.1}% to the slow one</tspan></text>"##,
        x = LEFT - 10.0,
        name = one.contender.name(),
        end = LEFT + length + 8.0,
        p99 = one.p99(),
        share = one.slow_share() * 100.0,
    )
}
