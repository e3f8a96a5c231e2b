//! Requests: RESP arrays of bulk strings, and plain lines.
use crate::Scan;

/// What a client may ask for at most. Checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one request.
    pub args_max: usize,
    /// Bytes of one argument.
    pub bulk_max: usize,
    /// Bytes of a plain line, or of a header line, without its line break.
    pub inline_max: usize,
    /// Whether the client still has to authenticate; only changes the words of an error.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            args_max: 1 << 20,
            bulk_max: 512 << 20,
            inline_max: 64 << 10,
            unauthenticated: false,
        }
    }
}

impl Limits {
    /// What Redis allows a client that has not authenticated: 10 arguments of 16 KiB.
    pub fn unauthenticated() -> Self {
        Limits {
            args_max: 10,
            bulk_max: 16 << 10,
            unauthenticated: true,
            ..Limits::default()
        }
    }
}

/// What a buffer holds at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole request: the first `len` bytes. `inline`: it came as a plain line.
    Frame {
        /// Bytes of the request.
        len: usize,
        /// Whether it came as a plain line, so that its bytes cannot be forwarded as they are.
        inline: bool,
    },
    /// Nothing to answer (`\r\n`, `*0`, `*-1`): skip `len` bytes.
    Empty {
        /// Bytes to skip.
        len: usize,
    },
    /// Not whole yet.
    Partial,
}

/// Finds one request after another. Resumable.
#[derive(Debug, Default)]
pub struct Parser {
    args: Vec<(u32, u32)>,
}

impl Parser {
    /// Looks for a request at the start of `buf`.
    pub fn parse(&mut self, _buf: &[u8], _limits: &Limits) -> Result<Step, RequestError> {
        Ok(Step::Partial)
    }

    /// Arguments of the frame just parsed, or complete so far after `Partial`.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `i`; `buf` as passed to [`Parser::parse`].
    pub fn arg<'a>(&'a self, buf: &'a [u8], i: usize) -> &'a [u8] {
        let (from, to) = self.args[i];
        &buf[from as usize..to as usize]
    }

    /// All arguments in order.
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.len()).map(move |i| self.arg(buf, i))
    }

    /// The arguments as [`crate::redis::Args`].
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        Request { parser: self, buf }
    }

    /// Number of arguments announced (0 if not known yet).
    pub fn args_announced(&self) -> usize {
        0
    }

    /// Bytes that the argument now being received still lacks.
    pub fn bulk_missing(&self) -> usize {
        0
    }

    /// Forgets a partial request.
    pub fn reset(&mut self) {}
}

/// A parsed request together with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    parser: &'a Parser,
    buf: &'a [u8],
}

impl super::Args for Request<'_> {
    fn len(&self) -> usize {
        self.parser.len()
    }
    fn arg(&self, i: usize) -> &[u8] {
        self.parser.arg(self.buf, i)
    }
}

/// Follows a request from its first byte without keeping anything.
#[derive(Debug, Clone)]
pub struct Flow {
    _limits: Limits,
}

impl Flow {
    /// Expects the first byte of a request.
    pub fn new(limits: &Limits) -> Flow {
        Flow { _limits: *limits }
    }

    /// How much of `buf` belongs to the request.
    pub fn feed(&mut self, _buf: &[u8]) -> Result<Scan, RequestError> {
        Ok(Scan::More(0))
    }
}

/// Why a request cannot be read. Fatal to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `*` without a proper count.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// A line of an HTTP request: close without an answer, as Redis does.
    #[error("Possible SECURITY ATTACK detected")]
    HttpRequest,
}
