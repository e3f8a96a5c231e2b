//! Where a meter counts requests.
//!
//! Cells exist for every pool that a listener can reach, plus one row for
//! what the proxy answers itself, times every command of the listener's
//! protocol: dense, so that counting is an addition and a few bounds checks.
//! A Redis listener takes about 10 KiB per pool and worker.
//!
//! A reload makes a new table. What both the old and the new one have, the
//! cells of a listener and a pool that stay, they share: so nothing is lost
//! that is still counted in the old one.

use std::sync::Arc;

use emberline_routing::PoolId;

use super::command::{commands, slot};
use super::meter::{Counter, Verdict};
use crate::running::{Protocol, Running};

/// Counters by listener, pool, command and verdict.
#[derive(Debug)]
pub(super) struct Requests(Box<[Block]>);

/// The cells of one listener.
#[derive(Debug)]
struct Block {
    protocol: Protocol,
    /// Place by `PoolId`; `None` cannot be reached. Place 0 is "no pool".
    places: Box<[Option<u16>]>,
    /// By place.
    rows: Box<[(Option<PoolId>, Row)]>,
}

/// Five counters for each command.
type Row = Arc<[Counter]>;

/// The names' indexes of one command's counters, for the scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) listener: usize,
    pub(super) pool: Option<PoolId>,
    /// The command's slot within its protocol.
    pub(super) slot: usize,
}

impl Requests {
    /// Cells for everything that `running` names; those that `before` had for
    /// the same listener and pool are the same cells.
    pub(super) fn new(running: &Running, before: Option<(&Requests, &Running)>) -> Requests {
        let listeners = running.listeners.all().enumerate();
        let blocks = listeners.map(|(at, listener)| {
            let kept = before.filter(|(_, old)| old.keeps_listener(running, at));
            let row = |pool: Option<PoolId>| {
                let kept = kept.filter(|(_, old)| {
                    pool.is_none_or(|pool| old.keeps_pool(running, usize::from(pool.0)))
                });
                kept.and_then(|(old, _)| old.row(at, pool))
                    .unwrap_or_else(|| fresh(listener.protocol))
            };
            let mut places = vec![None; running.pools.places()];
            let mut rows = vec![(None, row(None))];
            for &pool in listener.router.pools() {
                if let Some(place @ None) = places.get_mut(usize::from(pool.0)) {
                    *place = u16::try_from(rows.len()).ok();
                    rows.push((Some(pool), row(Some(pool))));
                }
            }
            Block {
                protocol: listener.protocol,
                places: places.into(),
                rows: rows.into(),
            }
        });
        Requests(blocks.collect())
    }

    /// What a listener speaks.
    pub(super) fn protocol(&self, listener: usize) -> Option<Protocol> {
        self.0.get(listener).map(|block| block.protocol)
    }

    /// How many pairs of a listener and a pool (or none) there are.
    pub(super) fn places(&self) -> usize {
        self.0.iter().map(|block| block.rows.len()).sum()
    }

    /// A command's five counters. A pool that the route cannot reach counts as
    /// none, an unknown command as `other`.
    #[inline]
    pub(super) fn cells(
        &self,
        listener: usize,
        pool: Option<PoolId>,
        command: u16,
    ) -> Option<&[Counter]> {
        let block = self.0.get(listener)?;
        let place = pool
            .and_then(|pool| *block.places.get(usize::from(pool.0))?)
            .unwrap_or(0);
        let (_, row) = block.rows.get(usize::from(place))?;
        row.get(slot(block.protocol, command) * Verdict::ALL.len()..)
    }

    /// The same, as the scrape knows it; in the order of `Verdict::ALL`.
    pub(super) fn at(&self, spot: Spot) -> impl Iterator<Item = u64> {
        let block = self.0.get(spot.listener);
        let row = block.and_then(|block| {
            let mut rows = block.rows.iter();
            rows.find(|(pool, _)| *pool == spot.pool)
        });
        let cells = row.and_then(|(_, row)| row.get(spot.slot * Verdict::ALL.len()..));
        let cells = cells.unwrap_or_default().iter().take(Verdict::ALL.len());
        cells.map(Counter::value)
    }

    /// Every command of every listener and pool.
    pub(super) fn spots(&self) -> impl Iterator<Item = Spot> {
        self.0.iter().enumerate().flat_map(|(listener, block)| {
            let pools = block.rows.iter().map(|(pool, _)| *pool);
            pools.flat_map(move |pool| {
                (0..commands(block.protocol)).map(move |slot| Spot {
                    listener,
                    pool,
                    slot,
                })
            })
        })
    }

    fn row(&self, listener: usize, pool: Option<PoolId>) -> Option<Row> {
        let mut rows = self.0.get(listener)?.rows.iter();
        rows.find(|(of, _)| *of == pool)
            .map(|(_, row)| Arc::clone(row))
    }
}

fn fresh(protocol: Protocol) -> Row {
    let count = commands(protocol) * Verdict::ALL.len();
    (0..count).map(|_| Counter::default()).collect()
}
