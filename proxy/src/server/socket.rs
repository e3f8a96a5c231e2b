//! A connected stream, TCP or Unix, polled by hand.
//!
//! The tasks of the data plane are plain state machines: they need to try a
//! read *and* a write in the same turn, which `poll_*` says directly. Both
//! kinds clear their readiness on a short read, so nobody reads a second time
//! only to be told `EAGAIN`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use emberline_routing::{ByteSign, Hash};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::running::Address;

/// One connected peer.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connect to a server. Nothing is looked up here: the addresses of a name
    /// stand in `address`.
    ///
    /// # Errors
    /// Whatever the kernel says, of several addresses of the last; or why the
    /// name has none, which is as certain as a server that is not there.
    pub async fn connect(address: &Address) -> io::Result<Socket> {
        let connected = match address {
            Address::Ip(address) => TcpStream::connect(address).await,
            Address::Name { port, found, .. } => match found {
                Ok(all) => {
                    let all = all.iter().map(|ip| SocketAddr::new(*ip, *port));
                    TcpStream::connect(&*all.collect::<Vec<_>>()).await
                }
                Err(why) => {
                    let text = format!("the name {address} has not been resolved: {why}");
                    Err(io::Error::new(io::ErrorKind::NotFound, text))
                }
            },
            Address::Unix(path) => return UnixStream::connect(path).await.map(Socket::Unix),
        };
        let stream = connected?;
        stream.set_nodelay(true)?;
        Ok(Socket::Tcp(stream))
    }

    /// The other end's address, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
        }
    }

    /// Stands for the other end's address without its port; 0 where it has none.
    pub fn origin(&self) -> u64 {
        let Some(peer) = self.peer() else { return 0 };
        let text = peer.ip().to_canonical().to_string();
        Hash::Fnv1a_64
            .hash(text.as_bytes(), ByteSign::Unsigned)
            .into()
    }

    /// Read once into `buffer`; `Ok(0)` means that the peer has finished.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Write once from `bytes`.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Tell the peer that nothing more will come.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
