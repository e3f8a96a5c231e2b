//! One connection to the bus.

use emberline_protocol::Scan;
use emberline_protocol::redis::{self, encode, reply};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::PATIENCE;
use crate::l1::desk::Desk;
use crate::l1::peer::{Peer, Turn};
use crate::running::Bus;

/// Larger messages are not ours.
const MESSAGE_MAX: usize = 1 << 20;

/// See the module's description.
pub(super) struct Conversation {
    peer: Peer,
    scanner: redis::Scanner,
    /// The item that is being received is longer than we keep.
    too_long: bool,
    /// What came of it so far.
    item: Vec<u8>,
}

/// Something that the server said: a reply, a message.
#[derive(Debug)]
pub(super) enum Item {
    Whole(Vec<u8>),
    /// It had more than [`MESSAGE_MAX`] bytes, which nobody keeps.
    TooLong,
}

/// What [`Conversation::item`] came upon first.
pub(super) enum Next<T> {
    Item(Item),
    Queued(Option<T>),
    Late,
}

impl Conversation {
    /// Connect and authenticate.
    pub(super) async fn open(desk: &Desk, bus: &Bus) -> Result<Conversation, String> {
        let mut conversation = Conversation {
            peer: super::connect(desk, bus).await?,
            scanner: redis::Scanner::default(),
            too_long: false,
            item: Vec::new(),
        };
        let Some(password) = &bus.password else {
            return Ok(conversation);
        };
        let password = password.reveal().as_bytes();
        match &bus.username {
            Some(user) => conversation.send(&[b"AUTH", user.as_bytes(), password]),
            None => conversation.send(&[b"AUTH", password]),
        }
        match conversation.answer().await? {
            Item::Whole(item) if !reply::is_error(&item) => Ok(conversation),
            Item::Whole(item) => Err(text(&item)),
            Item::TooLong => Err("it did not understand AUTH".to_owned()),
        }
    }

    pub(super) fn send(&mut self, args: &[&[u8]]) {
        encode::command(&mut self.peer.output, args.iter().copied());
    }

    /// The next thing that it says.
    pub(super) async fn answer(&mut self) -> Result<Item, String> {
        let late = Instant::now() + PATIENCE;
        match self.item(None::<&mut UnboundedReceiver<()>>, late).await? {
            Next::Item(item) => Ok(item),
            Next::Queued(_) | Next::Late => Err("it did not answer in time".to_owned()),
        }
    }

    /// The next thing that it says or that is in the queue, until it is `late`.
    pub(super) async fn item<T>(
        &mut self,
        mut queue: Option<&mut UnboundedReceiver<T>>,
        late: Instant,
    ) -> Result<Next<T>, String> {
        loop {
            if let Some(item) = self.scan()? {
                return Ok(Next::Item(item));
            }
            match self.peer.turn(queue.as_deref_mut(), Some(late)).await {
                Ok(Turn::Read) => {}
                Ok(Turn::Item(item)) => return Ok(Next::Queued(item)),
                Ok(Turn::Late) => return Ok(Next::Late),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// The item that the input begins with, if it is whole.
    fn scan(&mut self) -> Result<Option<Item>, String> {
        let scan = self.scanner.feed(&self.peer.input);
        let (used, done) = match scan.map_err(|error| error.to_string())? {
            Scan::Done(used) => (used, true),
            Scan::More(used) => (used, false),
        };
        self.too_long |= self.item.len() + used > MESSAGE_MAX;
        if self.too_long {
            self.item = Vec::new();
        } else {
            self.item.extend_from_slice(&self.peer.input[..used]);
        }
        self.peer.used(used);
        let item = std::mem::take(&mut self.item);
        Ok(match (done, std::mem::take(&mut self.too_long)) {
            (true, false) => Some(Item::Whole(item)),
            (true, true) => Some(Item::TooLong),
            (false, too_long) => {
                (self.item, self.too_long) = (item, too_long);
                None
            }
        })
    }
}

/// The strings of an array, without their headers.
pub(super) fn pieces(item: &[u8]) -> Vec<&[u8]> {
    let Ok(elements) = reply::elements(item) else {
        return Vec::new();
    };
    // No more than a message has.
    elements.take(4).map(content).collect()
}

/// What is between a bulk string's header and its line end.
fn content(bulk: &[u8]) -> &[u8] {
    let start = memchr::memchr(b'\n', bulk).map_or(0, |newline| newline + 1);
    let end = bulk.len().saturating_sub(2);
    bulk.get(start..end).unwrap_or_default()
}

/// An error as a line of a log.
pub(super) fn text(item: &[u8]) -> String {
    let line = item.strip_prefix(b"-").unwrap_or(item);
    String::from_utf8_lossy(&line[..line.len().min(200)])
        .trim()
        .to_owned()
}
