//! The poll loop: one per thread, no allocation per request once its buffers
//! have grown.
//!
//! Sockets are registered once, edge-triggered, for reading and writing; there
//! is no `epoll_ctl` afterwards. A turn of the loop reads every ready socket
//! once, queues what is due and writes each touched socket once.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Context};
use super::figures::Figures;
use super::keyspace::Keyspace;
use super::options::Options;
use super::rng::Rng;
use super::zipf::Zipf;
use crate::interrupt;

/// A run in which nothing at all comes back for this long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this many requests over all threads.
    Requests(u64),
    /// When this time has passed; requests in flight are still waited for.
    Time(Duration),
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// Write every key once, in order.
    Fill,
    /// Reads and writes as the options say.
    Mix(Limit),
}

/// Connections, ready to run several jobs one after the other.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    context: Context,
    workers: Vec<Worker>,
}

impl Engine {
    /// Open all connections.
    pub fn connect(options: Options) -> io::Result<Engine> {
        options
            .check()
            .map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let context = Context {
            protocol: options.protocol,
            keyspace: Keyspace::new(options.sizes),
            verify: options.verify,
            multi: options.mget > 1,
        };
        let workers = (0..options.threads)
            .map(|index| Worker::connect(index, &options))
            .collect::<io::Result<_>>()?;
        Ok(Engine {
            options,
            context,
            workers,
        })
    }

    /// Run one job. `tick` is told now and then how many requests are done.
    pub fn run(&mut self, job: Job, mut tick: Option<&mut dyn FnMut(u64)>) -> io::Result<Figures> {
        let Engine {
            options,
            context,
            workers,
        } = self;
        let done = AtomicU64::new(0);
        let start = Instant::now();
        let mut sum = Figures::default();
        thread::scope(|scope| {
            let shared = Shared {
                options,
                context,
                start,
                done: &done,
            };
            let handles: Vec<_> = workers
                .iter_mut()
                .map(|worker| {
                    scope.spawn(move || {
                        let source = Source::new(job, worker.index, shared.options, shared.context);
                        Run {
                            worker,
                            shared,
                            source,
                            figures: Figures::default(),
                        }
                        .run()
                    })
                })
                .collect();
            while let Some(tick) = tick.as_deref_mut() {
                tick(done.load(Ordering::Relaxed));
                if handles.iter().all(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            for handle in handles {
                let figures = handle
                    .join()
                    .map_err(|_| io::Error::other("a load thread panicked"))??;
                sum.add(figures);
            }
            Ok(sum)
        })
    }
}

#[derive(Debug)]
struct Worker {
    index: u32,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    rng: Rng,
}

impl Worker {
    fn connect(index: u32, options: &Options) -> io::Result<Worker> {
        let share = options.connections / options.threads
            + u32::from(index < options.connections % options.threads);
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        for token in 0..share as usize {
            connections.push(open(&poll, token, options)?);
        }
        Ok(Worker {
            index,
            poll,
            events: Events::with_capacity(1024),
            connections,
            rng: Rng::new(
                options
                    .seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(u64::from(index)),
            ),
        })
    }
}

fn open(poll: &Poll, token: usize, options: &Options) -> io::Result<Connection> {
    let mut stream = options.target.connect()?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut stream, Token(token), interest)?;
    Ok(Connection::new(stream, options.protocol))
}

/// What the threads of one run share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    options: &'a Options,
    context: &'a Context,
    start: Instant,
    done: &'a AtomicU64,
}

impl Shared<'_> {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Where a thread's requests come from, and how many are left.
struct Source<'a> {
    context: &'a Context,
    chooser: Chooser,
    keys: Vec<u64>,
    reads: f64,
    mget: usize,
    fill: Option<u64>,
    left: u64,
    end: Option<u64>,
    /// Nanoseconds between two requests, when they are due at fixed times.
    gap: Option<f64>,
    sent: u64,
}

