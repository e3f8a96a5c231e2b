//! A server that does what a real one does not do on demand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Listens until dropped; each connection runs the script on its own thread.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Scripted {
    /// `script` is given each new connection and its number, from 0.
    pub fn start(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (count, stop) = (Arc::clone(&connections), Arc::clone(&stopped));
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
                let number = count.fetch_add(1, Ordering::Relaxed);
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(stream, number));
            }
        });
        Scripted {
            address,
            connections,
            stopped,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Call `answer` with the arguments of every Redis request that comes, until
/// the connection ends or `answer` says no.
pub fn drain_requests(
    stream: &mut TcpStream,
    mut answer: impl FnMut(&mut TcpStream, &[Vec<u8>]) -> bool,
) {
    use emberline_protocol::redis::{Limits, Parser, Step};
    let (mut parser, mut buffer) = (Parser::default(), Vec::new());
    let mut more = [0; 65536];
    loop {
        match parser.parse(&buffer, &Limits::default()) {
            Ok(Step::Frame { len, .. }) => {
                let args: Vec<Vec<u8>> = parser.args(&buffer).map(<[u8]>::to_vec).collect();
                buffer.drain(..len);
                if !answer(stream, &args) {
                    let _ = stream.flush();
                    return;
                }
                continue;
            }
            Ok(Step::Empty { len }) => {
                buffer.drain(..len);
                continue;
            }
            Ok(Step::Partial) => {}
            Err(_) => return,
        }
        match stream.read(&mut more) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&more[..count]),
        }
    }
}
