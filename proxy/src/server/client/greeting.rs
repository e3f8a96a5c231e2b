//! The first words of a client that speaks TLS, before its first request.
//!
//! Until they are through, the client is one that has begun a request and does
//! not go on: it has `timeout_head`, and leaves when the process does.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tracing::{debug, warn};

use super::Client;
use crate::log::Limited;
use crate::server::backend::remember;
use crate::server::socket::Socket;
use crate::server::worker::Worker;

/// Whoever scans ports is no news.
static STRANGERS: Limited = Limited::new(5);

/// Make a connection of its listener's kind; `None` if that came to nothing.
pub(super) async fn greet(worker: &Rc<Worker>, client: &Client, socket: Socket) -> Option<Socket> {
    let listener = &worker.running.listeners[client.listener];
    let (tls, stream) = match (&listener.tls, socket) {
        (Some(tls), Socket::Tcp(stream)) => (tls, stream),
        (_, socket) => return Some(socket),
    };
    worker.tick();
    client.since.set(worker.now().max(1));
    let mut accept = pin!(tls.accept(stream));
    let accepted = poll_fn(|context| {
        client.woken.set(false);
        remember(&client.waker, context);
        let newest = worker.successor();
        let newest = newest.as_ref().unwrap_or(worker);
        if newest.is_draining() || newest.has_lost(client.listener) {
            return Poll::Ready(None);
        }
        match client.killed.get() {
            Some(_) => Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into()))),
            None => accept.as_mut().poll(context).map(Some),
        }
    });
    let accepted: Option<io::Result<_>> = accepted.await;
    client.since.set(0);
    match accepted? {
        Ok(stream) => Some(Socket::Tls(Box::new(stream.into()))),
        // Whether somebody listens here is often asked in this way.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            debug!(client = client.id, "a client left before it was greeted");
            None
        }
        Err(error) => {
            worker.meter.strange(client.listener);
            if let Some(skipped) = STRANGERS.admit() {
                let listener = listener.name.as_str();
                warn!(listener, %error, skipped, "a client's TLS handshake failed");
            }
            None
        }
    }
}
