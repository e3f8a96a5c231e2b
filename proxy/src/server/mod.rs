//! The data plane: from a client's bytes to a server's and back.
//!
//! ```text
//!   acceptor --new client--> worker (thread, runtime)
//!                              |
//!            client  <---------+---------> backend
//!              | take_up               ^      |
//!              | split, plan           |      | replies, in the order of the fifo
//!              +---- push(entry) ------+      v
//!            pipeline <----- deliver(seq) ----+
//! ```

mod acceptor;
pub mod ask;
mod backend;
mod client;
mod connections;
mod dispatch;
mod doors;
mod errand;
mod fault;
mod figures;
mod flight;
mod form;
mod gather;
pub(crate) mod health;
mod heat;
mod increment;
mod pipeline;
mod places;
mod policy;
mod replay;
pub(crate) mod socket;
mod worker;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use self::dispatch::{Graves, Owed};
use self::doors::Doors;
use self::worker::{Message, Worker};
use crate::admin::{self, AdminHandle};
use crate::answer::Figures;
use crate::delete_log::DeleteLogs;
use crate::l1::preload::{self, PRELOAD};
use crate::l1::{self, L1};
use crate::metrics::hotkeys::{self, Hot};
use crate::metrics::{Meter, Shed};
use crate::reload::{self, Adopt, Adopted, Origin};
use crate::running::{Bind, Changes, Running};
pub use places::places;

/// What the threads of one process share.
#[derive(Debug)]
pub struct Hub {
    state: Arc<admin::State>,
    client_ids: AtomicU64,
    l1: Arc<L1>,
    /// What was deleted a moment ago.
    graves: Graves,
    /// What is known not to be there.
    absences: Graves,
    /// What has to be deleted before anything else is done to it.
    owed: Owed,
    /// Where clients come in.
    doors: Doors,
    workers: Vec<Seat>,
}

/// What the acceptor knows of a worker.
#[derive(Debug)]
struct Seat {
    clients: AtomicUsize,
    /// Bytes that its clients' buffers hold, as of its last report.
    buffered: AtomicUsize,
    messages: mpsc::UnboundedSender<Message>,
}

impl Hub {
    /// What the process runs on from here on, if not yet in every thread.
    fn newest(&self) -> Arc<Running> {
        Arc::clone(&self.state.current().load().running)
    }

    /// Give a new client to the worker with the fewest.
    fn admit(&self, listener: usize, message: Message) {
        let generation = self.state.current().load();
        let load = |seat: &&Seat| seat.clients.load(Ordering::Relaxed);
        let total: usize = self.workers.iter().map(|seat| load(&seat)).sum();
        let seat = self.workers.iter().min_by_key(load);
        match seat {
            Some(seat) if total < generation.running.proxy.clients_max => {
                seat.clients.fetch_add(1, Ordering::Relaxed);
                if seat.messages.send(message).is_err() {
                    seat.clients.fetch_sub(1, Ordering::Relaxed);
                    warn!("a worker has ended: a new client was lost");
                }
            }
            _ => {
                // The acceptor's own cells.
                if let Some(meter) = generation.meters.get(self.workers.len()) {
                    meter.shed(Shed::Clients);
                }
                let listener = &generation.running.listeners[listener];
                acceptor::turn_away(listener.protocol, &message);
            }
        }
    }

    /// Tell worker `index` something.
    fn tell(&self, index: usize, message: Message) {
        if let Some(seat) = self.workers.get(index) {
            // A worker that has ended has no clients left to be answered.
            let _ = seat.messages.send(message);
        }
    }

