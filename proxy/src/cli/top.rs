//! `emberline top`: a running Emberline, live.
//!
//! ```text
//!   poller thread --Snapshot--> main loop: keys, signals, redraw
//!      | asks /hotkeys /stats /pools each interval
//! ```
//!
//! The terminal is given back as it was however this ends: by a key, by a
//! signal, by an error, and (through ratatui's panic hook) by a panic.

mod figures;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use tokio::signal::unix::{SignalKind, signal};

use self::figures::{Figures, Snapshot};
use self::view::Choice;
use super::terminal;
use crate::config::Time;
use crate::config::model::ADMIN_BIND;
use crate::metrics::hotkeys::Sort;

/// How often keys and signals are looked for.
const TURN: Duration = Duration::from_millis(50);
/// How long an answer may take, if that is more than the interval.
const TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Columns of `--once` where there is no terminal to ask.
const WIDTH: u16 = 132;

#[derive(Debug, clap::Args)]
pub struct Top {
    /// The admin API: HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN_BIND)]
    admin: String,
    /// How often to ask, from 100ms to 60s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Print one picture as text and end; needs no terminal
    #[arg(long)]
    once: bool,
}

pub fn run(args: &Top) -> ExitCode {
    let shown = match args.once {
        true => return once(args),
        false => live(args),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let Time(interval) = text.parse()?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    match bounds.contains(&interval) {
        true => Ok(interval),
        false => Err("expected a time from 100ms to 60s".to_owned()),
    }
}

fn plain() -> bool {
    // https://no-color.org: set to anything but nothing.
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

impl Top {
    fn ask(&self, sort: Sort) -> io::Result<Snapshot> {
        Snapshot::ask(&self.admin, sort, self.interval.max(TIMEOUT_MIN))
    }
}

/// Two answers, as one alone has no rates, and one picture.
fn once(args: &Top) -> ExitCode {
    let picture = || -> io::Result<String> {
        let mut figures = Figures::new(args.ask(Sort::default())?);
        std::thread::sleep(args.interval);
        figures.advance(args.ask(Sort::default())?);
        let width = match io::stdout().is_terminal() {
            true => ratatui::crossterm::terminal::size().map_or(WIDTH, |(width, _)| width),
            false => WIDTH,
        };
        let area = Rect::new(0, 0, width.max(1), view::height(&figures));
        let mut buffer = Buffer::empty(area);
        view::draw(&figures, &mut Choice::default(), area, &mut buffer);
        let mut text = view::text(&buffer);
        // The last line tells which keys to press.
        let end = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
        text.truncate(end);
        Ok(text)
    };
    match picture() {
        Ok(text) => terminal::print(text.as_bytes()),
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn live(args: &Top) -> io::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(io::Error::other(
            "top draws on a terminal and there is none: `emberline top --once` prints one \
             picture, `emberline hotkeys` the hot keys",
        ));
    }
    // What nobody answers is said before the screen changes.
    let figures = Figures::new(args.ask(Sort::default())?);
    let told = stop_on_signals()?;
    let sort = Arc::new(AtomicU8::new(0));
    let snapshots = poll(args, Arc::clone(&sort))?;
    let mut screen = Screen::open()?;
    let mut session = Session {
        figures,
        choice: Choice {
            plain: plain(),
            ..Choice::default()
        },
        sort,
    };
    session.run(&mut screen.0, &snapshots, &told)
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Screen> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Screen(terminal)),
            Err(error) => {
                // Half of it may be done.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone cannot be restored, and needs not be.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// A flag that is set by any signal that asks to end.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let (mut terminate, mut interrupt, mut hangup) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            tell.store(true, Ordering::Relaxed);
        })?;
    Ok(told)
}

/// Ask each interval on a thread of its own, so that a slow answer holds up no key.
fn poll(args: &Top, sort: Arc<AtomicU8>) -> io::Result<Receiver<io::Result<Snapshot>>> {
    let (admin, interval) = (args.admin.clone(), args.interval);
    let (send, receive) = channel();
    std::thread::Builder::new()
        .name("poller".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(interval);
                let by = usize::from(sort.load(Ordering::Relaxed));
                let by = Sort::ALL.get(by).copied().unwrap_or_default();
                let snapshot = Snapshot::ask(&admin, by, interval.max(TIMEOUT_MIN));
                if send.send(snapshot).is_err() {
                    return;
                }
            }
        })?;
    Ok(receive)
}

/// What the main loop holds.
struct Session {
    figures: Figures,
    choice: Choice,
    /// Index in `Sort::ALL`, for the poller.
    sort: Arc<AtomicU8>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Quit,
}

