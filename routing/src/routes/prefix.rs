//! The prefix route: the longest key prefix that is listed chooses the child.

use std::sync::Arc;

use super::plan_with_key;
use crate::conditions::Conditions;
use crate::plan::Plan;
use crate::{Ask, Route};

/// Chooses a child by the longest listed prefix of the key, which may become
/// another one on the way, or none.
///
/// Cheap to clone: a named route that stands in several places is one table.
#[derive(Clone, Debug)]
pub struct Prefix {
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    name: String,
    /// Sorted by prefix, each once.
    entries: Vec<Entry>,
    default: Route,
    breadth: usize,
}

#[derive(Debug)]
struct Entry {
    prefix: Vec<u8>,
    child: Route,
    /// What the child gets instead of the prefix, if it is not the same.
    becomes: Option<Vec<u8>>,
    /// Index of the longest other entry that is a prefix of this one.
    shorter: Option<usize>,
}

/// A prefix, and where keys go that start with it.
#[derive(Clone, Debug)]
pub struct PrefixChild {
    /// The prefix.
    pub prefix: Vec<u8>,
    /// Where they go.
    pub child: Route,
    /// What the child gets in its place; empty: nothing, none: the same. A key
    /// that would become empty stays as it is.
    pub becomes: Option<Vec<u8>>,
}

/// Why a prefix route cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The same prefix is listed twice.
    #[error("route \"{route}\" lists the prefix \"{prefix}\" twice")]
    Twice {
        /// The route's name.
        route: String,
        /// The prefix, bytes that are not UTF-8 replaced.
        prefix: String,
    },
}

impl Prefix {
    /// A route that sends keys with one of `children`'s prefixes to its
    /// child and all others to `default`.
    pub fn new(
        name: impl Into<String>,
        children: impl IntoIterator<Item = (Vec<u8>, Route)>,
        default: Route,
    ) -> Result<Prefix, PrefixError> {
        let children = children.into_iter().map(|(prefix, child)| PrefixChild {
            prefix,
            child,
            becomes: None,
        });
        Prefix::rewriting(name, children, default)
    }

    /// The same, where the children may get other keys.
    pub fn rewriting(
        name: impl Into<String>,
        children: impl IntoIterator<Item = PrefixChild>,
        default: Route,
    ) -> Result<Prefix, PrefixError> {
        let name = name.into();
        let mut children: Vec<PrefixChild> = children.into_iter().collect();
        children.sort_by(|a, b| a.prefix.cmp(&b.prefix));

        let mut entries: Vec<Entry> = Vec::with_capacity(children.len());
        for one in children {
            let last = entries.len().checked_sub(1);
            if last.is_some_and(|i| entries[i].prefix == one.prefix) {
                let prefix = String::from_utf8_lossy(&one.prefix).into_owned();
                return Err(PrefixError::Twice {
                    route: name,
                    prefix,
                });
            }
            let shorter = longest_match(&entries, last, &one.prefix);
            entries.push(Entry {
                becomes: one.becomes.filter(|new| *new != one.prefix),
                prefix: one.prefix,
                child: one.child,
                shorter,
            });
        }
        let children = entries.iter().map(|entry| &entry.child);
        let breadth = children.chain([&default]).map(Route::breadth).max();
        let table = Arc::new(Table {
            name,
            entries,
            default,
            breadth: breadth.unwrap_or(1),
        });
        Ok(Prefix { table })
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.table.name
    }

    /// The child for `key`.
    #[inline]
    pub fn child(&self, key: &[u8]) -> &Route {
        self.choose(key).1
    }

    /// The child for `key` if it gets the key as it is, the whole plan if not.
    #[inline]
    pub(crate) fn child_or_plan(
        &self,
        ask: &Ask<'_>,
        conditions: &Conditions<'_>,
    ) -> Result<&Route, Plan> {
        let Some(entry) = self.entry(ask.key) else {
            return Ok(&self.table.default);
        };
        match entry.changed(ask.key) {
            None => Ok(&entry.child),
            Some(key) => Err(plan_with_key(&entry.child, key, ask, conditions)),
        }
    }

