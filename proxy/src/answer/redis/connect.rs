//! The state of a connection: its protocol version, its user, its database,
//! its end.

use emberline_protocol::redis::{Version, encode};

use super::super::Then;
use super::VERSION;
use super::call::{Call, integer};
use super::client::{NAME_ERROR, name_ok};
use super::refuse;

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NOT_YET: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";

pub(super) fn ping(call: &mut Call<'_>) {
    match call.args {
        [_] => encode::simple(call.out, "PONG"),
        [_, message] => encode::bulk(call.out, message),
        _ => refuse::arity("ping", call.out),
    }
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(call: &mut Call<'_>) {
    let mut version = call.version();
    if let Some(wanted) = call.args.get(1) {
        version = match integer(wanted) {
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => return call.error("NOPROTO unsupported protocol version"),
            None => {
                return call.error("ERR Protocol version is not an integer or out of range");
            }
        };
    }
    let Some(options) = hello_options(call) else {
        return;
    };
    if let Some((user, password)) = options.credentials {
        if !accepts(call, user, password) {
            return call.error(WRONG_PASSWORD);
        }
        call.session.authenticated = true;
    }
    if !call.session.authenticated {
        return call.error(NOT_YET);
    }
    if let Some(name) = options.name {
        call.session.set_name(name);
    }
    call.session.version = version;
    greet(call);
}

#[derive(Default)]
struct HelloOptions<'a> {
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn hello_options<'a>(call: &mut Call<'a>) -> Option<HelloOptions<'a>> {
    let mut options = HelloOptions::default();
    let mut rest = call.args.get(2..).unwrap_or_default();
    while let [word, values @ ..] = rest {
        if word.eq_ignore_ascii_case(b"auth") && values.len() >= 2 {
            options.credentials = Some((values[0], values[1]));
            rest = &values[2..];
        } else if word.eq_ignore_ascii_case(b"setname") && !values.is_empty() {
            if !name_ok(values[0]) {
                call.error(NAME_ERROR);
                return None;
            }
            options.name = Some(values[0]);
            rest = &values[1..];
        } else {
            refuse::quoting("ERR Syntax error in HELLO option '", word, "'", call.out);
            return None;
        }
    }
    Some(options)
}

fn greet(call: &mut Call<'_>) {
    let version = call.version();
    let out = &mut *call.out;
    encode::map(out, 7, version);
    encode::bulk(out, b"server");
    encode::bulk(out, b"redis");
    encode::bulk(out, b"version");
    encode::bulk(out, VERSION.as_bytes());
    encode::bulk(out, b"proto");
    encode::integer(out, if version == Version::Resp3 { 3 } else { 2 });
    encode::bulk(out, b"id");
    encode::integer(out, call.session.id.cast_signed());
    encode::bulk(out, b"mode");
    encode::bulk(out, b"standalone");
    encode::bulk(out, b"role");
    encode::bulk(out, b"master");
    encode::bulk(out, b"modules");
    encode::array(out, 0);
}

/// `AUTH [user] password`. The listener has one user, `default`.
pub(super) fn auth(call: &mut Call<'_>) {
    let (user, password): (&[u8], &[u8]) = match *call.args {
        [_, _] if call.context.listener.password.is_none() => return call.error(NO_PASSWORD),
        [_, password] => (b"default", password),
        [_, user, password] => (user, password),
        _ => return call.syntax_error(),
    };
    if accepts(call, user, password) {
        call.session.authenticated = true;
        call.ok();
    } else {
        call.error(WRONG_PASSWORD);
    }
}

/// Without a password the default user takes any, as in Redis.
fn accepts(call: &Call<'_>, user: &[u8], password: &[u8]) -> bool {
    let known = match &call.context.listener.password {
        Some(secret) => same(secret.reveal().as_bytes(), password),
        None => true,
    };
    known && user == b"default"
}

/// Compares without stopping at the first difference, so that the time taken
/// tells nothing of the secret but whether the length is right.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differing = secret
        .iter()
        .zip(given)
        .fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differing) == 0 && secret.len() == given.len()
}

pub(super) fn select(call: &mut Call<'_>) {
    match call.integer(1) {
        None => {}
        Some(0) => call.ok(),
        Some(_) => {
            call.error("ERR DB index is out of range: this proxy version serves database 0 alone");
        }
    }
}

/// Answered even to a client that has turned replies off, as it turns them on.
pub(super) fn reset(call: &mut Call<'_>) {
    call.muted = false;
    call.session.reset(call.context.listener.password.is_some());
    encode::simple(call.out, "RESET");
}

pub(super) fn quit(call: &mut Call<'_>) {
    call.ok();
    call.then = Then::Close;
}

/// As a server that is no cluster answers.
pub(super) fn cluster(call: &mut Call<'_>) {
    if call.subcommand().is_some() {
        call.error("ERR This instance has cluster support disabled");
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_whole_password_is_the_password() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"secre"));
        assert!(!same(b"secret", b"secrets"));
        assert!(!same(b"secret", b"Secret"));
        assert!(!same(b"secret", b""));
    }
}