impl Session {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        snapshots: &Receiver<io::Result<Snapshot>>,
        told: &AtomicBool,
    ) -> io::Result<()> {
        let mut stale = true;
        loop {
            stale |= self.take(snapshots);
            if stale {
                terminal.draw(|frame| {
                    let area = frame.area();
                    view::draw(&self.figures, &mut self.choice, area, frame.buffer_mut());
                })?;
                stale = false;
            }
            if told.load(Ordering::Relaxed) {
                return Ok(());
            }
            let until = Instant::now() + TURN;
            while event::poll(until.saturating_duration_since(Instant::now()))? {
                stale = true;
                if let Event::Key(key) = event::read()?
                    && self.press(key) == Go::Quit
                {
                    return Ok(());
                }
            }
        }
    }

    /// Take up what the poller has sent; whether that was anything.
    fn take(&mut self, snapshots: &Receiver<io::Result<Snapshot>>) -> bool {
        let mut taken = false;
        loop {
            match snapshots.try_recv() {
                // What comes during a pause is let go: the picture stands still.
                Ok(_) if self.choice.paused => {}
                Ok(Ok(snapshot)) => {
                    self.figures.advance(snapshot);
                    self.choice.trouble = None;
                    taken = true;
                }
                Ok(Err(error)) => {
                    self.choice.trouble = Some(error.to_string());
                    taken = true;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return taken,
            }
        }
    }

    fn press(&mut self, key: KeyEvent) -> Go {
        if key.kind == KeyEventKind::Release {
            return Go::On;
        }
        let page = 10;
        let choice = &mut self.choice;
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Go::Quit,
            KeyCode::Esc if choice.help => choice.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Go::Quit,
            KeyCode::Char('s') => {
                let at = Sort::ALL.iter().position(|sort| *sort == choice.sort);
                let next = (at.unwrap_or(0) + 1) % Sort::ALL.len();
                choice.sort = Sort::ALL[next];
                self.sort.store(next as u8, Ordering::Relaxed);
            }
            KeyCode::Char('p' | ' ') => choice.paused = !choice.paused,
            KeyCode::Char('?' | 'h') => choice.help = !choice.help,
            KeyCode::Up | KeyCode::Char('k') => choice.scroll = choice.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => choice.scroll = choice.scroll.saturating_add(1),
            KeyCode::PageUp => choice.scroll = choice.scroll.saturating_sub(page),
            KeyCode::PageDown => choice.scroll = choice.scroll.saturating_add(page),
            KeyCode::Home => choice.scroll = 0,
            KeyCode::End => choice.scroll = usize::MAX,
            _ => {}
        }
        Go::On
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use serde_json::json;

    use super::*;

    fn snapshot() -> Snapshot {
        let nothing = json!({});
        Snapshot::read(&nothing, &nothing, &nothing, Instant::now())
    }

    fn session() -> Session {
        Session {
            figures: Figures::new(snapshot()),
            choice: Choice::default(),
            sort: Arc::default(),
        }
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut session = session();
        let mut press = |code| session.press(KeyEvent::from(code));
        for code in [
            KeyCode::Char('s'),
            KeyCode::Char('p'),
            KeyCode::Char('?'),
            KeyCode::Down,
            KeyCode::PageDown,
            KeyCode::Up,
            KeyCode::F(7),
        ] {
            assert_eq!(press(code), Go::On);
        }
        // Escape closes the help first.
        assert_eq!(press(KeyCode::Esc), Go::On);
        assert_eq!(press(KeyCode::Esc), Go::Quit);
        assert_eq!(press(KeyCode::Char('q')), Go::Quit);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(session.press(control), Go::Quit);
        assert_eq!(session.choice.sort, Sort::Bytes);
        assert_eq!(session.sort.load(Ordering::Relaxed), 1);
        assert!(session.choice.paused && !session.choice.help);
        assert_eq!(session.choice.scroll, 10);
        session.press(KeyEvent::from(KeyCode::End));
        session.press(KeyEvent::from(KeyCode::Down));
        assert_eq!(session.choice.scroll, usize::MAX);
    }

    #[test]
    fn a_pause_lets_figures_go_and_trouble_passes() {
        let (send, receive) = channel();
        let mut session = session();
        session.choice.paused = true;
        send.send(Ok(snapshot())).unwrap();
        assert!(!session.take(&receive));
        session.choice.paused = false;
        send.send(Err(io::Error::other("gone"))).unwrap();
        assert!(session.take(&receive));
        assert_eq!(session.choice.trouble.as_deref(), Some("gone"));
        send.send(Ok(snapshot())).unwrap();
        assert!(session.take(&receive));
        assert_eq!(session.choice.trouble, None);
    }

    #[test]
    fn an_interval_is_neither_a_flood_nor_a_lifetime() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["10ms", "2h", "1", "x"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