    /// The prefix that decides for `key`, none for the default, and its child.
    pub(crate) fn choose(&self, key: &[u8]) -> (Option<&[u8]>, &Route) {
        match self.entry(key) {
            Some(entry) => (Some(&entry.prefix), &entry.child),
            None => (None, &self.table.default),
        }
    }

    /// The key that the child gets, if it is another.
    pub(crate) fn changed(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.entry(key)?.changed(key)
    }

    /// Whether some keys change on the way.
    pub(crate) fn rewrites(&self) -> bool {
        let mut entries = self.table.entries.iter();
        entries.any(|entry| entry.becomes.is_some())
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let entries = &self.table.entries;
        let behind = entries.partition_point(|entry| entry.prefix.as_slice() <= key);
        longest_match(entries, behind.checked_sub(1), key).map(|i| &entries[i])
    }

    /// Every child in the order of the prefixes, the default last.
    pub(crate) fn children(&self) -> Vec<&Route> {
        let entries = self.table.entries.iter().map(|entry| &entry.child);
        entries.chain([&self.table.default]).collect()
    }

    /// What is the same for clones of one table.
    pub(crate) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.table).cast()
    }

    /// Places that one request may go to, at the most.
    pub(crate) fn breadth(&self) -> usize {
        self.table.breadth
    }
}

impl Entry {
    fn changed(&self, key: &[u8]) -> Option<Vec<u8>> {
        let becomes = self.becomes.as_ref()?;
        let changed = [becomes, &key[self.prefix.len()..]].concat();
        (!changed.is_empty()).then_some(changed)
    }
}

/// The longest entry that `key` starts with, given the last entry that does
/// not sort behind `key`.
///
/// Let P be the entry sought. Whatever sorts between P and `key` starts with
/// P, so the given entry does, and P is found by walking from it to shorter
/// and shorter prefixes of itself.
fn longest_match(entries: &[Entry], last: Option<usize>, key: &[u8]) -> Option<usize> {
    let mut candidate = last;
    while let Some(i) = candidate {
        if key.starts_with(&entries[i].prefix) {
            return Some(i);
        }
        candidate = entries[i].shorter;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolId;

    fn local(id: u16) -> Route {
        Route::Local(PoolId(id))
    }

    fn prefix(children: &[(&str, u16)]) -> Result<Prefix, PrefixError> {
        let children = children
            .iter()
            .map(|(p, id)| (p.as_bytes().to_vec(), local(*id)));
        Prefix::new("by_prefix", children, local(0))
    }

    #[test]
    fn the_longest_prefix_wins() {
        let route = prefix(&[
            ("user:", 1),
            ("user:admin:", 2),
            ("u", 3),
            ("user:b", 4),
            ("z", 5),
        ])
        .unwrap();
        let check = |key: &str, pool| {
            let Route::Local(got) = route.child(key.as_bytes()) else {
                panic!("not a local pool");
            };
            assert_eq!(*got, PoolId(pool), "{key}");
        };
        check("user:1", 1);
        check("user:", 1);
        check("user:admin:7", 2);
        check("user:admin", 1);
        check("user:c", 1);
        check("user:bc", 4);
        check("use", 3);
        check("v", 0);
        check("", 0);
        check("zz", 5);
        check("\u{7f}", 0);
    }

    #[test]
    fn an_empty_prefix_takes_what_is_left() {
        let route = prefix(&[("", 1), ("a", 2)]).unwrap();
        assert!(matches!(route.child(b"b"), Route::Local(PoolId(1))));
        assert!(matches!(route.child(b"ab"), Route::Local(PoolId(2))));
    }

    #[test]
    fn a_prefix_stands_once() {
        let error = prefix(&[("a", 1), ("b", 1), ("a", 2)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "route \"by_prefix\" lists the prefix \"a\" twice"
        );
    }
}
