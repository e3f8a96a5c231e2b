//! The HTTP side: what operators, probes and scrapers read.
//!
//! Two listeners, on one thread that does nothing else. *Admin* is the full
//! API and the page for people; it belongs on loopback or a Unix socket, and
//! checks that requests were meant for it. *Status* may face the network: it
//! knows `/metrics`, `/healthz` and `/readyz` and nothing that tells or
//! changes more. Neither shares a thread with clients, so that a slow scrape
//! delays no request and a busy worker no probe.

mod api;
mod explain;
mod guard;
mod hotkeys;
mod listen;
mod report;
mod serve;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::delete_log::DeleteLogs;
use crate::generation::{Current, Generation};
use crate::l1::L1;
use crate::l1::preload::Preload;
use crate::metrics::{Meter, Scrape};
use crate::reload::Reloads;
use crate::running::Running;
use crate::server::health::Board;
use listen::Socket;

/// What the HTTP thread reads of the rest of the process.
#[derive(Debug)]
pub struct State {
    current: Arc<Current>,
    /// What is promoted, and what is kept of it.
    pub l1: Arc<L1>,
    /// When the process started.
    pub started: SystemTime,
    /// Which servers are down.
    pub(crate) health: Arc<Board>,
    scrape: Scrape,
    reloads: Arc<Reloads>,
    ready: AtomicBool,
    draining: AtomicBool,
}

impl State {
    /// Not ready yet, not draining.
    pub fn new(
        running: Arc<Running>,
        meters: Vec<Arc<Meter>>,
        l1: Arc<L1>,
        deletes: DeleteLogs,
        started: SystemTime,
    ) -> State {
        let health = Arc::new(Board::new(&running));
        let current = Arc::new(Current::new(running, meters, deletes));
        let reloads = Arc::new(Reloads::new(started));
        State {
            scrape: Scrape::new(current.clone(), l1.clone(), health.clone(), reloads.clone()),
            reloads,
            health,
            current,
            l1,
            started,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// What is served now.
    pub fn view(&self) -> View<'_> {
        let Generation {
            running, meters, ..
        } = &*self.current.load();
        View {
            running: Arc::clone(running),
            meters: Arc::clone(meters),
            l1: &self.l1,
            health: &self.health,
            started: self.started,
            state: self,
        }
    }

    /// How reloads went, and the way to ask for one.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// The generation that is served.
    pub(crate) fn current(&self) -> &Current {
        &self.current
    }

    /// Say that every listener is bound: `/readyz` answers 200 from here on, but
    /// waits for the preload.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Say that the process is on its way out: `/readyz` answers 503.
    pub fn set_draining(&self) {
        let before = self.draining.swap(true, Ordering::AcqRel);
        if let Some(preload) = self.l1.preload.as_ref().filter(|_| !before) {
            preload.freeze(&self.l1, &self.current.load().running);
        }
    }

    /// Why `/readyz` says no, if it does.
    ///
    /// Servers that are down are no reason: taking the proxy out of service
    /// as well would turn a failing cache into a failing application.
    pub fn unready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            Some("draining")
        } else if !self.ready.load(Ordering::Acquire) {
            Some("starting: listeners are not bound yet")
        } else if self.is_preloading() {
            Some("preloading: hot keys are being fetched")
        } else {
            None
        }
    }

    fn is_preloading(&self) -> bool {
        let preload = self.l1.preload.as_ref();
        preload.is_some_and(Preload::is_under_way)
    }
}

/// A state as it is at one moment: the configuration stays the same while
/// somebody looks at it.
#[derive(Debug)]
pub struct View<'s> {
    /// The configuration that is being served.
    pub running: Arc<Running>,
    /// One per worker, one of the acceptor and one of the L1's thread.
    pub meters: Arc<[Arc<Meter>]>,
    /// As in [`State`].
    pub l1: &'s Arc<L1>,
    pub(crate) health: &'s Board,
    /// As in [`State`].
    pub started: SystemTime,
    state: &'s State,
}

impl View<'_> {
    /// As for [`State`].
    pub fn unready(&self) -> Option<&'static str> {
        self.state.unready()
    }
}

/// The running HTTP thread; dropping it stops both listeners.
#[derive(Debug)]
pub struct AdminHandle {
    /// Where the admin API listens, when it does so on TCP.
    pub admin: Option<SocketAddr>,
    /// Where the status endpoint listens, when it does so on TCP.
    pub status: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Bind the admin and status listeners and serve them on a thread of their own.
///
/// # Errors
///
/// When an address cannot be bound, or no thread be started; the text names
/// the address.
pub fn spawn(state: Arc<State>) -> io::Result<AdminHandle> {
    let bound = |bind: &Option<_>, role| {
        bind.as_ref()
            .map(|bind| Socket::bind(bind, role))
            .transpose()
    };
    let running = state.view().running;
    let admin = bound(&running.admin, "admin")?;
    let status = bound(&running.status, "status")?;
    let addresses = (
        admin.as_ref().and_then(Socket::address),
        status.as_ref().and_then(Socket::address),
    );
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            let admin = admin.map(|socket| (socket, api::admin(state.clone())));
            let status = status.map(|socket| (socket, api::status(state)));
            let sites = admin.into_iter().chain(status).collect();
            runtime.block_on(serve::run(sites, stopped));
        })?;
    for (listener, address) in [("admin", addresses.0), ("status", addresses.1)] {
        if let Some(address) = address {
            tracing::info!(listener, %address, "listening, for HTTP");
        }
    }
    Ok(AdminHandle {
        admin: addresses.0,
        status: addresses.1,
        stop,
        thread: Some(thread),
    })
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has been reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}
