//! `/explain`: where a request would go now, servers that are down included.

use std::collections::BTreeMap;
use std::time::Duration;

use emberline_routing::{ServerId, Upstream};

use super::{State, View};
use crate::explain::{self, Health};
use crate::metrics::totals;
use crate::server::health::Standing;

/// What this process knows of its servers.
struct Live<'s>(&'s View<'s>);

impl Upstream for Live<'_> {
    fn is_ejected(&self, server: ServerId) -> bool {
        self.0.health.standing(server) == Standing::Ejected
    }

    fn inflight(&self, server: ServerId) -> u32 {
        let inflight = totals::server(&self.0.meters, server).inflight;
        u32::try_from(inflight).unwrap_or(0)
    }
}

impl Health for Live<'_> {
    fn of(&self, server: ServerId) -> Option<String> {
        let Some(trouble) = self.0.health.trouble(server) else {
            return Some("up".to_owned());
        };
        if trouble.marked {
            return Some("marked as down: nothing is sent there".to_owned());
        }
        let now = u64::try_from(self.0.l1.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let lasted = Duration::from_nanos(now.saturating_sub(trouble.since));
        let why = &trouble.why;
        Some(match self.is_ejected(server) {
            true => format!("down for {lasted:.1?}: {why}"),
            false => format!("down for {lasted:.1?}, and tried all the same: {why}"),
        })
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// The answer to a query.
///
/// # Errors
/// What is wrong with it, for who asked.
pub(super) fn answer(state: &State, query: &BTreeMap<String, String>) -> Result<String, String> {
    if let Some(other) = query
        .keys()
        .find(|key| !["request", "listener"].contains(&&***key))
    {
        return Err(format!(
            "`{other}` is unknown, expected `request` or `listener`"
        ));
    }
    let request = query.get("request").ok_or("`request` is missing")?;
    let listener = query.get("listener").map(String::as_str);
    let view = state.view();
    explain::explain(&view.running, &Live(&view), listener, request)
}
