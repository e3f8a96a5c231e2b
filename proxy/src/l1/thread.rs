//! The L1's own thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::desk::{Desk, Flight};
use super::{Ask, Fetch, L1, Landed, bus, memcached};
use crate::metrics::Meter;
use crate::running::{Protocol, Running};

/// Start the thread. `tell` hands an answer to the worker with that number.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(
    running: Arc<Running>,
    l1: Arc<L1>,
    meter: Arc<Meter>,
    asked: mpsc::UnboundedReceiver<Ask>,
    tell: impl Fn(usize, Landed) + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("l1".to_owned())
        .spawn(move || {
            let desk = Rc::new(Desk {
                running,
                l1,
                meter,
                tell: Box::new(tell),
                flights: RefCell::default(),
            });
            tokio::task::LocalSet::new().block_on(&runtime, serve(desk, asked));
        })?;
    Ok(())
}

async fn serve(desk: Rc<Desk>, mut asked: mpsc::UnboundedReceiver<Ask>) {
    let (publish, writes) = mpsc::unbounded_channel();
    if let Some(bus) = desk.running.bus.clone() {
        tokio::task::spawn_local(bus::run(Rc::clone(&desk), bus, writes));
    }
    let mut links = HashMap::new();
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Publish { pool, key } => {
                let _ = publish.send((pool, key));
            }
            Ask::Fill {
                key,
                token,
                server,
                worker,
            } => {
                let mut flights = desk.flights.borrow_mut();
                if let Some(flight) = flights.get_mut(&(key.hash, token)) {
                    flight.workers.extend(worker);
                    continue;
                }
                let workers = worker.into_iter().collect();
                flights.insert((key.hash, token), Flight { server, workers });
                drop(flights);
                let link = links.entry(server).or_insert_with(|| {
                    let (link, fetches) = mpsc::unbounded_channel();
                    let pool = desk.running.servers[server.0 as usize].pool;
                    let protocol = desk.running.pools[usize::from(pool.0)].protocol;
                    if protocol == Protocol::Memcached {
                        let task = memcached::run(Rc::clone(&desk), server, fetches);
                        tokio::task::spawn_local(task);
                    }
                    link
                });
                let _ = link.send(Fetch { key, token });
            }
        }
    }
}
