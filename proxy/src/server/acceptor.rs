//! Listeners, and which worker gets a new client: the one with the fewest.
//!
//! One place accepts for all workers, so the choice is the same for TCP and
//! for Unix sockets, and a worker that is busy with few clients does not
//! collect more of them because the kernel woke it first.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol as Transport, SockAddr, Socket as RawSocket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::Hub;
use super::worker::Message;
use crate::running::{Bind, Listener, Protocol};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A bound listening socket.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    /// What the configuration calls its address.
    bind: Bind,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    /// Bind `listener`'s address.
    ///
    /// # Errors
    /// What the kernel says, with the listener's name and address.
    pub fn new(listener: &Listener) -> io::Result<Bound> {
        let bound = match &listener.bind {
            Bind::Tcp(address) => bind_tcp(*address).map(Socket::Tcp),
            Bind::Unix(path) => bind_unix(path).map(Socket::Unix),
        };
        let bound = bound.map(|socket| Bound {
            socket,
            bind: listener.bind.clone(),
        });
        bound.map_err(|error| {
            let address = match &listener.bind {
                Bind::Tcp(address) => address.to_string(),
                Bind::Unix(path) => format!("unix:{}", path.display()),
            };
            let name = &listener.name;
            io::Error::new(
                error.kind(),
                format!("listener {name} cannot use {address}: {error}"),
            )
        })
    }

    /// The address as the configuration has it.
    pub fn bind(&self) -> &Bind {
        &self.bind
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn another(&self) -> io::Result<Bound> {
        let socket = match &self.socket {
            Socket::Tcp(listener) => listener.try_clone().map(Socket::Tcp)?,
            Socket::Unix(listener) => listener.try_clone().map(Socket::Unix)?,
        };
        let bind = self.bind.clone();
        Ok(Bound { socket, bind })
    }

    /// The address as bound: a port of 0 has become a real one.
    pub fn address(&self) -> io::Result<Bind> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Bind::Tcp),
            Socket::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Bind::Unix(
                    address.as_pathname().unwrap_or(Path::new("")).to_path_buf(),
                ))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Transport::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that nobody listens on is what a killed process left behind; any
/// other file is not ours to remove.
fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Ok(file) = std::fs::symlink_metadata(path) {
        let refused = StdUnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !file.file_type().is_socket() || !refused {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A socket file that this process made, to be removed when it leaves.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The file of a listener that is bound, if it has one.
    pub fn of(address: &Bind) -> Option<SocketFile> {
        let Bind::Unix(path) = address else {
            return None;
        };
        let identity = identity(path)?;
        Some(SocketFile {
            path: path.clone(),
            identity,
        })
    }

    /// Remove it, unless a successor has put its own in its place.
    pub fn remove(&self) {
        if identity(&self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Accept clients of one listener until the task is ended.
pub async fn accept(hub: Arc<Hub>, index: usize, bound: Bound) {
    match bound.socket {
        Socket::Tcp(listener) => match TcpListener::from_std(listener) {
            Ok(listener) => loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let _ = stream.set_nodelay(true);
                        match stream.into_std() {
                            Ok(stream) => hub.admit(index, Message::Client(stream, index)),
                            Err(error) => complain(&error).await,
                        }
                    }
                    Err(error) => complain(&error).await,
                }
            },
            Err(error) => complain(&error).await,
        },
        Socket::Unix(listener) => match UnixListener::from_std(listener) {
            Ok(listener) => loop {
                match listener.accept().await {
                    Ok((stream, _)) => match stream.into_std() {
                        Ok(stream) => hub.admit(index, Message::Local(stream, index)),
                        Err(error) => complain(&error).await,
                    },
                    Err(error) => complain(&error).await,
                }
            },
            Err(error) => complain(&error).await,
        },
    }
}

/// Out of descriptors, most likely: it passes when clients leave.
async fn complain(error: &io::Error) {
    warn!(%error, "a client could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// What a client is told that is one too many.
pub fn turn_away(protocol: Protocol, message: &Message) {
    use std::io::Write;
    let text: &[u8] = match protocol {
        Protocol::Redis => b"-ERR max number of clients reached\r\n",
        Protocol::Memcached => b"SERVER_ERROR too many connections\r\n",
    };
    // The socket does not block: if this cannot be written at once, the close says it too.
    let _ = match message {
        Message::Client(stream, _) => (&*stream).write(text),
        Message::Local(stream, _) => (&*stream).write(text),
        Message::Landed(_) | Message::Reload(_) | Message::Drain => Ok(0),
    };
}
