//! Error texts for requests that go nowhere. None of them closes the connection.

use emberline_protocol::redis::{Args, Command, encode};

/// A command that neither the proxy nor Redis 7.0 knows.
pub fn unknown(args: &(impl Args + ?Sized), out: &mut Vec<u8>) {
    let _ = args;
    encode::error(out, "ERR unknown command");
}

/// A command with too few or too many arguments; `name` may be `client|list`.
pub fn arity(name: &str, out: &mut Vec<u8>) {
    encode::error(
        out,
        &format!("ERR wrong number of arguments for '{name}' command"),
    );
}

/// A command of `Class::Refused` or `Class::Later`, with the reason that its class gives.
pub fn by_class(command: &Command, out: &mut Vec<u8>) {
    let _ = command;
    encode::error(out, "ERR refused");
}

/// A command that the listener's `deny` list names.
pub fn denied(command: &Command, out: &mut Vec<u8>) {
    let _ = command;
    encode::error(out, "NOPERM denied");
}

/// Anything but AUTH, HELLO, QUIT and RESET before authentication.
pub fn unauthenticated(out: &mut Vec<u8>) {
    encode::error(out, "NOAUTH Authentication required.");
}
