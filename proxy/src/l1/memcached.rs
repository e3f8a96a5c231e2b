//! The L1's connection to a memcached server: it asks for the values of
//! promoted keys, many at a time.
//!
//! ```text
//!   mg <key> k v f c t            VA <len> k<key> f<flags> c<cas> t<ttl>   a value
//!   mg <key in base64> b k ...    EN k<key>                                missing
//! ```
//!
//! # When an item expires
//!
//! Never later than at the server. `t` is the second of the server's clock in
//! which the item expires less the second that the clock shows, and that clock
//! is late twice over: it shows whole seconds, and it is set about once a
//! second, by a timer that is started anew each time. So it may show `n` until
//! just before the real time is `n + 2`. The timer drifts by about a
//! millisecond each second, and when it drifts over a full one, the clock skips
//! that second: `t` falls by two at once, and an item with `t2` is gone a
//! moment later (seen with memcached 1.6.18). So `t - 2` seconds
//! are what is certain to be left, counted from when the question was sent. An
//! item with `t2` or less is given to those who wait for it and to nobody
//! else.
//!
//! # Items that are half-way to something else
//!
//! A reply with `W`, `X` or `Z` is never kept (stale, or a stub that somebody
//! is to fill). Worse: *any* `mg` of a stale item wins the right to set it
//! anew (`W`), and no later one does. No client would learn that it is to set
//! the item, so a win that nobody asked for is given back (`md <key> I
//! C<cas>`) before those who wait are sent to the server, where one of them
//! wins as it would have without us.
//!
//! # Leases
//!
//! With `l1.lease` a missing key is asked for with `N`: the server makes an
//! empty item that lives for so long, tells whoever came first (`W`) and tells
//! the others that they are not (`Z`). If it is us, one of those who wait is
//! told that the key is missing, and the others wait until it has been set:
//!
//! ```text
//!   mg N30 -> W          Lease: one waiter sets the key ----.
//!                  .---> wait a little                      |
//!   mg N30 -> Z ---'     mg N30 -> the value: all others   <'
//!                               -> W: the holder let it lapse, the next waiter's turn
//! ```
//!
//! After the time of one lease whoever still waits is told that the key is
//! missing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use emberline_hotkey::{HotKey, Value};
use emberline_protocol::memcache::{self, Got, Returned, Ttl, base64, key_ok};
use emberline_routing::ServerId;
use memchr::memchr;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::desk::Desk;
use super::encode;
use super::peer::{Backoff, Peer, Turn};
use super::{Asked, Fetch, Said};
use crate::log::Limited;
use crate::running::{Mode, Pool, Server};

/// The longest line of a reply to ours: a key, a few numbers, or an error.
const LINE_MAX: usize = 2048;

/// How much later than it says a server's clock may be; see the module's
/// description.
const CLOCK_LATE: u64 = 2;

/// How long to wait before a key under somebody's lease is asked for again.
const LEASE_POLL: Duration = Duration::from_millis(5);

/// Servers that cannot be connected to, or break off.
static TROUBLE: Limited = Limited::new(2);

/// Fetch values from one server, for as long as the process lives.
pub(super) async fn run(desk: Rc<Desk>, server: ServerId, fetches: UnboundedReceiver<Fetch>) {
    let Some(config) = desk.running.servers.get(server.0 as usize) else {
        return;
    };
    let Some(pool) = desk.running.pools.get(usize::from(config.pool.0)) else {
        return;
    };
    let link = Link {
        desk: &desk,
        config,
        pool,
        server,
        fetches,
        backoff: Backoff::default(),
        told: Told::default(),
    };
    link.run().await;
}

/// What outlives a connection.
struct Link<'a> {
    desk: &'a Desk,
    config: &'a Server,
    pool: &'a Pool,
    server: ServerId,
    fetches: UnboundedReceiver<Fetch>,
    backoff: Backoff,
    told: Told,
}

/// What the log has been told once.
#[derive(Debug, Default)]
struct Told {
    no_meta: bool,
    no_cas: bool,
}

