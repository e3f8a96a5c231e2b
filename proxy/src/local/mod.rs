//! Pools without servers: values live in this process.

/// An in-process pool.
#[derive(Debug)]
pub struct LocalPool;
