//! Copies of a key too hot for one server, made on further servers.
//!
//! ```text
//!   home     value and time to live, at one moment
//!   copies   add it (never overwrite), then look: the same value?
//!   key      copied(token, until): all of them have it that long
//! ```
//!
//! A copy is added and never overwritten: whoever has a stale value in hand,
//! another proxy or a job of ours that was slow, cannot replace a newer one
//! that readers have been sent to. What is there already is as good as our own
//! if it is the same, and deleted if it is not. And nobody reads copies before
//! they have all been seen, nor after something has happened to the key since
//! the token was taken.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_hotkey::{HotKey, KeyHash, Token};
use emberline_protocol::redis::{encode, reply};
use emberline_protocol::{Scan, memcache};
use emberline_routing::ServerId;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Filled;
use super::desk::{Desk, nanos};
use super::peer::{Peer, Turn};
use crate::metrics::Event;
use crate::running::{Pool, Protocol};
use crate::scanner::Scanner;

/// Larger values are not copied.
const VALUE_MAX: usize = 16 * 1024 * 1024;

/// Keys that are copied at the same time; each may hold a value of that size.
const JOBS_MAX: usize = 16;

/// Idle connections kept per server.
const IDLE_MAX: usize = 4;

/// A copy is not read during the last moments of its life.
const MARGIN: Duration = Duration::from_millis(20);

/// memcached counts whole seconds, and its clock may be late; see `memcached`.
const CLOCK_LATE: u64 = 2;

/// Makes copies. Lives on the L1's thread.
pub struct Copying {
    desk: Rc<Desk>,
    idle: RefCell<HashMap<ServerId, Vec<Peer>>>,
    /// Keys that are being copied just now, and who waits for that.
    busy: RefCell<HashMap<KeyHash, Vec<Asker>>>,
}

/// A worker that waits for copies.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Its number.
    pub worker: usize,
    /// Taken when it asked.
    pub token: Token,
}

/// A value with what belongs to it.
struct Original {
    /// Client flags; memcached alone.
    flags: u32,
    data: Vec<u8>,
    /// How long it has to live; `None` for as long as the server likes.
    left: Option<Duration>,
}

impl Copying {
    /// Nothing is being copied.
    pub fn new(desk: Rc<Desk>) -> Rc<Copying> {
        Rc::new(Copying {
            desk,
            idle: RefCell::default(),
            busy: RefCell::default(),
        })
    }

