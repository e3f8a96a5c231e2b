//! Key placement as data: which server gets this key, and why.

#![forbid(unsafe_code)]

/// Index of a pool in the running configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// Index of a server in the running configuration, over all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// The route tree of one listener.
#[derive(Debug)]
pub struct Router;
