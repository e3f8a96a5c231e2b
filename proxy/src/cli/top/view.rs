//! The picture of `top`: figures and what the reader chose -> cells.
//!
//! Nothing here knows a terminal, so `--once` and the tests draw the same.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Clear, Paragraph, Row, Table, Widget};

use super::figures::{Figures, Pool};
use crate::cli::seen::{Key, amount, percent, span};
use crate::metrics::hotkeys::{Sort, bytes};

/// Cells of the bar that shows a key's share.
const BAR: usize = 10;

const HELP: &[&str] = &[
    "q, Esc, Ctrl-C   quit",
    "s                sort by rate, reply bytes, writes",
    "p, Space         pause and go on",
    "Up, Down, PageUp, PageDown, Home, End",
    "                 scroll the hot keys",
    "?                close this help",
    "",
    "REQ/S stands between MIN and MAX, which are certain",
    "unless marked with ~ (requests are sampled).",
    "SHARE is of the requests of the key's pool.",
];

/// What the reader chose.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub sort: Sort,
    pub paused: bool,
    /// Hot keys above the first that is shown.
    pub scroll: usize,
    pub help: bool,
    /// Without colours, as `NO_COLOR` asks.
    pub plain: bool,
    /// Why there are no newer figures.
    pub trouble: Option<String>,
}

impl Choice {
    fn colour(&self, colour: Color) -> Style {
        match self.plain {
            true => Style::new(),
            false => Style::new().fg(colour),
        }
    }

