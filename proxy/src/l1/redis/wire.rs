//! The connection of a link: what is to be written, and frames as they come.

use std::io;
use std::task::{Context, Poll};

use redis_protocol::resp3::types::OwnedFrame;

use super::control;
use super::incoming::{Frame, Incoming};
use crate::server::socket::Socket;

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// A connected socket with its buffers.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    out: Vec<u8>,
    written: usize,
    incoming: Incoming,
    buffer: Box<[u8]>,
    /// Bytes at the start of `buffer` that are less than a header.
    left: usize,
}

impl Wire {
    /// Over this socket, with replies of at most `reply_max` bytes.
    pub fn new(socket: Socket, reply_max: usize) -> Wire {
        Wire {
            socket,
            out: Vec::new(),
            written: 0,
            incoming: Incoming::new(reply_max),
            buffer: vec![0; READ].into_boxed_slice(),
            left: 0,
        }
    }

    /// What is appended here is written at the next poll.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that the server has not taken yet.
    pub fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Write what there is to write, and read once. The bytes are handed out
    /// by [`Wire::frames`].
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (socket, written) = (&mut self.socket, &mut self.written);
        if let Poll::Ready(done) = socket.poll_write_all(context, &self.out, written) {
            done?;
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.out.shrink_to(READ);
            self.written = 0;
        }
        let free = &mut self.buffer[self.left..];
        self.socket.poll_read(context, free)
    }

    /// Hand out the frames in the `count` bytes that were just read.
    ///
    /// # Errors
    /// As [`Incoming::feed`], and when the server has closed.
    pub fn frames(
        &mut self,
        count: usize,
        each: impl FnMut(Frame<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        if count == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let end = self.left + count;
        let used = self.incoming.feed(&self.buffer[..end], each)?;
        self.buffer.copy_within(used..end, 0);
        self.left = end - used;
        match self.left < self.buffer.len() {
            true => Ok(()),
            false => Err("it sent a line without an end".to_owned()),
        }
    }

    /// Say something and wait for its answer, while nothing else is in flight.
    ///
    /// # Errors
    /// When the connection ends, or something else comes.
    pub async fn call(&mut self, words: &[&str]) -> Result<OwnedFrame, String> {
        let words = words.iter().map(|word| word.as_bytes());
        emberline_protocol::redis::encode::command(&mut self.out, words);
        let mut answer = None;
        while answer.is_none() {
            let read = std::future::poll_fn(|context| self.poll(context)).await;
            let count = read.map_err(|error| error.to_string())?;
            self.frames(count, |frame| {
                if frame.is_push() {
                    return Ok(());
                }
                match answer.replace(control::decode(frame)?) {
                    None => Ok(()),
                    Some(_) => Err("it sent a reply that nobody asked for".to_owned()),
                }
            })?;
        }
        answer.ok_or_else(|| "the server closed the connection".to_owned())
    }
}
