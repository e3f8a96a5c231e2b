//! Where a key of the list lives under this configuration: where the routes
//! would have it read from now.

use std::time::{SystemTime, UNIX_EPOCH};

use emberline_protocol::Kind;
use emberline_routing::{Ask, Calm, Conditions, PoolId, ServerId, States, Target};

use crate::running::{Mode, Pool, Running};

/// Whether memory answers for this pool, so that its keys are worth keeping.
pub fn serves(pool: &Pool) -> bool {
    let promotes = pool.hotkey.enabled || !pool.hotkey.always.is_empty();
    let answers = matches!(pool.l1.mode, Mode::Ttl | Mode::Tracking | Mode::Revalidate);
    pool.local.is_none() && promotes && answers
}

/// The pool with this name, if memory answers for it.
pub fn pool(running: &Running, name: &str) -> Option<PoolId> {
    let mut pools = running.pools();
    let (id, pool) = pools.find(|(_, pool)| pool.name == name)?;
    serves(pool).then_some(id)
}

/// Asks the routes.
#[derive(Debug)]
pub struct Places<'r> {
    running: &'r Running,
    states: States,
    unix_ms: u64,
}

impl<'r> Places<'r> {
    /// Under this configuration.
    pub fn new(running: &'r Running) -> Places<'r> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = since.unwrap_or_default().as_millis();
        Places {
            running,
            states: States::new(running.route_states, 1),
            unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
        }
    }

    /// The one server of this pool that the key is read from; `None` if no
    /// listener leads there, or listeners do not agree, or nothing is to be
    /// sent to it. Such a key is fetched when somebody reads it.
    pub fn server(&self, pool: PoolId, key: &[u8]) -> Option<ServerId> {
        let conditions = Conditions {
            upstream: &Calm,
            states: &self.states,
            now_ms: 0,
            unix_ms: self.unix_ms,
            client: 0,
        };
        let ask = Ask {
            trial: true,
            ..Ask::new(key, Kind::Read)
        };
        let ours = |server: &ServerId| {
            let server = self.running.servers.get(server.0 as usize);
            server.is_some_and(|server| server.pool == pool)
        };
        let routers = self.running.listeners.iter();
        let routers = routers.map(|listener| &listener.router);
        let leading = routers.filter(|router| router.pools().contains(&pool));
        let targets = leading.filter_map(|router| router.plan(&ask, &conditions).target());
        let mut servers = targets.filter_map(|target| match target {
            Target::Send(server) => Some(server).filter(ours),
            Target::Answer(_) => None,
        });
        let first = servers.next()?;
        let down = self.running.servers.get(first.0 as usize)?.down;
        (!down && servers.all(|other| other == first)).then_some(first)
    }
}
