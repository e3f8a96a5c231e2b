//! One connection: its socket, what it has in flight, and what comes back.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use super::figures::Figures;
use super::keyspace::{Keyspace, parse_name};
use super::options::Protocol;
use super::reply::{Event, LINE_MAX, Malformed};
use super::target::Stream;
use super::{memcached, redis};

/// Room for the first read; grows only when a reply line does not fit.
const INPUT_LEN: usize = 32 << 10;

/// What every connection of a run has in common.
#[derive(Debug)]
pub struct Context {
    /// What is spoken.
    pub protocol: Protocol,
    /// Names and values.
    pub keyspace: Keyspace,
    /// Whether values are checked.
    pub verify: bool,
    /// Whether a read of one key is still sent as MGET.
    pub multi: bool,
}

/// A connection and its requests.
#[derive(Debug)]
pub struct Connection {
    /// The socket, registered by the engine.
    pub stream: Stream,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    held: usize,
    reader: Reader,
    flight: Flight,
}

impl Connection {
    /// Take over a connected socket.
    pub fn new(stream: Stream, protocol: Protocol) -> Connection {
        Connection {
            stream,
            out: Vec::new(),
            sent: 0,
            input: vec![0; INPUT_LEN],
            held: 0,
            reader: Reader::new(protocol),
            flight: Flight::default(),
        }
    }

    /// Requests sent (or about to be) without a reply.
    pub fn in_flight(&self) -> usize {
        self.flight.pending.len()
    }

    /// Queue a read of these keys, due at `due`.
    pub fn push_read(&mut self, keys: &[u64], due: u64, context: &Context) {
        match context.protocol {
            Protocol::Redis => redis::encode_read(keys, context.multi, &mut self.out),
            Protocol::Memcached => memcached::encode_read(keys, &mut self.out),
        }
        if context.verify {
            self.flight.keys.extend(keys);
        }
        let keys = keys.len() as u32;
        self.flight.pending.push_back(Pending { due, keys });
    }

    /// Queue a write, due at `due`.
    pub fn push_write(&mut self, key: u64, due: u64, context: &Context) {
        match context.protocol {
            Protocol::Redis => redis::encode_write(key, &context.keyspace, &mut self.out),
            Protocol::Memcached => memcached::encode_write(key, &context.keyspace, &mut self.out),
        }
        self.flight.pending.push_back(Pending { due, keys: 0 });
    }