    fn faint(&self) -> Style {
        match self.plain {
            true => Style::new(),
            false => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

/// Lines that the whole picture needs, for `--once`.
pub fn height(figures: &Figures) -> u16 {
    let pools = figures.now.pools.len() + savings(figures).len();
    let lines = 5 + pools + figures.now.seen.keys.len().max(1);
    u16::try_from(lines).unwrap_or(u16::MAX).clamp(8, 200)
}

/// Draw everything; `choice.scroll` is drawn back to where there are keys.
pub fn draw(figures: &Figures, choice: &mut Choice, area: Rect, buffer: &mut Buffer) {
    let pools = figures.now.pools.len() as u16 + 1;
    let savings = savings(figures);
    // However many pools there are, hot keys have half of the place if they
    // need it: title, memory, heads and foot take four lines.
    let rows = figures
        .now
        .seen
        .keys
        .len()
        .max(1)
        .min(usize::from(u16::MAX)) as u16;
    let left = area.height.saturating_sub(rows.saturating_add(4));
    let above = (pools + savings.len() as u16).min(left.max(area.height / 2));
    let [title, above, gap, hot, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(above),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    Paragraph::new(head(figures, choice)).render(title, buffer);
    let [table, below] =
        Layout::vertical([Constraint::Max(pools), Constraint::Min(0)]).areas(above);
    Widget::render(pool_table(figures, choice), table, buffer);
    let savings: Vec<Line<'_>> = savings.into_iter().map(Line::from).collect();
    Paragraph::new(savings).render(below, buffer);
    Paragraph::new(memory(figures)).render(gap, buffer);
    keys(figures, choice, hot, buffer);
    Paragraph::new(foot_line(choice)).render(foot, buffer);
    if choice.help {
        help(area, buffer);
    }
}

fn head(figures: &Figures, choice: &Choice) -> Line<'static> {
    let now = &figures.now;
    let per_second = |rate: Option<f64>| rate.map_or("-".to_owned(), amount);
    let facts = format!(
        " {}  up {}  {} worker{}  {} clients  {} requests/s  {} errors/s  CPU {}  {}",
        now.version,
        span(now.uptime_ms),
        now.workers,
        if now.workers == 1 { "" } else { "s" },
        now.clients,
        per_second(figures.per_second(|s| s.requests as f64)),
        per_second(figures.per_second(|s| s.errors as f64)),
        figures
            .per_second(|s| s.cpu_seconds)
            .map_or("-".to_owned(), |cpu| format!("{:.0} %", 100.0 * cpu)),
        bytes(now.memory),
    );
    Line::from(vec![
        Span::styled("Emberline", choice.colour(Color::Yellow)),
        Span::raw(facts),
    ])
}

fn pool_table(figures: &Figures, choice: &Choice) -> Table<'static> {
    let number = |rate: Option<f64>| right(rate.map_or("-".to_owned(), amount));
    let millis = |time: Option<f64>| right(time.map_or("-".to_owned(), latency));
    let rows = figures.now.pools.iter().map(|pool| {
        let between = figures.between(&pool.name);
        let l1 = figures.now.seen.pools.iter();
        let l1 = l1.clone().find(|l1| l1.name == pool.name);
        let errors = match between.errors {
            Some(errors) if errors > 0.0 => choice.colour(Color::Red),
            _ => Style::new(),
        };
        Row::new(vec![
            Cell::from(pool.name.clone()),
            number(between.requests),
            number(between.errors).style(errors),
            millis(between.p50_ms),
            millis(between.p99_ms),
            right(l1.map_or(0, |l1| l1.hot_keys).to_string()),
            Cell::from(l1.map(|l1| l1.mode.clone()).unwrap_or_default()),
            right(percent(between.hit_ratio)),
            Cell::from(servers(pool, choice)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Fill(2),
    ];
    let heads = [
        "POOL", "REQ/S", "ERR/S", "P50", "P99", "HOT", "L1", "HITS", "SERVERS",
    ];
    let words = [0, 6, 8];
    Table::new(rows, widths).header(header(&heads, &words, choice))
}

fn header(heads: &[&'static str], words: &[usize], choice: &Choice) -> Row<'static> {
    let cells = heads
        .iter()
        .enumerate()
        .map(|(at, head)| match words.contains(&at) {
            true => Cell::from(*head),
            false => right((*head).to_owned()),
        });
    Row::new(cells.collect::<Vec<_>>()).style(choice.faint())
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn latency(milliseconds: f64) -> String {
    match milliseconds {
        ..1.0 => format!("{:.0} us", milliseconds * 1000.0),
        1.0..100.0 => format!("{milliseconds:.1} ms"),
        _ => format!("{milliseconds:.0} ms"),
    }
}

/// The names of those that are down, and how many are not.
fn servers(pool: &Pool, choice: &Choice) -> Line<'static> {
    if pool.servers.is_empty() {
        return Line::from("in this process");
    }
    let of = |state: &'static str| pool.servers.iter().filter(move |one| one.state == state);
    let down: Vec<&str> = of("down").map(|one| &*one.name).collect();
    let mut spans = Vec::new();
    if !down.is_empty() {
        let text = format!("{} down: {}  ", down.len(), down.join(" "));
        spans.push(Span::styled(text, choice.colour(Color::Red)));
    }
    for (state, colour) in [("up", Color::Green), ("unused", Color::DarkGray)] {
        let count = of(state).count();
        if count > 0 {
            let text = format!("{count} {state}  ");
            spans.push(Span::styled(text, choice.colour(colour)));
        }
    }
    Line::from(spans)
}

/// What memory would save, for pools that only observe.
fn savings(figures: &Figures) -> Vec<String> {
    let pools = figures
        .now
        .seen
        .pools
        .iter()
        .filter(|pool| pool.hot_keys > 0);
    pools
        .filter_map(|pool| {
            Some(format!(
                "{} only observes: {}",
                pool.name,
                pool.would_save.as_ref()?
            ))
        })
        .collect()
}

fn memory(figures: &Figures) -> String {
    let seen = &figures.now.seen;
    format!(
        "{} hot keys  L1 {} of {}, {} items",
        seen.found,
        bytes(seen.l1_bytes),
        bytes(seen.l1_capacity),
        seen.l1_items
    )
}

fn keys(figures: &Figures, choice: &mut Choice, area: Rect, buffer: &mut Buffer) {
    let mut keys = figures.now.seen.keys.clone();
    Key::sort(&mut keys, choice.sort);
    let room = usize::from(area.height.saturating_sub(1)).max(1);
    choice.scroll = choice.scroll.min(keys.len().saturating_sub(room));
    if keys.is_empty() {
        return Paragraph::new("no key is hot").render(area, buffer);
    }
    let columns = columns(area.width);
    let rows = keys.iter().skip(choice.scroll).take(room);
    let row = |key| Row::new(columns.iter().map(|column| column.show.cell(key, choice)));
    let rows = rows.map(row);
    let widths = columns.iter().map(|column| column.width);
    let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let words: Vec<usize> = (0..columns.len())
        .filter(|&at| columns[at].show.is_words())
        .collect();
    let table = Table::new(rows, widths).header(header(&heads, &words, choice));
    Widget::render(table, area, buffer);
}

/// A column of the hot keys.
#[derive(Clone, Copy)]
struct Column {
    head: &'static str,
    width: Constraint,
    /// Columns that it takes at least, with the gap behind it.
    least: u16,
    /// A narrow terminal shows the columns of the first ranks alone.
    rank: u8,
    show: Show,
}

/// Words stand left, numbers right.
#[derive(Clone, Copy)]
enum Show {
    Words(fn(&Key, &Choice) -> Cell<'static>),
    Number(fn(&Key) -> String),
}

impl Show {
    fn is_words(self) -> bool {
        matches!(self, Show::Words(_))
    }

    fn cell(self, key: &Key, choice: &Choice) -> Cell<'static> {
        match self {
            Show::Words(words) => words(key, choice),
            Show::Number(number) => right(number(key)),
        }
    }
}

/// The columns that fit, in the order that they are shown in.
fn columns(width: u16) -> Vec<Column> {
    let mut ranked = COLUMNS;
    ranked.sort_by_key(|column| column.rank);
    let mut left = width;
    let fits = ranked.iter().take_while(|column| {
        let fits = column.rank == 0 || column.least <= left;
        left = left.saturating_sub(column.least);
        fits
    });
    let last = fits.map(|column| column.rank).last().unwrap_or(0);
    COLUMNS
        .into_iter()
        .filter(|column| column.rank <= last)
        .collect()
}

const COLUMNS: [Column; 12] = [
    fill("KEY", 3, 22, 0, |key, _| key.key.clone().into()),
    fill("POOL", 1, 8, 3, |key, _| key.pool.clone().into()),
    words("STATE", 11, 4, state),
    number("REQ/S", 9, 1, |key| amount(key.rate)),
    // One bound alone would mislead: there is room for both or for none.
    Column {
        least: 20,
        ..number("MIN", 9, 6, |key| bound(key, key.lower))
    },
    Column {
        least: 0,
        ..number("MAX", 9, 6, |key| bound(key, key.upper))
    },
    number("SHARE", 7, 2, |key| percent(Some(key.share))),
    words("", BAR as u16, 8, |key, choice| {
        Cell::from(bar(key.share)).style(choice.colour(Color::Yellow))
    }),
    number("WRITES/S", 8, 10, |key| amount(key.writes)),
    number("BYTES/S", 10, 9, |key| bytes(key.bytes)),
    number("HITS", 8, 5, |key| percent(key.hit_ratio)),
    number("HOT FOR", 7, 11, |key| span(key.hot_ms)),
];

/// A column that takes a part of the width that the others leave.
const fn fill(
    head: &'static str,
    part: u16,
    least: u16,
    rank: u8,
    cell: fn(&Key, &Choice) -> Cell<'static>,
) -> Column {
    Column {
        head,
        width: Constraint::Fill(part),
        least,
        rank,
        show: Show::Words(cell),
    }
}

const fn words(
    head: &'static str,
    width: u16,
    rank: u8,
    cell: fn(&Key, &Choice) -> Cell<'static>,
) -> Column {
    Column {
        head,
        width: Constraint::Length(width),
        least: width + 1,
        rank,
        show: Show::Words(cell),
    }
}

const fn number(head: &'static str, width: u16, rank: u8, text: fn(&Key) -> String) -> Column {
    Column {
        head,
        width: Constraint::Length(width),
        least: width + 1,
        rank,
        show: Show::Number(text),
    }
}

fn bound(key: &Key, bound: f64) -> String {
    let doubt = if key.certain { "" } else { "~" };
    format!("{doubt}{}", amount(bound))
}

fn state(key: &Key, choice: &Choice) -> Cell<'static> {
    let style = match key.state.as_str() {
        "cached" => choice.colour(Color::Green),
        "promoted" => choice.colour(Color::Yellow),
        "quarantined" => choice.colour(Color::Red),
        _ => Style::new(),
    };
    Cell::from(key.state.clone()).style(style)
}

/// A bar of `BAR` cells for 1, in eighths of a cell.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = [
        "", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}",
    ];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    "\u{2588}".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn foot_line(choice: &Choice) -> Line<'static> {
    if let Some(trouble) = &choice.trouble {
        return Line::styled(format!("no figures: {trouble}"), choice.colour(Color::Red));
    }
    let paused = if choice.paused { "PAUSED  " } else { "" };
    let text = format!(
        "{paused}q quit  s sort: {}  p pause  arrows scroll  ? help",
        choice.sort.name()
    );
    Line::styled(text, choice.faint())
}

fn help(area: Rect, buffer: &mut Buffer) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0) as u16 + 4;
    let place = area.centered(
        Constraint::Length(width.min(area.width)),
        Constraint::Length((HELP.len() as u16 + 2).min(area.height)),
    );
    Clear.render(place, buffer);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(" Keys ");
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|line| Line::from(format!(" {line}")))
        .collect();
    Paragraph::new(lines).block(block).render(place, buffer);
}

/// The picture as lines of text.
pub fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide sign takes the cell behind it as well.
            x += (Span::raw(symbol).width() as u16).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::super::figures::Snapshot;
    use super::*;

