//! A connected stream, TCP, Unix or TLS, polled by hand.
//!
//! The tasks of the data plane are plain state machines: they need to try a
//! read *and* a write in the same turn, which `poll_*` says directly. TCP and
//! Unix clear their readiness on a short read, so nobody reads a second time
//! only to be told `EAGAIN`. TLS keeps up to 32 KiB of what it took, in its own
//! form, until the socket takes it: whoever has written all there is goes on
//! to [`Socket::poll_flush`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use emberline_routing::{ByteSign, Hash};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::running::Address;
use crate::tls::{self, Connector};

/// One connected peer.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP, in private.
    Tls(Box<tls::Stream>),
}

impl Socket {
    /// Connect to a server, over TLS if `tls` says whom to believe. Nothing is
    /// looked up here: the addresses of a name stand in `address`.
    ///
    /// # Errors
    /// Whatever the kernel says, of several addresses of the last; or why the
    /// name has none, which is as certain as a server that is not there; or
    /// why the server is not believed.
    pub async fn connect(address: &Address, tls: Option<&Connector>) -> io::Result<Socket> {
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
        match tls {
            None => Ok(Socket::Tcp(stream)),
            Some(tls) => Ok(Socket::Tls(Box::new(tls.connect(stream, address).await?))),
        }
    }

    /// The other end's address, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
            Socket::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
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
            Socket::Tls(stream) => match Pin::new(stream).poll_read(context, &mut buffer) {
                // Many hang up without the word that TLS has for it. Whether
                // something was cut short, both protocols see for themselves.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
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
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Hand the kernel what has been written; ready when it has all of it.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Write what is left of `bytes` behind the first `written`, which are
    /// moved on; ready when the kernel has all of it.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn poll_write_all(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(self.poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => *written += count,
            }
        }
        self.poll_flush(context)
    }

    /// Tell the peer that nothing more will come.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
