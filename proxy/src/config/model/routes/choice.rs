//! Routes that choose one of several children by something else than the key:
//! `by_host`, `by_client`, `random`, `latest` and `load_balance`.

use schemars::JsonSchema;

use super::fields::RouteFields;
use super::{Child, RouteSpec, Simple};

/// The default of `count`.
pub const COUNT: usize = 2;

/// The name of this machine chooses the child, so that a fleet of proxies
/// spreads evenly.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ByHost {
    /// The children to choose from. Adding one moves about its share of the
    /// machines.
    pub children: Vec<Child>,
}

/// The client's address chooses the child; its port does not.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ByClient {
    /// The children to choose from. Behind another proxy all clients have one
    /// address, and so one child.
    pub children: Vec<Child>,
}

/// Chance chooses the child, anew for each request.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Random {
    /// The children to choose from. What is written to one is not read from
    /// another: they must hold the same, or be proxies.
    pub children: Vec<Child>,
}

/// A few children, chosen by the name of this machine, are asked one after
/// the other; the others only when those fail.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Latest {
    /// The children to choose from.
    pub children: Vec<Child>,
    /// How many of them are used, 1 to 64 and no more than there are. Default
    /// 2. Too small: when they fail there is nobody left; too big: keys are
    /// in as many places.
    #[schemars(with = "Option<usize>", range(min = 1, max = 64), extend("default" = COUNT))]
    pub count: usize,
}

/// Of two children, chosen at random, the one with fewer requests in flight
/// is asked.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LoadBalance {
    /// The children to choose from. What is written to one is not read from
    /// another: they must hold the same, or be proxies.
    pub children: Vec<Child>,
}

macro_rules! of_a_list {
    ($($name:ident $schema:literal),*) => { $(
        impl RouteSpec for $name {
            const SCHEMA: &'static str = $schema;

            fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> $name {
                let children = fields.children("children");
                $name { children }
            }

            fn children(&self) -> Vec<&Child> {
                self.children.iter().collect()
            }

            fn simple(&self) -> Simple<'_> {
                Simple::of_list(&self.children)
            }
        }
    )* };
}

of_a_list! {
    ByHost "ByHostRoute",
    ByClient "ByClientRoute",
    Random "RandomRoute",
    LoadBalance "LoadBalanceRoute"
}

impl RouteSpec for Latest {
    const SCHEMA: &'static str = "LatestRoute";

    fn read(fields: &mut RouteFields<'_, '_, '_, '_>) -> Latest {
        let children = fields.children("children");
        let count = fields.bounded("count", 1, 64);
        if let Some(count) = &count
            && count.value > children.len()
        {
            let message = format!(
                "`count` is {}, and there are {} children",
                count.value,
                children.len()
            );
            fields.reader.report.warning(&count.span, message);
        }
        let most = children.len().max(1);
        Latest {
            children,
            count: count.map_or(COUNT, |at| at.value).min(most),
        }
    }

    fn children(&self) -> Vec<&Child> {
        self.children.iter().collect()
    }

    fn simple(&self) -> Simple<'_> {
        Simple::of_list(&self.children)
    }
}