    fn answers(n: u64) -> [Value; 3] {
        let key = |name: &str, rate: u64, certain: bool| {
            json!({
                "key": name, "pool": "sessions", "state": "cached", "certain": certain,
                "requests": { "rate": rate, "lower": rate - 20, "upper": rate + 20 },
                "reads": { "rate": rate }, "writes": { "rate": 2.5 },
                "bytes": { "rate": 1024 * rate }, "share": rate as f64 / 2000.0,
                "hit_ratio": 0.998, "hot_ms": 61_000,
            })
        };
        let keys = [
            key("6f1c9d2b00000001", 1000, true),
            key("6f1c9d2b00000002", 125, false),
        ];
        let hot = json!({
            "l1": { "bytes": 2_097_152, "capacity": 67_108_864, "items": 2 },
            "found": 2, "keys": keys,
            "pools": [
                { "pool": "sessions", "mode": "tracking", "hot_keys": 2, "hits": 900 * n, "misses": 100 * n },
                { "pool": "users", "mode": "observe", "hot_keys": 1, "would_hit": n, "would_miss": n,
                  "would_save": { "sentence": "memory would answer 40 requests/s" } },
            ],
        });
        let stats = json!({
            "version": "0.1.0", "uptime_seconds": 600, "workers": 2, "cpu_seconds": 0.25 * n as f64,
            "memory_bytes": 20_971_520, "listeners": [{ "clients": 12 }],
            "requests": { "ok": 2000 * n, "error": 3 * n },
        });
        let pools = json!({
            "latency_bounds_ms": [0.5, 2.0],
            "pools": [
                { "name": "sessions", "requests": 2000 * n, "errors": 3 * n, "latency_counts": [60 * n, 40 * n, 0],
                  "servers": [{ "name": "a:1", "state": "up" }, { "name": "b:1", "state": "down" }] },
                { "name": "users", "requests": 0, "errors": 0, "latency_counts": [0, 0, 0], "servers": [] },
            ],
        });
        [hot, stats, pools]
    }

