//! Error texts for requests that go nowhere. None of them closes the connection.

use emberline_protocol::redis::{Args, Class, Command, encode};

/// How much of a client's own words Redis repeats in an error.
const ECHO_MAX: usize = 128;

/// A command that neither the proxy nor Redis 7.0 knows, in Redis' words:
/// clients and their tests look for them.
pub fn unknown(args: &(impl Args + ?Sized), out: &mut Vec<u8>) {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(printable(args.arg(0)));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for i in 1..args.len() {
        let said = text.len() - start;
        if said >= ECHO_MAX {
            break;
        }
        let arg = printable(args.arg(i));
        text.push(b'\'');
        text.extend_from_slice(&arg[..arg.len().min(ECHO_MAX - said)]);
        text.extend_from_slice(b"' ");
    }
    error_bytes(&text, out);
}

/// A container without this subcommand.
pub fn unknown_subcommand(command: &Command, subcommand: &[u8], out: &mut Vec<u8>) {
    let after = format!("'. Try {} HELP.", command.name.to_ascii_uppercase());
    quoting("ERR unknown subcommand '", subcommand, &after, out);
}

/// A subcommand with too many arguments, where the table's arity allows for them.
pub(super) fn wrong_subcommand(command: &Command, subcommand: &[u8], out: &mut Vec<u8>) {
    let before = "ERR unknown subcommand or wrong number of arguments for '";
    let after = format!("'. Try {} HELP.", command.name.to_ascii_uppercase());
    quoting(before, subcommand, &after, out);
}

/// A command with too few or too many arguments; `name` may be `client|list`.
pub fn arity(name: &str, out: &mut Vec<u8>) {
    let text = format!("ERR wrong number of arguments for '{name}' command");
    encode::error(out, &text);
}

/// A command of `Class::Refused` or `Class::Later`, with the reason that its class gives.
pub fn by_class(command: &Command, out: &mut Vec<u8>) {
    match command.class {
        Class::Refused(why) | Class::Later(why) => reason(why, out),
        _ => {
            let text = format!(
                "ERR {} is not supported by this proxy",
                command.name.to_ascii_uppercase()
            );
            encode::error(out, &text);
        }
    }
}

/// A reason without an error code, such as `Class::Later` holds.
pub fn reason(why: &str, out: &mut Vec<u8>) {
    encode::error(out, &format!("ERR {why}"));
}

/// A command that the listener's `deny` list names.
pub fn denied(name: &str, out: &mut Vec<u8>) {
    let text = format!("NOPERM this listener does not let the '{name}' command through");
    encode::error(out, &text);
}

/// Anything but AUTH, HELLO, QUIT and RESET before authentication.
pub fn unauthenticated(out: &mut Vec<u8>) {
    encode::error(out, "NOAUTH Authentication required.");
}

/// An error that repeats a client's own word between two texts.
pub(super) fn quoting(before: &str, word: &[u8], after: &str, out: &mut Vec<u8>) {
    let text = [before.as_bytes(), printable(word), after.as_bytes()].concat();
    error_bytes(&text, out);
}

/// An error that need not be UTF-8. Its bytes stay as they are, except for
/// line breaks, which would end the reply.
fn error_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'-');
    out.extend(text.iter().map(|&byte| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    }));
    out.extend_from_slice(b"\r\n");
}

/// What `%.128s` prints of these bytes.
fn printable(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0);
    &bytes[..end.unwrap_or(bytes.len()).min(ECHO_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&[u8]], reply: &str) {
        let mut out = Vec::new();
        unknown(args, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), reply);
    }

    #[test]
    fn an_unknown_command_repeats_its_beginning() {
        check(
            &[b"foo", b"a", b"b"],
            "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n",
        );
        check(
            &[b"fo\r\no"],
            "-ERR unknown command 'fo  o', with args beginning with: \r\n",
        );
        let long = [b'x'; 300];
        let reply = format!(
            "-ERR unknown command '{0}', with args beginning with: '{0}' \r\n",
            "x".repeat(128)
        );
        check(&[&long, &long, &long], &reply);
    }
}