    /// Copy a key's value; one job at a time for each key.
    pub fn start(
        self: &Rc<Copying>,
        key: Arc<HotKey>,
        home: ServerId,
        copies: Vec<ServerId>,
        asker: Asker,
    ) {
        if let Some(askers) = self.busy.borrow_mut().get_mut(&key.hash) {
            return askers.push(asker);
        }
        if self.busy.borrow().len() >= JOBS_MAX {
            let worker = Some(asker.worker);
            return self
                .desk
                .answer(key.hash, asker.token, worker, Filled::Failed);
        }
        self.busy.borrow_mut().insert(key.hash, vec![asker]);
        let copying = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let copied = copying.copy(&key, asker.token, home, &copies).await;
            let filled = match copied {
                Ok(()) => Filled::Copied,
                Err(why) => {
                    tracing::debug!(%why, "a hot key was not copied");
                    Filled::Failed
                }
            };
            let askers = copying.busy.borrow_mut().remove(&key.hash);
            for Asker { worker, token } in askers.into_iter().flatten() {
                let (hash, filled) = (key.hash, filled.clone());
                copying.desk.answer(hash, token, Some(worker), filled);
            }
        });
    }

    async fn copy(
        &self,
        key: &Arc<HotKey>,
        token: Token,
        home: ServerId,
        copies: &[ServerId],
    ) -> Result<(), String> {
        let pool = self.desk.pool(home).ok_or("its server is gone")?;
        if copies.is_empty() {
            return Err("there is no further server".to_owned());
        }
        let sent = self.desk.now();
        let original = self.fetch(pool, home, &key.key).await?;
        let lease = original
            .left
            .map_or(pool.l1.ttl, |left| left.min(pool.l1.ttl));
        let mut until = sent.saturating_add(nanos(lease));
        // memcached's may stay for a little longer than they are read.
        let slack = Duration::from_secs(1 + CLOCK_LATE) + pool.timeout_request;
        let gone = lease + slack * u32::try_from(copies.len()).unwrap_or(1);
        key.placing(sent.saturating_add(nanos(gone)));
        for server in copies {
            let sent = self.desk.now();
            let left = self
                .place(pool, *server, &key.key, &original, lease)
                .await?;
            until = until.min(sent.saturating_add(nanos(left)));
        }
        key.copied(token, until.saturating_sub(nanos(MARGIN)));
        self.desk.meter.event(key.pool, Event::Split, 1);
        Ok(())
    }

    /// What the key's own server says.
    async fn fetch(&self, pool: &Pool, home: ServerId, key: &[u8]) -> Result<Original, String> {
        let mut call = self.call(pool, home).await?;
        let original = match pool.protocol {
            Protocol::Redis => {
                let (value, left) = call.redis_value(key).await?;
                Original {
                    flags: 0,
                    data: bulk(&value).ok_or("it has no string")?.to_vec(),
                    left,
                }
            }
            Protocol::Memcached => {
                let reply = call.meta_value(key).await?;
                reply.ok_or("there is no such item")?
            }
        };
        self.give_back(home, call.peer);
        Ok(original)
    }

    /// See to it that a server has this copy; answers for how long it does.
    async fn place(
        &self,
        pool: &Pool,
        server: ServerId,
        key: &[u8],
        original: &Original,
        lease: Duration,
    ) -> Result<Duration, String> {
        let mut call = self.call(pool, server).await?;
        let left = match pool.protocol {
            Protocol::Redis => {
                let life = lease.as_millis().max(1).to_string();
                let life = life.as_bytes();
                let add = [b"SET".as_slice(), key, &original.data, b"NX", b"PX", life];
                encode::command(&mut call.peer.output, add.into_iter());
                call.answer().await?;
                let (value, left) = call.redis_value(key).await?;
                let same = bulk(&value) == Some(&original.data[..]);
                left.filter(|_| same)
            }
            Protocol::Memcached => {
                let seconds = lease.as_secs() + 1 + CLOCK_LATE;
                let head = format!(
                    " {} T{seconds} F{} ME\r\n",
                    original.data.len(),
                    original.flags
                );
                let out = &mut call.peer.output;
                out.extend_from_slice(b"ms ");
                out.extend_from_slice(key);
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(&original.data);
                out.extend_from_slice(b"\r\n");
                let added = call.answer().await?.starts_with(b"HD");
                let there = call.meta_value(key).await?;
                let same =
                    |there: &Original| there.data == original.data && there.flags == original.flags;
                match there.filter(same) {
                    Some(_) if added => Some(lease),
                    Some(there) => there.left,
                    None => None,
                }
            }
        };
        if left.is_none() {
            call.forget(key).await?;
        }
        self.give_back(server, call.peer);
        left.ok_or_else(|| "a server had something else".to_owned())
    }

    async fn call<'a>(&self, pool: &'a Pool, server: ServerId) -> Result<Call<'a>, String> {
        let idle = self.idle.borrow_mut().get_mut(&server).and_then(Vec::pop);
        if let Some(peer) = idle {
            return Ok(Call { peer, pool });
        }
        let address = &self
            .desk
            .server(server)
            .ok_or("its server is gone")?
            .address;
        let peer = Peer::connect(address, pool.tls.as_ref(), pool.timeout_connect).await?;
        let mut call = Call { peer, pool };
        call.introduce().await?;
        Ok(call)
    }

    fn give_back(&self, server: ServerId, peer: Peer) {
        let mut idle = self.idle.borrow_mut();
        let peers = idle.entry(server).or_default();
        if peers.len() < IDLE_MAX {
            peers.push(peer);
        }
    }
}

/// A connection on which one question is asked at a time.
struct Call<'a> {
    peer: Peer,
    pool: &'a Pool,
}

