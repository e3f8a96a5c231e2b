//! A caching proxy for Redis that is wrong on purpose, so that the checker can
//! be seen to find each kind of wrong. A thread per connection, RESP2 alone.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sickness {
    /// Nothing: it passes everything on.
    None,
    /// It keeps values for 100 ms whatever is written through it.
    IgnoresWrites,
    /// Every other connection has a memory of its own (100 ms).
    TwoMinds,
    /// It keeps values for ever, but for what is written through it.
    KeepsForEver,
    /// Now and then it answers with the value of another key.
    MixesKeys,
    /// Now and then it leaves out the end of a value.
    CutsValues,
}

/// What it remembers: by mind and key.
type Memory = Mutex<HashMap<(u64, Vec<u8>), (Instant, Vec<u8>)>>;

/// Start one before this server; returns its port. Its threads end with the
/// process.
pub fn start(sickness: Sickness, server: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let memory = Arc::new(Memory::default());
    let count = AtomicU64::new(0);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let memory = Arc::clone(&memory);
            let number = count.fetch_add(1, Ordering::Relaxed);
            // Ends when either side does.
            thread::spawn(move || serve(sickness, client, server, &memory, number));
        }
    });
    port
}

fn serve(
    sickness: Sickness,
    client: TcpStream,
    server: u16,
    memory: &Memory,
    number: u64,
) -> io::Result<()> {
    let upstream = TcpStream::connect(("127.0.0.1", server))?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let mut out = client.try_clone()?;
    let mut talk = Talk {
        sickness,
        memory,
        mind: match sickness {
            Sickness::TwoMinds => number % 2,
            _ => 0,
        },
        answers: BufReader::new(upstream.try_clone()?),
        upstream,
        count: 0,
    };
    let mut asks = BufReader::new(client);
    loop {
        let words = command(&mut asks)?;
        let reply = talk.answer(&words)?;
        out.write_all(&reply)?;
    }
}

struct Talk<'a> {
    sickness: Sickness,
    memory: &'a Memory,
    mind: u64,
    upstream: TcpStream,
    answers: BufReader<TcpStream>,
    count: u64,
}

impl Talk<'_> {
    fn answer(&mut self, words: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        match words[0].as_slice() {
            b"HELLO" => Ok(b"+OK\r\n".to_vec()),
            b"GET" => self.get(&words[1]),
            b"MGET" => {
                let mut reply = format!("*{}\r\n", words.len() - 1).into_bytes();
                for key in &words[1..] {
                    reply.extend(self.get(key)?);
                }
                Ok(reply)
            }
            _ => {
                let reply = self.pass(words)?;
                if self.sickness != Sickness::IgnoresWrites {
                    let mut memory = self.memory.lock().unwrap();
                    memory.retain(|(_, key), _| !words.contains(key));
                }
                Ok(reply)
            }
        }
    }

    fn get(&mut self, key: &[u8]) -> io::Result<Vec<u8>> {
        self.count += 1;
        let lifetime = match self.sickness {
            Sickness::None => return self.fetch(key),
            Sickness::MixesKeys => {
                let other = if self.count.is_multiple_of(50) {
                    b"check:1:0"
                } else {
                    key
                };
                return self.fetch(other);
            }
            Sickness::CutsValues => {
                let reply = self.fetch(key)?;
                return Ok(if self.count.is_multiple_of(50) {
                    cut(&reply)
                } else {
                    reply
                });
            }
            Sickness::KeepsForEver => Duration::MAX,
            Sickness::IgnoresWrites | Sickness::TwoMinds => Duration::from_millis(100),
        };
        let place = (self.mind, key.to_vec());
        if let Some((since, reply)) = self.memory.lock().unwrap().get(&place)
            && since.elapsed() < lifetime
        {
            return Ok(reply.clone());
        }
        let since = Instant::now();
        let reply = self.fetch(key)?;
        self.memory
            .lock()
            .unwrap()
            .insert(place, (since, reply.clone()));
        Ok(reply)
    }
}

impl Talk<'_> {
    fn fetch(&mut self, key: &[u8]) -> io::Result<Vec<u8>> {
        self.pass(&[b"GET".to_vec(), key.to_vec()])
    }

    fn pass(&mut self, words: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        let mut ask = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            ask.extend(format!("${}\r\n", word.len()).into_bytes());
            ask.extend(word);
            ask.extend(b"\r\n");
        }
        self.upstream.write_all(&ask)?;
        let mut reply = line(&mut self.answers)?;
        if reply.starts_with(b"$") && !reply.starts_with(b"$-1") {
            let len = number(&reply)?;
            body(&mut self.answers, len, &mut reply)?;
        }
        Ok(reply)
    }
}

/// A string's reply without the last byte of the string.
fn cut(reply: &[u8]) -> Vec<u8> {
    let Some(at) = reply
        .iter()
        .position(|&byte| byte == b'\n')
        .filter(|_| reply.len() > 8)
    else {
        return reply.to_vec();
    };
    let text = &reply[at + 1..reply.len() - 3];
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

fn command(asks: &mut impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let count = number(&line(asks)?)?;
    (0..count)
        .map(|_| {
            let len = number(&line(asks)?)?;
            let mut word = Vec::new();
            body(asks, len, &mut word)?;
            word.truncate(len);
            Ok(word)
        })
        .collect()
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    match from.read_until(b'\n', &mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

fn number(line: &[u8]) -> io::Result<usize> {
    let text = String::from_utf8_lossy(&line[1..]);
    text.trim().parse().map_err(io::Error::other)
}

/// A string of this length and the end of its line.
fn body(from: &mut impl BufRead, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let mut bytes = vec![0; len + 2];
    from.read_exact(&mut bytes)?;
    out.extend(bytes);
    Ok(())
}