impl Link<'_> {
    async fn run(mut self) {
        loop {
            let Some(first) = self.fetches.recv().await else {
                return;
            };
            // Nothing has to be heard from this server for its items to hold.
            if let Some(pulse) = self.desk.pulse(self.server) {
                pulse.beat(u64::MAX);
            }
            let (address, tls) = (&self.config.address, self.pool.tls.as_ref());
            match Peer::connect(address, tls, self.pool.timeout_connect).await {
                Ok(peer) => self.converse(peer, first).await,
                Err(why) => {
                    self.complain("cannot connect to a server for the L1", &why);
                    self.fail(first);
                    self.rest().await;
                }
            }
        }
    }

    async fn converse(&mut self, peer: Peer, first: Fetch) {
        let mut conversation = Conversation {
            desk: self.desk,
            config: self.config,
            pool: self.pool,
            server: self.server,
            told: &mut self.told,
            peer,
            fifo: VecDeque::new(),
            polls: VecDeque::new(),
            body: None,
            answered: 0,
            answered_any: false,
            lacks_meta: false,
        };
        conversation.ask(first, None);
        let why = conversation.run(&mut self.fetches).await;
        conversation.fail_all();
        let answered = conversation.answered_any;
        if self.pool.l1.mode == Mode::Revalidate {
            // Unique numbers may start over in a server that was restarted.
            self.desk.turn(self.server);
        }
        self.complain("lost the L1's connection to a server", &why);
        if answered {
            self.backoff.reset();
        } else {
            // It accepts and hangs up: as good as down.
            self.rest().await;
        }
    }

    /// Leave the server alone for a while. Whoever asks meanwhile has no
    /// answer.
    async fn rest(&mut self) {
        let end = Instant::now() + self.backoff.pause();
        while let Ok(fetch) = timeout_at(end, self.fetches.recv()).await {
            match fetch {
                Some(fetch) => self.fail(fetch),
                None => return,
            }
        }
    }

    fn fail(&self, fetch: Fetch) {
        let asked = self.desk.asked(self.server);
        self.desk.land(fetch, asked, Said::Failed);
    }

    fn complain(&self, what: &'static str, why: &str) {
        if let Some(skipped) = TROUBLE.admit() {
            let server = self.config.name.as_str();
            tracing::warn!(pool = self.pool.name, server, why, skipped, "{what}");
        }
    }
}

/// One connection.
struct Conversation<'a> {
    desk: &'a Desk,
    config: &'a Server,
    pool: &'a Pool,
    server: ServerId,
    told: &'a mut Told,
    peer: Peer,
    /// What the next replies are the replies to.
    fifo: VecDeque<Entry>,
    /// Keys to be asked for again, the soonest first.
    polls: VecDeque<Poll>,
    /// The data block that is being received.
    body: Option<Body>,
    /// When something came last.
    answered: u64,
    answered_any: bool,
    /// The server does not know `mg`.
    lacks_meta: bool,
}

/// A request whose reply has not come.
struct Entry {
    fetch: Fetch,
    asked: Asked,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// An `mg`; if it was asked before, when for the first time.
    Fill { first: u64 },
    /// The `md` that gives a win back. Its fetch has been found unfit.
    GiveBack,
}

/// A key under a lease.
struct Poll {
    due: u64,
    fetch: Fetch,
    /// When it was asked for the first time.
    first: u64,
}

/// A data block.
struct Body {
    /// Bytes that have not come, the line end included.
    missing: usize,
    /// Where it goes; `None`: nowhere.
    kept: Option<Kept>,
}

struct Kept {
    fetch: Fetch,
    asked: Asked,
    flags: u32,
    cas: u64,
    left: Option<Duration>,
    data: Vec<u8>,
}

