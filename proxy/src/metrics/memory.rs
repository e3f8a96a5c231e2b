//! The L1's families at the scrape: what it holds, and what happened to the
//! promoted keys. No key is ever a label.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use emberline_routing::PoolId;

use super::family::Family;
use super::hotkeys;
use super::meter::{Event, Meter};
use super::scrape::{OTHER_POOLS, admit};
use crate::l1::L1;
use crate::l1::preload::Fate;
use crate::running::Running;

/// Series of `emberline_l1_events_total`, beside one for each event that
/// stands for the rest.
const EVENT_SERIES_MAX: usize = 200;

/// Pools and events that have a series of their own.
pub(super) type Admitted = HashSet<(u16, Event)>;

/// What happened so far; nothing for what never did.
pub(super) fn events(
    running: &Running,
    meters: &[impl AsRef<Meter>],
    admitted: &mut Admitted,
) -> Family {
    let mut family = Family::counter(
        "emberline_l1_events_total",
        "What happened to promoted keys, by pool and kind of event.",
    );
    let mut rest = [0; Event::ALL.len()];
    for (PoolId(id), pool) in running.pools() {
        let counted = hotkeys::events(meters, id);
        for (event, count) in Event::ALL.into_iter().zip(counted) {
            if count == 0 {
                continue;
            }
            if admit(admitted, EVENT_SERIES_MAX, (id, event)) {
                let labels = [("pool", &*pool.name), ("event", event.name())];
                family.push(&labels, count as f64);
            } else {
                rest[event as usize] += count;
            }
        }
    }
    for (event, count) in Event::ALL.into_iter().zip(rest) {
        if count > 0 {
            let labels = [("pool", OTHER_POOLS), ("event", event.name())];
            family.push(&labels, count as f64);
        }
    }
    family
}

/// What the store holds, over all pools.
pub(super) fn store(l1: &L1) -> [Family; 3] {
    let gauge = |name, help, value: u64| {
        let mut family = Family::gauge(name, help);
        family.push(&[], value as f64);
        family
    };
    [
        gauge(
            "emberline_l1_bytes",
            "Bytes that the items of promoted keys take.",
            l1.store.live(),
        ),
        gauge(
            "emberline_l1_capacity_bytes",
            "Bytes that they may take.",
            l1.store.capacity(),
        ),
        gauge(
            "emberline_l1_items",
            "Items of promoted keys in memory, about.",
            l1.store.len(),
        ),
    ]
}

/// What became of the list that the last process left, and of this one's;
/// nothing where none is kept.
pub(super) fn preload(l1: &L1) -> Vec<Family> {
    let Some(preload) = &l1.preload else {
        return Vec::new();
    };
    let figures = &preload.figures;
    let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed) as f64;
    let mut keys = Family::counter(
        "emberline_l1_preloaded_keys_total",
        "Keys of the list that the last process left, by what became of them.",
    );
    for (fate, cell) in Fate::ALL.into_iter().zip(&figures.keys) {
        keys.push(&[("result", fate.name())], read(cell));
    }
    let mut took = Family::gauge(
        "emberline_l1_preload_seconds",
        "How long the process took to preload hot keys when it started.",
    );
    took.push(&[], read(&figures.took_ms) / 1000.0);
    let mut saves = Family::counter(
        "emberline_l1_preload_saves_total",
        "Attempts to save the list of hot keys.",
    );
    saves.push(&[("result", "ok")], read(&figures.saved));
    saves.push(&[("result", "error")], read(&figures.unsaved));
    vec![keys, took, saves]
}

/// How many keys of each pool are promoted, and what each pool promises.
pub(super) fn pools(running: &Running, l1: &L1) -> [Family; 2] {
    let mut promoted = Family::gauge("emberline_hotkeys", "Keys that are promoted now.");
    let mut modes = Family::gauge(
        "emberline_l1_mode",
        "Always 1; what the L1 promises in this pool is in the labels.",
    );
    let mut counts = vec![0u64; running.pools.places()];
    for key in l1.board.set().keys() {
        if let Some(count) = counts.get_mut(usize::from(key.pool)) {
            *count += 1;
        }
    }
    for (id, pool) in running.pools() {
        let count = counts.get(usize::from(id.0)).copied().unwrap_or(0);
        promoted.push(&[("pool", &pool.name)], count as f64);
        let mode = pool.l1.mode.name();
        modes.push(&[("pool", &pool.name), ("mode", mode)], 1.0);
    }
    [promoted, modes]
}
