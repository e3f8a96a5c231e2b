//! What goes wrong during a run, and when.
//!
//! Failover is not among it: with one server there is nobody to fail over to.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::census::Census;
use super::field::Field;
use super::history::{Via, Wipe};
use super::options::Faults;
use super::relay::{Lane, Weather};
use super::stage::Stage;
use super::stamp::{self, Key, STRANGER};
use super::wire::{Client, Dialect};
use crate::interrupt;
use crate::load::Protocol;
use crate::load::rng::Rng;

/// See the module's description. The last four are ways of writing and go on
/// all the time; the others strike one after the other, in random order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection that fills the L1 is closed; or all are, now and then.
    DropLink,
    /// The connection that fills the L1 stays open, but nothing passes.
    SilentLink,
    /// Pushes (with everything around them) are late, at times later than H.
    DelayedPushes,
    /// All connections are slow.
    Slow,
    /// Nothing passes in one direction, on any connection.
    Freeze,
    /// The server closes the connections that track keys.
    ClientKill,
    /// FLUSHALL, through the proxy or directly.
    FlushAll,
    /// The server remembers a single tracked key.
    TableLimit,
    /// Keys of the same names are written in another database.
    OtherDb,
    /// kill -9, and a new, empty server.
    Restart,
    /// SIGSTOP for longer than the timeout.
    Stop,
    /// A write is held on its way, for longer than the timeout or shorter.
    Doubt,
    /// SET PX and PEXPIRE.
    Pexpire,
    /// SET and RENAME.
    Rename,
    /// SET and COPY.
    Copy,
    /// EVAL.
    Eval,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 16] = [
        Fault::DropLink,
        Fault::SilentLink,
        Fault::DelayedPushes,
        Fault::Slow,
        Fault::Freeze,
        Fault::ClientKill,
        Fault::FlushAll,
        Fault::TableLimit,
        Fault::OtherDb,
        Fault::Restart,
        Fault::Stop,
        Fault::Doubt,
        Fault::Pexpire,
        Fault::Rename,
        Fault::Copy,
        Fault::Eval,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::DropLink => "drop-link",
            Fault::SilentLink => "silent-link",
            Fault::DelayedPushes => "delayed-pushes",
            Fault::Slow => "slow",
            Fault::Freeze => "freeze",
            Fault::ClientKill => "client-kill",
            Fault::FlushAll => "flushall",
            Fault::TableLimit => "table-limit",
            Fault::OtherDb => "other-db",
            Fault::Restart => "restart",
            Fault::Stop => "stop",
            Fault::Doubt => "doubt",
            Fault::Pexpire => "pexpire",
            Fault::Rename => "rename",
            Fault::Copy => "copy",
            Fault::Eval => "eval",
        }
    }

    fn strikes(self) -> bool {
        !matches!(
            self,
            Fault::Pexpire | Fault::Rename | Fault::Copy | Fault::Eval
        )
    }

    fn needs_redis(self) -> bool {
        matches!(self, Fault::ClientKill | Fault::TableLimit | Fault::OtherDb)
    }

    fn needs_server(self) -> bool {
        matches!(self, Fault::Restart | Fault::Stop)
    }
}

/// `all`, `none`, or names separated by commas.
pub fn parse_list(text: &str) -> Result<Faults, String> {
    match text {
        "all" => return Ok(Faults(Fault::ALL.to_vec())),
        "none" => return Ok(Faults::default()),
        _ => {}
    }
    let named = |name: &str| {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        known.ok_or_else(|| {
            let all: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
            format!(
                "no fault \"{name}\": expected all, none, or some of {}",
                all.join(", ")
            )
        })
    };
    text.split(',')
        .map(named)
        .collect::<Result<_, _>>()
        .map(Faults)
}

/// What struck, for the report.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// Which.
    pub fault: Fault,
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

