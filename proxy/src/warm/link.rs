//! One connection to a server: a batch of requests goes out, as many replies
//! come back.
//!
//! Writing and reading go on at the same time, or a batch larger than what the
//! kernel buffers would leave both ends waiting for the other to read.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use emberline_protocol::Scan;
use emberline_protocol::redis::{encode, reply};
use tokio::time::timeout;

use crate::running::{Address, Pool, Protocol};
use crate::scanner::Scanner;
use crate::server::socket::Socket;

/// Bytes taken from the socket at a time.
const READ: usize = 64 * 1024;

/// A server that sends nothing for this long is gone, or for the pool's
/// `request_timeout` if that is longer: a batch takes more time than a request.
const SILENCE: Duration = Duration::from_secs(5);

/// Bytes of replies at most, unless said otherwise. What exceeds them is no
/// cache entry.
pub const INPUT_MAX: usize = 1 << 30;

/// See the module's description.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    protocol: Protocol,
    silence: Duration,
    /// What is to be sent; the first `written` bytes have been.
    pub output: Vec<u8>,
    written: usize,
    /// What came and was not taken.
    pub input: Vec<u8>,
    /// Bytes that may come at a time.
    pub input_max: usize,
    scratch: Box<[u8]>,
}

/// Why a server did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It will say the same next time: wrong credentials, a command that it lacks.
    #[error("{0}")]
    Refused(String),
    /// Another connection may have more luck.
    #[error("{0}")]
    Lost(String),
    /// It says more than is taken at a time; asked for less it may not.
    #[error("its replies are too long")]
    TooLong,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Lost(error.to_string())
    }
}

/// The replies to a batch, in order.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    at: Vec<Range<usize>>,
}

impl Replies {
    /// The reply with this number; empty if there is none.
    pub fn reply(&self, at: usize) -> &[u8] {
        let range = self.at.get(at).cloned();
        range
            .and_then(|range| self.bytes.get(range))
            .unwrap_or_default()
    }
}

impl Link {
    /// Connect and introduce ourselves: credentials and database.
    ///
    /// # Errors
    /// [`Fault::Refused`] if the server does not want us.
    pub async fn open(address: &Address, pool: &Pool) -> Result<Link, Fault> {
        let connecting = Socket::connect(address, pool.tls.as_ref());
        let socket = match timeout(pool.timeout_connect, connecting).await {
            Ok(socket) => socket?,
            Err(_) => return Err(Fault::Lost("connecting timed out".to_owned())),
        };
        let mut link = Link {
            socket,
            protocol: pool.protocol,
            silence: pool.timeout_request.max(SILENCE),
            output: Vec::new(),
            written: 0,
            input: Vec::new(),
            input_max: INPUT_MAX,
            scratch: vec![0; READ].into_boxed_slice(),
        };
        if pool.protocol == Protocol::Redis {
            link.introduce(pool).await?;
        }
        Ok(link)
    }

    async fn introduce(&mut self, pool: &Pool) -> Result<(), Fault> {
        if let Some(password) = &pool.password {
            let user = pool.username.as_ref().map(String::as_bytes);
            let words = [Some(&b"AUTH"[..]), user, Some(password.reveal().as_bytes())];
            self.must(&words.into_iter().flatten().collect::<Vec<_>>())
                .await?;
        }
        if pool.database != 0 {
            let database = pool.database.to_string();
            self.must(&[b"SELECT", database.as_bytes()]).await?;
        }
        Ok(())
    }

    /// Whatever the answer quotes, only the code of an error is repeated: an
    /// old server quotes arguments, the password among them.
    async fn must(&mut self, words: &[&[u8]]) -> Result<(), Fault> {
        encode::command(&mut self.output, words.iter().copied());
        let replies = self.ask(1).await?;
        let reply = replies.reply(0);
        if !reply::is_error(reply) {
            return Ok(());
        }
        let code = reply.get(1..).unwrap_or_default();
        let code: String = code
            .iter()
            .take(20)
            .take_while(|byte| byte.is_ascii_uppercase())
            .map(|&byte| char::from(byte))
            .collect();
        let command = String::from_utf8_lossy(words.first().unwrap_or(&&b""[..])).into_owned();
        let text = format!("it refused {command} ({code})");
        Err(match code.as_str() {
            "LOADING" | "BUSY" => Fault::Lost(text),
            _ => Fault::Refused(text),
        })
    }

    /// Send what `output` holds and wait for this many replies.
    ///
    /// After an error the connection is of no more use.
    ///
    /// # Errors
    /// When it ended, went silent, or what came is not the protocol.
    pub async fn ask(&mut self, count: usize) -> Result<Replies, Fault> {
        let mut replies = Replies::default();
        let mut scanner = Scanner::new(self.protocol);
        let (mut start, mut end) = (0, 0);
        while replies.at.len() < count {
            let fresh = self.input.get(end..).unwrap_or_default();
            match scanner.feed(fresh).map_err(Fault::Lost)? {
                Scan::Done(len) => {
                    end += len;
                    replies.at.push(start..end);
                    start = end;
                }
                Scan::More(len) => {
                    end += len;
                    self.more().await?;
                }
            }
        }
        if end != self.input.len() {
            return Err(Fault::Lost("it said more than it was asked".to_owned()));
        }
        replies.bytes = std::mem::take(&mut self.input);
        Ok(replies)
    }

    /// Write what is queued, and wait until more has come in.
    ///
    /// # Errors
    /// When the connection ended or nothing came for too long.
    pub async fn more(&mut self) -> Result<(), Fault> {
        if self.input.len() > self.input_max {
            return Err(Fault::TooLong);
        }
        match timeout(self.silence, poll_fn(|context| self.poll(context))).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Fault::Lost("it did not answer in time".to_owned())),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (socket, written) = (&mut self.socket, &mut self.written);
        if let Poll::Ready(done) = socket.poll_write_all(context, &self.output, written) {
            done?;
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        let Poll::Ready(count) = self.socket.poll_read(context, &mut self.scratch)? else {
            return Poll::Pending;
        };
        if count == 0 {
            let text = "the server closed the connection";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        self.input
            .extend_from_slice(self.scratch.get(..count).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}
