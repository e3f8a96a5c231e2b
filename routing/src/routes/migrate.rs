//! The migrate route: from one child to another, key by key.

use std::sync::Arc;
use std::time::Duration;

use emberline_protocol::Kind;

use super::{breadth_of_all, plan_all, share_of};
use crate::conditions::Conditions;
use crate::plan::{Pick, Plan};
use crate::{Ask, Route};

/// Moves keys from one child to another over an interval, each at a moment of
/// its own; deletes reach both meanwhile.
///
/// The moment depends on the key alone, or on its hash tag (`{user}a` and
/// `{user}b` move together, so that commands over both go on working), so that proxies agree as well as their
/// clocks do. Between two clocks a key may be in both places, and a delete in
/// both is what keeps the one that is left from coming back.
#[derive(Debug)]
pub struct Migrate {
    spec: MigrateSpec,
    breadth: usize,
}

/// What a [`Migrate`] is made of.
#[derive(Clone, Debug)]
pub struct MigrateSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where keys are before.
    pub from: Route,
    /// Where they are afterwards.
    pub to: Route,
    /// When it begins, in milliseconds since 1970.
    pub start_unix_ms: u64,
    /// How long it takes.
    pub interval: Duration,
}

impl From<MigrateSpec> for Route {
    fn from(spec: MigrateSpec) -> Route {
        let breadth = breadth_of_all([&spec.from, &spec.to]);
        Route::Migrate(Arc::new(Migrate { spec, breadth }))
    }
}

impl Migrate {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        let spec = &self.spec;
        let moved = self.moved(conditions.unix_ms);
        let (now, other) = match share_of(ask, "migrate") < moved {
            true => (&spec.to, &spec.from),
            false => (&spec.from, &spec.to),
        };
        match ask.kind {
            Kind::Delete if moved > 0.0 && moved < 1.0 => {
                Plan::fan(plan_all([now, other], ask, conditions), Pick::Every)
            }
            _ => now.plan(ask, conditions),
        }
    }

    /// The share of the keys that has moved, 0 to 1.
    fn moved(&self, unix_ms: u64) -> f64 {
        let interval = self.spec.interval.as_secs_f64() * 1000.0;
        match unix_ms.checked_sub(self.spec.start_unix_ms) {
            None => 0.0,
            Some(passed) if passed as f64 >= interval => 1.0,
            // From the first moment on there are two places.
            Some(passed) => (passed as f64 / interval).max(f64::MIN_POSITIVE),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.from, &self.spec.to]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
