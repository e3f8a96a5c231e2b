//! The key route: other keys than the client says.

use std::sync::Arc;

use super::plan_with_key;
use crate::conditions::Conditions;
use crate::plan::Plan;
use crate::{Ask, Route};

/// Strips, replaces or adds the beginning and the end of every key.
///
/// In this order: strip, then replace, then add. A key that would become empty
/// stays as it is, because no server would take it.
#[derive(Debug)]
pub struct Key {
    spec: KeySpec,
}

/// What a [`Key`] is made of.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go.
    pub child: Route,
    /// Cut off the beginning, if it is there.
    pub strip_prefix: Vec<u8>,
    /// Cut off the end, if it is there.
    pub strip_suffix: Vec<u8>,
    /// What a beginning becomes; the longest that fits.
    pub replace: Vec<(Vec<u8>, Vec<u8>)>,
    /// Put in front.
    pub add_prefix: Vec<u8>,
    /// Put behind.
    pub add_suffix: Vec<u8>,
}

impl From<KeySpec> for Route {
    fn from(mut spec: KeySpec) -> Route {
        let texts = [
            &spec.strip_prefix,
            &spec.strip_suffix,
            &spec.add_prefix,
            &spec.add_suffix,
        ];
        if spec.replace.is_empty() && texts.iter().all(|text| text.is_empty()) {
            return spec.child;
        }
        spec.replace
            .sort_by_key(|(from, _)| usize::MAX - from.len());
        Route::Key(Arc::new(Key { spec }))
    }
}

impl Key {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where requests go.
    pub(crate) fn child(&self) -> &Route {
        &self.spec.child
    }

    /// What to do with this request.
    pub fn plan(&self, ask: &Ask<'_>, conditions: &Conditions<'_>) -> Plan {
        match self.changed(ask.key) {
            Some(key) => plan_with_key(&self.spec.child, key, ask, conditions),
            None => self.spec.child.plan(ask, conditions),
        }
    }

    /// What this key becomes; none if it stays.
    pub(crate) fn changed(&self, key: &[u8]) -> Option<Vec<u8>> {
        let spec = &self.spec;
        let rest = key.strip_prefix(&spec.strip_prefix[..]).unwrap_or(key);
        let rest = rest.strip_suffix(&spec.strip_suffix[..]).unwrap_or(rest);
        let replaced = spec.replace.iter().find_map(|(from, to)| {
            let rest = rest.strip_prefix(&from[..])?;
            Some((&to[..], rest))
        });
        let (front, rest) = replaced.unwrap_or((b"", rest));
        let changed = [&spec.add_prefix[..], front, rest, &spec.add_suffix[..]].concat();
        (changed != key && !changed.is_empty()).then_some(changed)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}
