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
    pub(super) peer: Option<SocketAddr>,
    pub(super) reply: Reply,
    pub(super) rare: Option<Box<Rare>>,
}

/// What `CLIENT REPLY` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    On,
    Off,
    /// The next reply alone is dropped.
    Skip,
}

/// What most clients never say.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub name: Box<[u8]>,
    pub library: Box<[u8]>,
    pub library_version: Box<[u8]>,
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
    #[inline]
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

    /// Whether it may have what it asks for and wants to hear it.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.authenticated && matches!(self.reply, Reply::On)
    }

    /// The name given with `CLIENT SETNAME`; empty if none was.
    pub fn name(&self) -> &[u8] {
        self.rare.as_deref().map_or(&[], |rare| &rare.name)
    }

    /// Give the connection a name; an empty one takes it away.
    pub(super) fn set_name(&mut self, name: &[u8]) {
        if !name.is_empty() || self.rare.is_some() {
            self.rare().name = name.into();
        }
    }

    /// The rare parts, to be changed.
    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// As the connection was when it began, as `RESET` asks. The library's
    /// name survives, as in Redis: it tells what the program is.
    pub(super) fn reset(&mut self, password: bool) {
        self.version = Version::Resp2;
        self.authenticated = !password;
        self.reply = Reply::On;
        self.set_name(b"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_costs_little() {
        assert!(size_of::<Session>() <= 64, "{}", size_of::<Session>());
    }

    #[test]
    fn a_skip_is_used_up() {
        let mut session = Session::new(1, None, 0, false);
        session.reply = Reply::Skip;
        assert!(session.mute());
        assert!(!session.mute());
    }
}
