//! A server that is read or filled: its connections, and whether it is still
//! believed in.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::link::{Fault, INPUT_MAX, Link, Replies};
use crate::running::{Address, Pool};

/// The first and the longest pause before a lost server is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// One server. Batches share it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    address: Address,
    idle: RefCell<Vec<Link>>,
    /// Since when it has not answered.
    silent: Cell<Option<Instant>>,
    /// How long that may last.
    patience: Duration,
    /// Why it was given up.
    failed: RefCell<Option<String>>,
}

/// A server was given up; its endpoint knows why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl Endpoint {
    /// A server that is given up when it has not answered for this long.
    pub fn new(name: &str, address: &Address, patience: Duration) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            address: address.clone(),
            idle: RefCell::default(),
            silent: Cell::new(None),
            patience,
            failed: RefCell::default(),
        }
    }

    /// Ask on any connection until there are answers. `encode` writes requests
    /// and says how many replies they have; it is called once an attempt.
    ///
    /// # Errors
    /// When the server was given up, now or before.
    pub async fn ask(
        &self,
        pool: &Pool,
        encode: impl FnMut(&mut Vec<u8>) -> usize,
    ) -> Result<Replies, Failed> {
        let replies = self.ask_within(pool, INPUT_MAX, encode).await?;
        replies.ok_or_else(|| {
            self.fail(Fault::TooLong.to_string());
            Failed
        })
    }

    /// The same; `None` if the answers have more bytes than `most`.
    ///
    /// # Errors
    /// When the server was given up, now or before.
    pub async fn ask_within(
        &self,
        pool: &Pool,
        most: usize,
        mut encode: impl FnMut(&mut Vec<u8>) -> usize,
    ) -> Result<Option<Replies>, Failed> {
        loop {
            if self.failed.borrow().is_some() {
                return Err(Failed);
            }
            match self.try_once(pool, most, &mut encode).await {
                Ok(replies) => return Ok(Some(replies)),
                Err(Fault::TooLong) => return Ok(None),
                Err(fault) => self.again(fault).await?,
            }
        }
    }

    async fn try_once(
        &self,
        pool: &Pool,
        most: usize,
        encode: &mut impl FnMut(&mut Vec<u8>) -> usize,
    ) -> Result<Replies, Fault> {
        let idle = self.idle.borrow_mut().pop();
        let mut link = match idle {
            Some(link) => link,
            None => self.open(pool).await?,
        };
        link.input_max = most;
        let count = encode(&mut link.output);
        let replies = link.ask(count).await?;
        self.idle.borrow_mut().push(link);
        Ok(replies)
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(&self, pool: &Pool) -> Result<Link, Fault> {
        Link::open(&self.address, pool).await
    }

    /// Wait before another attempt, twice as long each time, or give up.
    ///
    /// # Errors
    /// When it was given up.
    pub async fn again(&self, fault: Fault) -> Result<(), Failed> {
        // Others to the same server have ended, too, or will.
        self.idle.borrow_mut().clear();
        let now = Instant::now();
        let since = self.silent.get().unwrap_or(now);
        self.silent.set(Some(since));
        let silent = now.saturating_duration_since(since);
        match fault {
            Fault::Lost(_) if silent < self.patience => {
                sleep(silent.clamp(PAUSE_MIN, PAUSE_MAX)).await;
                Ok(())
            }
            fault => {
                self.fail(fault.to_string());
                Err(Failed)
            }
        }
    }

    /// It said something of use. A server that answers but to say that it is
    /// busy loses patience as one that is silent.
    pub fn answered(&self) {
        self.silent.set(None);
    }

    /// Give it up.
    pub fn fail(&self, why: String) {
        self.failed.borrow_mut().get_or_insert(why);
    }

    /// Why it was given up, if it was.
    pub fn failed(&self) -> Option<String> {
        self.failed.borrow().clone()
    }
}
