//! The gutter route: a spare pool for what a server that fails would have got.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::breadth_of_all;
use crate::conditions::Conditions;
use crate::plan::{Change, Outcomes, Pick, Plan, Try};
use crate::{Ask, Route};

/// Asks the main child, and the gutter when it fails or is known to be down;
/// what is stored in the gutter lives for a short time only.
///
/// (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013: rehashing the
/// keys of a dead server puts its hot keys on a neighbour and fells that, too;
/// a few idle servers take the load, and forget soon.)
///
/// A delete goes to both, and the reply is that of the main child. To the
/// gutter, because it may hold a copy from the last failure, and would answer
/// with it in the next. And from the main child, because a server that could
/// not be told still has the value when it returns: "deleted" would not be
/// true. (A delete log turns that error into a promise.) A write does not clear
/// the gutter: what it has is at most `ttl` old, which is what `ttl` is for.
///
/// Counters stay with the main child. One that is not there would start anew in
/// the gutter, without an expiry that could be capped.
#[derive(Debug)]
pub struct Gutter {
    spec: GutterSpec,
    breadth: usize,
}

/// What a [`Gutter`] is made of.
#[derive(Clone, Debug)]
pub struct GutterSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Who is asked first.
    pub main: Route,
    /// The spare.
    pub gutter: Route,
    /// The longest life of a value in the gutter.
    pub ttl: Duration,
    /// Which outcomes of the main child lead there.
    pub on: Outcomes,
}

impl From<GutterSpec> for Route {
    fn from(spec: GutterSpec) -> Route {
        let breadth = breadth_of_all([&spec.main, &spec.gutter]);
        Route::Gutter(Arc::new(Gutter { spec, breadth }))
    }
}

impl Gutter {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        let main = spec.main.plan(ask, conditions);
        match ask.kind {
            Kind::Counter | Kind::Other => main,
            _ => spare(main, &spec.gutter, spec.ttl, spec.on, ask, conditions),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.main, &self.spec.gutter]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}

/// `main`, or the gutter.
pub(super) fn spare(
    main: Plan,
    gutter: &Route,
    ttl: Duration,
    on: Outcomes,
    ask: &Ask<'_>,
    conditions: &Conditions<'_>,
) -> Plan {
    let gutter = gutter.plan(ask, conditions);
    let gutter = match ask.kind {
        Kind::Read => gutter,
        Kind::Delete => return Plan::fan(vec![main, gutter], Pick::First),
        _ => gutter.edited(Change::cap(ttl)),
    };
    // Both in any case: what is known of servers may be wrong.
    let plans = match main.is_down(conditions.upstream) {
        true => vec![gutter, main],
        false => vec![main, gutter],
    };
    Plan::Try(Box::new(Try::new(plans, on)))
}