impl Call<'_> {
    async fn introduce(&mut self) -> Result<(), String> {
        if self.pool.protocol == Protocol::Memcached {
            return Ok(());
        }
        if let Some(password) = &self.pool.password {
            let password = password.reveal().as_bytes();
            let user = self.pool.username.as_ref().map(|user| user.as_bytes());
            let words = [b"AUTH".as_slice()]
                .into_iter()
                .chain(user)
                .chain([password]);
            let words: Vec<&[u8]> = words.collect();
            self.ask(&words).await?;
        }
        if self.pool.database != 0 {
            let database = self.pool.database.to_string();
            self.ask(&[b"SELECT", database.as_bytes()]).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, words: &[&[u8]]) -> Result<(), String> {
        encode::command(&mut self.peer.output, words.iter().copied());
        match reply::is_error(&self.answer().await?) {
            true => Err("it refused us".to_owned()),
            false => Ok(()),
        }
    }

    /// A key's value and how long it has to live, at one moment.
    async fn redis_value(&mut self, key: &[u8]) -> Result<(Vec<u8>, Option<Duration>), String> {
        let commands: [&[&[u8]]; 4] = [&[b"MULTI"], &[b"PTTL", key], &[b"GET", key], &[b"EXEC"]];
        for words in commands {
            encode::command(&mut self.peer.output, words.iter().copied());
        }
        for _ in 0..3 {
            self.answer().await?;
        }
        let both = self.answer().await?;
        let mut elements = reply::elements(&both).map_err(|error| error.to_string())?;
        let (left, value) = (elements.next(), elements.next());
        let left = left.and_then(reply::integer).ok_or("it has no answer")?;
        let value = value.ok_or("it has no answer")?.to_vec();
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok((value, left))
    }

    /// The same of a memcached item, if there is a whole one.
    async fn meta_value(&mut self, key: &[u8]) -> Result<Option<Original>, String> {
        if !memcache::key_ok(key) {
            return Err("its key is not one of text".to_owned());
        }
        let out = &mut self.peer.output;
        out.extend_from_slice(b"mg ");
        out.extend_from_slice(key);
        out.extend_from_slice(b" f t v\r\n");
        let reply = self.answer().await?;
        let Some((line, data)) = split_line(&reply) else {
            return Ok(None);
        };
        let mut words = memcache::tokens(line);
        if words.next() != Some(b"VA") {
            return Ok(None);
        }
        let mut original = Original {
            flags: 0,
            data: data.strip_suffix(b"\r\n").unwrap_or(data).to_vec(),
            left: None,
        };
        for word in words.skip(1) {
            let number = || {
                std::str::from_utf8(word.get(1..)?)
                    .ok()?
                    .parse::<u64>()
                    .ok()
            };
            match word.first() {
                Some(b'f') => {
                    original.flags = number()
                        .and_then(|flags| flags.try_into().ok())
                        .unwrap_or(0);
                }
                Some(b't') => {
                    let left =
                        |seconds: u64| Duration::from_secs(seconds.saturating_sub(CLOCK_LATE));
                    original.left = number().map(left);
                }
                // Stale, or about to be replaced by whoever has its lease.
                Some(b'W' | b'X' | b'Z') => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(original))
    }

    /// Delete what this server has, so that the next copy has room.
    async fn forget(&mut self, key: &[u8]) -> Result<(), String> {
        let out = &mut self.peer.output;
        match self.pool.protocol {
            Protocol::Redis => encode::command(out, [b"DEL".as_slice(), key].into_iter()),
            Protocol::Memcached => {
                out.extend_from_slice(b"delete ");
                out.extend_from_slice(key);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.answer().await.map(drop)
    }

    /// Send what is queued and wait for one whole reply.
    async fn answer(&mut self) -> Result<Vec<u8>, String> {
        let late = Instant::now() + self.pool.timeout_request;
        let mut scanner = Scanner::new(self.pool.protocol);
        let mut reply = Vec::new();
        loop {
            match scanner.feed(&self.peer.input)? {
                Scan::Done(len) => {
                    reply.extend_from_slice(&self.peer.input[..len]);
                    self.peer.used(len);
                    return Ok(reply);
                }
                Scan::More(len) => {
                    reply.extend_from_slice(&self.peer.input[..len]);
                    self.peer.used(len);
                }
            }
            if reply.len() > VALUE_MAX {
                return Err("its value is too large to be copied".to_owned());
            }
            let queue = None::<&mut UnboundedReceiver<()>>;
            match self.peer.turn(queue, Some(late)).await {
                Ok(Turn::Read) => {}
                Ok(Turn::Item(_) | Turn::Late) => {
                    return Err("it did not answer in time".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// What is in a bulk string.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let (line, data) = split_line(reply)?;
    let present = line.first() == Some(&b'$') && line.get(1) != Some(&b'-');
    present.then(|| data.strip_suffix(b"\r\n"))?
}

fn split_line(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', reply)?;
    let line = reply.get(..end)?.strip_suffix(b"\r")?;
    Some((line, reply.get(end + 1..)?))
}
