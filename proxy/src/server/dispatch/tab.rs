//! What a read that is sent once more costs, and who pays.
//!
//! When a server is silent, a copy can answer for it; when all of them are
//! slow, sending everything twice is what keeps them so. So each further try
//! of a read that somebody was already asked for is paid for from the retry
//! budget of the pool that is asked first. A try that turns out to be the
//! answer is given back: it was no waste. That is why one frozen replica can
//! be hedged for ever, and three slow ones cannot.
//!
//! Without budget a try that follows a failure is left out, and a hedge waits
//! once more. Going on from a server that is known to be down is free.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use emberline_routing::{Leg, Pause, Plan, PoolId, Target};

use super::{Dispatch, later};
use crate::server::worker::Worker;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Tab {
    /// The pool that is asked first, if this is a read.
    account: Option<PoolId>,
    /// From here on every leg is paid for.
    pays: Cell<bool>,
    /// A hedge that was paid for is about to be sent.
    prepaid: Cell<bool>,
    /// What was.
    paid: RefCell<Vec<Leg>>,
}

impl Tab {
    /// Nobody has been asked yet.
    pub fn open(worker: &Worker, plan: &Plan, read: bool) -> Tab {
        let account = match plan.first() {
            Some(Target::Send(first)) if read => Some(worker.pool_of_server(first)),
            _ => None,
        };
        if let Some(pool) = account {
            worker.health.first_try(pool, worker.now());
        }
        Tab {
            account,
            pays: Cell::new(false),
            prepaid: Cell::new(false),
            paid: RefCell::default(),
        }
    }

    /// A server was asked, and has not answered.
    pub fn pay_from_here(&self) {
        self.pays.set(true);
    }

    /// Whether this leg may be sent.
    pub fn charge(&self, worker: &Worker, leg: Leg, target: Target) -> bool {
        let (Target::Send(_), Some(account)) = (target, self.account) else {
            return true;
        };
        let paid = self.prepaid.get() || self.pays.get() && worker.may_retry(account);
        if paid {
            self.paid.borrow_mut().push(leg);
        }
        paid || !self.pays.get()
    }

    /// This leg is the answer.
    pub fn give_back(&self, worker: &Worker, leg: Leg) {
        if let Some(account) = self.account
            && self.paid.borrow().contains(&leg)
        {
            worker.give_back_retry(account);
        }
    }

    fn may_hedge(&self, worker: &Worker) -> bool {
        self.account.is_none_or(|account| worker.may_retry(account))
    }
}

impl Dispatch {
    /// Go on when this much time has passed; if that is to ask another place as
    /// well, only within the budget.
    pub(super) fn wait(self: &Rc<Self>, worker: &Rc<Worker>, pause: Pause, after: Duration) {
        let (this, worker) = (Rc::clone(self), Rc::clone(worker));
        later(after, move || {
            worker.tick();
            let asks = this.course.borrow().asks_after(pause);
            match asks && !this.tab.may_hedge(&worker) {
                true => this.wait(&worker, pause, after),
                false => this.go_on(&worker, pause, asks),
            }
        });
    }

    fn go_on(self: &Rc<Self>, worker: &Rc<Worker>, pause: Pause, is_paid: bool) {
        let paid = self.tab.paid.borrow().len();
        self.tab.prepaid.set(is_paid);
        self.advance(worker, |course, acts| course.elapsed(pause, acts));
        self.tab.prepaid.set(false);
        let is_sent = self.tab.paid.borrow().len() > paid;
        if let (true, false, Some(account)) = (is_paid, is_sent, self.tab.account) {
            worker.give_back_retry(account);
        }
    }
}