impl<'a> Source<'a> {
    fn new(job: Job, index: u32, options: &Options, context: &'a Context) -> Source<'a> {
        let share =
            |n: u64, i: u32| (u128::from(n) * u128::from(i) / u128::from(options.threads)) as u64;
        let mut source = Source {
            context,
            chooser: Chooser {
                hot: options.hot,
                zipf: Zipf::new(options.keys, options.zipf),
            },
            keys: Vec::new(),
            reads: options.reads,
            mget: options.mget as usize,
            fill: None,
            left: u64::MAX,
            end: None,
            gap: options
                .rate
                .map(|rate| f64::from(options.threads) * 1e9 / rate),
            sent: 0,
        };
        match job {
            Job::Fill => {
                let first = share(options.keys, index);
                source.fill = Some(first);
                source.left = share(options.keys, index + 1) - first;
                source.gap = None;
            }
            Job::Mix(Limit::Requests(n)) => source.left = share(n, index + 1) - share(n, index),
            Job::Mix(Limit::Time(time)) => source.end = Some(time.as_nanos() as u64),
        }
        source
    }

    /// When the next request is due, if there is one.
    ///
    /// In an open loop all that was due before the end is sent, however late,
    /// or a stall at the end would go unseen; but not for more than the same
    /// time again, or a server that is far too slow would never let us go.
    fn due(&self, now: u64) -> Option<u64> {
        let due = self.gap.map_or(now, |gap| (self.sent as f64 * gap) as u64);
        let ended = self.left == 0 || self.end.is_some_and(|end| due >= end || now / 2 >= end);
        (!ended).then_some(due)
    }

    /// Requests that were due before the end and have not been sent.
    fn unsent(&self) -> u64 {
        match (self.gap, self.end) {
            (Some(gap), Some(end)) => ((end as f64 / gap) as u64).saturating_sub(self.sent),
            _ => 0,
        }
    }

    fn push(&mut self, due: u64, rng: &mut Rng, connection: &mut Connection) {
        self.left -= 1;
        self.sent += 1;
        if let Some(key) = &mut self.fill {
            connection.push_write(*key, due, self.context);
            *key += 1;
        } else if self.reads >= 1.0 || rng.unit() < self.reads {
            self.keys.clear();
            let chooser = &self.chooser;
            self.keys.extend((0..self.mget).map(|_| chooser.key(rng)));
            connection.push_read(&self.keys, due, self.context);
        } else {
            connection.push_write(self.chooser.key(rng), due, self.context);
        }
    }
}

/// Which key is next.
struct Chooser {
    /// The share of key 0.
    hot: f64,
    /// What the other requests ask for.
    zipf: Zipf,
}

impl Chooser {
    fn key(&self, rng: &mut Rng) -> u64 {
        match self.hot > 0.0 && rng.unit() < self.hot {
            true => 0,
            false => self.zipf.sample(rng),
        }
    }
}

/// One thread's part of a run.
struct Run<'a> {
    worker: &'a mut Worker,
    shared: Shared<'a>,
    source: Source<'a>,
    figures: Figures,
}

