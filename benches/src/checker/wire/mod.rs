//! A client of both protocols that waits for its answers: as small as it can
//! be, and independent of the code under test.

pub mod memcached;
pub mod redis;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::stamp::Key;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Redis, as clients have always spoken it.
    Resp2,
    /// Redis after `HELLO 3`.
    Resp3,
    /// memcached, text and meta commands.
    Memcached,
}

/// One request.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Read these keys.
    Read(ReadForm, Vec<Key>),
    /// Write these values; all forms but [`WriteForm::Many`] take one.
    Write(WriteForm, Vec<Put>),
}

/// A key and its new value.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The value; not used by deletions and expiries.
    pub value: Vec<u8>,
    /// memcached's flags.
    pub flags: u32,
}

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadForm {
    /// `GET`, `get`.
    Get,
    /// `MGET`, `get` with several keys.
    Many,
    /// `GETRANGE key 0 -1`: never answered from memory.
    Range,
    /// `gets`.
    Gets,
    /// `mg key c v f`.
    Meta,
}

impl ReadForm {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            ReadForm::Get => "get",
            ReadForm::Many => "multi-get",
            ReadForm::Range => "getrange",
            ReadForm::Gets => "gets",
            ReadForm::Meta => "mg",
        }
    }
}

/// How to write. What a protocol lacks is done by its `SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteForm {
    /// `SET`, `set`.
    Set,
    /// `SET ... PX`, `set` with an exptime: forgotten after so many milliseconds.
    SetFor(u32),
    /// `DEL`, `delete`.
    Delete,
    /// `PEXPIRE`, `touch`: forget it after so many milliseconds.
    Expire(u32),
    /// `SET temporary`, `RENAME temporary key`.
    Rename,
    /// `SET temporary`, `COPY temporary key REPLACE`.
    Copy,
    /// `EVAL "redis.call('SET', ...)" 1 key value`.
    Script,
    /// `GETSET`.
    Swap,
    /// `MSET`.
    Many,
    /// `ms`.
    MetaSet,
    /// `md`.
    MetaDelete,
}

impl WriteForm {
    /// Whether the key is gone afterwards.
    pub fn deletes(self) -> bool {
        matches!(self, WriteForm::Delete | WriteForm::MetaDelete)
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One for every key of a read, in their order.
    Values(Vec<Option<Found>>),
    /// The write took effect.
    Done,
    /// The write certainly changed nothing: there was no such key.
    Nothing,
    /// An error, in the server's or the proxy's words.
    Refused(String),
}

/// A value that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// memcached's flags.
    pub flags: Option<u32>,
    /// memcached's CAS, if it was asked for.
    pub cas: Option<u64>,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    dialect: Dialect,
    /// What has been read, from `taken` on not yet used.
    held: Vec<u8>,
    taken: usize,
}

impl Client {
    /// Connect; nothing on this connection waits longer than `patience`.
    pub fn connect(port: u16, dialect: Dialect, patience: Duration) -> io::Result<Client> {
        let address = ([127, 0, 0, 1], port).into();
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = Client {
            stream,
            dialect,
            held: Vec::new(),
            taken: 0,
        };
        if dialect == Dialect::Resp3 {
            client.command(&["HELLO", "3"])?;
        }
        Ok(client)
    }

    /// Send several requests in one piece.
    pub fn send(&mut self, asks: &[Ask]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for ask in asks {
            match self.dialect {
                Dialect::Memcached => memcached::encode(ask, &mut bytes),
                Dialect::Resp2 | Dialect::Resp3 => redis::encode(ask, &mut bytes),
            }
        }
        self.stream.write_all(&bytes)
    }

    /// The answer to the next request.
    pub fn answer(&mut self, ask: &Ask) -> io::Result<Answer> {
        match self.dialect {
            Dialect::Memcached => memcached::answer(self, ask),
            Dialect::Resp2 | Dialect::Resp3 => redis::answer(self, ask),
        }
    }

    /// A Redis command and its reply, which must not be an error.
    pub fn command(&mut self, words: &[&str]) -> io::Result<redis::Reply> {
        let mut bytes = Vec::new();
        redis::command(&mut bytes, words.iter().map(|word| word.as_bytes()));
        self.stream.write_all(&bytes)?;
        match redis::reply(self)? {
            redis::Reply::Error(text) => Err(io::Error::other(text)),
            reply => Ok(reply),
        }
    }

    /// A memcached command and the one line that answers it.
    pub fn ask_line(&mut self, command: &str) -> io::Result<String> {
        self.stream.write_all(format!("{command}\r\n").as_bytes())?;
        let line = self.line()?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.held[self.taken..], b"\r\n") {
                let line = self.held[self.taken..self.taken + at].to_vec();
                self.taken += at + 2;
                return Ok(line);
            }
            self.more()?;
        }
    }

    /// The next `len` bytes, behind which a line ends.
    fn block(&mut self, len: usize) -> io::Result<Vec<u8>> {
        if len > 64 << 20 {
            return Err(malformed("a length", len.to_string().as_bytes()));
        }
        while self.held.len() - self.taken < len + 2 {
            self.more()?;
        }
        let block = self.held[self.taken..self.taken + len].to_vec();
        if !self.held[self.taken + len..].starts_with(b"\r\n") {
            return Err(malformed("the end of a value", &block));
        }
        self.taken += len + 2;
        Ok(block)
    }

    fn more(&mut self) -> io::Result<()> {
        self.held.drain(..self.taken);
        self.taken = 0;
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.held.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }
}

/// An error that shows what was found in place of what was expected.
fn malformed(expected: &str, found: &[u8]) -> io::Error {
    let excerpt = found[..found.len().min(60)].escape_ascii();
    let text = format!("expected {expected}, found \"{excerpt}\"");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
