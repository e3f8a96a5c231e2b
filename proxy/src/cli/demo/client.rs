//! A blocking client for each protocol, with just what the demo's load needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use emberline_protocol::redis::encode;
use emberline_protocol::{Scan, memcache, redis};

use crate::running::Protocol;
use crate::scanner::Scanner;

/// Values are forgotten after this many seconds, so that there are misses to see.
const TTL: &str = "5";

/// A server in this process that does not answer in this time is broken.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    protocol: Protocol,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Client {
    pub fn connect(protocol: Protocol, address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Client {
            stream,
            protocol,
            request: Vec::new(),
            reply: Vec::new(),
        })
    }

    /// Whether the key has a value.
    pub fn read(&mut self, key: &str) -> io::Result<bool> {
        self.request.clear();
        match self.protocol {
            Protocol::Redis => {
                encode::command(&mut self.request, [&b"GET"[..], key.as_bytes()].into_iter())
            }
            Protocol::Memcached => write!(self.request, "get {key}\r\n")?,
        }
        self.exchange()?;
        match self.protocol {
            Protocol::Redis => Ok(!self.reply.starts_with(b"$-1")),
            Protocol::Memcached => Ok(self.reply.starts_with(b"VALUE")),
        }
    }

    /// Give the key a value for a while.
    pub fn write(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.request.clear();
        match self.protocol {
            Protocol::Redis => {
                let args = [&b"SET"[..], key.as_bytes(), value, b"EX", TTL.as_bytes()];
                encode::command(&mut self.request, args.into_iter());
            }
            Protocol::Memcached => {
                write!(self.request, "set {key} 0 {TTL} {}\r\n", value.len())?;
                self.request.extend_from_slice(value);
                self.request.extend_from_slice(b"\r\n");
            }
        }
        self.exchange()
    }

    /// Send the request and receive one reply; an error reply is an error.
    fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request)?;
        self.reply.clear();
        let mut block = [0; 4096];
        while !self.whole()? {
            match self.stream.read(&mut block)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.reply.extend_from_slice(&block[..n]),
            }
        }
        let refused = match self.protocol {
            Protocol::Redis => redis::reply::is_error(&self.reply),
            Protocol::Memcached => memcache::is_error(&self.reply),
        };
        match refused {
            true => Err(io::Error::other(
                self.reply.trim_ascii_end().escape_ascii().to_string(),
            )),
            false => Ok(()),
        }
    }

    /// Whether the reply is whole. Replies are short, so each look starts at their beginning.
    fn whole(&self) -> io::Result<bool> {
        if self.reply.is_empty() {
            return Ok(false);
        }
        let scan = Scanner::new(self.protocol).feed(&self.reply);
        Ok(matches!(scan.map_err(io::Error::other)?, Scan::Done(_)))
    }
}
