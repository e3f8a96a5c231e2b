//! Everywhere that keys of a listener may be.

use emberline_routing::Target;

use crate::running::{Listener, Running};

/// Every in-process pool and every server of the listener's pools, each once:
/// a server that stands in two pools would be counted twice. Those that get
/// keys come first; one that is drained still has what it had.
pub fn places(running: &Running, listener: &Listener) -> Vec<Target> {
    let servers = listener.router.pools().iter().flat_map(|id| {
        let pool = running.pools.get(usize::from(id.0));
        pool.map_or(&[][..], |pool| &pool.servers)
    });
    let drained = servers.map(|id| Target::Send(*id));
    let mut places = Vec::new();
    let mut seen = Vec::new();
    for plan in listener.router.targets().iter().copied().chain(drained) {
        let Target::Send(id) = plan else {
            places.push(plan);
            continue;
        };
        let Some(server) = running.servers.get(id.0 as usize) else {
            continue;
        };
        let pool = running.pools.get(usize::from(server.pool.0));
        let identity = (&server.address, pool.map(|pool| pool.database));
        if !seen.contains(&identity) {
            seen.push(identity);
            places.push(plan);
        }
    }
    places
}
