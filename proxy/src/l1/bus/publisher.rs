//! What we say: publishes the writes of this process, one message at a time.

use std::time::Duration;

use emberline_protocol::redis::reply;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::conversation::{Conversation, Item, Next, text};
use super::pending::Pending;
use super::{HEARTBEAT, PATIENCE, Write, complain, notice};
use crate::l1::desk::Desk;
use crate::l1::peer::Backoff;
use crate::running::Bus;

/// See the module's description.
pub(super) struct Publisher<'a> {
    pub(super) desk: &'a Desk,
    pub(super) bus: &'a Bus,
    pub(super) sender: u128,
    pub(super) writes: UnboundedReceiver<Write>,
    pub(super) pending: Pending,
    /// Writes are being let go, and the log knows.
    pub(super) overflowing: bool,
}

impl Publisher<'_> {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut down = false;
        loop {
            let why = match self.collect(Conversation::open(self.desk, self.bus)).await {
                Ok(conversation) => {
                    if std::mem::take(&mut down) {
                        let server = self.bus.name.as_str();
                        tracing::info!(server, "writes are published again");
                    }
                    self.publish(conversation, &mut backoff).await
                }
                Err(why) => why,
            };
            if self.writes.is_closed() && self.writes.is_empty() {
                return;
            }
            // A connection that was closed because nothing was said is no news.
            if !self.pending.is_empty() && !std::mem::replace(&mut down, true) {
                complain(
                    self.bus,
                    "the bus is not reached: writes wait to be published",
                    &why,
                );
            }
            self.collect(sleep(backoff.pause())).await;
        }
    }

    /// Wait for something, and take in writes meanwhile.
    async fn collect<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return done,
                Some(write) = self.writes.recv() => self.take(write),
            }
        }
    }

    fn take(&mut self, write: Write) {
        let whole = self.pending.push(write);
        if !whole && !std::mem::replace(&mut self.overflowing, true) {
            let server = self.bus.name.as_str();
            tracing::warn!(
                server,
                "too many writes wait to be published: the oldest are let go, and other proxies learn of them after the ttl"
            );
        }
    }

    /// Until the connection ends; answers why. What it had not confirmed
    /// waits again.
    async fn publish(&mut self, mut conversation: Conversation, backoff: &mut Backoff) -> String {
        let mut sent: Vec<Write> = Vec::new();
        let mut late = Instant::now();
        let why = loop {
            while let Ok(write) = self.writes.try_recv() {
                self.take(write);
            }
            if sent.is_empty() && !self.pending.is_empty() {
                sent = self.pending.batch();
                let message = notice::write(self.sender, &self.desk.newest().pools, &sent);
                let channel = self.bus.channel.as_bytes();
                conversation.send(&[b"PUBLISH", channel, &message]);
                late = Instant::now() + PATIENCE;
            }
            // While nothing is on its way there is nothing to be late.
            let until = match sent.is_empty() {
                true => Instant::now() + Duration::from_secs(3600),
                false => late,
            };
            match conversation.item(Some(&mut self.writes), until).await {
                Ok(Next::Item(Item::Whole(item))) => {
                    if reply::is_error(&item) {
                        // Not for want of trying: it would say so again.
                        complain(self.bus, "the bus refuses what is published", &text(&item));
                    } else {
                        backoff.reset();
                        self.overflowing = false;
                    }
                    sent.clear();
                }
                Ok(Next::Item(Item::TooLong)) => break "its reply is too long".to_owned(),
                Ok(Next::Queued(Some(write))) => self.take(write),
                Ok(Next::Queued(None)) if sent.is_empty() => break "the process ends".to_owned(),
                Ok(Next::Queued(None)) => self.collect(sleep(HEARTBEAT)).await,
                Ok(Next::Late) if sent.is_empty() => {}
                Ok(Next::Late) => break "it did not answer in time".to_owned(),
                Err(why) => break why,
            }
        };
        sent.into_iter().for_each(|write| self.take(write));
        why
    }
}
