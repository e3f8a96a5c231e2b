//! `type = "failover"`: the next child where one fails.

use emberline_protocol::Kind;
use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};
use crate::config::words::{Word, words_schema};

/// The default of `on`: whatever is no answer of a healthy server.
pub const CAUSES: [Cause; 5] = [
    Cause::Timeout,
    Cause::Connect,
    Cause::Down,
    Cause::Busy,
    Cause::Lost,
];
/// The default of `burst`.
pub const BURST: u32 = 100;
/// The default of `max_tries` inside one pool.
pub const SALTED_TRIES: usize = 3;
/// The most that `max_tries` may be.
const TRIES_MAX: usize = 64;

/// Where one child fails, the next is asked; the best reply seen is the
/// answer.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Failover {
    /// Whom to ask, in this order. Required unless there is `salted`.
    #[schemars(with = "Option<Vec<Child>>")]
    pub children: Vec<Child>,
    /// A remote pool to fail over inside of, in place of `children`: the key
    /// is hashed with another salt for each try, so that the keys of a server
    /// that fails spread over all others. Default: none.
    pub salted: Option<Child>,
    /// Which outcomes ask the next: "timeout", "connect" (refused), "down"
    /// (known to be, so not tried), "busy" (an error that says so: LOADING,
    /// MASTERDOWN, READONLY ...), "lost" (the connection ended), "error" (any
    /// other error reply), "miss" (a read found nothing). Default: all but
    /// the last two. Too many: a slow pool passes its load on to the next.
    #[schemars(default, schema_with = "words_schema::<Cause>", extend("default" = ["timeout", "connect", "down", "busy", "lost"]))]
    pub on: Vec<Cause>,
    /// In place of `on`, for reads. Default: `on`; `[]` never fails over.
    #[schemars(default, schema_with = "words_schema::<Cause>")]
    pub on_reads: Option<Vec<Cause>>,
    /// In place of `on`, for writes. Default: `on`.
    #[schemars(default, schema_with = "words_schema::<Cause>")]
    pub on_writes: Option<Vec<Cause>>,
    /// In place of `on`, for deletes. Default: `on`. A delete that went
    /// elsewhere leaves the old value where it was.
    #[schemars(default, schema_with = "words_schema::<Cause>")]
    pub on_deletes: Option<Vec<Cause>>,
    /// In place of `on`, for counters. Default: `on`.
    #[schemars(default, schema_with = "words_schema::<Cause>")]
    pub on_counters: Option<Vec<Cause>>,
    /// In place of `on`, for touches. Default: `on`.
    #[schemars(default, schema_with = "words_schema::<Cause>")]
    pub on_touches: Option<Vec<Cause>>,
    /// How many may be asked, the first included; 1 to 64. Default: every
    /// child once; 3 with `salted`. Too big: a request can take the sum of as
    /// many timeouts.
    #[schemars(with = "Option<usize>", range(min = 1, max = 64))]
    pub max_tries: usize,
    /// The share of requests that may fail over, 0 to 1.
    /// Default: no limit. Too big: what overloaded one child overloads the
    /// next.
    #[schemars(with = "Option<f64>", range(min = 0, max = 1))]
    pub rate: Option<f64>,
    /// How many requests may fail over at once beyond `rate`, in all workers
    /// together; 1
    /// to 1000000. Default 100. Has a meaning with `rate` alone.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1_000_000), extend("default" = BURST))]
    pub burst: u32,
    /// Whether a write may be sent again although it may have taken effect,
    /// after "timeout" or "lost". Default false. With true, counters may
    /// count twice.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub retry_writes: bool,
}

/// An outcome that may ask the next child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Sent, and not answered in time.
    Timeout,
    /// Could not connect.
    Connect,
    /// Known to be down, so not tried.
    Down,
    /// An error reply that says to try elsewhere.
    Busy,
    /// The connection ended before the reply came.
    Lost,
    /// Any other error reply.
    Error,
    /// A read found nothing.
    Miss,
}

impl Word for Cause {
    const WHAT: &'static str = "outcome";

    fn all() -> &'static [Cause] {
        use Cause::{Busy, Connect, Down, Error, Lost, Miss, Timeout};
        &[Timeout, Connect, Down, Busy, Lost, Error, Miss]
    }

    fn word(self) -> &'static str {
        match self {
            Cause::Timeout => "timeout",
            Cause::Connect => "connect",
            Cause::Down => "down",
            Cause::Busy => "busy",
            Cause::Lost => "lost",
            Cause::Error => "error",
            Cause::Miss => "miss",
        }
    }
}

impl Failover {
    /// Which outcomes of a request of this kind ask the next.
    pub fn on(&self, kind: Kind) -> &[Cause] {
        let own = match kind {
            Kind::Read => &self.on_reads,
            Kind::Write => &self.on_writes,
            Kind::Delete => &self.on_deletes,
            Kind::Counter => &self.on_counters,
            Kind::Touch => &self.on_touches,
            Kind::Other => &None,
        };
        own.as_ref().unwrap_or(&self.on)
    }
}

impl RouteSpec for Failover {
    const SCHEMA: &'static str = "FailoverRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Failover {
        let salted = fields.child_optional("salted");
        let children = match &salted {
            None => fields.children("children"),
            Some(pool) => {
                check_salted(pool, fields);
                Vec::new()
            }
        };
        let tries = fields.bounded("max_tries", 1, TRIES_MAX);
        if let Some(tries) = &tries
            && salted.is_none()
            && children.len() < tries.value
        {
            let message = format!(
                "`max_tries` is {}, and there are {} children",
                tries.value,
                children.len()
            );
            fields.reader.report.warning(&tries.span, message);
        }
        let once = match &salted {
            None => children.len().clamp(1, TRIES_MAX),
            Some(_) => SALTED_TRIES,
        };
        let rate = fields.bounded("rate", 0.0, 1.0);
        let burst = fields.bounded("burst", 1, 1_000_000);
        if let (None, Some(burst)) = (&rate, &burst) {
            let message = "`burst` has no meaning without `rate`";
            fields.error(&burst.span, message);
        }
        Failover {
            children,
            salted,
            on: fields.words("on").unwrap_or_else(|| CAUSES.to_vec()),
            on_reads: fields.words("on_reads"),
            on_writes: fields.words("on_writes"),
            on_deletes: fields.words("on_deletes"),
            on_counters: fields.words("on_counters"),
            on_touches: fields.words("on_touches"),
            max_tries: tries.map_or(once, |at| at.value),
            rate: rate.map(|at| at.value),
            burst: burst.map_or(BURST, |at| at.value),
            retry_writes: fields.flag("retry_writes"),
        }
    }

    fn children(&self) -> Vec<&Child> {
        self.children.iter().chain(&self.salted).collect()
    }

    fn simple(&self) -> Simple<'_> {
        match &self.salted {
            None => Simple::of_list(&self.children),
            Some(_) => Simple::Rule,
        }
    }
}

/// It stands in place of `children`, and only a pool can be hashed anew; that
/// the name is a pool's is checked where names are known.
fn check_salted(pool: &Child, fields: &mut RouteFields<'_, '_, '_, '_>) {
    if let Some(children) = fields.fields.raw("children") {
        let message = "`children` and `salted` cannot stand together";
        fields.error(&children.span(), message);
    }
    if pool.name().is_none() {
        let message = "`salted` is not the name of a pool";
        fields.error(pool.span(), message);
    }
}
