//! Redis commands that the proxy answers itself (`Class::Local`).
//!
//! The words, and the order in which wrong requests are found wrong, are those
//! of Redis 7.0.15, as clients and their tests look for them. Where the proxy
//! cannot do what a server would, the error says so and why.

mod acl;
mod call;
mod catalog;
mod client;
mod config;
mod connect;
mod help;
mod hotkeys;
mod info;
mod lolwut;
mod observe;
pub mod refuse;
mod session;

use emberline_protocol::redis::command::arity_ok;
use emberline_protocol::redis::{Args, Command, encode};

use super::{Context, Then};
use call::Call;
pub use session::Session;

/// The version of Redis that clients are told: they choose features by it.
/// The proxy's own is `emberline_version` in `INFO`.
pub const VERSION: &str = "7.0.15";

/// Answer a command of `Class::Local`. The reply of a muted client
/// (`CLIENT REPLY OFF`) is dropped here, so that [`Session::mute`] is the
/// caller's business only for commands that it answers or forwards itself.
#[inline]
pub fn answer(
    command: &'static Command,
    args: &(impl Args + ?Sized),
    session: &mut Session,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Then {
    let muted = session.mute();
    // A health check is the most frequent request of many clients.
    match (command.name, args.len()) {
        ("ping", 1) if !muted => out.extend_from_slice(b"+PONG\r\n"),
        ("echo", 2) if !muted => encode::bulk(out, args.arg(1)),
        _ => {
            let args: Vec<&[u8]> = (0..args.len()).map(|i| args.arg(i)).collect();
            return answer_slowly(command, &args, muted, session, context, out);
        }
    }
    Then::Continue
}

fn answer_slowly(
    command: &'static Command,
    args: &[&[u8]],
    muted: bool,
    session: &mut Session,
    context: &Context<'_>,
    out: &mut Vec<u8>,
) -> Then {
    let start = out.len();
    let mut call = Call {
        command,
        args,
        session,
        context,
        out,
        muted,
        then: Then::Continue,
    };
    if arity_ok(command, args.len()) {
        dispatch(&mut call);
    } else {
        refuse::arity(command.name, call.out);
    }
    if call.muted {
        call.out.truncate(start);
    }
    call.then
}

fn dispatch(call: &mut Call<'_>) {
    match call.command.name {
        "ping" => connect::ping(call),
        "echo" => encode::bulk(call.out, call.args[1]),
        "hello" => connect::hello(call),
        "auth" => connect::auth(call),
        "select" => connect::select(call),
        "reset" => connect::reset(call),
        "quit" => connect::quit(call),
        "readonly" | "readwrite" | "asking" => call.ok(),
        "client" => client::client(call),
        "command" => catalog::command(call),
        "config" => config::config(call),
        "acl" => acl::acl(call),
        "cluster" => connect::cluster(call),
        "hotkeys" => hotkeys::hotkeys(call),
        "info" => info::info(call),
        "time" => observe::time(call),
        "role" => observe::role(call),
        "slowlog" => observe::slowlog(call),
        "latency" => observe::latency(call),
        "lolwut" => lolwut::lolwut(call),
        _ => refuse::by_class(call.command, call.out),
    }
}

/// Whether a client that has not authenticated may send this command. Others
/// are answered with [`refuse::unauthenticated`].
pub fn permitted_before_auth(command: &Command) -> bool {
    matches!(command.name, "auth" | "hello" | "quit" | "reset")
}