impl Conversation<'_> {
    /// Until the connection is of no more use; answers why.
    async fn run(&mut self, fetches: &mut UnboundedReceiver<Fetch>) -> String {
        loop {
            let now = self.desk.l1.now();
            if self.late().is_some_and(|late| late <= now) {
                return "it did not answer in time".to_owned();
            }
            self.poll(now);
            let wake = self.wake().map(|at| self.instant(at));
            let room = self.fifo.len() < self.pool.inflight_max;
            match self.peer.turn(room.then_some(&mut *fetches), wake).await {
                Ok(Turn::Item(Some(fetch))) => self.ask(fetch, None),
                Ok(Turn::Item(None)) => return "the process ends".to_owned(),
                Ok(Turn::Late) => {}
                Ok(Turn::Read) => {
                    self.answered = self.desk.l1.now();
                    if let Err(why) = self.receive() {
                        return why.to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Ask for a key; `first` says since when, if not for the first time.
    fn ask(&mut self, fetch: Fetch, first: Option<u64>) {
        let asked = self.desk.asked(self.server);
        let first = first.unwrap_or(asked.sent);
        if self.lacks_meta || !can_be_asked(&fetch.key.key) {
            return self.desk.land(fetch, asked, Said::Unfit);
        }
        encode::mg(&mut self.peer.output, &fetch.key.key);
        self.peer.output.extend_from_slice(b" k v f c t");
        if let Some(seconds) = self.lease_seconds() {
            self.peer.output.extend_from_slice(b" N");
            memcache::encode::number(&mut self.peer.output, seconds);
        }
        self.peer.output.extend_from_slice(b"\r\n");
        let what = What::Fill { first };
        self.fifo.push_back(Entry { fetch, asked, what });
    }

    /// `l1.lease` in the whole seconds that memcached knows, at least one.
    ///
    /// Not in `revalidate`, where clients do not wait for fills: they would ask
    /// the server themselves and be told that the key has an empty value.
    fn lease_seconds(&self) -> Option<u64> {
        let lease = self.pool.l1.lease;
        let wanted = !lease.is_zero() && self.pool.l1.mode != Mode::Revalidate;
        wanted.then(|| lease.as_secs() + u64::from(lease.subsec_nanos() > 0))
    }

    /// Ask again for the keys whose time it is.
    fn poll(&mut self, now: u64) {
        while self.polls.front().is_some_and(|poll| poll.due <= now) {
            let Some(poll) = self.polls.pop_front() else {
                return;
            };
            let lease = self.lease_seconds().unwrap_or(0);
            if now.saturating_sub(poll.first) >= lease.saturating_mul(1_000_000_000) {
                // For those who wait, not to be kept.
                let missing = Said::Value(Value::Missing, Some(Duration::ZERO));
                let asked = self.desk.asked(self.server);
                self.desk.land(poll.fetch, asked, missing);
            } else {
                self.ask(poll.fetch, Some(poll.first));
            }
        }
    }

    /// When something has to be done although nothing happens.
    fn wake(&self) -> Option<u64> {
        let due = self.polls.front().map(|poll| poll.due);
        self.late().into_iter().chain(due).min()
    }

    /// When the server is late: with the oldest value that somebody waits for,
    /// or with any sign of life while nobody does.
    fn late(&self) -> Option<u64> {
        let since = match (&self.body, self.fifo.front()) {
            (
                Some(Body {
                    kept: Some(kept), ..
                }),
                _,
            ) => kept.asked.sent,
            (_, Some(entry)) => entry.asked.sent,
            (Some(_), None) => self.answered,
            (None, None) => return None,
        };
        let patience = u64::try_from(self.pool.timeout_request.as_nanos()).unwrap_or(u64::MAX);
        Some(since.saturating_add(patience))
    }

    fn instant(&self, at: u64) -> Instant {
        let now = Instant::now();
        let at = self.desk.l1.epoch.checked_add(Duration::from_nanos(at));
        at.map_or(now + Duration::from_secs(3600), Instant::from_std)
    }

    /// Take in what has come.
    fn receive(&mut self) -> Result<(), &'static str> {
        let input = std::mem::take(&mut self.peer.input);
        let mut at = 0;
        let end = loop {
            let rest = &input[at..];
            if self.body.is_some() {
                match self.body_goes_on(rest) {
                    Ok(0) => break Ok(()),
                    Ok(used) => at += used,
                    Err(why) => break Err(why),
                }
                continue;
            }
            let Some(newline) = memchr(b'\n', &rest[..rest.len().min(LINE_MAX)]) else {
                break match rest.len() {
                    n if n >= LINE_MAX => Err("its reply line is too long"),
                    _ => Ok(()),
                };
            };
            at += newline + 1;
            if let Err(why) = self.line(&rest[..newline]) {
                break Err(why);
            }
        };
        self.peer.input = input;
        self.peer.used(at);
        end
    }

    /// Take the next bytes of a data block; answers how many were used.
    fn body_goes_on(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        // The two bytes of the line end are only looked at together.
        if bytes.len() < body.missing {
            let used = bytes.len().min(body.missing - 2);
            body.take(&bytes[..used]);
            return Ok(used);
        }
        let (last, used) = (body.missing - 2, body.missing);
        if &bytes[last..used] != b"\r\n" {
            return Err("its data block is not followed by a line end");
        }
        body.take(&bytes[..last]);
        if let Some(kept) = self.body.take().and_then(|body| body.kept) {
            let value = Value::Memcached {
                flags: kept.flags,
                cas: kept.cas,
                data: kept.data.into(),
            };
            let said = Said::Value(value, kept.left);
            self.desk.land(kept.fetch, kept.asked, said);
        }
        Ok(used)
    }

    /// The first line of the next reply, without its newline.
    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let entry = self.fifo.pop_front();
        let entry = entry.ok_or("it sent a reply that nobody asked for")?;
        self.answered_any = true;
        let What::Fill { first } = entry.what else {
            // Whether it was taken back or set meanwhile: ask the server.
            self.desk.land(entry.fetch, entry.asked, Said::Unfit);
            return Ok(());
        };
        let got = memcache::got(line);
        let (len, returned) = match got {
            Some(Got::Value(len, returned)) => (len, returned),
            Some(Got::Missing(returned)) => return self.missing(entry, &returned),
            Some(Got::Header(_)) => return self.garbage(entry),
            None if memcache::is_error(line) => return self.error(entry, line),
            None => return self.garbage(entry),
        };
        self.body = Some(Body {
            missing: len + 2,
            kept: None,
        });
        match self.judge(&entry.fetch.key, len, &returned) {
            Judgement::Keep { flags, cas, left } => {
                let kept = Kept {
                    fetch: entry.fetch,
                    asked: entry.asked,
                    flags,
                    cas,
                    left,
                    data: Vec::new(),
                };
                self.body = Some(Body {
                    missing: len + 2,
                    kept: Some(kept),
                });
            }
            Judgement::TooLarge => self.desk.land(entry.fetch, entry.asked, Said::TooLarge),
            Judgement::Unfit => self.desk.land(entry.fetch, entry.asked, Said::Unfit),
            Judgement::WonStale(cas) => self.give_back(entry.fetch, cas),
            Judgement::Leased => {
                let still = entry.fetch.clone();
                self.desk.land(still, entry.asked, Said::Lease);
                self.poll_later(entry.fetch, first);
            }
            Judgement::LeasedElsewhere => self.poll_later(entry.fetch, first),
            Judgement::OtherKey => return self.garbage(entry),
        }
        Ok(())
    }

    /// What is to be done with a value of `len` bytes.
    fn judge(&mut self, key: &HotKey, len: usize, item: &Returned<'_>) -> Judgement {
        let (Some(flags), Some(cas), Some(ttl), Some(name)) =
            (item.flags, item.cas, item.ttl, item.key)
        else {
            return Judgement::Unfit;
        };
        if !is_written(&key.key, name, item.base64) {
            return Judgement::OtherKey;
        }
        let leased = self.lease_seconds().is_some();
        match (item.stale, item.won, item.sent) {
            (true, true, _) => return Judgement::WonStale(cas),
            (false, true, _) if leased => return Judgement::Leased,
            (false, false, true) if leased && len == 0 => return Judgement::LeasedElsewhere,
            (false, false, false) => {}
            _ => return Judgement::Unfit,
        }
        let no_cas = cas == 0 && self.pool.l1.mode == Mode::Revalidate;
        if no_cas && !std::mem::replace(&mut self.told.no_cas, true) {
            let server = self.config.name.as_str();
            tracing::warn!(
                pool = self.pool.name,
                server,
                "a memcached server without unique numbers (-C) cannot be asked whether a value has changed: its keys are not answered from memory"
            );
        }
        // The other form cannot be told from the key, and clients are told.
        if no_cas || item.base64 == key_ok(&key.key) {
            return Judgement::Unfit;
        }
        if len > self.pool.l1.max_item {
            return Judgement::TooLarge;
        }
        let left = match ttl {
            Ttl::Unlimited => None,
            Ttl::Seconds(t) => Some(Duration::from_secs(t.saturating_sub(CLOCK_LATE))),
        };
        Judgement::Keep { flags, cas, left }
    }

    /// `EN`. A server that does not return the key here would not return it to
    /// clients either, and that is not known when they are answered.
    fn missing(&mut self, entry: Entry, item: &Returned<'_>) -> Result<(), &'static str> {
        let said = match item.key {
            None => Said::Unfit,
            Some(name) if is_written(&entry.fetch.key.key, name, item.base64) => {
                Said::Value(Value::Missing, None)
            }
            Some(_) => return self.garbage(entry),
        };
        self.desk.land(entry.fetch, entry.asked, said);
        Ok(())
    }

    fn error(&mut self, entry: Entry, line: &[u8]) -> Result<(), &'static str> {
        let said = match line {
            b"ERROR" => {
                self.lacks_meta = true;
                if !std::mem::replace(&mut self.told.no_meta, true) {
                    let server = self.config.name.as_str();
                    tracing::warn!(
                        pool = self.pool.name,
                        server,
                        "a server lacks the meta commands of memcached 1.6: it does not say how long an item has to live, so its keys are not answered from memory"
                    );
                }
                Said::Unfit
            }
            _ if line.starts_with(b"CLIENT_ERROR") => Said::Unfit,
            _ => Said::Failed,
        };
        self.desk.land(entry.fetch, entry.asked, said);
        Ok(())
    }

    /// Ends the connection: no later reply can be trusted.
    fn garbage(&self, entry: Entry) -> Result<(), &'static str> {
        self.desk.land(entry.fetch, entry.asked, Said::Failed);
        Err("it sent something that is not a reply to what it was asked")
    }

    fn give_back(&mut self, fetch: Fetch, cas: u64) {
        encode::give_back(&mut self.peer.output, &fetch.key.key, cas);
        self.fifo.push_back(Entry {
            fetch,
            asked: self.desk.asked(self.server),
            what: What::GiveBack,
        });
    }

    fn poll_later(&mut self, fetch: Fetch, first: u64) {
        let due = self.desk.l1.now() + LEASE_POLL.as_nanos() as u64;
        self.polls.push_back(Poll { due, fetch, first });
    }

    /// The connection has ended: nothing more is said to those who wait.
    fn fail_all(&mut self) {
        let body = self.body.take().and_then(|body| body.kept);
        let received = body.map(|kept| (kept.fetch, kept.asked));
        let sent = self.fifo.drain(..).map(|entry| (entry.fetch, entry.asked));
        let mut open: Vec<_> = received.into_iter().chain(sent).collect();
        let asked = self.desk.asked(self.server);
        open.extend(self.polls.drain(..).map(|poll| (poll.fetch, asked)));
        for (fetch, asked) in open {
            self.desk.land(fetch, asked, Said::Failed);
        }
    }
}

/// What is to be done with a value.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Keep {
        flags: u32,
        cas: u64,
        left: Option<Duration>,
    },
    Unfit,
    /// The same, and for its size alone.
    TooLarge,
    /// It is stale, and we are the ones to set it anew.
    WonStale(u64),
    /// It is a stub, and it is ours.
    Leased,
    /// It is a stub, and it is somebody else's.
    LeasedElsewhere,
    /// It is not what we asked for.
    OtherKey,
}

impl Body {
    fn take(&mut self, bytes: &[u8]) {
        self.missing -= bytes.len();
        if let Some(kept) = &mut self.kept {
            kept.data.extend_from_slice(bytes);
        }
    }
}

/// Whether a key has a form in which memcached can be asked for it.
fn can_be_asked(key: &[u8]) -> bool {
    !key.is_empty() && (key_ok(key) || key.len().div_ceil(3) * 4 <= memcache::KEY_MAX)
}

/// Whether `name` is this key, written in base64 or not.
fn is_written(key: &[u8], name: &[u8], in_base64: bool) -> bool {
    if !in_base64 {
        return name == key;
    }
    let mut text = Vec::with_capacity(name.len());
    base64::encode(&mut text, key);
    text == name
}
