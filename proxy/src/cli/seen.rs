//! What `/hotkeys` says, as `hotkeys` and `top` show it.
//!
//! The answer is text from another process, perhaps of another version, or not
//! from an Emberline at all: what is missing reads as nothing, and what could
//! be more than text to a terminal is escaped once more.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::ask;
use crate::metrics::hotkeys::Sort;

/// The answer of one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Bytes of the items in memory, and how many they may be.
    pub l1_bytes: f64,
    pub l1_capacity: f64,
    pub l1_items: u64,
    pub pools: Vec<Pool>,
    /// Keys that are hot, of which `keys` may be the first alone.
    pub found: u64,
    pub keys: Vec<Key>,
}

/// A pool's L1.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    pub mode: String,
    pub hot_keys: u64,
    /// Hits and misses so far; in `observe`, those that would have been.
    pub hits: u64,
    pub misses: u64,
    /// What memory would save, in `observe`.
    pub would_save: Option<String>,
}

/// A hot key. Rates are per second.
#[derive(Clone, Debug, Default)]
pub struct Key {
    pub key: String,
    pub pool: String,
    pub state: String,
    pub rate: f64,
    pub lower: f64,
    pub upper: f64,
    pub certain: bool,
    /// From 0 to 1.
    pub share: f64,
    pub reads: f64,
    pub writes: f64,
    pub bytes: f64,
    pub hit_ratio: Option<f64>,
    pub hot_ms: u64,
}

impl Key {
    /// Put keys in this order, the largest first.
    pub fn sort(keys: &mut [Key], sort: Sort) {
        let by = |key: &Key| match sort {
            Sort::Rate => key.rate,
            Sort::Bytes => key.bytes,
            Sort::Writes => key.writes,
        };
        keys.sort_by(|a, b| by(b).total_cmp(&by(a)));
    }
}

/// Ask an admin API for a path, and read the JSON.
///
/// # Errors
/// When nobody is there, or says anything but JSON; the text is for a person.
pub fn ask_json(admin: &str, path: &str, timeout: Duration) -> io::Result<Value> {
    let failed = |text: String| io::Error::other(format!("{admin}: {text}"));
    let answer = ask::get(admin, path, timeout).map_err(|error| {
        let hint = "is an Emberline running, and its admin API there? --admin names another";
        failed(format!("{error} ({hint})"))
    })?;
    match answer.status.as_str() {
        "200" => {}
        "404" => {
            let hint = "an older Emberline, or its status listener? --admin wants the admin API";
            return Err(failed(format!("no {path} there ({hint})")));
        }
        status => {
            let body = answer.body.lines().next().unwrap_or_default();
            return Err(failed(format!("status {status}: {}", safe(body))));
        }
    }
    serde_json::from_str(&answer.body).map_err(|_| failed("the answer is not JSON".to_owned()))
}

impl Seen {
    /// Read the answer to `/hotkeys`.
    pub fn read(answer: &Value) -> Seen {
        Seen {
            l1_bytes: number(&answer["l1"]["bytes"]),
            l1_capacity: number(&answer["l1"]["capacity"]),
            l1_items: count(&answer["l1"]["items"]),
            pools: list(&answer["pools"]).map(pool).collect(),
            found: count(&answer["found"]),
            keys: list(&answer["keys"]).map(key).collect(),
        }
    }
}

fn pool(value: &Value) -> Pool {
    let mode = text(&value["mode"]);
    let (hits, misses) = match mode.as_str() {
        "observe" => ("would_hit", "would_miss"),
        _ => ("hits", "misses"),
    };
    Pool {
        name: text(&value["pool"]),
        hot_keys: count(&value["hot_keys"]),
        hits: count(&value[hits]),
        misses: count(&value[misses]),
        would_save: value["would_save"]["sentence"].as_str().map(safe),
        mode,
    }
}

fn key(value: &Value) -> Key {
    Key {
        key: text(&value["key"]),
        pool: text(&value["pool"]),
        state: text(&value["state"]),
        rate: number(&value["requests"]["rate"]),
        lower: number(&value["requests"]["lower"]),
        upper: number(&value["requests"]["upper"]),
        certain: value["certain"].as_bool().unwrap_or(false),
        share: number(&value["share"]),
        reads: number(&value["reads"]["rate"]),
        writes: number(&value["writes"]["rate"]),
        bytes: number(&value["bytes"]["rate"]),
        hit_ratio: value["hit_ratio"].as_f64(),
        hot_ms: count(&value["hot_ms"]),
    }
}

/// The elements of a list; none of what is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A number; 0 if there is none.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// A whole number; 0 if there is none.
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A text that a terminal may be shown.
pub fn text(value: &Value) -> String {
    value.as_str().map(safe).unwrap_or_default()
}

fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' | '\'' | '"' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// `812.5`, `12,345`.
pub fn amount(number: f64) -> String {
    if number < 100.0 {
        return match number {
            0.0 => "0".to_owned(),
            _ => format!("{number:.1}"),
        };
    }
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `45.1 %`; a dash where nothing is known.
pub fn percent(part: Option<f64>) -> String {
    part.map_or("-".to_owned(), |part| format!("{:.1} %", 100.0 * part))
}

/// `800 ms`, `12 s`, `3 min`, `5 h`, `2 days`.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let amounts = [0.0, 0.25, 99.95, 100.0, 1234.4, 1_234_567.0].map(amount);
        assert_eq!(amounts, ["0", "0.2", "100.0", "100", "1,234", "1,234,567"]);
        let spans = [5, 12_000, 180_000, 7_200_000, 400_000_000].map(span);
        assert_eq!(spans, ["5 ms", "12 s", "3 min", "2 h", "4 days"]);
        assert_eq!(
            (percent(Some(0.4567)), percent(None)),
            ("45.7 %".into(), "-".into())
        );
    }

    #[test]
    fn what_is_missing_or_strange_does_no_harm() {
        let seen = Seen::read(&serde_json::json!({
            "keys": [{ "key": "a\u{1b}[2J\\x1b\u{202e}", "requests": 7 }, 3],
            "pools": "none",
        }));
        assert_eq!(seen.keys[0].key, "a\\u{1b}[2J\\x1b\\u{202e}");
        assert_eq!(
            (seen.keys[0].rate, seen.keys.len(), seen.pools.len()),
            (0.0, 2, 0)
        );
    }
}
