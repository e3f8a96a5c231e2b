//! A request as it streams by.
//!
//! Where [`super::Parser`] waits for a whole request and then tells its
//! arguments, [`Flow`] keeps nothing and passes on what it has seen: a value
//! of 500 MiB goes to its server while it is still arriving.

use super::framing::Body;
use super::inline;
use super::request::{Limits, RequestError, bulk_header, multibulk_header};
use crate::Scan;

/// Follows a request from its first byte without keeping anything.
#[derive(Clone, Debug)]
pub struct Flow {
    limits: Limits,
    state: State,
    /// Arguments of which not even the header has been seen.
    args_left: usize,
    /// Bytes of a line without end that were searched in vain.
    searched: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    Header,
    Body(Body),
}

impl Flow {
    /// Expects the first byte of a request.
    pub fn new(limits: &Limits) -> Flow {
        Flow {
            limits: *limits,
            state: State::Start,
            args_left: 0,
            searched: 0,
        }
    }

    /// How much of `buf` belongs to the request.
    ///
    /// `Done` also for a request without arguments (`*0`, an empty line). A
    /// header or a plain line is passed on only when it is whole and proper.
    /// After `Done` the next call expects a new request.
    pub fn feed(&mut self, buf: &[u8]) -> Result<Scan, RequestError> {
        let mut at = 0;
        loop {
            let rest = &buf[at..];
            let taken = match &mut self.state {
                State::Start => self.start(rest)?,
                State::Header => self.header(rest)?,
                State::Body(body) => {
                    let taken = body.feed(rest).map_err(|_| RequestError::BulkEnd)?;
                    if body.left == 0 {
                        self.state = State::Header;
                        Some(taken)
                    } else {
                        return Ok(Scan::More(at + taken));
                    }
                }
            };
            match taken {
                Some(taken) => at += taken,
                None => return Ok(Scan::More(at)),
            }
            if self.args_left == 0 && !matches!(self.state, State::Body(_)) {
                self.state = State::Start;
                return Ok(Scan::Done(at));
            }
        }
    }

    fn start(&mut self, rest: &[u8]) -> Result<Option<usize>, RequestError> {
        match rest.first() {
            None => Ok(None),
            Some(b'*') => {
                let header = multibulk_header(rest, &mut self.searched, &self.limits)?;
                Ok(header.map(|(count, len)| {
                    self.searched = 0;
                    self.args_left = count;
                    self.state = State::Header;
                    len
                }))
            }
            Some(_) => {
                let Some(len) = inline::line(rest, &mut self.searched, &self.limits)? else {
                    return Ok(None);
                };
                self.searched = 0;
                // Only to learn whether it is a proper line; nobody streams these.
                inline::split(&rest[..len], &mut Vec::new(), &mut Vec::new())?;
                Ok(Some(len))
            }
        }
    }

    fn header(&mut self, rest: &[u8]) -> Result<Option<usize>, RequestError> {
        let header = bulk_header(rest, &mut self.searched, &self.limits)?;
        Ok(header.map(|(size, len)| {
            self.searched = 0;
            self.args_left -= 1;
            self.state = State::Body(Body::of(size as u64));
            len
        }))
    }
}
