//! What became of the keys.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Refusals that are shown in full.
const SHOWN: usize = 5;

/// Counts of keys unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Found on the sources, whatever became of them.
    pub seen: u64,
    /// On a server that the ring does not place them on.
    pub leftovers: u64,
    /// Do not begin with `--match`, or their target is not in `--only`.
    pub unwanted: u64,
    /// Their source and target are the same server.
    pub staying: u64,
    /// Gone when their value was asked for.
    pub gone: u64,
    /// Less time left than `--min-ttl`.
    pub short: u64,
    /// No values to be kept: stale, or being set anew by somebody.
    pub placeholders: u64,
    /// By target server.
    pub targets: BTreeMap<String, Copied>,
    /// Not given or not taken, one by one.
    pub refused: u64,
    /// The first of those, for a person.
    pub refusals: Vec<String>,
    /// Not copied because their server was lost.
    pub undelivered: u64,
}

/// What one target got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copied {
    /// Stored; in a dry run, those that would be.
    pub keys: u64,
    /// Bytes of their values as they were sent.
    pub bytes: u64,
    /// Were there already.
    pub existed: u64,
}

impl Tally {
    /// A key was refused by a server, in these words.
    pub fn refuse(&mut self, key: &[u8], server: &str, words: &str) {
        self.refused += 1;
        if self.refusals.len() < SHOWN {
            let shown = key.get(..key.len().min(100)).unwrap_or_default();
            let text = format!("{} at {server}: {words}", shown.escape_ascii());
            self.refusals.push(text);
        }
    }

    /// All targets together.
    pub fn copied(&self) -> Copied {
        let mut sum = Copied::default();
        for one in self.targets.values() {
            sum.keys += one.keys;
            sum.bytes += one.bytes;
            sum.existed += one.existed;
        }
        sum
    }

    /// Why keys were not copied, with how many.
    pub fn skipped(&self) -> [(u64, &'static str, &'static str); 8] {
        [
            (self.copied().existed, "existed", "were there already"),
            (
                self.leftovers,
                "leftovers",
                "belong to another source server",
            ),
            (self.unwanted, "unwanted", "were not asked for"),
            (self.staying, "staying", "stay on their server"),
            (self.gone, "gone", "were gone before they were read"),
            (self.short, "short", "had less time left than --min-ttl"),
            (
                self.placeholders,
                "placeholders",
                "were no values (stale, or being set)",
            ),
            (
                self.undelivered,
                "undelivered",
                "were not copied: a server was lost",
            ),
        ]
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let targets = self.targets.iter().map(|(name, one)| {
            let value = json!({ "keys": one.keys, "bytes": one.bytes, "existed": one.existed });
            (name.clone(), value)
        });
        let skipped = self
            .skipped()
            .map(|(count, name, _)| (name.to_owned(), json!(count)));
        json!({
            "seen": self.seen,
            "copied": self.copied().keys,
            "bytes": self.copied().bytes,
            "skipped": Value::Object(skipped.into_iter().collect()),
            "refused": self.refused,
            "refusals": self.refusals,
            "targets": Value::Object(targets.collect()),
        })
    }
}
