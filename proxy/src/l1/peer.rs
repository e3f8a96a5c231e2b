//! A connection of the L1's thread to a server: bytes queued to go out, bytes
//! that came in, and whatever else its task waits for, in one place.
//!
//! What the bytes mean is the business of whoever owns it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};

use crate::running::Address;
use crate::server::socket::Socket;
use crate::tls::Connector;

/// Bytes taken from the socket at a time.
const READ: usize = 16 * 1024;

/// A buffer of more than this is given back when it is empty.
const KEPT: usize = 64 * 1024;

/// See the module's description.
#[derive(Debug)]
pub struct Peer {
    socket: Socket,
    /// What came and was not used yet.
    pub input: Vec<u8>,
    /// What is to be sent; the first `written` bytes have been.
    pub output: Vec<u8>,
    written: usize,
    scratch: Box<[u8]>,
}

/// Why [`Peer::turn`] came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// More has come in.
    Read,
    /// The queue had this; `None`: nobody can put anything into it any more.
    Item(Option<T>),
    /// It is that late.
    Late,
}

impl Peer {
    /// Connect within this time, over TLS if `tls` says whom to believe.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn connect(
        address: &Address,
        tls: Option<&Connector>,
        within: Duration,
    ) -> Result<Peer, String> {
        match timeout(within, Socket::connect(address, tls)).await {
            Ok(Ok(socket)) => Ok(Peer {
                socket,
                input: Vec::new(),
                output: Vec::new(),
                written: 0,
                scratch: vec![0; READ].into_boxed_slice(),
            }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("connecting timed out".to_owned()),
        }
    }

    /// Write what is queued until something happens.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn turn<T>(
        &mut self,
        mut queue: Option<&mut UnboundedReceiver<T>>,
        late: Option<Instant>,
    ) -> io::Result<Turn<T>> {
        let mut timer = pin!(late.map(sleep_until));
        poll_fn(|context| {
            self.poll_write(context)?;
            if self.poll_read(context)?.is_ready() {
                return Poll::Ready(Ok(Turn::Read));
            }
            if let Some(queue) = queue.as_mut()
                && let Poll::Ready(item) = queue.poll_recv(context)
            {
                return Poll::Ready(Ok(Turn::Item(item)));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(context).map(|()| Ok(Turn::Late)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let (socket, written) = (&mut self.socket, &mut self.written);
        if let Poll::Ready(done) = socket.poll_write_all(context, &self.output, written) {
            done?;
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.output.shrink_to(KEPT);
            self.written = 0;
        }
        Ok(())
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.socket.poll_read(context, &mut self.scratch)? {
            Poll::Ready(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            )),
            Poll::Ready(count) => {
                self.input.extend_from_slice(&self.scratch[..count]);
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Forget the first bytes of the input.
    pub fn used(&mut self, count: usize) {
        self.input.drain(..count.min(self.input.len()));
        if self.input.is_empty() {
            self.input.shrink_to(KEPT);
        }
    }
}

/// How long to wait before connecting is tried again: longer each time.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const MAX: Duration = Duration::from_secs(2);

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Backoff::MAX);
        pause
    }

    /// An attempt was good.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            next: Backoff::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.pause(), Backoff::FIRST);
    }
}
