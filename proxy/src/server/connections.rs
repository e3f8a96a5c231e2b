//! A worker's connections to each server: which one a request goes through, and
//! when no new one is tried.
//!
//! What a server is found to be is the business of `health`; here it is only
//! remembered how connecting went.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::redis::Version;
use emberline_routing::ServerId;
use tracing::{error, warn};

use super::backend::Backend;
use super::fault::Fault;
use super::health::jittered;
use super::worker::Worker;
use crate::metrics::Health as Shown;
use crate::nanos::nanos;

/// Connections kept for requests that need one to themselves, per server.
const SPARES: usize = 2;

/// The first pause after a failed connect; it doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

const PAUSE_LAST: Duration = Duration::from_secs(5);

/// The longest pause after connections that were answered and then cut short.
const PAUSE_CUT_SHORT: Duration = Duration::from_millis(250);

/// Those to one server.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// What clients share, by version and number.
    shared: RefCell<Vec<Option<Rc<Backend>>>>,
    /// Idle ones for requests that need a connection to themselves.
    spares: RefCell<Vec<Rc<Backend>>>,
    /// By version: an old server refuses one and takes the other.
    attempts: [Attempts; 2],
}

/// How connecting to a server in one version of the protocol has gone.
#[derive(Debug, Default)]
struct Attempts {
    /// Connects that failed since the last that was worth something.
    failures: Cell<u32>,
    pause: RefCell<Option<Pause>>,
}

impl Attempts {
    fn forget(&self) {
        self.failures.set(0);
        self.pause.take();
    }
}

impl Connections {
    fn attempts(&self, version: Version) -> &Attempts {
        &self.attempts[usize::from(version == Version::Resp3)]
    }

    /// Send nothing new over the connections that there are.
    pub fn retire(&self) {
        let shared = self.shared.take().into_iter().flatten();
        let spares = self.spares.take();
        shared.chain(spares).for_each(|backend| backend.retire());
        self.attempts.iter().for_each(Attempts::forget);
    }

    /// Have their tasks look which worker is the newest.
    pub fn wake(&self) {
        let shared = self.shared.borrow();
        shared.iter().flatten().for_each(|backend| backend.wake());
        self.spares
            .borrow()
            .iter()
            .for_each(|backend| backend.wake());
    }
}

/// No connect is tried for a while.
#[derive(Debug)]
struct Pause {
    until: u64,
    /// The server's incident: when that is over, so is the pause.
    incident: u64,
    /// What requests are told meanwhile.
    fault: Fault,
}

impl Worker {
    /// The connection that this client's requests to `server` go through.
    ///
    /// # Errors
    /// When the server is down, or connecting failed so recently that it is not
    /// tried again yet.
    pub fn backend(
        self: &Rc<Worker>,
        server: ServerId,
        version: Version,
        client: u64,
    ) -> Result<Rc<Backend>, Fault> {
        if let Some(fault) = self.health.fault(server, self.now()) {
            return Err(fault);
        }
        let own = &self.connections[server.0 as usize];
        let count = usize::from(self.pool_of(server).connections.max(1));
        let one = match count {
            1 => 0,
            _ => client as usize % count,
        };
        let index = (version == Version::Resp3) as usize * count + one;
        if let Some(Some(backend)) = own.shared.borrow().get(index)
            && backend.is_open()
        {
            return Ok(Rc::clone(backend));
        }
        self.may_connect(server, version)?;
        let backend = Backend::open(self, server, version);
        let mut connections = own.shared.borrow_mut();
        if connections.len() <= index {
            connections.resize(index + 1, None);
        }
        connections[index] = Some(Rc::clone(&backend));
        Ok(backend)
    }

