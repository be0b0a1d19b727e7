//! Tables in Markdown, so that what is printed is what is saved, and the median. Called by `report`.

use std::fmt::{self, Write as _};

/// Rows of cells below a row of names; the first `left` columns are aligned left, the others right.
pub fn markdown<const N: usize>(columns: [&str; N], rows: &[[String; N]], left: usize) -> String {
    let head = columns.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for (number, row) in all().enumerate() {
        // writing to a String cannot fail
        let _ = write_row(&mut text, row, &widths, left);
        if number == 0 {
            let rule = |(column, width): (usize, &usize)| match column < left {
                true => "-".repeat(*width),
                false => format!("{}:", "-".repeat(width.saturating_sub(1))),
            };
            let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
            let _ = writeln!(text, "| {} |", rules.join(" | "));
        }
    }
    text
}

fn write_row(text: &mut String, row: &[String], widths: &[usize], left: usize) -> fmt::Result {
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
        let edge = if column == 0 { "| " } else { " | " };
        match column < left {
            true => write!(text, "{edge}{cell}{gap}")?,
            false => write!(text, "{edge}{gap}{cell}")?,
        }
    }
    writeln!(text, " |")
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}
