//! How one try of a request ended, in the words that routes decide by.
//!
//! A reply is classified by [`crate::redis::outcome`] or
//! [`crate::memcache::outcome`], which know what each answer of each command
//! means. The rest (no connection, no answer in time) is no reply at all and
//! comes from whoever sent the request. What an outcome leads to is not
//! here: that is a route's business.
//!
//! Two questions matter to a route, and they are not the same one. *Did
//! somebody answer?* decides whether the server is well. *May it have taken
//! effect?* decides whether the request may be sent again: a write whose
//! reply never came may have been carried out, so trying it elsewhere can
//! carry it out twice.

/// How one try of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A read found something.
    Hit,
    /// A read found nothing.
    Miss,
    /// A write, delete, counter or touch took effect.
    Done,
    /// It was carried out and said no: `NOT_STORED`, `EXISTS`, `NOT_FOUND`,
    /// the `:0` of a DEL, the null of a SET NX.
    NotDone,
    /// An error reply.
    Error,
    /// An error reply that says "not here, not now": LOADING, BUSY,
    /// MASTERDOWN, CLUSTERDOWN, TRYAGAIN, READONLY. The command was refused
    /// before it ran.
    Busy,
    /// Sent, and not answered in time: it may have taken effect.
    Timeout,
    /// No connection could be made: certainly not carried out.
    Connect,
    /// The server is known to be down and was not tried: certainly not
    /// carried out.
    Down,
    /// The connection ended before the answer: it may have taken effect.
    Lost,
}

impl Outcome {
    /// Every outcome, best first: in the order of [`Outcome::rank`].
    pub const ALL: [Outcome; 10] = [
        Outcome::Hit,
        Outcome::Done,
        Outcome::Miss,
        Outcome::NotDone,
        Outcome::Busy,
        Outcome::Error,
        Outcome::Timeout,
        Outcome::Lost,
        Outcome::Connect,
        Outcome::Down,
    ];

    /// Whether somebody answered, so that there is a reply to pass on and the
    /// server is alive.
    pub fn is_answer(self) -> bool {
        !matches!(
            self,
            Outcome::Timeout | Outcome::Lost | Outcome::Connect | Outcome::Down
        )
    }

    /// Whether the request certainly had no effect, so that even a write may
    /// be sent to somebody else.
    pub fn is_certain_not_run(self) -> bool {
        matches!(self, Outcome::Connect | Outcome::Down | Outcome::Busy)
    }

    /// Whether the request was carried out, whatever it found: what a
    /// failover may answer with instead of trying on.
    pub fn is_good(self) -> bool {
        matches!(
            self,
            Outcome::Hit | Outcome::Done | Outcome::Miss | Outcome::NotDone
        )
    }

    /// How good an answer this is, 0 the best: of several replies, the one
    /// with the lowest rank is the client's.
    ///
    /// Hit beats miss beats error. (mcrouter's AllFastest takes the first
    /// that is no error, so that a replica that lost its memory wins with a
    /// miss.) Among failures those come first that say most: a server's own
    /// words, then a request that was at least sent. Equal ranks are equally
    /// good; the earlier one stays.
    pub fn rank(self) -> u8 {
        match self {
            Outcome::Hit | Outcome::Done => 0,
            Outcome::Miss | Outcome::NotDone => 1,
            Outcome::Busy => 2,
            Outcome::Error => 3,
            Outcome::Timeout => 4,
            Outcome::Lost => 5,
            Outcome::Connect => 6,
            Outcome::Down => 7,
        }
    }

    /// The word for it in the config, in metrics and in `explain`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Miss => "miss",
            Outcome::Done => "done",
            Outcome::NotDone => "not_done",
            Outcome::Error => "error",
            Outcome::Busy => "busy",
            Outcome::Timeout => "timeout",
            Outcome::Connect => "connect",
            Outcome::Down => "down",
            Outcome::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Outcome;

    #[test]
    fn all_are_listed_once_best_first_and_named_apart() {
        assert!(
            Outcome::ALL
                .windows(2)
                .all(|pair| pair[0].rank() <= pair[1].rank())
        );
        let outcomes: HashSet<Outcome> = Outcome::ALL.into_iter().collect();
        let names: HashSet<&str> = Outcome::ALL.into_iter().map(Outcome::name).collect();
        assert_eq!((outcomes.len(), names.len()), (10, 10));
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }

    #[test]
    fn hit_beats_miss_beats_error_beats_silence() {
        assert_eq!(Outcome::Hit.rank(), Outcome::Done.rank());
        assert_eq!(Outcome::Miss.rank(), Outcome::NotDone.rank());
        assert!(Outcome::Hit.rank() < Outcome::Miss.rank());
        assert!(Outcome::Miss.rank() < Outcome::Error.rank());
        assert!(Outcome::Error.rank() < Outcome::Timeout.rank());
    }

    #[test]
    fn what_was_carried_out_is_an_answer_and_what_was_not_sent_is_none() {
        for outcome in Outcome::ALL {
            assert!(!outcome.is_good() || outcome.is_answer(), "{outcome:?}");
            assert!(
                !outcome.is_good() || !outcome.is_certain_not_run(),
                "{outcome:?}"
            );
        }
        assert!(Outcome::Busy.is_answer() && Outcome::Busy.is_certain_not_run());
        assert!(Outcome::Error.is_answer() && !Outcome::Error.is_certain_not_run());
        assert!(!Outcome::Timeout.is_answer() && !Outcome::Timeout.is_certain_not_run());
        assert!(!Outcome::Lost.is_certain_not_run());
    }
}
