//! A gate that is changed all the time loses nothing: reloads in a row under load, then upgrades in a row, and afterwards
//! it holds what it held before. `cargo bench --bench churn` is the same in full.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "churn/mod.rs"]
mod cast;
mod harness;

use cast::{Chapter, Scale, tell};

/// Memory that may be in use for longer, in KiB: what the allocator keeps for the next request.
const ALLOWANCE: u64 = 12 * 1024;

fn nothing_is_lost(what: &str, chapter: &Chapter) {
    for seen in &chapter.seen {
        println!(
            "{what}: {}: {} done by {}, {} failed",
            seen.kind,
            seen.done,
            seen.clients,
            seen.failed.len()
        );
    }
    println!(
        "{what}: {} WebSockets sent away, before {:?}, after {:?}",
        chapter.sent_away, chapter.before, chapter.after
    );
    assert!(chapter.failures().is_empty(), "{what}: {:#?}", chapter.failures());
    assert!(
        chapter.seen.iter().all(|seen| seen.done > 0),
        "{what}: somebody had nothing to do: {:#?}",
        chapter.seen
    );
    let (before, after) = (&chapter.before, &chapter.after);
    assert_eq!(before.descriptors, after.descriptors, "{what}: descriptors");
    assert_eq!(before.threads, after.threads, "{what}: threads");
    assert!(
        after.memory <= before.memory + before.memory / 4 + ALLOWANCE,
        "{what}: {} KiB became {}",
        before.memory,
        after.memory
    );
}

#[test]
fn whatever_changes_nothing_is_lost_and_nothing_stays() {
    let told = tell(Scale { reloads: 40, upgrades: 4, websockets: 50 });
    nothing_is_lost("reloads", &told.reloads);
    assert_eq!(told.reloads.sent_away, 0, "a reload closes no WebSocket");
    nothing_is_lost("upgrades", &told.upgrades);
    assert!(told.too_early.is_empty(), "closed before their time by {:?}", told.too_early);
    assert!(told.upgrades.sent_away >= 50, "those of the first process at least are sent on");
}
