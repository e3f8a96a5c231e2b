//! A TCP relay between the proxy and its server, with weather.
//!
//! Nothing is lost or reordered on the way, as nothing is on a TCP connection:
//! the relay delays bytes, stops passing them on, or ends connections. It
//! tells the connection through which the L1 is filled from those of the
//! workers by what is said on it, so that one can be troubled without the
//! other.
//!
//! ```text
//!   proxy ===(up)===> relay ===(up)===> server
//!         <==(down)==       <==(down)==
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::stamp::HOLD;

/// Above this a direction is not read any more until it can be written.
const QUEUE_MAX: usize = 4 << 20;

/// What befalls the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// On connections that fill the L1.
    pub fills: Lane,
    /// On all others.
    pub others: Lane,
    /// Each new number ends all connections that fill the L1.
    pub cut_fills: u32,
    /// Each new number ends all connections.
    pub cut_all: u32,
    /// A connection on which a marked value passes comes to a stop for so long.
    pub hold: Duration,
    /// A fill's `GET` is kept back for so long behind what precedes it.
    pub split: Duration,
}

/// What befalls them on one kind of connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Delay towards the server.
    pub up: Duration,
    /// Delay towards the proxy.
    pub down: Duration,
    /// Nothing is passed on to the server.
    pub frozen_up: bool,
    /// Nothing is passed on to the proxy.
    pub frozen_down: bool,
}

impl Lane {
    /// Nothing passes.
    pub const SILENT: Lane = Lane {
        up: Duration::ZERO,
        down: Duration::ZERO,
        frozen_up: true,
        frozen_down: true,
    };

    /// Everything is late.
    pub fn slow(delay: Duration) -> Lane {
        Lane {
            up: delay,
            down: delay,
            ..Lane::default()
        }
    }
}

/// A running relay; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens, on loopback.
    pub port: u16,
    weather: Option<watch::Sender<Weather>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    /// Start one before the server at this loopback port. A connection fills
    /// the L1 if one of `marks` is said to the server on it.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn start(server: u16, marks: &'static [&'static str]) -> io::Result<Relay> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (weather, forecast) = watch::channel(Weather::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let serve = serve(listener, server, marks, forecast);
            if let Err(error) = LocalSet::new().block_on(&runtime, serve) {
                eprintln!("emberline-checker: the relay ended: {error}");
            }
        })?;
        Ok(Relay {
            port,
            weather: Some(weather),
            thread: Some(thread),
        })
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        if let Some(sender) = &self.weather {
            // Fails when the relay has ended, which it has said then.
            let _ = sender.send(weather);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.weather = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say when it ends.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    server: u16,
    marks: &'static [&'static str],
    mut forecast: watch::Receiver<Weather>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let forecast = forecast.clone();
                tokio::task::spawn_local(connect(client, server, marks, forecast));
            }
            changed = forecast.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn connect(
    client: TcpStream,
    server: u16,
    marks: &'static [&'static str],
    forecast: watch::Receiver<Weather>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    for stream in [&client, &server] {
        // Only costs time.
        let _ = stream.set_nodelay(true);
    }
    let link = Rc::new(Link {
        marks,
        fills: Cell::new(false),
        held: Cell::new(Instant::now()),
    });
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = Pump::new(Way::Up, &link, &forecast).run(from_client, to_server);
    let down = Pump::new(Way::Down, &link, &forecast).run(from_server, to_client);
    tokio::join!(up, down);
}

/// What both directions of a connection share.
#[derive(Debug)]
struct Link {
    marks: &'static [&'static str],
    /// Whether it fills the L1.
    fills: Cell<bool>,
    /// Nothing passes before this time.
    held: Cell<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// One direction of a connection.
struct Pump {
    way: Way,
    link: Rc<Link>,
    forecast: watch::Receiver<Weather>,
    /// Pieces with the time at which they are due, in order.
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued: usize,
    cuts: (u32, u32),
}

impl Pump {
    fn new(way: Way, link: &Rc<Link>, forecast: &watch::Receiver<Weather>) -> Pump {
        let weather = *forecast.borrow();
        Pump {
            way,
            link: Rc::clone(link),
            forecast: forecast.clone(),
            queue: VecDeque::new(),
            queued: 0,
            cuts: (weather.cut_fills, weather.cut_all),
        }
    }

    /// Until both sides have said all, or the connection is cut.
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        let mut open = true;
        loop {
            if !open && self.queue.is_empty() {
                // The other side may be gone already.
                let _ = to.shutdown().await;
                return;
            }
            let (due, passes) = self.next();
            tokio::select! {
                biased;
                changed = self.forecast.changed() => {
                    if changed.is_err() || self.is_cut() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(due), if passes => {
                    if let Some((_, piece)) = self.queue.pop_front() {
                        self.queued -= piece.len();
                        if to.write_all(&piece).await.is_err() {
                            return;
                        }
                    }
                }
                read = from.read(&mut buffer), if open && self.queued < QUEUE_MAX => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(len) => self.take(&buffer[..len]),
                },
            }
        }
    }

    fn weather(&self) -> Weather {
        *self.forecast.borrow()
    }

    fn lane(&self) -> Lane {
        match self.link.fills.get() {
            true => self.weather().fills,
            false => self.weather().others,
        }
    }

    /// When the next piece is due, and whether there is one that may pass.
    fn next(&self) -> (Instant, bool) {
        let lane = self.lane();
        let frozen = match self.way {
            Way::Up => lane.frozen_up,
            Way::Down => lane.frozen_down,
        };
        match self.queue.front() {
            Some((due, _)) => ((*due).max(self.link.held.get()), !frozen),
            None => (self.link.held.get(), false),
        }
    }

    fn is_cut(&mut self) -> bool {
        let weather = self.weather();
        let (fills, all) = self.cuts;
        self.cuts = (weather.cut_fills, weather.cut_all);
        weather.cut_all != all || (weather.cut_fills != fills && self.link.fills.get())
    }

    fn take(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let mut split = None;
        if self.way == Way::Up {
            let said = |mark: &str| memmem::find(bytes, mark.as_bytes()).is_some();
            if !self.link.fills.get() && self.link.marks.iter().any(|mark| said(mark)) {
                self.link.fills.set(true);
            }
            let weather = self.weather();
            if !weather.hold.is_zero() && said(HOLD) {
                self.link.held.set(now + weather.hold);
            }
            if !weather.split.is_zero() && self.link.fills.get() {
                split = memmem::find(bytes, b"*2\r\n$3\r\nGET\r\n");
            }
        }
        let lane = self.lane();
        let delay = if self.way == Way::Up {
            lane.up
        } else {
            lane.down
        };
        match split {
            None => self.push(now + delay, bytes),
            Some(at) => {
                self.push(now + delay, &bytes[..at]);
                self.push(now + delay + self.weather().split, &bytes[at..]);
            }
        }
    }

    /// Later pieces are never due before earlier ones.
    fn push(&mut self, due: Instant, bytes: &[u8]) {
        let due = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queued += bytes.len();
        self.queue.push_back((due, bytes.to_vec()));
    }
}
