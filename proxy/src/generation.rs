//! One configuration as the process runs on it, and which one that is now.
//!
//! A generation never changes. A reload makes the next one, and every thread
//! moves on to it when nothing of it is in the middle of a request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::delete_log::DeleteLogs;
use crate::metrics::Meter;
use crate::running::Running;

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Generation {
    /// 0 for what the process started with, and one more for each reload.
    pub number: u64,
    /// What the configuration says.
    pub running: Arc<Running>,
    /// One per worker, one of the acceptor and one of the L1's thread.
    pub meters: Arc<[Arc<Meter>]>,
    /// What could not be deleted yet.
    pub deletes: Arc<DeleteLogs>,
}

/// The generation that is served; whoever asks gets the newest.
#[derive(Debug)]
pub struct Current(ArcSwap<Generation>);

impl Current {
    /// The first generation.
    pub fn new(running: Arc<Running>, meters: Vec<Arc<Meter>>, deletes: DeleteLogs) -> Current {
        Current(ArcSwap::from_pointee(Generation {
            number: 0,
            running,
            meters: meters.into(),
            deletes: Arc::new(deletes),
        }))
    }

    /// The newest generation.
    pub fn load(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// From here on there is a newer one.
    pub fn replace(&self, next: Arc<Generation>) {
        self.0.store(next);
    }
}

impl Generation {
    /// The one that follows this, when the process runs on something else.
    pub fn next(&self, running: Running, deletes: DeleteLogs) -> Generation {
        let meters = self.meters.iter();
        let meters = meters.map(|meter| Arc::new(meter.after(&self.running, &running)));
        Generation {
            number: self.number + 1,
            meters: meters.collect(),
            running: Arc::new(running),
            deletes: Arc::new(deletes),
        }
    }
}