    /// A client of worker `index` has gone.
    fn leave(&self, index: usize) {
        self.workers[index].clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Worker `index` says how much its clients' buffers hold.
    fn report(&self, index: usize, buffered: usize) {
        self.workers[index]
            .buffered
            .store(buffered, Ordering::Relaxed);
    }

    fn drain(&self) {
        self.state.set_draining();
        for seat in &self.workers {
            let _ = seat.messages.send(Message::Drain);
        }
    }

    /// Figures of the whole process, for the answers that print them.
    fn figures(&self) -> Figures {
        let buffered = self
            .workers
            .iter()
            .map(|seat| seat.buffered.load(Ordering::Relaxed));
        figures::gather(&self.state.view(), buffered.sum())
    }

    /// The hot keys of the pools that a listener leads to.
    fn hotkeys(&self, listener: usize) -> Vec<Hot> {
        let running = self.state.view().running;
        let pools = running.listeners[listener].router.pools();
        hotkeys::list(&self.l1, &running, |pool| pools.contains(&pool))
    }
}

/// What the thread that watches the file changes.
struct Process(Arc<Hub>);

impl Adopt for Process {
    fn running(&self) -> Arc<Running> {
        self.0.state.view().running
    }

    /// In this order, so that nobody ever meets what is not there yet: sockets,
    /// and files, since they may fail; tables that are shared; the L1's thread, which
    /// forgets what may be wrong from now on; the workers, each between two
    /// turns; and at last new clients.
    fn adopt(&self, mut next: Running) -> io::Result<Adopted> {
        let hub = &self.0;
        let old = hub.state.current().load();
        let restart = reload::keep_what_is_fixed(&old.running, &mut next);
        let opened = hub.doors.bind(&next)?;
        let deletes = old.deletes.next(&next)?;
        let changes = Changes::between(&old.running, &next);
        let generation = Arc::new(old.next(next, deletes));
        let running = &generation.running;
        let is_new = |at| !old.running.keeps_place(running, at);
        hub.state.health.follow(running, is_new);
        let (done, forgotten) = std::sync::mpsc::channel();
        hub.l1.ask(l1::Ask::Reload(Arc::clone(&generation), done));
        // It answers, unless it has ended, and then it serves nothing.
        let _ = forgotten.recv();
        hub.state.current().replace(Arc::clone(&generation));
        for index in 0..hub.workers.len() {
            hub.tell(index, Message::Reload(Arc::clone(&generation)));
        }
        hub.doors.follow(running, opened);
        Ok(Adopted { changes, restart })
    }
}

/// A running data plane.
#[derive(Debug)]
pub struct Handle {
    hub: Arc<Hub>,
    addresses: Vec<(String, Bind)>,
    reload: Option<JoinHandle<()>>,
    acceptor: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    _admin: AdminHandle,
}

impl Handle {
    /// Every listener's name and address as bound.
    pub fn addresses(&self) -> &[(String, Bind)] {
        &self.addresses
    }

    /// What the HTTP thread shows of this process, for others who show it.
    pub fn state(&self) -> &Arc<admin::State> {
        &self.hub.state
    }

    /// Stop accepting, answer what is in flight, and wait for the workers, but
    /// no longer than the configured time.
    pub fn shutdown(mut self) {
        self.drain();
        self.wait_for_workers();
        if let Some(preload) = &self.hub.l1.preload {
            preload.finish();
        }
    }

