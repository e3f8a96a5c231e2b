//! Where in a meter's block of counters a request is counted.
//!
//! Cells exist for every pool that a listener can reach, plus one place for
//! what the proxy answers itself, times every command of the listener's
//! protocol: dense, so that counting is an addition and two bounds checks.
//! A Redis listener takes about 10 KiB per pool and worker.

use emberline_routing::PoolId;

use super::command::{commands, slot};
use super::meter::Verdict;
use crate::running::{Protocol, Running};

/// The index arithmetic of one configuration; the same for all workers.
#[derive(Debug)]
pub(super) struct Layout {
    listeners: Box<[Block]>,
    cells: usize,
}

/// The cells of one listener.
#[derive(Debug)]
struct Block {
    protocol: Protocol,
    start: usize,
    /// Place by `PoolId`; `None` cannot be reached. Place 0 is "no pool".
    places: Box<[Option<u16>]>,
    /// The inverse: pool by place.
    pools: Box<[Option<PoolId>]>,
}

/// The names' indexes of one counter, for the scrape.
pub(super) struct Spot {
    pub(super) listener: usize,
    pub(super) pool: Option<PoolId>,
    /// The command's slot within its protocol.
    pub(super) slot: usize,
    /// The first of the command's five counters.
    pub(super) cell: usize,
}

impl Layout {
    pub(super) fn new(running: &Running) -> Layout {
        let mut cells = 0;
        let listeners = running
            .listeners
            .iter()
            .map(|listener| {
                let mut places = vec![None; running.pools.len()];
                let mut pools = vec![None];
                for &pool in listener.router.pools() {
                    if let Some(place @ None) = places.get_mut(usize::from(pool.0)) {
                        *place = u16::try_from(pools.len()).ok();
                        pools.push(Some(pool));
                    }
                }
                let start = cells;
                cells += pools.len() * commands(listener.protocol) * Verdict::ALL.len();
                Block {
                    protocol: listener.protocol,
                    start,
                    places: places.into(),
                    pools: pools.into(),
                }
            })
            .collect();
        Layout { listeners, cells }
    }

    /// How many counters there are.
    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    /// What a listener speaks.
    pub(super) fn protocol(&self, listener: usize) -> Option<Protocol> {
        self.listeners.get(listener).map(|block| block.protocol)
    }

    /// How many pairs of a listener and a pool (or none) there are.
    pub(super) fn places(&self) -> usize {
        self.listeners.iter().map(|block| block.pools.len()).sum()
    }

    /// The first of a command's five counters. A pool that the route cannot
    /// reach counts as none, an unknown command as `other`.
    #[inline]
    pub(super) fn cell(
        &self,
        listener: usize,
        pool: Option<PoolId>,
        command: u16,
    ) -> Option<usize> {
        let block = self.listeners.get(listener)?;
        let place = pool
            .and_then(|pool| *block.places.get(usize::from(pool.0))?)
            .unwrap_or(0);
        let row = usize::from(place) * commands(block.protocol) + slot(block.protocol, command);
        Some(block.start + row * Verdict::ALL.len())
    }

    /// Every command of every listener and pool.
    pub(super) fn spots(&self) -> impl Iterator<Item = Spot> {
        self.listeners
            .iter()
            .enumerate()
            .flat_map(|(listener, block)| {
                let commands = commands(block.protocol);
                (0..block.pools.len() * commands).map(move |row| Spot {
                    listener,
                    pool: block.pools[row / commands],
                    slot: row % commands,
                    cell: block.start + row * Verdict::ALL.len(),
                })
            })
    }
}