    /// Write what the socket takes. The rest goes out when it is writable again.
    pub fn flush(&mut self, figures: &mut Figures) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent += n;
                    figures.bytes_out += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Read what has come. `clock` tells the nanoseconds since the run began
    /// and is asked once per read, not once per reply.
    pub fn receive(
        &mut self,
        context: &Context,
        clock: impl Fn() -> u64,
        figures: &mut Figures,
    ) -> io::Result<()> {
        loop {
            let room = self.input.len() - self.held;
            let n = match self.stream.read(&mut self.input[self.held..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            figures.bytes_in += n as u64;
            self.held += n;
            self.parse(context, clock(), figures)
                .map_err(|Malformed(text)| io::Error::new(io::ErrorKind::InvalidData, text))?;
            // A short read has emptied the socket: asking again would only cost a system call.
            if n < room {
                return Ok(());
            }
        }
    }

    fn parse(
        &mut self,
        context: &Context,
        now: u64,
        figures: &mut Figures,
    ) -> Result<(), Malformed> {
        let flight = &mut self.flight;
        let mut sink = |event: Event<'_>| flight.event(event, now, context, figures);
        let bytes = &self.input[..self.held];
        let used = match &mut self.reader {
            Reader::Redis(reader) => reader.read(bytes, &mut sink)?,
            Reader::Memcached(reader) => reader.read(bytes, &mut sink)?,
        };
        self.input.copy_within(used..self.held, 0);
        self.held -= used;
        if self.held == self.input.len() {
            self.input.resize((self.held * 2).min(2 * LINE_MAX), 0);
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Reader {
    Redis(redis::Reader),
    Memcached(memcached::Reader),
}

impl Reader {
    fn new(protocol: Protocol) -> Reader {
        match protocol {
            Protocol::Redis => Reader::Redis(redis::Reader::default()),
            Protocol::Memcached => Reader::Memcached(memcached::Reader::default()),
        }
    }
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// When it should have been sent.
    due: u64,
    /// Keys it reads; 0 is a write.
    keys: u32,
}

/// The requests in flight, and how far the reply to the first of them has come.
#[derive(Debug, Default)]
struct Flight {
    pending: VecDeque<Pending>,
    /// The keys of all pending reads, in order; kept only when values are checked.
    keys: VecDeque<u64>,
    /// Elements of the current reply so far.
    answered: usize,
    hits: u64,
    failed: bool,
    /// The value being received.
    value: Value,
}

#[derive(Debug, Default)]
struct Value {
    key: u64,
    offset: u64,
    wrong: bool,
}

impl Flight {
    fn event(&mut self, event: Event<'_>, now: u64, context: &Context, figures: &mut Figures) {
        match event {
            Event::Value { name, len } => {
                self.hits += 1;
                if context.verify {
                    self.begin_value(name, len, context, figures);
                }
                self.answered += 1;
            }
            Event::Chunk(chunk) if context.verify && !self.value.wrong => {
                let Value { key, offset, .. } = self.value;
                self.value.wrong = !context.keyspace.matches(key, offset, chunk);
                self.value.offset += chunk.len() as u64;
                if self.value.wrong {
                    figures.mismatch(|| {
                        let shown = &chunk[..chunk.len().min(40)];
                        format!("key {key} at byte {offset}: \"{}\"", shown.escape_ascii())
                    });
                }
            }
            Event::Chunk(_) | Event::ValueEnd => {}
            Event::Missing => self.answered += 1,
            Event::Status => {
                if self.front_keys() > 0 {
                    figures.mismatch(|| "a status as the answer to a read".to_owned());
                }
            }
            Event::Error(text) => {
                self.answered += 1;
                self.failed = true;
                figures.error(text);
            }
            Event::End => self.finish(now, figures),
        }
    }

    /// Find out which key this value must belong to.
    fn begin_value(
        &mut self,
        name: Option<&[u8]>,
        len: u64,
        context: &Context,
        figures: &mut Figures,
    ) {
        let asked = self.front_keys();
        let key = match name {
            None => self
                .keys
                .get(self.answered)
                .copied()
                .filter(|_| self.answered < asked),
            Some(name) => parse_name(name)
                .filter(|key| self.keys.iter().take(asked).any(|asked| asked == key)),
        };
        self.value = Value {
            key: key.unwrap_or(0),
            offset: 0,
            wrong: false,
        };
        let expected = key.map(|key| context.keyspace.value_len(key));
        if expected != Some(len) {
            self.value.wrong = true;
            figures.mismatch(|| {
                format!("a value of {len} bytes for key {key:?}, expected {expected:?}")
            });
        }
    }

    fn finish(&mut self, now: u64, figures: &mut Figures) {
        let Some(Pending { due, keys }) = self.pending.pop_front() else {
            figures.mismatch(|| "a reply that nobody asked for".to_owned());
            return;
        };
        figures.requests += 1;
        figures.latency(now.saturating_sub(due));
        if keys > 0 {
            figures.reads += 1;
            if !self.failed {
                figures.keys += u64::from(keys);
                figures.hits += self.hits;
            }
            let kept = (keys as usize).min(self.keys.len());
            self.keys.drain(..kept);
        } else if self.hits > 0 {
            figures.mismatch(|| "a value as the answer to a write".to_owned());
        }
        self.answered = 0;
        self.hits = 0;
        self.failed = false;
    }

    fn front_keys(&self) -> usize {
        self.pending
            .front()
            .map_or(0, |pending| pending.keys as usize)
    }
}
