//! `/hotkeys`: the hot keys, and what the L1 does with them, as JSON.
//!
//! Keys are shown as `metrics::hotkeys` decides, so that this answer can be
//! pasted into a ticket. Whoever wants to know whether a hash is the key that
//! they suspect asks for it: `/hotkeys?key=user:1` finds it by its name.

use std::collections::BTreeMap;

use emberline_hotkey::Bounds;
use emberline_routing::PoolId;
use serde_json::{Value, json};

use super::View;
use crate::metrics::Event;
use crate::metrics::hotkeys::{self, Hot, PerSecond, Sort, Warmth};
use crate::running::{Mode, Visibility};

/// Keys in an answer unless asked otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Query {
    pool: Option<PoolId>,
    key: Option<Vec<u8>>,
    limit: usize,
    sort: Sort,
}

impl Query {
    /// Read the parameters.
    ///
    /// # Errors
    /// Text for whoever asked: a parameter or a value that there is none of.
    pub(super) fn new(state: &View<'_>, given: BTreeMap<String, String>) -> Result<Query, String> {
        let mut query = Query {
            pool: None,
            key: None,
            limit: LIMIT,
            sort: Sort::default(),
        };
        for (name, value) in given {
            match name.as_str() {
                "pool" => query.pool = Some(pool(state, &value)?),
                "key" => query.key = Some(value.into_bytes()),
                "limit" => query.limit = limit(&value)?,
                "sort" => query.sort = sort(&value)?,
                _ => {
                    let text = "no such parameter: there are pool, key, limit and sort, not";
                    return Err(format!("{text} {name:?}"));
                }
            }
        }
        Ok(query)
    }

    fn wants(&self, state: &View<'_>, hot: &Hot) -> bool {
        let is_key = |key: &Vec<u8>| state.l1.hasher.hash_in(hot.pool.0, key) == hot.hash;
        self.pool.is_none_or(|pool| pool == hot.pool) && self.key.as_ref().is_none_or(is_key)
    }
}

fn pool(state: &View<'_>, name: &str) -> Result<PoolId, String> {
    let found = state.running.pools().find(|(_, pool)| pool.name == name);
    found
        .map(|(id, _)| id)
        .ok_or_else(|| format!("there is no pool {name:?}"))
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok();
    limit
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| format!("limit wants a number from 1 to {LIMIT_MAX}, not {text:?}"))
}

fn sort(text: &str) -> Result<Sort, String> {
    Sort::named(text).ok_or_else(|| format!("sort is by rate, bytes or writes, not by {text:?}"))
}

/// The answer. Rates are per second; `lower` and `upper` bound them.
pub(super) fn answer(state: &View<'_>, query: &Query) -> Value {
    let running = &state.running;
    let mut hot = hotkeys::list(state.l1, running, |_| true);
    let pools = hotkeys::pools(state.l1, running, &state.meters, &hot);
    let wanted = |id| query.pool.is_none_or(|pool| pool == id);
    let pools: Vec<Value> = pools
        .iter()
        .filter(|warmth| wanted(warmth.pool))
        .map(|warmth| one_pool(state, warmth))
        .collect();
    hot.retain(|hot| query.wants(state, hot));
    query.sort.sort(&mut hot);
    let found = hot.len();
    hot.truncate(query.limit);
    let keys: Vec<Value> = hot.iter().map(|hot| one_key(state, hot)).collect();
    json!({
        "key_visibility": match running.visibility {
            Visibility::Hash => "hash",
            Visibility::Plain => "plain",
        },
        "l1": {
            "bytes": state.l1.store.live(),
            "capacity": state.l1.store.capacity(),
            "items": state.l1.store.len(),
        },
        "pools": pools,
        "sort": query.sort.name(),
        "found": found,
        "keys": keys,
    })
}

fn one_pool(state: &View<'_>, warmth: &Warmth) -> Value {
    let pool = state.running.pools.get(usize::from(warmth.pool.0));
    let would_save = (warmth.mode == Mode::Observe).then(|| {
        json!({
            "requests": rounded(warmth.saving.requests),
            "bytes": rounded(warmth.saving.bytes),
            "share": rounded(warmth.saving.share),
            "sentence": warmth.saving.sentence(warmth.promoted),
        })
    });
    json!({
        "pool": pool.map(|pool| &pool.name),
        "protocol": pool.map(|pool| pool.protocol.name()),
        "mode": warmth.mode.name(),
        "hot_keys": warmth.promoted,
        "items": warmth.items,
        "bytes": warmth.bytes,
        "hits": warmth.hits(),
        "misses": warmth.misses(),
        "bypassed": warmth.event(Event::Bypass),
        "would_hit": warmth.event(Event::WouldHit),
        "would_miss": warmth.event(Event::WouldMiss),
        "hit_ratio": warmth.hit_ratio().map(rounded),
        "would_save": would_save,
    })
}

fn one_key(state: &View<'_>, hot: &Hot) -> Value {
    let pool = state.running.pools.get(usize::from(hot.pool.0));
    json!({
        "key": hot.key,
        "hash": format!("{:016x}", hot.hash.0),
        "pool": pool.map(|pool| &pool.name),
        "protocol": pool.map(|pool| pool.protocol.name()),
        "state": hot.state.name(),
        "requests": rate(hot.requests),
        "reads": rate(hot.reads),
        "writes": rate(hot.writes),
        "bytes": rate(hot.bytes),
        "share": rounded(hot.share),
        "certain": hot.certain,
        "window_ms": hot.window_ms,
        "in_window": in_window(hot.in_window),
        "hits": hot.counts.hits,
        "misses": hot.counts.misses,
        "hit_bytes": hot.counts.bytes,
        "hit_ratio": hot.hit_ratio().map(rounded),
        "hot_ms": hot.hot_ms,
    })
}

fn rate(rate: PerSecond) -> Value {
    json!({
        "rate": rounded(rate.middle()),
        "lower": rounded(rate.lower),
        "upper": rounded(rate.upper),
    })
}

fn in_window(bounds: Bounds) -> Value {
    json!({ "lower": bounds.lower, "upper": bounds.upper })
}

/// Four digits behind the point are more than anybody reads.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}
