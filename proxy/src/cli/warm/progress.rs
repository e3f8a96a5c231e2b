//! How far `emberline warm` is: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::terminal;
use crate::metrics::hotkeys::bytes;
use crate::warm::Sight;

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Rate and time left follow from the keys that were seen.
const STYLE: &str = "{bar:30} {pos}/{len} keys, {per_sec}, {eta} left; {msg}";

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Cell<Instant>,
}

impl Progress {
    /// Nothing has been seen.
    pub fn new() -> Progress {
        let now = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(STYLE);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Progress {
            bar,
            started: now,
            told: Cell::new(now),
        }
    }

    /// It is this far.
    pub fn show(&self, sight: Sight) {
        let copied = format!(
            "{} copied, {}",
            sight.copied.keys,
            bytes(sight.copied.bytes as f64)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_length(sight.total.max(sight.seen));
                bar.set_position(sight.seen);
                bar.set_message(copied);
            }
            None if self.told.get().elapsed() >= LINE_EVERY => {
                self.told.set(Instant::now());
                terminal::note(line(sight, self.started.elapsed(), &copied));
            }
            None => {}
        }
    }

    /// There will be no more.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(sight: Sight, took: Duration, copied: &str) -> String {
    let rate = sight.seen as f64 / took.as_secs_f64().max(0.001);
    let left = sight.total.saturating_sub(sight.seen) as f64 / rate.max(0.001);
    let total = sight.total.max(sight.seen);
    format!(
        "{}/{total} keys, {rate:.0}/s, {left:.0} s left; {copied}\n",
        sight.seen
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rate_and_time_left() {
        let sight = Sight {
            seen: 20_000,
            total: 50_000,
            ..Sight::default()
        };
        assert_eq!(
            line(sight, Duration::from_secs(10), "7 copied"),
            "20000/50000 keys, 2000/s, 15 s left; 7 copied\n"
        );
    }
}
