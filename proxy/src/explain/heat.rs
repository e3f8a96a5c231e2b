//! What is special about a key once it is hot: when it is, and what the L1
//! makes of a request for it.

use std::time::Duration;

use emberline_protocol::Kind;
use emberline_routing::explain::Tree;

use crate::config::{ByteSize, Time};
use crate::running::{HotRule, Hotkey, Mode, Pool, Protocol};

/// What a request does to its keys, as the L1 sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads the value as it is, which memory can answer.
    Get,
    /// Asks for something else.
    Look,
    /// May change the value or its expiry.
    Change,
}

impl Use {
    /// `whole` is whether it asks for the value as it is.
    pub fn of(kind: Kind, whole: bool) -> Use {
        match kind {
            Kind::Read if whole => Use::Get,
            Kind::Read | Kind::Other => Use::Look,
            Kind::Write | Kind::Delete | Kind::Counter | Kind::Touch => Use::Change,
        }
    }
}

/// Two lines for a key of this pool.
pub fn explain(pool: &Pool, key: &[u8], usage: Use) -> Vec<Tree> {
    let rule = rule(&pool.hotkey, key);
    let hot = Tree::new(format!("hot: {}", hot(&pool.hotkey, rule, key)));
    let l1 = Tree::new(format!("L1: {}", l1(pool, rule, key, usage)));
    vec![hot, l1]
}

/// The rule with the longest prefix that the key begins with.
fn rule<'p>(hotkey: &'p Hotkey, key: &[u8]) -> Option<&'p HotRule> {
    let matching = hotkey
        .rules
        .iter()
        .filter(|rule| key.starts_with(&rule.prefix));
    matching.max_by_key(|rule| rule.prefix.len())
}

fn is_listed(hotkey: &Hotkey, key: &[u8]) -> bool {
    hotkey.always.iter().any(|listed| **listed == *key)
}

/// From when on the key is hot.
fn hot(hotkey: &Hotkey, rule: Option<&HotRule>, key: &[u8]) -> String {
    if is_listed(hotkey, key) {
        return "always, it is listed".to_owned();
    }
    if !hotkey.enabled {
        return "never, nothing is counted in this pool".to_owned();
    }
    let (window, threshold, hold) = match rule {
        Some(rule) => (rule.window_ms, rule.threshold, rule.hold),
        None => (hotkey.window_ms, hotkey.threshold, hotkey.hold),
    };
    let plural = if threshold == 1 { "" } else { "s" };
    let mut text = format!("from {threshold} request{plural}");
    if let Some(bytes) = hotkey.threshold_bytes {
        text.push_str(&format!(" or {} of replies", ByteSize(bytes)));
    }
    text.push_str(&format!(" in {}", Time::millis(window)));
    if hold > Duration::ZERO {
        text.push_str(&format!(", for {} at least", Time(hold)));
    }
    if let Some(rule) = rule {
        text.push_str(&format!(", by rule \"{}\"", rule.prefix.escape_ascii()));
    }
    text
}

/// What the L1 makes of the request, or why nothing.
fn l1(pool: &Pool, rule: Option<&HotRule>, key: &[u8], usage: Use) -> String {
    let l1 = &pool.l1;
    match l1.mode {
        Mode::Off if pool.local.is_some() => {
            return "off, a local pool answers from memory already".to_owned();
        }
        Mode::Off => return "off".to_owned(),
        Mode::Observe => return "observe, nothing is answered from memory".to_owned(),
        Mode::Ttl | Mode::Tracking | Mode::Revalidate => {}
    }
    let mode = l1.mode.name();
    if !pool.hotkey.enabled && !is_listed(&pool.hotkey, key) {
        return format!("{mode}, but this key never becomes hot");
    }
    if let Some(rule) = rule.filter(|rule| !rule.allow) {
        let prefix = rule.prefix.escape_ascii();
        return format!("{mode}, but rule \"{prefix}\" keeps its keys out of memory");
    }
    match (usage, pool.protocol) {
        (Use::Change, _) => {
            return format!("{mode}, and this request ends what is kept of the key");
        }
        (Use::Look, Protocol::Redis) => {
            return format!("{mode}, but only GET and MGET are answered from memory");
        }
        (Use::Look, Protocol::Memcached) => {
            return format!("{mode}, but only get, gets and mg are answered from memory");
        }
        (Use::Get, _) => {}
    }
    let shorter = rule.and_then(|rule| rule.ttl).filter(|ttl| *ttl < l1.ttl);
    let by = if shorter.is_some() {
        " by that rule"
    } else {
        ""
    };
    format!(
        "{mode}, ttl {}{by}, max item {}",
        Time(shorter.unwrap_or(l1.ttl)),
        ByteSize(l1.max_item as u64)
    )
}
