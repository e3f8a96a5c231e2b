//! What the proxy remembers of one Redis client.

use std::net::SocketAddr;

use emberline_protocol::redis::Version;

/// The state of one client connection that outlives a request. Rare parts are
/// boxed: most connections are idle and keep none of them.
#[derive(Debug)]
pub struct Session {
    /// Unique over the life of the process, never 0.
    pub id: u64,
    /// When the client connected, in milliseconds since the Unix epoch.
    pub created: u64,
    /// The protocol version that replies to it are written in.
    pub version: Version,
    /// Whether it may use more than AUTH, HELLO, QUIT and RESET.
    pub authenticated: bool,
    peer: Option<SocketAddr>,
    reply: Reply,
    rare: Option<Box<Rare>>,
}

/// What `CLIENT REPLY` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Reply {
    #[default]
    On,
    Off,
    /// The next reply alone is dropped.
    Skip,
}

#[derive(Debug, Default)]
struct Rare {
    name: Box<[u8]>,
    library: Box<[u8]>,
    library_version: Box<[u8]>,
    no_evict: bool,
    no_touch: bool,
}

impl Session {
    /// A client that has just connected. `peer` is `None` on a Unix socket;
    /// `password` says whether the listener asks for one.
    pub fn new(id: u64, peer: Option<SocketAddr>, now: u64, password: bool) -> Session {
        Session {
            id,
            created: now,
            version: Version::Resp2,
            authenticated: !password,
            peer,
            reply: Reply::On,
            rare: None,
        }
    }

    /// Whether the reply to the request now at hand must be dropped
    /// (`CLIENT REPLY OFF` or `SKIP`). To be asked exactly once for every
    /// request that [`super::answer`] is *not* given, as asking uses up a `SKIP`.
    pub fn mute(&mut self) -> bool {
        match self.reply {
            Reply::On => false,
            Reply::Off => true,
            Reply::Skip => {
                self.reply = Reply::On;
                true
            }
        }
    }

    /// The name given with `CLIENT SETNAME`; empty if none was.
    pub fn name(&self) -> &[u8] {
        self.rare.as_deref().map_or(&[], |rare| &rare.name)
    }
}