impl Run<'_> {
    fn run(mut self) -> io::Result<Figures> {
        let mut next = 0;
        let mut heard = Instant::now();
        for token in 0..self.worker.connections.len() {
            self.refill(token)?;
        }
        loop {
            if self.source.gap.is_some() {
                self.issue_due(&mut next)?;
            }
            if interrupt::requested() {
                break;
            }
            let idle = self
                .worker
                .connections
                .iter()
                .all(|connection| connection.in_flight() == 0);
            let wait = self.source.due(self.shared.now());
            if idle && wait.is_none() {
                break;
            }
            let before = self.figures.requests + self.figures.lost;
            self.turn(wait)?;
            let after = self.figures.requests + self.figures.lost;
            self.shared
                .done
                .fetch_add(after - before, Ordering::Relaxed);
            if after > before || idle {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                let text = format!(
                    "no reply for {} s after {after} requests",
                    SILENCE_MAX.as_secs()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
        self.figures.unsent = self.source.unsent();
        self.figures.elapsed = self.shared.start.elapsed();
        Ok(self.figures)
    }

    /// Wait for sockets and serve those that are ready.
    fn turn(&mut self, wait: Option<u64>) -> io::Result<()> {
        let timeout = self.timeout(wait);
        match self
            .worker
            .poll
            .poll(&mut self.worker.events, Some(timeout))
        {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        // The events are taken out for the loop, since serving one borrows the worker.
        let events = std::mem::replace(&mut self.worker.events, Events::with_capacity(0));
        let mut result = Ok(());
        for event in &events {
            let Token(token) = event.token();
            result =
                result.and_then(|()| self.serve(token, event.is_readable(), event.is_writable()));
        }
        let empty = events.is_empty();
        self.worker.events = events;
        // The kernel's poll timeout counts in milliseconds; requests that are due sooner
        // are waited for in short naps, so that they go out within about 50 us.
        if empty
            && timeout.is_zero()
            && let Some(due) = wait
        {
            let left = due.saturating_sub(self.shared.now());
            thread::sleep(Duration::from_nanos(left.min(50_000)));
        }
        result
    }

    fn timeout(&self, wait: Option<u64>) -> Duration {
        let long = Duration::from_millis(100);
        match wait {
            Some(due) if self.source.gap.is_some() => {
                let left = Duration::from_nanos(due.saturating_sub(self.shared.now()));
                // Rounded down, so that the poll never oversleeps what is due.
                Duration::from_millis(left.as_millis() as u64)
                    .saturating_sub(Duration::from_millis(1))
                    .min(long)
            }
            _ => long,
        }
    }

    fn serve(&mut self, token: usize, readable: bool, writable: bool) -> io::Result<()> {
        let Run {
            worker,
            shared,
            figures,
            ..
        } = self;
        let connection = &mut worker.connections[token];
        let mut result = Ok(());
        if readable {
            result = connection.receive(shared.context, || shared.now(), figures);
        }
        if writable && result.is_ok() {
            result = connection.flush(figures);
        }
        match result {
            Ok(()) => self.refill(token),
            Err(error) => self.replace(token, &error),
        }
    }

    /// Closed loop: a connection that has all its replies gets its next batch.
    fn refill(&mut self, token: usize) -> io::Result<()> {
        let Run {
            worker,
            shared,
            source,
            figures,
        } = self;
        let connection = &mut worker.connections[token];
        if source.gap.is_some() || connection.in_flight() > 0 {
            return Ok(());
        }
        let now = shared.now();
        // A fill is not measured, so it need not be as slow as one request at a time.
        let depth = match source.fill {
            Some(_) => shared.options.pipeline.max(16),
            None => shared.options.pipeline,
        };
        for _ in 0..depth {
            let Some(due) = source.due(now) else { break };
            source.push(due, &mut worker.rng, connection);
        }
        match connection.flush(figures) {
            Ok(()) => Ok(()),
            Err(error) => self.replace(token, &error),
        }
    }

    /// Open loop: hand out what is due, round robin over connections with room.
    /// What finds no room stays due: its wait counts as latency.
    fn issue_due(&mut self, next: &mut usize) -> io::Result<()> {
        let room = self.shared.options.pipeline as usize;
        let count = self.worker.connections.len();
        let now = self.shared.now();
        let mut full = 0;
        while full < count {
            let Some(due) = self.source.due(now).filter(|&due| due <= now) else {
                break;
            };
            let token = *next % count;
            *next = token + 1;
            let connection = &mut self.worker.connections[token];
            if connection.in_flight() >= room {
                full += 1;
                continue;
            }
            full = 0;
            self.source.push(due, &mut self.worker.rng, connection);
            if let Err(error) = connection.flush(&mut self.figures) {
                self.replace(token, &error)?;
            }
        }
        Ok(())
    }

    /// A connection ended: its requests are lost, and a new one takes its place.
    fn replace(&mut self, token: usize, error: &io::Error) -> io::Result<()> {
        if error.kind() == io::ErrorKind::InvalidData {
            self.figures.mismatch(|| error.to_string());
        }
        let lost = self.worker.connections[token].in_flight() as u64;
        self.figures.lost += lost;
        if lost == 0 && self.figures.requests == 0 {
            // It was closed before it was ever used: going on would only spin.
            return Err(io::Error::new(
                error.kind(),
                format!("the connection was closed: {error}"),
            ));
        }
        self.worker.connections[token] = open(&self.worker.poll, token, self.shared.options)?;
        self.refill(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_key_has_its_share() {
        for hot in [0.0, 0.5, 1.0] {
            let zipf = Zipf::new(1_000_000, 0.0);
            let chooser = Chooser { hot, zipf };
            let mut rng = Rng::new(1);
            let drawn = (0..100_000).filter(|_| chooser.key(&mut rng) == 0).count();
            let share = drawn as f64 / 100_000.0;
            assert!((share - hot).abs() < 0.01, "{hot}: {share}");
        }
    }
}
