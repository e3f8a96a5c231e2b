//! What counts as hot, and for which keys: a pool's settings, made ready to
//! be asked.

use crate::{Rule, WatchSettings};

/// See the module's description. Equal if nothing would be decided otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// Distinct windows in milliseconds, the pool's own first.
    pub windows: Vec<u64>,
    /// Bytes of replies in the pool's own window.
    pub threshold_bytes: Option<u64>,
    /// One request of this many is counted.
    pub sample: u32,
    default: Line,
    /// The longest prefix first.
    prefixes: Vec<(Box<[u8]>, Line)>,
}

/// What counts as hot among some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the window.
    pub window: usize,
    /// Requests in the window.
    pub threshold: u64,
    /// A promoted key stays so for this long, in milliseconds.
    pub hold_ms: u64,
}

impl Rules {
    pub fn new(settings: &WatchSettings) -> Rules {
        let mut windows = Vec::new();
        let mut line = |window_ms: u64, threshold: u64, hold_ms| Line {
            window: index_of(&mut windows, window_ms),
            threshold: threshold.max(1),
            hold_ms,
        };
        let default = line(settings.window_ms, settings.threshold, settings.hold_ms);
        let of_rule = |rule: &Rule| {
            let line = line(rule.window_ms, rule.threshold, rule.hold_ms);
            (rule.prefix.clone(), line)
        };
        let mut prefixes: Vec<_> = settings.rules.iter().map(of_rule).collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Rules {
            windows,
            threshold_bytes: settings.threshold_bytes.map(|bytes| bytes.max(1)),
            sample: settings.sample.max(1),
            default,
            prefixes,
        }
    }

    /// What counts for this key: the longest prefix that matches.
    pub fn line(&self, key: &[u8]) -> Line {
        let mut prefixes = self.prefixes.iter();
        let rule = prefixes.find(|(prefix, _)| key.starts_with(prefix));
        rule.map_or(self.default, |&(_, line)| line)
    }

    /// The lowest threshold of a window, for keys whose name is not known.
    pub fn threshold_min(&self, window: usize) -> u64 {
        let rules = self.prefixes.iter().map(|(_, line)| line);
        let lines = rules.chain([&self.default]);
        let thresholds = lines.filter(|line| line.window == window);
        thresholds.map(|line| line.threshold).min().unwrap_or(1)
    }

    /// A sub-window of this window in milliseconds.
    pub fn sub_window_ms(&self, window: usize) -> u64 {
        let window = self.windows.get(window).copied().unwrap_or(0);
        (window / crate::SUB_WINDOWS as u64).max(1)
    }
}

fn index_of(windows: &mut Vec<u64>, window_ms: u64) -> usize {
    let known = windows.iter().position(|&window| window == window_ms);
    known.unwrap_or_else(|| {
        windows.push(window_ms);
        windows.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, window_ms: u64, threshold: u64) -> Rule {
        Rule {
            prefix: prefix.as_bytes().into(),
            window_ms,
            threshold,
            hold_ms: 0,
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let rules = Rules::new(&WatchSettings {
            window_ms: 1000,
            threshold: 1000,
            threshold_bytes: None,
            sample: 1,
            hold_ms: 0,
            rules: vec![
                rule("u", 1000, 30),
                rule("user:1", 5000, 10),
                rule("user:", 5000, 20),
            ],
            always: Vec::new(),
        });
        let threshold = |key: &str| rules.line(key.as_bytes()).threshold;
        assert_eq!(threshold("user:17"), 10);
        assert_eq!(threshold("user:2"), 20);
        assert_eq!(threshold("use"), 30);
        assert_eq!(threshold(""), 1000);
        assert_eq!(rules.windows, [1000, 5000]);
        assert_eq!(rules.threshold_min(0), 30);
        assert_eq!(rules.threshold_min(1), 10);
        assert_eq!(rules.sub_window_ms(1), 500);
    }
}
