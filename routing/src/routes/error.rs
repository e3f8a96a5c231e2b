//! The error route: an error for everything.

use std::sync::Arc;

use crate::Route;
use crate::plan::{Canned, Plan};

/// Answers every request with an error.
#[derive(Debug)]
pub struct Error {
    spec: ErrorSpec,
}

/// What an [`Error`] is made of.
#[derive(Clone, Debug)]
pub struct ErrorSpec {
    /// The route's name in the configuration.
    pub name: Arc<str>,
    /// What the error says, on one line.
    pub message: Arc<str>,
}

impl From<ErrorSpec> for Route {
    fn from(spec: ErrorSpec) -> Route {
        Route::Error(Arc::new(Error { spec }))
    }
}

impl Error {
    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What to do with any request.
    pub fn plan(&self) -> Plan {
        Plan::Reply(Canned::Error(self.spec.message.clone()))
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        Vec::new()
    }

    pub(crate) fn breadth(&self) -> usize {
        1
    }
}
