//! `type = "fault"`: what fails, on purpose.

use std::time::Duration;

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::units::Time;
use crate::config::words::{Word, word_schema};

/// The default of `share`.
pub const SHARE: f64 = 1.0;

/// A share of the requests is delayed, refused, or never answered.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Fault {
    /// Where requests go that are spared.
    pub child: Child,
    /// How long the others wait first. Default "0s", at most "60s".
    #[schemars(with = "Option<Time>", extend("default" = "0s"))]
    pub delay: Duration,
    /// What becomes of them then. "pass": they go to the child, the default.
    /// "error": they get an error. "null": they are answered with nothing, a
    /// miss for a read. "drop": they get no reply, as from a server that
    /// hangs, and so a timeout.
    #[schemars(default, schema_with = "word_schema::<FaultAnswer>", extend("default" = "pass"))]
    pub answer: FaultAnswer,
    /// The share of the requests that is meant, 0 to 1. Default 1.0; 0
    /// switches the fault off.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1), extend("default" = SHARE))]
    pub share: f64,
}

/// What becomes of a request that is to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FaultAnswer {
    /// It goes to the child.
    #[default]
    Pass,
    /// It gets an error.
    Error,
    /// It is answered with nothing.
    Null,
    /// It gets no reply.
    Drop,
}

impl Word for FaultAnswer {
    const WHAT: &'static str = "answer";

    fn all() -> &'static [FaultAnswer] {
        use FaultAnswer::{Drop, Error, Null, Pass};
        &[Pass, Error, Null, Drop]
    }

    fn word(self) -> &'static str {
        match self {
            FaultAnswer::Pass => "pass",
            FaultAnswer::Error => "error",
            FaultAnswer::Null => "null",
            FaultAnswer::Drop => "drop",
        }
    }
}

impl RouteSpec for Fault {
    const SCHEMA: &'static str = "FaultRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Fault {
        let (none, minute) = (Time::secs(0), Time::secs(60));
        Fault {
            child: fields.child("child"),
            delay: fields.time_or("delay", none, minute, none),
            answer: fields.word_or("answer", FaultAnswer::Pass),
            share: fields.share_or("share", SHARE),
        }
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.child]
    }

    fn simple(&self) -> Simple<'_> {
        let idle = self.delay.is_zero() && self.answer == FaultAnswer::Pass;
        Simple::if_idle(idle, &self.child)
    }
}
