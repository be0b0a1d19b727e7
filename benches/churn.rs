//! `cargo bench --bench churn`: 200 reloads in a row and 20 upgrades in a row, under constant load, and what the gate holds
//! afterwards. `tests/churn.rs` tells the same story shorter and fails where this one counts. Called by `make bench`.

// the test's stage is used here, which fails by panicking
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/churn/mod.rs"]
mod cast;
#[path = "common/mod.rs"]
mod common;
#[path = "../tests/harness/mod.rs"]
mod harness;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use cast::{Chapter, Scale, Told};
use clap::Parser;
use common::machine::{Cores, kernel, processor, today};
use common::programs::save;
use common::results_dir;
use common::table::{markdown, median};

#[derive(Parser)]
#[command(name = "churn", about = "Reloads and upgrades in a row under load, and what they cost")]
struct Args {
    /// Given by `cargo bench`; without it (as under `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    reloads: u32,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    upgrades: u32,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    websockets: u32,
    /// Also write benches/results/churn-DATE.md.
    #[arg(long)]
    save: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        common::skipped("churn");
        return Ok(());
    }
    let scale = Scale {
        reloads: usize::try_from(args.reloads)?,
        upgrades: usize::try_from(args.upgrades)?,
        websockets: usize::try_from(args.websockets)?,
    };
    let text = report(scale, &cast::tell(scale))?;
    print!("{text}");
    if args.save {
        let path = save(results_dir().join(format!("churn-{}.md", today())), &text)?;
        println!("\nsaved as {}", path.display());
    }
    Ok(())
}

fn report(scale: Scale, told: &Told) -> Result<String> {
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    let mut text = format!(
        "# Reloads and upgrades in a row, {}\n\n{}, {} cores, Linux {}; a {build} build. Load and servers on the same \
         cores.\n",
        today(),
        processor(),
        Cores::allowed()?.count(),
        kernel()
    );
    for (name, count, chapter, times) in [
        ("reloads", scale.reloads, &told.reloads, &told.reload_times),
        ("upgrades", scale.upgrades, &told.upgrades, &told.upgrade_times),
    ] {
        let seconds = chapter.took.as_secs_f64();
        writeln!(text, "\n## {count} {name} in {seconds:.0} s\n\n{}", clients(chapter))?;
        writeln!(
            text,
            "- {} WebSockets, of {} at a time, were sent away with 1001",
            chapter.sent_away, scale.websockets
        )?;
        writeln!(text, "- a command took {}", spread(times))?;
        writeln!(text, "- {}", held(chapter))?;
        for failure in chapter.failures().iter().take(20) {
            writeln!(text, "- failed: {failure}")?;
        }
    }
    writeln!(text, "- WebSockets closed before their process's time was over: {}", told.too_early.len())?;
    Ok(text)
}

fn clients(chapter: &Chapter) -> String {
    let row = |seen: &cast::Seen| {
        [seen.kind.to_owned(), seen.clients.to_string(), seen.done.to_string(), seen.failed.len().to_string()]
    };
    let rows: Vec<_> = chapter.seen.iter().map(row).collect();
    markdown(["", "clients", "done", "failed"], &rows, 1)
}

/// From the start of the command line to its end.
fn spread(times: &[Duration]) -> String {
    let millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    let longest = millis.iter().copied().fold(0.0, f64::max);
    format!("{:.0} ms (median), {longest:.0} ms at most, its own start included", median(millis))
}

fn held(chapter: &Chapter) -> String {
    let (before, after) = (&chapter.before, &chapter.after);
    let mib = |kib: u64| kib as f64 / 1024.0;
    format!(
        "before and after, with nobody there: memory {:.1} and {:.1} MB, descriptors {} and {}, threads {} and {}",
        mib(before.memory),
        mib(after.memory),
        before.open(),
        after.open(),
        before.threads,
        after.threads
    )
}
