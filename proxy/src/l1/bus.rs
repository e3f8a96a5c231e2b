//! The bus: proxies tell each other over Redis pub/sub which keys have been
//! written through them.
//!
//! It makes `ttl` mode better than it promises: a write through another proxy
//! is usually known here within milliseconds instead of after T. It promises
//! nothing, since pub/sub does not: a message that is lost costs staleness up
//! to T and no more.
//!
//! ```text
//!   workers --writes--> Pending --one PUBLISH at a time--> [redis] --> other proxies
//!                       (no key twice)                        |
//!   keys here <-- invalidate <-- Notice::parse <-- SUBSCRIBE -'
//! ```
//!
//! While a message is on its way the next one grows; so batches are as small
//! as the bus is fast. A message whose end is not known is sent again:
//! invalidating twice does no harm. What comes from this process itself is
//! ignored, it has been done already.
//!
//! One connection listens and one speaks, because a connection that listens
//! may say nothing else in RESP2. Whenever the listening one has been made,
//! everything may have been missed before, so all items that nobody else
//! watches over are dropped.

mod conversation;
mod listener;
mod notice;
mod pending;
mod publisher;

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::desk::Desk;
use super::peer::Peer;
use crate::log::Limited;
use crate::running::Bus;
use listener::Listener;
use pending::Pending;
use publisher::Publisher;

/// A key that was written: index of its pool, and the whole key.
type Write = (u16, Box<[u8]>);

/// How long a connect, and a reply, may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the listening connection is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(1);

static TROUBLE: Limited = Limited::new(2);

/// Publish what `writes` says and invalidate what others say, for as long as
/// the process lives.
pub(super) async fn run(desk: Rc<Desk>, bus: Bus, writes: UnboundedReceiver<Write>) {
    let sender = random();
    let listener = Listener {
        desk: &desk,
        bus: &bus,
        sender,
        malformed: 0,
    };
    let publisher = Publisher {
        desk: &desk,
        bus: &bus,
        sender,
        writes,
        pending: Pending::default(),
        overflowing: false,
    };
    tokio::join!(listener.run(), publisher.run());
}

/// Connect to where the bus is by now: its name may lead elsewhere than at the
/// start, and other certificates be believed.
async fn connect(desk: &Desk, bus: &Bus) -> Result<Peer, String> {
    let newest = desk.newest();
    let bus = newest.bus.as_ref().unwrap_or(bus);
    Peer::connect(&bus.address, bus.tls.as_ref(), PATIENCE).await
}

/// A number that no other process has.
fn random() -> u128 {
    // Seeded by the system's randomness.
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}

fn complain(bus: &Bus, what: &'static str, why: &str) {
    if let Some(skipped) = TROUBLE.admit() {
        let (server, channel) = (bus.name.as_str(), bus.channel.as_str());
        tracing::warn!(server, channel, why, skipped, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_have_different_names() {
        assert_ne!(random(), random());
    }
}
