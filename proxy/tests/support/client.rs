//! A plain client: bytes out, whole replies in.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use emberline_protocol::Scan;
use emberline_protocol::{memcache, redis};

/// How long a reply may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    taken: usize,
}

/// One Redis request in multibulk form.
pub fn command<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Cut Redis replies apart.
pub fn replies(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut cut = Vec::new();
    while !bytes.is_empty() {
        let Some(len) = redis_len(bytes) else {
            cut.push(bytes);
            break;
        };
        cut.push(&bytes[..len]);
        bytes = &bytes[len..];
    }
    cut
}

/// The length of the Redis reply that `bytes` begins with.
fn redis_len(bytes: &[u8]) -> Option<usize> {
    let mut scanner = redis::Scanner::default();
    follow(&mut 0, bytes, |more| {
        scanner
            .feed(more)
            .unwrap_or_else(|error| panic!("no reply: {error}"))
    })
}

/// Scan on from `at`; answers where the reply ends.
fn follow(at: &mut usize, bytes: &[u8], mut feed: impl FnMut(&[u8]) -> Scan) -> Option<usize> {
    loop {
        match feed(&bytes[*at..]) {
            Scan::Done(len) => return Some(*at + len),
            Scan::More(0) => return None,
            Scan::More(len) => *at += len,
        }
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Send one Redis request and take its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.send(&command(args));
        self.reply()
    }

    /// Send a memcached request and take its reply.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(bytes.as_ref());
        self.memcached_reply()
    }

    /// The next Redis reply; the test fails when there is none.
    pub fn reply(&mut self) -> Vec<u8> {
        self.try_reply()
            .unwrap_or_else(|kind| panic!("no reply came: {kind}"))
    }

    /// The next Redis reply, or why there is none.
    pub fn try_reply(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let mut scanner = redis::Scanner::default();
        self.next(|more| {
            scanner
                .feed(more)
                .unwrap_or_else(|error| panic!("no reply: {error}"))
        })
    }

    /// The next memcached reply.
    pub fn memcached_reply(&mut self) -> Vec<u8> {
        self.try_memcached_reply()
            .unwrap_or_else(|kind| panic!("no reply came: {kind}"))
    }

    /// The next memcached reply, or why there is none.
    pub fn try_memcached_reply(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let mut scanner = memcache::Scanner::default();
        self.next(|more| {
            scanner
                .feed(more)
                .unwrap_or_else(|error| panic!("no reply: {error}"))
        })
    }

    fn next(&mut self, mut feed: impl FnMut(&[u8]) -> Scan) -> Result<Vec<u8>, ErrorKind> {
        let mut at = 0;
        loop {
            let unread = &self.buffer[self.taken..];
            if !unread.is_empty()
                && let Some(len) = follow(&mut at, unread, &mut feed)
            {
                let reply = unread[..len].to_vec();
                self.taken += len;
                if self.taken == self.buffer.len() {
                    self.buffer.clear();
                    self.taken = 0;
                }
                return Ok(reply);
            }
            let mut more = [0; 65536];
            match self.stream.read(&mut more) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof),
                Ok(count) => self.buffer.extend_from_slice(&more[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.kind()),
            }
        }
    }

    /// Exactly `count` bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = self.buffer.split_off(self.taken);
        self.buffer.clear();
        self.taken = 0;
        if bytes.len() > count {
            self.buffer = bytes.split_off(count);
        }
        let have = bytes.len();
        bytes.resize(count, 0);
        self.stream.read_exact(&mut bytes[have..]).unwrap();
        bytes
    }

    /// `count` bytes, or fewer when the others do not come.
    pub fn at_most(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = self.buffer.split_off(self.taken);
        self.buffer.clear();
        self.taken = 0;
        let mut more = [0; 65536];
        while bytes.len() < count {
            let wanted = more.len().min(count - bytes.len());
            match self.stream.read(&mut more[..wanted]) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&more[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if bytes.len() > count {
            self.buffer = bytes.split_off(count);
        }
        bytes
    }

    /// Everything until it ends with `last`, or nothing more comes.
    pub fn until(&mut self, last: &[u8]) -> Vec<u8> {
        let mut bytes = self.buffer.split_off(self.taken);
        self.buffer.clear();
        self.taken = 0;
        let mut more = vec![0; 65536];
        while !bytes.ends_with(last) {
            match self.stream.read(&mut more) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&more[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        bytes
    }

    /// Everything until the other end closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = self.buffer.split_off(self.taken);
        self.buffer.clear();
        self.taken = 0;
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
        bytes
    }

    /// Whatever comes, until it is a whole line that begins with `-`, the
    /// connection ends, or nothing more comes for this long.
    pub fn raw_reply(&mut self, patience: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut more = [0; 65536];
        self.stream.set_read_timeout(Some(patience)).unwrap();
        while !(bytes.starts_with(b"-") && bytes.ends_with(b"\r\n")) {
            match self.stream.read(&mut more) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&more[..count]),
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        bytes
    }

    /// Whether nothing comes for this long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        if self.taken < self.buffer.len() {
            return false;
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(peeked, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Say that nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Close both ways, whether or not the other end has.
    pub fn finish_quietly(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// A second handle, to write while another thread reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }
}
