//! The hash-key route: only a part of the key decides its server.

use std::sync::Arc;

use memchr::memmem;

use crate::Route;

/// Lets the pools below place a key by a part of it, so that keys which share
/// the part share a server; the whole key is sent.
#[derive(Debug)]
pub struct HashKey {
    spec: HashKeySpec,
}

/// What a [`HashKey`] is made of.
#[derive(Clone, Debug)]
pub struct HashKeySpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// Where requests go. The hash tags of its pools look at the part alone.
    pub child: Route,
    /// Which part is hashed; a key that lacks it is hashed whole.
    pub part: HashPart,
}

/// The part of a key that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashPart {
    /// What stands in front of these bytes, as `|#|` with mcrouter.
    Before(Box<[u8]>),
    /// What stands between delimiters: the part with this number, from 0.
    Between(Box<[u8]>, usize),
}

impl From<HashKeySpec> for Route {
    fn from(spec: HashKeySpec) -> Route {
        Route::HashKey(Arc::new(HashKey { spec }))
    }
}

impl HashKey {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where requests go.
    #[inline]
    pub fn child(&self) -> &Route {
        &self.spec.child
    }

    /// The part of this key that is hashed; none for all of it. An empty part
    /// is none, or every such key would be on one server.
    #[inline]
    pub fn part<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let part = match &self.spec.part {
            HashPart::Before(stop) => &key[..memmem::find(key, stop)?],
            HashPart::Between(delimiter, index) => between(key, delimiter, *index)?,
        };
        (!part.is_empty() && part.len() < key.len()).then_some(part)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        vec![&self.spec.child]
    }

    pub(crate) fn breadth(&self) -> usize {
        self.spec.child.breadth()
    }
}

fn between<'k>(key: &'k [u8], delimiter: &[u8], index: usize) -> Option<&'k [u8]> {
    let mut rest = key;
    for _ in 0..index {
        let end = memmem::find(rest, delimiter)?;
        // An empty delimiter is found everywhere and leads nowhere.
        rest = rest.get((end + delimiter.len()).max(1)..)?;
    }
    Some(memmem::find(rest, delimiter).map_or(rest, |end| &rest[..end]))
}
