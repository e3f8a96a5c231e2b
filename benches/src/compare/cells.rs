//! What is measured: one cell is one shape of load.

use crate::load::{Options, Protocol, Sizes, Target};
use crate::peers::emberline::HOT_KEYS;
use crate::peers::floor;

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
    /// Different keys.
    pub keys: u64,
    /// Skew of the keys.
    pub zipf: f64,
    /// Who takes part.
    pub group: Group,
    /// What must hold.
    pub gates: &'static [Gate],
}

/// Whose cost over whose may be at most how much.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// The one that is judged.
    pub ours: &'static str,
    /// The one that it is compared with.
    pub theirs: &'static str,
    /// The largest ratio.
    pub limit: f64,
}

/// Who takes part in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Proxies that pass everything on, and the servers themselves.
    Passing,
    /// Emberline answering from memory, nutcracker, redis-server, and what the
    /// kernel takes from all of them.
    Hot,
    /// Emberline with and without its detector.
    Detector,
}

impl Group {
    /// Whether the peer with this name takes part.
    pub fn takes(self, name: &str) -> bool {
        let variant = name.starts_with("l1 ") || name.starts_with("detector ");
        match self {
            Group::Passing => !variant && name != floor::NAME,
            Group::Hot => {
                let others = ["nutcracker", "redis-server", floor::NAME];
                name.starts_with("l1 ") || others.contains(&name)
            }
            Group::Detector => name.starts_with("detector "),
        }
    }

    /// Whose cost the ratios in the table are over.
    pub fn reference(self) -> &'static str {
        match self {
            Group::Passing => "nutcracker",
            Group::Hot => "redis-server",
            Group::Detector => "detector off",
        }
    }
}

const BASE: Cell = Cell {
    name: "",
    protocol: Protocol::Redis,
    pipeline: 1,
    reads: 1.0,
    mget: 1,
    size: 64,
    keys: 10_000,
    zipf: 0.0,
    group: Group::Passing,
    gates: &[],
};

const MEMCACHED: Cell = Cell {
    protocol: Protocol::Memcached,
    ..BASE
};

const HOT: Cell = Cell {
    keys: HOT_KEYS,
    group: Group::Hot,
    ..BASE
};

const DETECTOR: Cell = Cell {
    keys: 1_000_000,
    group: Group::Detector,
    gates: &[gate("detector on", "detector off", 1.05)],
    ..BASE
};

const fn gate(ours: &'static str, theirs: &'static str, limit: f64) -> Gate {
    Gate {
        ours,
        theirs,
        limit,
    }
}

const fn nutcracker(limit: f64) -> Gate {
    gate("emberline", "nutcracker", limit)
}

/// All cells, in the order in which they run.
pub const CELLS: &[Cell] = &[
    Cell {
        name: "GET P=1",
        gates: &[nutcracker(0.90)],
        ..BASE
    },
    Cell {
        name: "GET P=16",
        pipeline: 16,
        gates: &[nutcracker(0.40)],
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
        gates: &[nutcracker(0.45)],
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
        gates: &[nutcracker(0.30)],
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
        // Fewer, so that filling and memory stay small.
        keys: 2_000,
        ..BASE
    },
    Cell {
        name: "memcached get P=1",
        ..MEMCACHED
    },
    Cell {
        name: "memcached get P=16",
        pipeline: 16,
        gates: &[nutcracker(0.65)],
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
    Cell {
        name: "hot GET P=1",
        gates: &[
            gate("l1 ttl", "redis-server", 1.0),
            gate("l1 tracking", "redis-server", 1.0),
        ],
        ..HOT
    },
    Cell {
        name: "hot GET P=16",
        pipeline: 16,
        gates: &[
            gate("l1 ttl", "redis-server", 0.5),
            gate("l1 tracking", "redis-server", 0.5),
            gate("l1 ttl", "nutcracker", 0.2),
            gate("l1 tracking", "nutcracker", 0.2),
            // What of the first two is in anybody's hands.
            gate("floor", "redis-server", 0.5),
        ],
        ..HOT
    },
    Cell {
        name: "detector uniform P=1",
        ..DETECTOR
    },
    Cell {
        name: "detector uniform P=16",
        pipeline: 16,
        ..DETECTOR
    },
    Cell {
        name: "detector zipf P=1",
        zipf: 1.0,
        ..DETECTOR
    },
    Cell {
        name: "detector zipf P=16",
        pipeline: 16,
        zipf: 1.0,
        ..DETECTOR
    },
];

impl Cell {
    /// The load of this cell on one peer.
    pub fn options(&self, target: Target) -> Options {
        Options {
            connections: CONNECTIONS,
            pipeline: self.pipeline,
            keys: self.keys,
            zipf: self.zipf,
            sizes: Sizes::Fixed(self.size),
            reads: self.reads,
            mget: self.mget,
            ..Options::new(target, self.protocol)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::emberline::VARIANTS;

    #[test]
    fn every_gate_compares_two_that_take_part() {
        for cell in CELLS {
            for gate in cell.gates {
                for name in [gate.ours, gate.theirs, cell.group.reference()] {
                    assert!(cell.group.takes(name), "{}: {name}", cell.name);
                }
            }
        }
    }

    #[test]
    fn variants_take_part_in_cells_of_their_own_alone() {
        for variant in VARIANTS {
            let groups = [Group::Passing, Group::Hot, Group::Detector];
            let takes = groups.map(|group| group.takes(variant.name));
            assert!(!takes[0] && takes[1] != takes[2], "{}", variant.name);
        }
        assert!(Group::Passing.takes("emberline") && !Group::Hot.takes("emberline"));
    }

    /// The keys of a hot cell are those that its variants promote.
    #[test]
    fn hot_cells_ask_for_promoted_keys() {
        use crate::load::keyspace::name;
        let hot = VARIANTS
            .iter()
            .filter(|variant| Group::Hot.takes(variant.name));
        for variant in hot {
            for key in 0..HOT_KEYS {
                let name = name(key);
                let name = String::from_utf8_lossy(&name);
                assert!(variant.tables.contains(name.as_ref()), "{name}");
            }
        }
    }
}