    fn figures() -> Figures {
        let start = Instant::now();
        let read = |n, at| {
            let [hot, stats, pools] = answers(n);
            Snapshot::read(&hot, &stats, &pools, at)
        };
        let mut figures = Figures::new(read(1, start));
        figures.advance(read(2, start + Duration::from_secs(1)));
        figures
    }

    fn picture(choice: &mut Choice, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(&figures(), choice, area, &mut buffer);
        text(&buffer)
    }

    #[test]
    fn the_picture_has_pools_savings_and_hot_keys() {
        let golden = include_str!("golden.txt");
        let found = picture(&mut Choice::default(), 132, height(&figures()));
        assert_eq!(found, golden, "\n{found}");
    }

    #[test]
    fn it_fits_into_any_terminal() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (500, 100)] {
            for help in [false, true] {
                let mut choice = Choice {
                    help,
                    scroll: 99,
                    ..Choice::default()
                };
                let picture = picture(&mut choice, width, height);
                assert_eq!(picture.lines().count(), usize::from(height));
                assert!(choice.scroll < 2, "{}", choice.scroll);
            }
        }
    }

    #[test]
    fn a_narrow_terminal_shows_what_matters_most() {
        let picture = picture(&mut Choice::default(), 80, 20);
        let heads = picture
            .lines()
            .find(|line| line.starts_with("KEY"))
            .unwrap();
        let heads: Vec<&str> = heads.split_whitespace().collect();
        assert_eq!(heads, ["KEY", "POOL", "STATE", "REQ/S", "SHARE", "HITS"]);
        assert!(picture.contains("6f1c9d2b00000001"), "{picture}");
        assert!(picture.contains("1 down: b:1"), "{picture}");
    }

    #[test]
    fn keys_scroll_and_sort_and_the_foot_tells() {
        let mut choice = Choice {
            scroll: 1,
            paused: true,
            sort: Sort::Bytes,
            ..Choice::default()
        };
        // Two pools, a saving, and room for one key.
        let picture_of = picture(&mut choice, 132, 9);
        assert!(!picture_of.contains("6f1c9d2b00000001"), "{picture_of}");
        assert!(picture_of.contains("6f1c9d2b00000002"), "{picture_of}");
        assert!(
            picture_of.contains("PAUSED  q quit  s sort: bytes"),
            "{picture_of}"
        );
        choice.trouble = Some("gone".to_owned());
        assert!(picture(&mut choice, 80, 12).ends_with("no figures: gone\n"));
        choice.help = true;
        assert!(picture(&mut choice, 80, 24).contains("close this help"));
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(
            [0.0, 0.1, 1.0].map(|share| bar(share).chars().count()),
            [0, 1, 10]
        );
        assert_eq!(bar(0.0125), "\u{258f}");
        assert_eq!(bar(f64::NAN), "");
    }
}
