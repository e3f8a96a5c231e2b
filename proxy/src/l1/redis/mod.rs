//! The link to one Redis server: the only connection over which the process
//! fills its L1 from there (rule 1).
//!
//! ```text
//!   fetches --> CLIENT CACHING YES, PTTL, GET --> server
//!                                                   |
//!   key.invalidate() <-- push: invalidate k --------+   one stream,
//!   pulse.turn() <------ push: everything ----------+   taken in order
//!   desk.land(value) <-- reply to GET --------------+
//!   pulse.beat(s + H) <- reply to the PING sent at s +
//! ```
//!
//! The order of the bytes is the whole proof. A server pushes what happens to
//! a key before it answers anything that comes later, so a value is installed
//! only after everything that happened before it was read, and a PING's reply
//! says that everything until the PING has been heard (rule 6).
//!
//! Where the server cannot push, values are kept for a short time only; that
//! is said in the log once, and can be seen in [`L1::links`](super::L1::links).

mod control;
mod fill;
mod handshake;
mod incoming;
mod wire;

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

use emberline_hotkey::Pulse;
use emberline_hotkey::mutation::{Mutation, breaks};
use emberline_protocol::redis::encode;
use emberline_routing::ServerId;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::{info, warn};

use self::control::Push;
use self::fill::{Fill, How};
use self::handshake::{Terms, introduce};
use self::incoming::Frame;
use self::wire::Wire;
use super::desk::{Desk, nanos};
use super::{Fetch, LinkState, Said};
use crate::log::Limited;
use crate::metrics::{Event, Health};
use crate::running::{Mode, Pool, Server};
use crate::server::socket::Socket;

/// The first pause after a failed connect; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Values are kept for no longer than this by a server that should push and cannot.
const FALLBACK_TTL: Duration = Duration::from_secs(1);

/// Beside a value, bytes of a reply to a fetch or to our own commands.
const FRAME_MAX: usize = 64 * 1024;

/// While a server has this much to take, nothing more is asked of it.
const OUT_MAX: usize = 1 << 20;

/// Unanswered PINGs at once.
const PINGS_MAX: usize = 64;

/// Keys of one TOUCH.
const TOUCHES: usize = 100;

static LOSSES: Limited = Limited::new(5);
static REFUSALS: Limited = Limited::new(1);

/// The link's whole life: it connects, and again whenever that ends.
pub async fn run(desk: Rc<Desk>, server: ServerId, mut fetches: mpsc::UnboundedReceiver<Fetch>) {
    let (Some(pool), Some(config)) = (desk.pool(server), desk.server(server)) else {
        return;
    };
    let Some(pulse) = desk.pulse(server) else {
        return;
    };
    let place = Place {
        desk: &desk,
        server,
        config,
        pool,
        pulse,
    };
    let mut failures = 0;
    let mut said = None;
    loop {
        desk.note(server, LinkState::Connecting);
        let why = match place.open().await {
            Ok((wire, terms)) => {
                failures = 0;
                place.announce(&terms, &mut said);
                let mut link = Link::new(place, terms.how, wire);
                let end = link.serve(&mut fetches).await;
                link.fail();
                place.stop();
                match end {
                    End::Finished => return,
                    End::Lost(why) => why,
                }
            }
            Err(why) => why,
        };
        failures += 1;
        place.note_loss(why, failures);
        if place.pause(failures, &mut fetches).await.is_none() {
            return;
        }
    }
}

/// The server that a link goes to.
#[derive(Clone, Copy)]
struct Place<'a> {
    desk: &'a Desk,
    server: ServerId,
    config: &'a Server,
    pool: &'a Pool,
    pulse: &'a Pulse,
}

