//! `HOTKEYS`: the proxy's hot keys, in the words of Redis 8.6.
//!
//! There, somebody starts to count, waits, stops, and gets the result. Here
//! counting never begins or ends, so `START`, `STOP` and `RESET` are accepted
//! without effect, for tools that go through all of them, and `GET` tells of
//! the sliding window up to now. Its reply has the outline that clients parse:
//! an array of one map, in which `by-net-bytes` lists keys and bytes. CPU time
//! by key is not known here, and left out as when it was not asked for. Two
//! lists are the proxy's own: `by-requests` and `emberline-keys`, which has
//! every fact about a key.

use emberline_protocol::redis::encode;

use super::call::Call;
use super::{help, refuse};
use crate::metrics::hotkeys::{Hot, PerSecond, Sort};

/// Keys in a list unless asked otherwise, and at most, as in Redis.
const COUNT: usize = 10;
const COUNT_MAX: i64 = 64;

/// Slots of a Redis cluster: the proxy stands before all of them.
const SLOT_MAX: i64 = 16_383;

pub(super) fn hotkeys(call: &mut Call<'_>) {
    match call.subcommand() {
        None => {}
        Some("get") => get(call),
        Some("start" | "stop" | "reset") => call.ok(),
        Some(_) => call.lines(help::HOTKEYS),
    }
}

fn get(call: &mut Call<'_>) {
    let count = match *call.args {
        [_, _] => COUNT,
        [_, _, word, number] if word.eq_ignore_ascii_case(b"count") => {
            match super::call::integer(number) {
                Some(count @ 1..=COUNT_MAX) => count as usize,
                _ => return call.error("ERR COUNT must be between 1 and 64"),
            }
        }
        [_, _, _] | [_, _, _, _] => return call.syntax_error(),
        _ => return refuse::wrong_subcommand(call.command, call.args[1], call.out),
    };
    let context = call.context;
    let pools = context.listener.router.pools().iter();
    let mut watched = pools
        .filter_map(|id| context.running.pools.get(usize::from(id.0)))
        .filter(|pool| pool.hotkey.enabled)
        .peekable();
    if watched.peek().is_none() {
        // Nothing is counted, as in a server where nobody has started it.
        let version = call.version();
        return encode::null(call.out, version);
    }
    let sample = watched.map(|pool| pool.hotkey.sample).max().unwrap_or(1);
    let hot = (context.hotkeys)();
    Answer { call, hot, count }.write(sample);
}

/// One reply being written.
struct Answer<'c, 'a> {
    call: &'c mut Call<'a>,
    hot: Vec<Hot>,
    count: usize,
}

impl Answer<'_, '_> {
    fn write(mut self, sample: u32) {
        let window = self.hot.iter().map(|hot| hot.window_ms).max().unwrap_or(0);
        let begun = self.call.context.now.saturating_sub(window);
        let bytes = self.hot.iter().map(|hot| hot.bytes_in_window.lower);
        let bytes = bytes.fold(0, u64::saturating_add);
        // An array of maps: a tool that asks several nodes puts theirs together.
        encode::array(self.call.out, 1);
        self.map(9);
        self.field("tracking-active", 1);
        self.field("sample-ratio", sample.into());
        self.name("selected-slots");
        encode::array(self.call.out, 1);
        encode::array(self.call.out, 2);
        encode::integer(self.call.out, 0);
        encode::integer(self.call.out, SLOT_MAX);
        self.field("collection-start-time-unix-ms", begun);
        self.field("collection-duration-ms", window);
        self.field("total-net-bytes", bytes);
        self.pairs("by-net-bytes", Sort::Bytes, |hot| hot.bytes_in_window.lower);
        self.pairs("by-requests", Sort::Rate, |hot| hot.in_window.lower);
        self.keys();
    }

    /// Keys and numbers by turns, the largest first.
    fn pairs(&mut self, name: &str, sort: Sort, number: impl Fn(&Hot) -> u64) {
        sort.sort(&mut self.hot);
        self.name(name);
        let pairs: Vec<(&str, u64)> = self
            .hot
            .iter()
            .map(|hot| (&*hot.key, number(hot)))
            .collect();
        let pairs = pairs.iter().filter(|(_, number)| *number > 0);
        let pairs: Vec<_> = pairs.take(self.count).collect();
        encode::array(self.call.out, 2 * pairs.len());
        for (key, number) in pairs {
            encode::bulk(self.call.out, key.as_bytes());
            encode::integer(self.call.out, signed(*number));
        }
    }

    /// Everything about each key, the busiest first.
    fn keys(&mut self) {
        Sort::Rate.sort(&mut self.hot);
        self.hot.truncate(self.count);
        self.name("emberline-keys");
        encode::array(self.call.out, self.hot.len());
        for hot in std::mem::take(&mut self.hot) {
            self.key(&hot);
        }
    }

    fn key(&mut self, hot: &Hot) {
        let pools = &self.call.context.running.pools;
        let pool = pools.get(usize::from(hot.pool.0));
        let pool = pool.map_or("", |pool| &pool.name);
        self.map(15);
        for (name, text) in [
            ("key", &*hot.key),
            ("pool", pool),
            ("state", hot.state.name()),
        ] {
            self.name(name);
            encode::bulk(self.call.out, text.as_bytes());
        }
        self.rate("requests-per-second", hot.requests.middle());
        self.rate("requests-per-second-min", hot.requests.lower);
        self.rate("requests-per-second-max", hot.requests.upper);
        let others: [(&str, PerSecond); 3] = [
            ("reads-per-second", hot.reads),
            ("writes-per-second", hot.writes),
            ("bytes-per-second", hot.bytes),
        ];
        for (name, rate) in others {
            self.rate(name, rate.middle());
        }
        self.rate("share", hot.share);
        self.field("certain", hot.certain.into());
        self.field("window-ms", hot.window_ms);
        self.field("hits", hot.counts.hits);
        self.field("misses", hot.counts.misses);
        self.field("hot-ms", hot.hot_ms);
    }

    fn map(&mut self, pairs: usize) {
        let version = self.call.version();
        encode::map(self.call.out, pairs, version);
    }

    fn name(&mut self, name: &str) {
        encode::bulk(self.call.out, name.as_bytes());
    }

    fn field(&mut self, name: &str, value: u64) {
        self.name(name);
        encode::integer(self.call.out, signed(value));
    }

    fn rate(&mut self, name: &str, value: f64) {
        let version = self.call.version();
        self.name(name);
        encode::double(self.call.out, (value * 1e4).round() / 1e4, version);
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
