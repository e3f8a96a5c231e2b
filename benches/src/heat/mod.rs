//! How good the hot-key detector is: its bounds against an exact sliding count.
//!
//! A stream of keys is cut into sub-windows of equal numbers of requests, ten
//! of which are the window. When one has ended, every key in the window is
//! asked about: the exact count says whether it is hot (at least the
//! threshold), the detector *calls* it hot when its lower bound is at least
//! the threshold, which is what promotes a key. The two make up precision and
//! recall; a count outside the bounds is a violation.

mod cost;
mod exact;
mod judge;
pub mod stream;

pub use cost::{Cost, cost};
pub use judge::{Judgement, judge};