    /// A connection for one request alone; give it back with
    /// [`return_backend`](Self::return_backend).
    ///
    /// # Errors
    /// As for [`backend`](Self::backend).
    pub fn lend_backend(
        self: &Rc<Worker>,
        server: ServerId,
        version: Version,
    ) -> Result<Rc<Backend>, Fault> {
        if let Some(fault) = self.health.fault(server, self.now()) {
            return Err(fault);
        }
        let own = &self.connections[server.0 as usize];
        while let Some(backend) = own.spares.borrow_mut().pop() {
            if backend.is_open() && backend.version() == version {
                return Ok(backend);
            }
            backend.retire();
        }
        self.may_connect(server, version)?;
        Ok(Backend::open(self, server, version))
    }

    /// Take back a connection that was lent.
    pub fn return_backend(&self, backend: Rc<Backend>) {
        let mut spares = self.connections[backend.server.0 as usize]
            .spares
            .borrow_mut();
        if backend.is_open() && backend.is_idle() && spares.len() < SPARES {
            spares.push(backend);
        } else {
            backend.retire();
        }
    }

    fn may_connect(&self, server: ServerId, version: Version) -> Result<(), Fault> {
        let incident = self.health.incident(server);
        let own = &self.connections[server.0 as usize];
        match &*own.attempts(version).pause.borrow() {
            Some(pause) if pause.until > self.now() && pause.incident == incident => {
                Err(pause.fault.clone())
            }
            _ => Ok(()),
        }
    }

    /// Send no new request over `backend`.
    pub fn forget(&self, backend: &Rc<Backend>) {
        let own = &self.connections[backend.server.0 as usize];
        for slot in own.shared.borrow_mut().iter_mut() {
            if slot
                .as_ref()
                .is_some_and(|other| Rc::ptr_eq(other, backend))
            {
                *slot = None;
            }
        }
    }

    /// A connect in this version failed: pause before the next, longer each
    /// time.
    pub fn failed(&self, server: ServerId, version: Version, fault: Fault) {
        self.pause(server, version, fault, PAUSE_LAST);
    }

    /// Connect no more for a while, which doubles each time up to `last`.
    fn pause(&self, server: ServerId, version: Version, fault: Fault, last: Duration) {
        let attempts = self.connections[server.0 as usize].attempts(version);
        let failures = attempts.failures.get().saturating_add(1);
        attempts.failures.set(failures);
        let pause = jittered(PAUSE_FIRST, last, failures - 1, self.random());
        *attempts.pause.borrow_mut() = Some(Pause {
            until: self.now() + nanos(pause),
            incident: self.health.incident(server),
            fault,
        });
    }

    /// A connection that had been answered ended at once. That happens, as when
    /// a server is restarted; from the next in a row on there is a pause. It stays
    /// short: the server is there, and what makes it hang up may be one client's
    /// doing.
    pub fn cut_short(&self, server: ServerId, version: Version, fault: Fault) {
        let attempts = self.connections[server.0 as usize].attempts(version);
        if attempts.failures.get() == 0 {
            return attempts.failures.set(1);
        }
        self.pause(server, version, fault, PAUSE_CUT_SHORT);
        self.meter.upstream_health(server, Shown::Down);
    }

    /// Connecting failed for want of something that the proxy has too little of.
    pub fn ran_short(&self, server: ServerId, why: &Arc<str>) {
        let Some(skipped) = self.may_log_loss() else {
            return;
        };
        let pool = &self.pool_of(server).name;
        error!(
            pool,
            server = self.server_name(server),
            why = &**why,
            skipped,
            "the proxy cannot connect"
        );
    }

    /// A connection that had worked has ended.
    pub fn lost(&self, server: ServerId, why: &Arc<str>) {
        let Some(skipped) = self.may_log_loss() else {
            return;
        };
        let pool = &self.pool_of(server).name;
        warn!(
            pool,
            server = self.server_name(server),
            why = &**why,
            skipped,
            "connection lost"
        );
    }

    /// A connection in this version was worth something: it has been answered
    /// and has not ended at once.
    pub fn succeeded(&self, server: ServerId, version: Version) {
        self.connections[server.0 as usize]
            .attempts(version)
            .forget();
    }
}