impl Place<'_> {
    async fn open(self) -> Result<(Wire, Terms), String> {
        let opened = self.try_open().await;
        self.desk
            .meter
            .upstream_connect(self.server, opened.is_ok());
        opened
    }

    async fn try_open(self) -> Result<(Wire, Terms), String> {
        let connect = Socket::connect(&self.config.address, self.pool.tls.as_ref());
        let socket = match timeout(self.pool.timeout_connect, connect).await {
            Ok(socket) => socket.map_err(|error| error.to_string())?,
            Err(_) => return Err("connecting timed out".to_owned()),
        };
        let reply_max = self.pool.l1.max_item.saturating_add(FRAME_MAX);
        let mut wire = Wire::new(socket, reply_max);
        let introduced = timeout(self.pool.timeout_request, introduce(&mut wire, self.pool)).await;
        match introduced {
            Ok(terms) => Ok((wire, terms?)),
            Err(_) => Err("it did not answer in time".to_owned()),
        }
    }

    /// Say how the link is, and once aloud if that is less than was asked for.
    fn announce(self, terms: &Terms, said: &mut Option<String>) {
        let (pool, server) = (&*self.pool.name, &*self.config.name);
        let state = match (terms.how, &terms.lacking) {
            (How::Tracked, _) => LinkState::Tracking,
            (_, None) => LinkState::Ttl,
            (_, Some(why)) => {
                if said.as_ref() != Some(why) {
                    warn!(
                        pool,
                        server,
                        why,
                        "tracking is not available: hot keys are kept for a short time instead"
                    );
                }
                LinkState::Fallback(why.clone())
            }
        };
        if said.is_some() && terms.lacking.is_none() {
            info!(pool, server, "tracking is available again");
        }
        said.clone_from(&terms.lacking);
        self.desk.note(self.server, state);
    }

    /// The connection has ended. What happens from now on is not pushed, so in
    /// `tracking` everything that was said over it has gone.
    fn stop(self) {
        if self.pool.l1.mode == Mode::Tracking && !breaks(Mutation::NoEpoch) {
            self.pulse.stop();
            self.desk.turn(self.server);
        }
    }

    /// Say that there is no connection any more, or still not.
    fn note_loss(self, why: String, failures: u32) {
        let (pool, server) = (&*self.pool.name, &*self.config.name);
        if failures == 1
            && let Some(skipped) = LOSSES.admit()
        {
            warn!(
                pool,
                server, why, skipped, "the server cannot be asked for hot keys"
            );
        }
        let health = Health::Down;
        self.desk.meter.upstream_health(self.server, health);
        self.desk.note(self.server, LinkState::Down(why));
    }

    /// Wait before connecting again; who asks meanwhile is told at once.
    async fn pause(
        self,
        failures: u32,
        fetches: &mut mpsc::UnboundedReceiver<Fetch>,
    ) -> Option<()> {
        let pause = PAUSE_FIRST.saturating_mul(1 << (failures - 1).min(16));
        let pause = nanos(pause.min(PAUSE_LAST));
        // Not all proxies at the same time.
        let jittered = pause / 2 + random() % (pause / 2 + 1);
        let end = Instant::now() + Duration::from_nanos(jittered);
        loop {
            tokio::select! {
                fetch = fetches.recv() => self.fail(fetch?),
                () = sleep_until(end) => return Some(()),
            }
        }
    }

    /// A fetch that is not sent.
    fn fail(self, fetch: Fetch) {
        let asked = self.desk.asked(self.server);
        self.desk.land(fetch, asked, Said::Failed);
    }
}

/// Why a connection is no longer served.
enum End {
    /// Nobody will ask any more.
    Finished,
    /// The server, the network or the protocol failed.
    Lost(String),
}

/// An open connection.
struct Link<'a> {
    wire: Wire,
    talk: Talk<'a>,
}

/// What is being said on it.
struct Talk<'a> {
    place: Place<'a>,
    how: How,
    /// What was sent and not answered, in order.
    pending: VecDeque<Pending>,
    /// PINGs among that.
    pings: usize,
    /// When the server was last heard.
    heard: u64,
    /// When the next TOUCH is due.
    touch: u64,
    /// The server was too late already at the last look.
    overdue: bool,
}

/// Something that the server has yet to answer, and when it was sent.
#[derive(Debug)]
enum Pending {
    Fill(Box<Fill>),
    Ping(u64),
    Touch(u64),
}

