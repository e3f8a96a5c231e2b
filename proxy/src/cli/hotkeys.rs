//! `emberline hotkeys`: which keys are hot in a running Emberline, as a list.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::text::Span;

use super::seen::{Key, Seen, amount, ask_json, percent, span};
use super::{ask, terminal};
use crate::config::model::ADMIN_BIND;
use crate::metrics::hotkeys::{Sort, bytes};

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Hotkeys {
    /// The admin API: HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN_BIND)]
    admin: String,
    /// The answer of the admin API as it is, for programs
    #[arg(long)]
    json: bool,
    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// The keys of this pool alone
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// This key alone, if it is hot; finds a key that is shown as a hash
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What comes first: rate, bytes or writes
    #[arg(long, value_name = "BY", default_value = Sort::Rate.name(), value_parser = sort)]
    sort: Sort,
}

pub fn run(args: &Hotkeys) -> ExitCode {
    match list(args) {
        Ok(text) => terminal::print(text.as_bytes()),
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn list(args: &Hotkeys) -> io::Result<String> {
    let mut path = format!("/hotkeys?limit={}&sort={}", args.limit, args.sort.name());
    for (name, value) in [("pool", &args.pool), ("key", &args.key)] {
        if let Some(value) = value {
            // Writing into a String cannot fail, here and below.
            let _ = write!(path, "&{name}={}", ask::encoded(value));
        }
    }
    let answer = ask_json(&args.admin, &path, TIMEOUT)?;
    match args.json {
        true => Ok(format!("{answer:#}\n")),
        false => Ok(text(&Seen::read(&answer))),
    }
}

fn sort(word: &str) -> Result<Sort, String> {
    Sort::named(word).ok_or_else(|| "expected rate, bytes or writes".to_owned())
}

/// The table and what is to be said beside it.
fn text(seen: &Seen) -> String {
    let mut text = match seen.keys.is_empty() {
        true => "no key is hot\n".to_owned(),
        false => table(&seen.keys),
    };
    let shown = seen.keys.len() as u64;
    if shown < seen.found {
        let _ = writeln!(text, "{shown} of {}; --limit shows more", seen.found);
    }
    if seen.keys.iter().any(|key| !key.certain) {
        text.push_str("~ requests are sampled: bounds are likely, not certain\n");
    }
    for pool in seen.pools.iter().filter(|pool| pool.hot_keys > 0) {
        if let Some(sentence) = &pool.would_save {
            let _ = writeln!(text, "{} only observes: {sentence}", pool.name);
        }
    }
    text
}

const HEADS: [&str; 12] = [
    "KEY", "POOL", "STATE", "REQ/S", "MIN", "MAX", "SHARE", "READS/S", "WRITES/S", "BYTES/S",
    "HITS", "HOT FOR",
];
/// The first columns are words and stand left, the others numbers.
const WORDS: usize = 3;

fn table(keys: &[Key]) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(keys.iter().map(cells));
    let mut widths = [0; HEADS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn cells(key: &Key) -> [String; HEADS.len()] {
    let doubt = if key.certain { "" } else { "~" };
    [
        key.key.clone(),
        key.pool.clone(),
        key.state.clone(),
        amount(key.rate),
        format!("{doubt}{}", amount(key.lower)),
        format!("{doubt}{}", amount(key.upper)),
        percent(Some(key.share)),
        amount(key.reads),
        amount(key.writes),
        bytes(key.bytes),
        percent(key.hit_ratio),
        span(key.hot_ms),
    ]
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let space = " ".repeat(width.saturating_sub(columns(cell)));
        let (before, behind) = match at < WORDS {
            true => (cell.as_str(), space.as_str()),
            false => (space.as_str(), cell.as_str()),
        };
        line.push_str(before);
        line.push_str(behind);
        line.push_str("  ");
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Columns on a terminal: some signs take two.
fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::seen::Pool;

    #[test]
    fn a_list_reads_as_a_table() {
        let key = |key: &str, rate, certain| Key {
            key: key.to_owned(),
            pool: "cache".to_owned(),
            state: "cached".to_owned(),
            rate,
            lower: rate - 5.0,
            upper: rate + 5.0,
            certain,
            share: 0.125,
            reads: rate - 1.0,
            writes: 1.0,
            bytes: 4096.0,
            hit_ratio: certain.then_some(0.999),
            hot_ms: 65_000,
        };
        let seen = Seen {
            found: 3,
            keys: vec![
                key("6f1c9d2b00000001", 12_345.0, true),
                key("\u{9375}:1", 80.0, false),
            ],
            pools: vec![Pool {
                name: "cache".to_owned(),
                hot_keys: 3,
                would_save: Some("memory would answer 9 requests/s".to_owned()),
                ..Pool::default()
            }],
            ..Seen::default()
        };
        assert_eq!(
            text(&seen),
            "\
KEY               POOL   STATE    REQ/S     MIN     MAX   SHARE  READS/S  WRITES/S  BYTES/S    HITS  HOT FOR
6f1c9d2b00000001  cache  cached  12,345  12,340  12,350  12.5 %   12,344       1.0  4.0 KiB  99.9 %     65 s
\u{9375}:1              cache  cached    80.0   ~75.0   ~85.0  12.5 %     79.0       1.0  4.0 KiB       -     65 s
2 of 3; --limit shows more
~ requests are sampled: bounds are likely, not certain
cache only observes: memory would answer 9 requests/s
"
        );
        assert_eq!(text(&Seen::default()), "no key is hot\n");
    }
}
