//! What others say: listens, and invalidates the keys that it hears of.

use std::time::Duration;

use emberline_protocol::redis::reply;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::conversation::{Conversation, Item, Next, pieces, text};
use super::notice::Notice;
use super::{HEARTBEAT, PATIENCE, complain};
use crate::l1::desk::Desk;
use crate::l1::peer::Backoff;
use crate::log::Limited;
use crate::metrics::Event;
use crate::running::{Bus, Mode};

/// A listening connection that lives this long was a good one.
const STEADY: Duration = Duration::from_secs(10);

/// Messages that are none.
static MALFORMED: Limited = Limited::new(1);

/// See the module's description.
pub(super) struct Listener<'a> {
    pub(super) desk: &'a Desk,
    pub(super) bus: &'a Bus,
    pub(super) sender: u128,
    /// Messages that were none, so far.
    pub(super) malformed: u64,
}

impl Listener<'_> {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut down = false;
        loop {
            let why = match self.subscribe().await {
                Ok(conversation) => {
                    let since = Instant::now();
                    self.turn();
                    if std::mem::take(&mut down) {
                        let server = self.bus.name.as_str();
                        tracing::info!(server, "the bus is heard again");
                    }
                    let why = self.listen(conversation).await;
                    // One that hangs up each time is not to empty the L1 each time.
                    if since.elapsed() > STEADY {
                        backoff.reset();
                    }
                    why
                }
                Err(why) => why,
            };
            if !std::mem::replace(&mut down, true) {
                let what = "the bus is not heard: what is written through other proxies is known after the ttl";
                complain(self.bus, what, &why);
            }
            sleep(backoff.pause()).await;
        }
    }

    async fn subscribe(&self) -> Result<Conversation, String> {
        let mut conversation = Conversation::open(self.desk, self.bus).await?;
        let channel = self.bus.channel.as_bytes();
        conversation.send(&[b"SUBSCRIBE", channel]);
        match conversation.answer().await? {
            Item::Whole(item) if reply::is_error(&item) => Err(text(&item)),
            Item::Whole(item) if pieces(&item).first() == Some(&&b"subscribe"[..]) => {
                Ok(conversation)
            }
            _ => Err("it did not understand SUBSCRIBE".to_owned()),
        }
    }

    /// Everything may have been missed. Items that a server's pushes or
    /// questions keep fresh are none of the bus's business, except where
    /// `tracking` has fallen back to `ttl`; so that is turned, too.
    fn turn(&self) {
        for pool in self.desk.newest().pools.iter() {
            if matches!(pool.l1.mode, Mode::Ttl | Mode::Tracking) {
                let servers = pool.servers.iter();
                servers.for_each(|server| self.desk.turn(*server));
            }
        }
    }

    /// Until the connection ends; answers why.
    async fn listen(&mut self, mut conversation: Conversation) -> String {
        let mut beat = Instant::now() + HEARTBEAT;
        let mut asked = false;
        loop {
            match conversation
                .item(None::<&mut UnboundedReceiver<()>>, beat)
                .await
            {
                Ok(Next::Item(item)) => {
                    self.hear(&item);
                    beat = Instant::now() + HEARTBEAT;
                    asked = false;
                }
                Ok(Next::Queued(_)) => {}
                Ok(Next::Late) if asked => return "it has fallen silent".to_owned(),
                Ok(Next::Late) => {
                    conversation.send(&[b"PING"]);
                    beat = Instant::now() + PATIENCE;
                    asked = true;
                }
                Err(why) => return why,
            }
        }
    }

    fn hear(&mut self, item: &Item) {
        let Item::Whole(item) = item else {
            return self.refuse();
        };
        let pieces = pieces(item);
        let [kind, _, message] = pieces[..] else {
            return;
        };
        if kind != b"message" {
            return;
        }
        let Some(notice) = Notice::parse(message) else {
            return self.refuse();
        };
        if notice.sender == self.sender {
            return;
        }
        for (name, key) in notice.keys {
            if let Some(pool) = self.pool(name) {
                self.desk.invalidate(pool, key, Event::Bus);
            }
        }
    }

    /// Index of the pool with this name; another proxy may have others.
    fn pool(&self, name: &[u8]) -> Option<u16> {
        let running = self.desk.newest();
        let mut pools = running.pools();
        let found = pools.find(|(_, pool)| pool.name.as_bytes() == name)?;
        Some(found.0.0)
    }

    fn refuse(&mut self) {
        self.malformed += 1;
        if let Some(skipped) = MALFORMED.admit() {
            let (server, channel) = (self.bus.name.as_str(), self.bus.channel.as_str());
            let so_far = self.malformed;
            tracing::warn!(
                server,
                channel,
                so_far,
                skipped,
                "something on the bus is no message of a proxy"
            );
        }
    }
}
