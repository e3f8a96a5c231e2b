//! `floor`: the least that a process must do to answer Redis requests over TCP.
//!
//! It reads what there is, counts the requests in it by their first two bytes,
//! and sends as many answers that were written beforehand: one `recv` and one
//! `send` for everything that came together. It looks up nothing, keeps nothing
//! and parses nothing else, so no server that answers from memory can cost
//! less on the same kernel; what it costs is what the kernel takes.
//!
//! It is a peer of `emberline-compare`, not a Redis server: a `*` within a value
//! would be taken for a request.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Answer Redis requests of the load generator with as little work as can be
#[derive(Parser, Debug)]
#[command(name = "floor", version)]
struct Arguments {
    /// Port on the loopback
    #[arg(long)]
    port: u16,

    /// Bytes of the value that every `GET` is answered with
    #[arg(long, default_value_t = 64)]
    size: usize,
}

const LISTENER: Token = Token(0);
/// Answers to `GET` that lie behind one another.
const READY: usize = 2048;

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], arguments.port).into())?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut answers = Answers::new(arguments.size);
    let mut next = 1;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let registry = poll.registry();
                    registry.register(&mut stream, Token(next), Interest::READABLE)?;
                    clients.insert(Token(next), Client::new(stream));
                    next += 1;
                }
            } else if let Some(client) = clients.get_mut(&event.token())
                && client.answer(&mut answers).is_err()
            {
                clients.remove(&event.token());
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    /// The last byte that came was a `*`.
    begun: bool,
}

/// What is sent, and where it is put together if it is not all the same.
struct Answers {
    read: Vec<u8>,
    values: Vec<u8>,
    value: usize,
    mixed: Vec<u8>,
}

impl Answers {
    fn new(size: usize) -> Answers {
        let mut value = format!("${size}\r\n").into_bytes();
        value.resize(value.len() + size, b'x');
        value.extend_from_slice(b"\r\n");
        Answers {
            read: vec![0; 64 << 10],
            values: value.repeat(READY),
            value: value.len(),
            mixed: Vec::new(),
        }
    }
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        Client {
            stream,
            begun: false,
        }
    }

    fn answer(&mut self, answers: &mut Answers) -> io::Result<()> {
        let Answers {
            read,
            values,
            value,
            mixed,
        } = answers;
        loop {
            let got = match self.stream.read(read) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let (mut gets, mut others) = (0, false);
            mixed.clear();
            let mut count = |arguments: u8| match arguments {
                b'2' => gets += 1,
                b'1' => (others, _) = (true, mixed.extend_from_slice(b"+PONG\r\n")),
                b'3' => (others, _) = (true, mixed.extend_from_slice(b"+OK\r\n")),
                _ => {}
            };
            if std::mem::take(&mut self.begun) {
                count(read[0]);
            }
            for at in memchr::memchr_iter(b'*', &read[..got]) {
                match read[..got].get(at + 1) {
                    Some(&arguments) => count(arguments),
                    None => self.begun = true,
                }
            }
            let gets = gets.min(READY);
            match others {
                false => self.stream.write_all(&values[..gets * *value])?,
                true => {
                    mixed.extend_from_slice(&values[..gets * *value]);
                    self.stream.write_all(mixed)?;
                }
            }
            // There is no more than that, or the next event says so.
            if got < read.len() {
                return Ok(());
            }
        }
    }
}