    fn wait_for_workers(&mut self) {
        let deadline =
            std::time::Instant::now() + self.hub.state.view().running.proxy.timeout_drain;
        for thread in self.workers.drain(..) {
            while !thread.is_finished() {
                if std::time::Instant::now() > deadline {
                    warn!("clients are still connected: leaving without them");
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = thread.join();
        }
    }

    /// Stop accepting and let the workers end when their clients are served.
    /// The acceptor goes first: no client may be handed over behind the word.
    fn drain(&mut self) {
        self.hub.state.reloads().stop(self.reload.take());
        self.hub.doors.close();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.hub.drain();
        self.hub.doors.remove_files();
    }
}

/// Bind every listener and start the threads.
///
/// # Errors
/// When an address cannot be bound or a thread cannot be started; the text
/// names which.
pub fn start(running: Arc<Running>) -> io::Result<Handle> {
    start_from(running, None)
}

/// The same, and go on under what the file at `origin` says when it changes.
///
/// # Errors
/// As for [`start`].
pub fn start_from(running: Arc<Running>, origin: Option<Origin>) -> io::Result<Handle> {
    let doors = Doors::new();
    let opened = doors.bind(&running)?;
    let count = running.proxy.workers.max(1);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    // Two more than the workers: the acceptor's and the L1's.
    let meters: Vec<Arc<Meter>> = (0..count + 2)
        .map(|_| Arc::new(Meter::new(&running)))
        .collect();
    let (l1, asked) = L1::new(&running);
    let state = Arc::new(admin::State::new(
        Arc::clone(&running),
        meters.clone(),
        Arc::clone(&l1),
        DeleteLogs::open(&running)?,
        SystemTime::now(),
    ));
    let admin = admin::spawn(Arc::clone(&state))?;
    let seat = |messages| Seat {
        clients: AtomicUsize::new(0),
        buffered: AtomicUsize::new(0),
        messages,
    };
    let hub = Arc::new(Hub {
        state: Arc::clone(&state),
        client_ids: AtomicU64::new(1),
        l1,
        graves: Graves::default(),
        absences: Graves::default(),
        owed: Owed::default(),
        doors,
        workers: senders.into_iter().map(seat).collect(),
    });

    let told = Arc::clone(&hub);
    l1::spawn(
        Arc::clone(&running),
        Arc::clone(&hub.l1),
        Arc::clone(&meters[count + 1]),
        asked,
        move |worker, landed| match &told.l1.preload {
            Some(preload) if worker == PRELOAD => preload.land(landed),
            _ => told.tell(worker, Message::Landed(landed)),
        },
    )?;
    let mut workers = Vec::with_capacity(count);
    for (index, messages) in receivers.into_iter().enumerate() {
        let (hub, meter) = (Arc::clone(&hub), Arc::clone(&meters[index]));
        workers.push(spawn_local(format!("worker-{index}"), move || {
            Worker::new(index, hub, meter).run(messages)
        })?);
    }
    let acceptor = hub.doors.spawn(Arc::clone(&hub))?;
    hub.doors.follow(&running, opened);
    let addresses = hub.doors.addresses()?.into_iter();
    let addresses = addresses.map(|(at, bind)| (running.listeners[at].name.clone(), bind));
    let reload = origin
        .map(|origin| {
            reload::spawn(
                origin,
                Arc::clone(state.reloads()),
                Process(Arc::clone(&hub)),
            )
        })
        .transpose()?;
    let of = Arc::clone(&state);
    preload::spawn(Arc::clone(&hub.l1), move || of.current().load())?;
    state.set_ready();
    Ok(Handle {
        hub,
        addresses: addresses.collect(),
        reload,
        acceptor: Some(acceptor),
        workers,
        _admin: admin,
    })
}

/// Run `work` on a thread with a runtime of its own.
fn spawn_local<F>(
    name: String,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    std::thread::Builder::new().name(name).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(async { work().await }),
            Err(error) => tracing::error!(%error, "a thread could not start its runtime"),
        }
    })
}

/// Serve until told to stop: SIGTERM or SIGINT finishes what is in flight, a
/// second one ends at once.
///
/// # Errors
/// As for [`start`].
pub fn serve(running: Arc<Running>, origin: Option<Origin>) -> io::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let handle = start_from(running, origin)?;
        for (name, address) in handle.addresses() {
            match address {
                Bind::Tcp(address) => info!(listener = name, %address, "listening"),
                Bind::Unix(path) => info!(listener = name, path = %path.display(), "listening"),
            }
        }
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => handle.state().reloads().reload_soon(),
            }
        }
        info!("stopping: answering what is in flight");
        let (finished, wait) = oneshot::channel();
        std::thread::spawn(move || {
            handle.shutdown();
            let _ = finished.send(());
        });
        tokio::select! {
            _ = wait => {}
            _ = terminate.recv() => warn!("told again: leaving at once"),
            _ = interrupt.recv() => warn!("told again: leaving at once"),
        }
        Ok(ExitCode::SUCCESS)
    })
}
