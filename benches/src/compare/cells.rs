//! What is measured: one cell is one shape of load.

use crate::load::{Options, Protocol, Sizes, Target};

/// Connections in every cell.
pub const CONNECTIONS: u32 = 50;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Its name in tables.
    pub name: &'static str,
    /// What is spoken.
    pub protocol: Protocol,
    /// Requests in flight per connection.
    pub pipeline: u32,
    /// Share of reads: all or none.
    pub reads: f64,
    /// Keys per read.
    pub mget: u32,
    /// Bytes per value.
    pub size: u64,
    /// Emberline's cost over nutcracker's may be at most this.
    pub gate: Option<f64>,
}

const BASE: Cell = Cell {
    name: "",
    protocol: Protocol::Redis,
    pipeline: 1,
    reads: 1.0,
    mget: 1,
    size: 64,
    gate: None,
};

const MEMCACHED: Cell = Cell {
    protocol: Protocol::Memcached,
    ..BASE
};

/// All cells, in the order in which they run.
pub const CELLS: &[Cell] = &[
    Cell {
        name: "GET P=1",
        gate: Some(0.90),
        ..BASE
    },
    Cell {
        name: "GET P=16",
        pipeline: 16,
        gate: Some(0.40),
        ..BASE
    },
    Cell {
        name: "SET P=1",
        reads: 0.0,
        ..BASE
    },
    Cell {
        name: "SET P=16",
        pipeline: 16,
        reads: 0.0,
        gate: Some(0.45),
        ..BASE
    },
    Cell {
        name: "MGET10 P=1",
        mget: 10,
        ..BASE
    },
    Cell {
        name: "MGET10 P=16",
        mget: 10,
        pipeline: 16,
        gate: Some(0.30),
        ..BASE
    },
    Cell {
        name: "GET 1KiB P=16",
        pipeline: 16,
        size: 1024,
        ..BASE
    },
    Cell {
        name: "GET 16KiB P=1",
        size: 16 << 10,
        ..BASE
    },
    Cell {
        name: "memcached get P=1",
        ..MEMCACHED
    },
    Cell {
        name: "memcached get P=16",
        pipeline: 16,
        gate: Some(0.65),
        ..MEMCACHED
    },
    Cell {
        name: "memcached get10 P=1",
        mget: 10,
        ..MEMCACHED
    },
    Cell {
        name: "memcached get10 P=16",
        mget: 10,
        pipeline: 16,
        ..MEMCACHED
    },
];

impl Cell {
    /// The load of this cell on one peer.
    pub fn options(&self, target: Target) -> Options {
        Options {
            connections: CONNECTIONS,
            pipeline: self.pipeline,
            // Large values on fewer keys, so that filling and memory stay small.
            keys: if self.size > 4096 { 2_000 } else { 10_000 },
            sizes: Sizes::Fixed(self.size),
            reads: self.reads,
            mget: self.mget,
            ..Options::new(target, self.protocol)
        }
    }
}
