//! Binding the HTTP listeners, before any thread exists, so that a bad
//! address ends the start with a clear error.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::running::Bind;

/// Owner and group may connect: an operator's tool or a sidecar's neighbour
/// shares the group, other users of the machine have no business here.
const MODE: u32 = 0o660;

/// A bound listener.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, Removed),
}

/// A socket file that goes when its listener does.
#[derive(Debug)]
pub(super) struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may be gone already; a process that ends cannot do better than try.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listen there. `role` is named in the error.
    pub(super) fn bind(bind: &Bind, role: &str) -> io::Result<Socket> {
        let socket = match bind {
            Bind::Tcp(address) => tcp(*address),
            Bind::Unix(path) => unix(path),
        };
        socket.map_err(|error| {
            let text = format!("{role} listener cannot bind to {bind}: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    /// The TCP address; the port is known even if 0 was asked for.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Tcp(listener))
}

fn unix(path: &Path) -> io::Result<Socket> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let removed = Removed(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener, removed))
}

/// A killed process leaves its socket file behind, and binding would fail
/// forever. It is removed only if it is a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}
