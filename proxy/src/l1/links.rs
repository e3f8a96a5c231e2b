//! How the connections of the L1's thread are, for people and metrics to see.

use std::sync::{Mutex, PoisonError};

use emberline_routing::ServerId;

use crate::shelf::Shelf;

/// How the thread's connection to a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing of this server was asked for yet.
    #[default]
    Idle,
    /// It is being opened.
    Connecting,
    /// The server pushes what changes.
    Tracking,
    /// Values are kept for a time; this is what was asked for.
    Ttl,
    /// Values are kept for a short time, because the server cannot push; why not.
    Fallback(String),
    /// There is no connection; why not.
    Down(String),
}

impl LinkState {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            LinkState::Idle => "idle",
            LinkState::Connecting => "connecting",
            LinkState::Tracking => "tracking",
            LinkState::Ttl => "ttl",
            LinkState::Fallback(_) => "fallback",
            LinkState::Down(_) => "down",
        }
    }
}

/// The state of every server's link. Written by the thread, rarely.
#[derive(Debug)]
pub struct Links(Shelf<Mutex<LinkState>>);

impl Links {
    /// So many idle links.
    pub fn new(servers: usize) -> Links {
        Links(Shelf::new(servers))
    }

    /// Make room for so many.
    pub fn grow(&self, servers: usize) {
        self.0.grow(servers);
    }

    /// How a server's link is.
    pub fn state(&self, server: ServerId) -> LinkState {
        let state = self.0.get(server.0 as usize);
        state.map_or(LinkState::Idle, |state| {
            state.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    /// Say how it is now.
    pub fn note(&self, server: ServerId, now: LinkState) {
        if let Some(state) = self.0.get(server.0 as usize) {
            *state.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }
}
