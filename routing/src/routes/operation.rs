//! The operation route: what a request does to its key chooses the child.

use std::sync::Arc;

use emberline_protocol::Kind;

use crate::Route;

/// Chooses a child by what the request does. What is not given goes where
/// `default` says.
#[derive(Debug)]
pub struct Operation {
    spec: OperationSpec,
    breadth: usize,
}

/// What an [`Operation`] is made of.
#[derive(Clone, Debug)]
pub struct OperationSpec {
    /// The route's name in the configuration.
    pub name: String,
    /// Requests that leave their key as it is.
    pub reads: Option<Route>,
    /// Requests that store or change a value.
    pub writes: Option<Route>,
    /// Requests that remove their key.
    pub deletes: Option<Route>,
    /// Requests that add to a number.
    pub counters: Option<Route>,
    /// Requests that change the expiry alone.
    pub touches: Option<Route>,
    /// All others.
    pub default: Route,
}

impl From<OperationSpec> for Route {
    fn from(spec: OperationSpec) -> Route {
        let operation = Operation::new(spec);
        match operation.children()[..] {
            [only] => only.clone(),
            _ => Route::Operation(Arc::new(operation)),
        }
    }
}

impl Operation {
    /// A route with these children.
    pub fn new(spec: OperationSpec) -> Operation {
        let mut operation = Operation { spec, breadth: 1 };
        let breadth = operation.children().into_iter().map(Route::breadth).max();
        operation.breadth = breadth.unwrap_or(1);
        operation
    }

    /// The route's name in the configuration.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The child for requests of this kind.
    #[inline]
    pub fn child(&self, kind: Kind) -> &Route {
        self.choose(kind).1
    }

    /// Why that child, and which.
    pub(crate) fn choose(&self, kind: Kind) -> (Why, &Route) {
        let spec = &self.spec;
        // A change of the expiry is a write where nothing else is said, as is
        // a counter's.
        let (word, own, or) = match kind {
            Kind::Read => ("reads", &spec.reads, &None),
            Kind::Write => ("writes", &spec.writes, &None),
            Kind::Delete => ("deletes", &spec.deletes, &spec.writes),
            Kind::Counter => ("counters", &spec.counters, &spec.writes),
            Kind::Touch => ("touches", &spec.touches, &spec.writes),
            Kind::Other => ("other commands", &None, &None),
        };
        match own.as_ref().or(or.as_ref()) {
            Some(child) => (Why::Listed(word), child),
            None => (Why::Default(word), &spec.default),
        }
    }

    pub(crate) fn children(&self) -> Vec<&Route> {
        let spec = &self.spec;
        let own = [
            &spec.reads,
            &spec.writes,
            &spec.deletes,
            &spec.counters,
            &spec.touches,
        ];
        let own = own.into_iter().filter_map(Option::as_ref);
        own.chain([&spec.default]).collect()
    }

    pub(crate) fn breadth(&self) -> usize {
        self.breadth
    }
}

/// Why an operation has its child; a text only where one is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    Listed(&'static str),
    Default(&'static str),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Listed(word) => write!(f, "one of the {word}"),
            Why::Default(word) => write!(f, "no child for {word}, so the default"),
        }
    }
}
