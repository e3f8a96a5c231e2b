//! Accepting and limiting HTTP connections.
//!
//! The limits are for clients that mean harm or hang: few connections at
//! once, a small head within seconds, bodies that nobody waits for, and an
//! end to every connection. None of them is in reach of a scraper or a probe.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::guard::{self, Guard};
use super::listen::{Removed, Socket};

/// Connections at once, over both listeners.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request head.
const HEAD_MAX: usize = 16 * 1024;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// How long a request head may take; an idle connection ends after it, too.
const TIMEOUT_HEAD: Duration = Duration::from_secs(5);
/// When a connection is asked to end after its current answer.
const LIFE: Duration = Duration::from_secs(60);
/// How long an answer may take to be read.
const TIMEOUT_ANSWER: Duration = Duration::from_secs(10);

/// What is served where.
pub(super) struct Site {
    pub(super) router: Router,
    /// Whether requests must name this machine as their host.
    pub(super) guarded: bool,
}

/// Serve until told to stop.
pub(super) async fn run(sites: Vec<(Socket, Site)>, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for (socket, site) in sites {
        let permits = permits.clone();
        tokio::spawn(async move {
            let served = match socket {
                Socket::Tcp(listener) => tcp(listener, site, permits).await,
                Socket::Unix(listener, removed) => unix(listener, removed, site, permits).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "an admin listener cannot be served");
            }
        });
    }
    // An error means that the handle is gone, which says the same as `true`.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn tcp(
    listener: std::net::TcpListener,
    site: Site,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let local = stream.local_addr().ok();
                accept(stream, local, &site, &permits);
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn unix(
    listener: std::os::unix::net::UnixListener,
    _removed: Removed,
    site: Site,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => accept(stream, None, &site, &permits),
            Err(error) => pause(&error).await,
        }
    }
}

/// Running out of descriptors passes; trying again at once would spin until it does.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "an admin connection was not accepted");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Serve one connection, or close it when there are too many.
fn accept<S>(stream: S, local: Option<SocketAddr>, site: &Site, permits: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = permits.clone().try_acquire_owned() else {
        return;
    };
    // A Unix socket cannot be reached by a web page, whatever name it resolves.
    let guard = local
        .filter(|_| site.guarded)
        .map(|at| Guard { at: at.ip() });
    let router = site
        .router
        .clone()
        .layer(axum::middleware::from_fn_with_state(guard, guard::check));
    tokio::spawn(connection(stream, router, permit));
}

async fn connection<S>(stream: S, router: Router, _permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT_HEAD)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // Errors here are the client's: it left, or sent something that is not
    // HTTP and was told so.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFE) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(TIMEOUT_ANSWER, connection).await;
}