impl Pending {
    fn sent(&self) -> u64 {
        match self {
            Pending::Fill(fill) => fill.asked.sent,
            Pending::Ping(sent) | Pending::Touch(sent) => *sent,
        }
    }
}

impl<'a> Link<'a> {
    fn new(place: Place<'a>, how: How, wire: Wire) -> Link<'a> {
        let now = place.desk.now();
        let talk = Talk {
            place,
            how,
            pending: VecDeque::new(),
            pings: 0,
            heard: now,
            touch: now.saturating_add(nanos(place.pool.l1.touch_every)),
            overdue: false,
        };
        Link { wire, talk }
    }

    /// Answer fetches until the connection ends.
    async fn serve(&mut self, fetches: &mut mpsc::UnboundedReceiver<Fetch>) -> End {
        let period = self.talk.period();
        let mut clock = interval_at(Instant::now() + period, period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.talk.begin(&mut self.wire);
        loop {
            let step = tokio::select! {
                read = std::future::poll_fn(|context| self.wire.poll(context)) => match read {
                    Ok(count) => self.hear(count),
                    Err(error) => Err(error.to_string()),
                },
                fetch = fetches.recv() => match fetch {
                    Some(fetch) => {
                        self.ask(fetch, fetches);
                        Ok(())
                    }
                    None => return End::Finished,
                },
                _ = clock.tick() => self.talk.tick(&mut self.wire),
            };
            if let Err(why) = step {
                return End::Lost(why);
            }
        }
    }

    fn hear(&mut self, count: usize) -> Result<(), String> {
        let talk = &mut self.talk;
        talk.heard = talk.place.desk.now();
        self.wire.frames(count, |frame| talk.take(frame))
    }

    /// Send this fetch and those that came with it.
    fn ask(&mut self, first: Fetch, fetches: &mut mpsc::UnboundedReceiver<Fetch>) {
        let mut next = Some(first);
        while let Some(fetch) = next {
            self.talk.ask(fetch, &mut self.wire);
            next = fetches.try_recv().ok();
        }
    }

    /// Nothing that was sent will be answered.
    fn fail(&mut self) {
        for pending in self.talk.pending.drain(..) {
            if let Pending::Fill(fill) = pending {
                let asked = fill.asked;
                self.talk.place.desk.land(fill.fetch, asked, Said::Failed);
            }
        }
    }
}

impl Talk<'_> {
    fn is_tracking(&self) -> bool {
        self.how == How::Tracked
    }

    fn heartbeat(&self) -> u64 {
        nanos(self.place.pool.l1.heartbeat)
    }

    /// How often `tick` is called: four times a heartbeat, so that one late
    /// PING does not stop the pulse.
    fn period(&self) -> Duration {
        match self.is_tracking() {
            true => self.place.pool.l1.heartbeat / 4,
            false => self.place.pool.timeout_request / 4,
        }
        .clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    fn begin(&mut self, wire: &mut Wire) {
        match self.is_tracking() {
            true if breaks(Mutation::NoHeartbeat) => self.place.pulse.beat(u64::MAX),
            true => self.ping(wire),
            // Nothing has to be heard.
            false => self.place.pulse.beat(u64::MAX),
        }
    }

    fn ask(&mut self, fetch: Fetch, wire: &mut Wire) {
        if wire.unsent() > OUT_MAX || self.is_stalled() {
            return self.place.fail(fetch);
        }
        let asked = self.place.desk.asked(self.place.server);
        self.how.encode(&fetch.key.key, wire.out());
        let fill = Fill::new(fetch, asked, self.how, self.place.pool.l1.max_item);
        self.pending.push_back(Pending::Fill(Box::new(fill)));
    }

    /// Whether what is filled could not be served: the server has been silent
    /// for a whole heartbeat although something is due.
    fn is_stalled(&self) -> bool {
        self.is_tracking() && self.silence() > self.heartbeat()
    }

    /// For how long the server has owed an answer.
    fn silence(&self) -> u64 {
        let Some(oldest) = self.pending.front() else {
            return 0;
        };
        let since = oldest.sent().max(self.heard);
        self.place.desk.now().saturating_sub(since)
    }

    fn tick(&mut self, wire: &mut Wire) -> Result<(), String> {
        let mut patience = nanos(self.place.pool.timeout_request);
        if self.is_tracking() {
            patience = patience.saturating_add(self.heartbeat());
        }
        // If the whole process stood still, the answer may be there already
        // and only not be read: it has until the next look.
        let late = self.silence() > patience;
        if late && self.overdue {
            return Err("it did not answer in time".to_owned());
        }
        self.overdue = late;
        if self.is_tracking() {
            self.ping(wire);
            self.touch(wire);
        }
        Ok(())
    }

    fn ping(&mut self, wire: &mut Wire) {
        if self.pings < PINGS_MAX {
            self.pings += 1;
            self.pending.push_back(Pending::Ping(self.place.desk.now()));
            encode::command(wire.out(), [b"PING".as_slice()].into_iter());
        }
    }

    /// Tell the server that the keys are in use (rule 9): it sees no reads of
    /// them, and would evict them first.
    fn touch(&mut self, wire: &mut Wire) {
        let now = self.place.desk.now();
        if now < self.touch || wire.unsent() > OUT_MAX || breaks(Mutation::NoTouch) {
            return;
        }
        self.touch = now.saturating_add(nanos(self.place.pool.l1.touch_every));
        let keys = self.place.desk.present(self.place.server);
        for keys in keys.chunks(TOUCHES) {
            let mut words = vec![b"TOUCH".as_slice()];
            words.extend(keys.iter().map(|key| &*key.key));
            encode::command(wire.out(), words.into_iter());
            self.pending.push_back(Pending::Touch(now));
            for key in keys {
                self.place.desk.meter.event(key.pool, Event::Touch, 1);
            }
        }
    }

    /// The next frame of the stream.
    fn take(&mut self, frame: Frame<'_>) -> Result<(), String> {
        if frame.is_push() {
            return self.take_push(frame);
        }
        match self.pending.front_mut() {
            Some(Pending::Fill(fill)) => {
                if fill.take(frame) {
                    self.land();
                }
                return Ok(());
            }
            Some(Pending::Ping(sent)) => {
                if self.how == How::Tracked && !breaks(Mutation::NoHeartbeat) {
                    let until = sent.saturating_add(nanos(self.place.pool.l1.heartbeat));
                    self.place.pulse.beat(until);
                }
                self.pings -= 1;
            }
            Some(Pending::Touch(_)) => {}
            None => return Err("it sent a reply that nobody asked for".to_owned()),
        }
        self.pending.pop_front();
        Ok(())
    }

    fn take_push(&mut self, frame: Frame<'_>) -> Result<(), String> {
        let Place {
            desk,
            server,
            config,
            ..
        } = self.place;
        match control::push(frame)? {
            Push::Keys(keys) => {
                for key in keys {
                    desk.invalidate(config.pool.0, &key, Event::Push);
                }
            }
            Push::Everything if breaks(Mutation::NoNullPush) => {}
            Push::Everything => desk.turn(server),
            Push::Other => {}
        }
        Ok(())
    }

    /// The front of what is pending is a fill with all its replies.
    fn land(&mut self) {
        let Some(Pending::Fill(fill)) = self.pending.pop_front() else {
            return;
        };
        let place = self.place;
        if fill.has_moved() {
            // The key's slot is another server's now, and its neighbours' too.
            place.desk.turn(place.server);
        }
        let code = fill.code().to_owned();
        let (fetch, asked, mut said) = fill.finish();
        if let Said::Value(_, remaining) = &mut said
            && self.how != How::Tracked
            && place.pool.l1.mode == Mode::Tracking
        {
            *remaining = Some(remaining.map_or(FALLBACK_TTL, |time| time.min(FALLBACK_TTL)));
        }
        if said == Said::Failed
            && let Some(skipped) = REFUSALS.admit()
        {
            let (pool, server) = (&*place.pool.name, &*place.config.name);
            warn!(
                pool,
                server, code, skipped, "a fetch of a hot key was refused"
            );
        }
        place.desk.land(fetch, asked, said);
    }
}

/// Different at every call; for jitter only.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
