//! The by-host route: the machine that the proxy runs on chooses the child.

use std::sync::Arc;

use super::{breadth_of_one, nth_of, simple};
use crate::Route;

/// Sends everything to one child, another one on another host.
#[derive(Debug)]
pub struct ByHost {
    spec: ByHostSpec,
    breadth: usize,
    index: usize,
}

/// What a [`ByHost`] is made of.
#[derive(Clone, Debug)]
pub struct ByHostSpec {
    /// The route's name in the configuration. Hosts are spread anew when it
    /// changes.
    pub name: Arc<str>,
    /// The children to choose from.
    pub children: Vec<Route>,
    /// Stands for the host: a hash of its name.
    pub host: u64,
}

impl From<ByHostSpec> for Route {
    fn from(spec: ByHostSpec) -> Route {
        if let Some(less) = simple(&spec.children) {
            return less;
        }
        Route::ByHost(Arc::new(ByHost {
            breadth: breadth_of_one(&spec.children),
            index: nth_of(spec.host, &spec.name, spec.children.len()),
            spec,
        }))
    }
}

impl ByHost {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The child of this host.
    #[inline]
    pub fn child(&self) -> &Route {
        &self.spec.children[self.index]
    }

    /// Why it is this one.
    pub(crate) fn why(&self) -> String {
        let of = self.spec.children.len();
        format!("this host's child, number {} of {of}", self.index + 1)
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        self.spec.children.iter().collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}
