//! memcached commands that the proxy answers itself.

use emberline_protocol::memcache::Verb;

use super::{Context, Then};

/// Whether [`answer`] has the answer, whatever the pools are.
pub fn is_local(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Version | Verb::Verbosity | Verb::Stats | Verb::Quit | Verb::MetaNoop
    ) || verb.is_administrative()
}

/// Answer one request. `line` is its command line, with or without the line
/// end; `quiet` keeps the answer from the client.
pub fn answer(
    verb: Verb,
    line: &[u8],
    quiet: bool,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Then {
    let _ = (verb, line, quiet, context, out);
    Then::Continue
}
