//! Replies as they arrive: found in the bytes, handed to whom the queue says,
//! and held up when that one does not read.

use std::rc::Rc;

use emberline_protocol::Scan;
use emberline_protocol::redis::encode::Version;

use super::entry::{Entry, Owner};
use super::link::{End, LIFE_MIN, Link, Proof};
use crate::metrics::{Health as Shown, Verdict};
use crate::nanos::nanos;
use crate::scanner::Scanner;
use crate::server::client::Client;
use crate::server::dispatch::Heard;
use crate::server::errand::Errand;
use crate::server::heat::Touch;

/// The reply to our own first words may have this size. HELLO's is below 1 KiB.
const HANDSHAKE_MAX: usize = 64 * 1024;

/// A client with more queued than this stops a reply that is still arriving.
const CLIENT_HIGH: usize = 1024 * 1024;

/// A client with more queued than this stops even whole replies.
const CLIENT_FULL: usize = 8 * 1024 * 1024;

impl Link<'_> {
    /// Whether the client that held us up has caught up.
    pub(super) fn may_read(&mut self) -> bool {
        let Some(client) = self.paused.take() else {
            return true;
        };
        let fifo = self.backend.fifo.borrow();
        let next = fifo
            .iter()
            .find_map(|entry| entry.seq_of(&client))
            .unwrap_or(0);
        if client.is_congested(next, CLIENT_HIGH / 4) && client.pausing(self.backend) {
            self.paused = Some(client);
            return false;
        }
        drop(fifo);
        self.forgive(&client);
        true
    }

    /// What this client asked for behind a long reply of its own had to wait
    /// for itself, not for the server. Others go on counting.
    fn forgive(&self, client: &Rc<Client>) {
        let now = self.worker.now();
        let mut fifo = self.backend.fifo.borrow_mut();
        let own = fifo
            .iter_mut()
            .filter(|entry| entry.seq_of(client).is_some());
        own.for_each(|entry| entry.since = entry.since.max(now));
    }

    /// Hand out the replies in `bytes`; answers how many bytes were used.
    pub(super) fn distribute(&mut self, bytes: &[u8]) -> Result<usize, End> {
        let backend = self.backend;
        let mut at = 0;
        while at < bytes.len() && self.paused.is_none() {
            let fresh = &bytes[at..];
            if !self.started && !self.push {
                self.push = backend.version == Version::Resp3 && fresh[0] == b'>';
                if !self.push && backend.fifo.borrow().is_empty() {
                    return Err("it sent a reply that nobody asked for".into());
                }
            }
            match self.scanner.feed(fresh)? {
                Scan::Done(len) => {
                    at += len;
                    if !std::mem::take(&mut self.push) {
                        self.finish(&fresh[..len])?;
                    }
                    self.started = false;
                }
                Scan::More(0) => break,
                Scan::More(len) => {
                    at += len;
                    if !self.push {
                        if !std::mem::replace(&mut self.started, true) {
                            self.began = self.worker.now();
                            self.streamed = 0;
                        }
                        self.streamed += len as u64;
                        self.pass(&fresh[..len])?;
                    }
                }
            }
        }
        Ok(at)
    }

    /// The front entry's reply ends with `bytes`.
    fn finish(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.proof == Proof::Nothing {
            self.listen(bytes)?;
        }
        let Some(mut entry) = self.backend.fifo.borrow_mut().pop_front() else {
            return Ok(());
        };
        let left = self.backend.fifo.borrow().len();
        let unwritten = self.backend.unwritten.get();
        self.backend.unwritten.set(unwritten.min(left));
        self.backend.end_one();
        self.worker.meter.upstream_inflight(self.backend.server, -1);
        self.settle(&mut entry.touch, bytes.len());
        match &mut entry.owner {
            Owner::Handshake(reply) => {
                reply.extend_from_slice(bytes);
                if matches!(reply.first(), Some(b'-' | b'!')) {
                    // An old server has no RESP3. It is well all the same, and
                    // no client shall be able to eject it by asking for that.
                    self.unspoken = self.backend.version == Version::Resp3;
                    self.blamed |= self.unspoken;
                    let reply = String::from_utf8_lossy(&reply[1..]);
                    return Err(format!("it refused the handshake: {}", reply.trim_end()).into());
                }
                return Ok(());
            }
            Owner::Client {
                client,
                seq,
                fragment,
            } => {
                client.deliver(&self.worker, *seq, *fragment, bytes, true);
                self.worker.meter.upstream(self.backend.server, Verdict::Ok);
                self.worker.heard(self.backend.server, entry.asked);
                if self.proof != Proof::Life {
                    self.prove();
                }
                let long = self.patience.times().response / 8;
                if self.started && self.worker.now() - self.began > long {
                    self.forgive(client);
                }
                if client.is_congested(*seq, CLIENT_FULL) {
                    let client = Rc::clone(client);
                    self.pause(&client);
                }
            }
            Owner::Errand(..) => self.finish_errand(&mut entry, bytes),
            Owner::Nobody => {}
        }
        entry.end();
        Ok(())
    }

    /// The first that the server says may be that it does not let us in: that
    /// is nobody's reply.
    #[cold]
    fn listen(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.proof = Proof::Voice;
        match self.turns_away(bytes) {
            true => {
                let said = String::from_utf8_lossy(bytes);
                Err(End::Full(format!("it said {}", said.trim_end()).into()))
            }
            false => Ok(()),
        }
    }

    /// Whether this, said before anything else, means that the server has as
    /// many clients as it lets in. It hangs up then, and has read nothing.
    fn turns_away(&self, said: &[u8]) -> bool {
        said.starts_with(match self.scanner {
            Scanner::Redis(_) => b"-ERR max number of clients",
            Scanner::Memcached(_) => b"ERROR Too many open connections",
        })
    }

    /// A request has been answered. That does not prove much: a server may
    /// answer once and hang up.
    #[cold]
    fn prove(&mut self) {
        let (server, version) = (self.backend.server, self.backend.version);
        if self.proof < Proof::Answer {
            self.proof = Proof::Answer;
            self.worker.meter.upstream_health(server, Shown::Up);
        }
        if self.has_lived() {
            self.proof = Proof::Life;
            self.worker.succeeded(server, version);
        }
    }

    pub(super) fn has_lived(&self) -> bool {
        self.worker.now() >= self.opened + nanos(LIFE_MIN)
    }

    /// The reply to a request of the proxy's own making ends with `bytes`.
    fn finish_errand(&mut self, entry: &mut Entry, bytes: &[u8]) {
        let holds = std::mem::take(&mut entry.holds);
        if let Owner::Errand(errand, mut reply) = std::mem::replace(&mut entry.owner, Owner::Nobody)
        {
            if holds {
                errand.each_client(Client::release);
            }
            self.worker.meter.upstream(self.backend.server, Verdict::Ok);
            self.worker.heard(self.backend.server, entry.asked);
            if self.proof != Proof::Life {
                self.prove();
            }
            if reply.is_empty() {
                errand.answered(&self.worker, bytes);
            } else {
                reply.extend_from_slice(bytes);
                errand.answered(&self.worker, &reply);
            }
        }
    }

    /// What the L1 knows of these keys may be out of date, and nobody may see
    /// it after the reply of which `bytes` are the end.
    fn settle(&self, touch: &mut Touch, bytes: usize) {
        let worker = Rc::clone(&self.worker);
        let streamed = match self.started {
            true => usize::try_from(self.streamed).unwrap_or(usize::MAX),
            false => 0,
        };
        let bytes = bytes.saturating_add(streamed);
        let pool = worker.pool_of_server(self.backend.server);
        worker
            .heat
            .answered(touch, pool, bytes, worker.now(), &worker.meter);
    }

    /// More of the front entry's reply, which does not end yet.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), End> {
        let now = self.worker.now();
        let (mut slow, mut taken) = (None, None);
        if let Some(entry) = self.backend.fifo.borrow_mut().front_mut() {
            entry.since = now;
            if let Some(errand) = entry.take_errand() {
                taken = Some(errand);
            }
            match &mut entry.owner {
                Owner::Handshake(reply) if reply.len() > HANDSHAKE_MAX => {
                    return Err("its reply to the handshake is too long".into());
                }
                Owner::Handshake(reply) => reply.extend_from_slice(bytes),
                Owner::Client { client, seq, .. } if client.is_congested(*seq, CLIENT_HIGH) => {
                    slow = Some(Rc::clone(client));
                }
                _ => {}
            }
            entry.deliver(&self.worker, bytes, false);
        }
        if let Some((errand, mut reply)) = taken {
            reply.extend_from_slice(bytes);
            return self.hear(errand, reply);
        }
        if let Some(client) = slow {
            self.pause(&client);
        }
        Ok(())
    }

    /// More of the reply to the front entry's errand, which may have others
    /// queued because of it.
    fn hear(&mut self, errand: Box<Errand>, reply: Vec<u8>) -> Result<(), End> {
        let heard = errand.hear(&self.worker, &reply);
        if heard == Heard::Kept && reply.len() > errand.longest() {
            return Err("its reply to a question of the proxy is too long".into());
        }
        let mut fifo = self.backend.fifo.borrow_mut();
        let Some(entry) = fifo.front_mut() else {
            return Ok(());
        };
        match heard {
            Heard::Kept => entry.owner = Owner::Errand(errand, reply),
            Heard::Answer => entry.hand_on(&self.worker, *errand, &reply),
            Heard::Unwanted => {
                if std::mem::take(&mut entry.holds) {
                    errand.each_client(Client::release);
                }
            }
        }
        Ok(())
    }

    /// Stop reading until `client` has read. Nobody else shall wait for it:
    /// new requests get a new connection.
    fn pause(&mut self, client: &Rc<Client>) {
        if client.pausing(self.backend) {
            self.backend.retire();
            self.backend.set_aside();
            self.worker.forget(self.backend);
            self.paused = Some(Rc::clone(client));
            self.patience.paused(self.worker.now());
        }
    }
}