/// The one who injects faults.
pub struct Gremlin<'a> {
    field: &'a Field,
    stage: &'a mut Stage,
    census: &'a mut Census,
    rng: Rng,
    base: Weather,
    cuts: u32,
    /// What was done.
    pub strikes: Vec<Strike>,
    /// What that did to the keys.
    pub wipes: Vec<Wipe>,
}

impl<'a> Gremlin<'a> {
    /// A gremlin that follows from a random source alone.
    pub fn new(field: &'a Field, stage: &'a mut Stage, census: &'a mut Census, rng: Rng) -> Self {
        let base = field.options().weather;
        stage.relay.set(base);
        Gremlin {
            field,
            stage,
            census,
            rng,
            base,
            cuts: 0,
            strikes: Vec::new(),
            wipes: Vec::new(),
        }
    }

    /// Strike, rest, and strike again, until the time is over. What was done
    /// is undone in the end.
    ///
    /// # Errors
    /// When a program ended that should not have, or the run is interrupted.
    pub fn run(&mut self, seconds: Duration) -> io::Result<()> {
        let deadline = Instant::now() + seconds;
        let mut order: Vec<Fault> = Vec::new();
        // Let keys become hot first.
        self.rest(Duration::from_millis(300))?;
        while Instant::now() < deadline {
            if order.is_empty() {
                order = self.shuffled();
            }
            if let Some(fault) = order.pop() {
                let from = self.field.now();
                // What is tried while the server is away may fail.
                let done = self.strike(fault);
                self.stage.relay.set(self.base);
                if let Err(error) = done {
                    if error.kind() == io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                    eprintln!("emberline-checker: {}: {error}", fault.name());
                }
                let until = self.field.now();
                self.strikes.push(Strike { fault, from, until });
            }
            let rest = Duration::from_millis(100 + self.rng.below(200));
            self.rest(rest.min(deadline.saturating_duration_since(Instant::now())))?;
        }
        Ok(())
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        let redis = self.field.options().protocol == Protocol::Redis;
        let mut order: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|fault| fault.strikes())
            .collect();
        order.retain(|&fault| {
            self.field.options().faults.has(fault)
                && (redis || !fault.needs_redis())
                && (self.stage.owns_server() || !fault.needs_server())
        });
        for last in (1..order.len()).rev() {
            order.swap(last, self.rng.below(last as u64 + 1) as usize);
        }
        order
    }

    /// Wait in small steps, and look around after each.
    fn rest(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        loop {
            interrupt::check()?;
            self.stage.check_alive()?;
            self.census.look(self.stage.server);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn strike(&mut self, fault: Fault) -> io::Result<()> {
        let heartbeat = self.field.options().heartbeat;
        let timeout = self.field.options().request_timeout;
        match fault {
            Fault::DropLink => self.drop_link(),
            Fault::SilentLink => {
                let time = heartbeat * 2 + self.upto(heartbeat);
                self.under(|weather| weather.fills = Lane::SILENT, time)
            }
            Fault::DelayedPushes => {
                let delay = self.upto(heartbeat * 2);
                let late = Lane {
                    down: delay,
                    ..Lane::default()
                };
                self.under(|weather| weather.fills = late, heartbeat * 2)
            }
            Fault::Slow => {
                let lane = Lane::slow(self.upto(timeout / 4));
                self.under(
                    |weather| {
                        weather.fills = lane;
                        weather.others = lane;
                    },
                    timeout * 2,
                )
            }
            Fault::Freeze => self.freeze(timeout),
            Fault::ClientKill => self.kill_clients(),
            Fault::FlushAll => self.flush(),
            Fault::TableLimit => self.limit_table(heartbeat * 2),
            Fault::OtherDb => self.write_elsewhere(),
            Fault::Restart => self.restart(),
            Fault::Stop => {
                self.stage.signal_server("STOP")?;
                let time = timeout + self.upto(timeout);
                thread::sleep(time);
                self.stage.signal_server("CONT")
            }
            Fault::Doubt => {
                let hold = timeout / 3 + self.upto(timeout * 2);
                self.field.hold(1);
                self.under(|weather| weather.hold = hold, timeout * 3)
            }
            Fault::Pexpire | Fault::Rename | Fault::Copy | Fault::Eval => Ok(()),
        }
    }

    fn upto(&mut self, time: Duration) -> Duration {
        Duration::from_nanos(self.rng.below(time.as_nanos() as u64 + 1))
    }

    /// Have other weather for some time.
    fn under(&mut self, change: impl FnOnce(&mut Weather), time: Duration) -> io::Result<()> {
        let mut weather = self.base;
        change(&mut weather);
        self.stage.relay.set(weather);
        self.rest(time)
    }

    /// A new link is not to be had at once, so that something happens meanwhile.
    fn drop_link(&mut self) -> io::Result<()> {
        self.cuts += 1;
        match self.rng.below(3) {
            0 => self.base.cut_all = self.cuts,
            _ => self.base.cut_fills = self.cuts,
        }
        let time = self.upto(Duration::from_millis(150));
        self.under(|weather| weather.fills = Lane::SILENT, time)
    }

    fn freeze(&mut self, timeout: Duration) -> io::Result<()> {
        let up = self.rng.below(2) == 0;
        let lane = Lane {
            frozen_up: up,
            frozen_down: !up,
            ..Lane::default()
        };
        let time = timeout / 2 + self.upto(timeout);
        self.under(
            |weather| {
                weather.fills = lane;
                weather.others = lane;
            },
            time,
        )
    }

    fn admin(&self) -> io::Result<Client> {
        let dialect = match self.field.options().protocol {
            Protocol::Redis => Dialect::Resp2,
            Protocol::Memcached => Dialect::Memcached,
        };
        Ok(self.field.connect(Via::Direct, dialect)?.0)
    }

    fn kill_clients(&mut self) -> io::Result<()> {
        let mut admin = self.admin()?;
        for id in super::census::tracking(&mut admin)? {
            admin.command(&["CLIENT", "KILL", "ID", &id])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let via = match self.rng.below(2) {
            0 => Via::Proxy,
            _ => Via::Direct,
        };
        self.flush_through(via)
    }

    fn flush_through(&mut self, via: Via) -> io::Result<()> {
        let redis = self.field.options().protocol == Protocol::Redis;
        let dialect = if redis {
            Dialect::Resp2
        } else {
            Dialect::Memcached
        };
        let (mut client, _) = self.field.connect(via, dialect)?;
        let start = self.field.now();
        let done = match redis {
            true => client.command(&["FLUSHALL"]).map(|_| ()),
            false => client
                .ask_line("flush_all")
                .and_then(|line| match line.as_str() {
                    "OK" => Ok(()),
                    _ => Err(io::Error::other(line)),
                }),
        };
        let end = match done {
            Ok(()) => self.field.now(),
            Err(_) => u64::MAX,
        };
        let via = Some(via);
        self.wipes.push(Wipe { via, start, end });
        done
    }

    fn limit_table(&mut self, time: Duration) -> io::Result<()> {
        let mut admin = self.admin()?;
        admin.command(&["CONFIG", "SET", "tracking-table-max-keys", "1"])?;
        self.rest(time)?;
        admin.command(&["CONFIG", "SET", "tracking-table-max-keys", "1000000"])?;
        Ok(())
    }

    fn write_elsewhere(&mut self) -> io::Result<()> {
        let mut admin = self.admin()?;
        admin.command(&["SELECT", "1"])?;
        for slot in 0..self.field.options().hot {
            let key: Key = self.field.key(slot);
            let value = stamp::value(key, STRANGER, 1, false);
            let value = String::from_utf8_lossy(&value);
            admin.command(&["SET", &key.to_string(), &value])?;
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        let start = self.field.now();
        self.stage.restart_server()?;
        let end = self.field.now();
        let via = None;
        self.wipes.push(Wipe { via, start, end });
        Ok(())
    }
}
