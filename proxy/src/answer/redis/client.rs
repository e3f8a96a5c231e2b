//! `CLIENT`: a client asks about its own connection.
//!
//! Workers share nothing, so that no connection sees another: `LIST` shows
//! the asking one, `KILL` reaches it alone, and what would slow down or spy on
//! others (`PAUSE`, `TRACKING`) is refused.

use emberline_protocol::redis::{Version, encode};

use super::super::Then;
use super::call::Call;
use super::help;
use super::refuse;
use super::session::Reply;
use crate::running::Bind;

pub(super) const NAME_ERROR: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

pub(super) fn client(call: &mut Call<'_>) {
    // Newer than 7.0, but today's clients send them first of all.
    if call.args[1].eq_ignore_ascii_case(b"setinfo") {
        return set_info(call);
    }
    if call.args[1].eq_ignore_ascii_case(b"no-touch") {
        return no_touch(call);
    }
    let Some(subcommand) = call.subcommand() else {
        return;
    };
    match subcommand {
        "id" => encode::integer(call.out, call.session.id.cast_signed()),
        "getname" => name(call),
        "setname" => set_name(call),
        "info" => {
            let line = line(call);
            encode::verbatim(call.out, &line, call.session.version);
        }
        "list" => list(call),
        "kill" => kill(call),
        "reply" => reply(call),
        "no-evict" => on_off(call),
        "getredir" => encode::integer(call.out, -1),
        "trackinginfo" => tracking_info(call),
        "tracking" => tracking(call),
        "caching" => call.error(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ),
        // Nothing is ever paused.
        "unpause" => call.ok(),
        "pause" => call.refuse("it would stop every client of every pool"),
        "unblock" => unblock(call),
        "help" => call.lines(help::CLIENT),
        _ => call.refuse("it has no meaning between a client and several servers"),
    }
}

/// Whether these bytes may be a name: printable ASCII without spaces.
pub(super) fn name_ok(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

fn name(call: &mut Call<'_>) {
    match call.session.name() {
        [] => encode::null(call.out, call.session.version),
        name => encode::bulk(call.out, name),
    }
}

fn set_name(call: &mut Call<'_>) {
    if !name_ok(call.args[2]) {
        return call.error(NAME_ERROR);
    }
    call.session.set_name(call.args[2]);
    call.ok();
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`.
fn set_info(call: &mut Call<'_>) {
    let [_, _, what, value] = *call.args else {
        return refuse::arity("client|setinfo", call.out);
    };
    let (library, word) = if what.eq_ignore_ascii_case(b"lib-name") {
        (true, "lib-name")
    } else if what.eq_ignore_ascii_case(b"lib-ver") {
        (false, "lib-ver")
    } else {
        return refuse::quoting("ERR Unrecognized option '", what, "'", call.out);
    };
    if !name_ok(value) {
        let text = format!("ERR {word} cannot contain spaces, newlines or special characters.");
        return call.error(&text);
    }
    let rare = call.session.rare();
    if library {
        rare.library = value.into();
    } else {
        rare.library_version = value.into();
    }
    call.ok();
}

/// Nothing is evicted and nothing is touched on a client's behalf, so that
/// either way of it is already so.
fn no_touch(call: &mut Call<'_>) {
    if call.args.len() == 3 {
        on_off(call);
    } else {
        refuse::arity("client|no-touch", call.out);
    }
}

fn on_off(call: &mut Call<'_>) {
    let word = call.args[2];
    if word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"off") {
        call.ok();
    } else {
        call.syntax_error();
    }
}

fn reply(call: &mut Call<'_>) {
    let word = call.args[2];
    if word.eq_ignore_ascii_case(b"on") {
        call.session.reply = Reply::On;
        call.muted = false;
        call.ok();
    } else if word.eq_ignore_ascii_case(b"off") {
        call.session.reply = Reply::Off;
    } else if word.eq_ignore_ascii_case(b"skip") {
        if call.session.reply != Reply::Off {
            call.session.reply = Reply::Skip;
        }
    } else {
        call.syntax_error();
    }
}

fn tracking(call: &mut Call<'_>) {
    let word = call.args[2];
    if word.eq_ignore_ascii_case(b"on") {
        call.refuse("it does not pass invalidations on to clients");
    } else if word.eq_ignore_ascii_case(b"off") {
        call.ok();
    } else {
        call.syntax_error();
    }
}

fn tracking_info(call: &mut Call<'_>) {
    let version = call.version();
    let out = &mut *call.out;
    encode::map(out, 3, version);
    encode::bulk(out, b"flags");
    encode::set(out, 1, version);
    encode::bulk(out, b"off");
    encode::bulk(out, b"redirect");
    encode::integer(out, -1);
    encode::bulk(out, b"prefixes");
    encode::array(out, 0);
}

fn unblock(call: &mut Call<'_>) {
    match call.args.get(3) {
        Some(why)
            if !why.eq_ignore_ascii_case(b"timeout") && !why.eq_ignore_ascii_case(b"error") =>
        {
            call.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        }
        _ if call.args.len() > 4 => {
            refuse::wrong_subcommand(call.command, call.args[1], call.out);
        }
        _ => {
            if call.integer(2).is_some() {
                encode::integer(call.out, 0);
            }
        }
    }
}

fn list(call: &mut Call<'_>) {
    let args = call.args;
    let listed = match args {
        [_, _] => true,
        [_, _, word, kind] if word.eq_ignore_ascii_case(b"type") => match is_normal(kind) {
            Some(normal) => normal,
            None => return unknown_type(call, kind),
        },
        [_, _, word, ids @ ..] if word.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let mut named = false;
            for id in ids {
                match super::call::integer(id) {
                    Some(id) => named |= id == call.session.id.cast_signed(),
                    None => return call.error("ERR Invalid client ID"),
                }
            }
            named
        }
        _ => return call.syntax_error(),
    };
    let text = if listed { line(call) } else { Vec::new() };
    encode::verbatim(call.out, &text, call.session.version);
}

/// Whether a `TYPE` filter admits ordinary clients; `None` if there is no such type.
fn is_normal(kind: &[u8]) -> Option<bool> {
    let known: [&[u8]; 4] = [b"master", b"replica", b"slave", b"pubsub"];
    if kind.eq_ignore_ascii_case(b"normal") {
        Some(true)
    } else if known.iter().any(|word| kind.eq_ignore_ascii_case(word)) {
        Some(false)
    } else {
        None
    }
}

fn unknown_type(call: &mut Call<'_>, kind: &[u8]) {
    refuse::quoting("ERR Unknown client type '", kind, "'", call.out);
}

/// `CLIENT KILL address`, or filters that must all hold.
fn kill(call: &mut Call<'_>) {
    let killed = if let [_, _, address] = *call.args {
        peer(call).as_bytes() == address
    } else {
        match matches_filters(call) {
            Some(matches) => matches,
            None => return,
        }
    };
    if killed {
        call.then = Then::Close;
    }
    if call.args.len() > 3 {
        encode::integer(call.out, i64::from(killed));
    } else if killed {
        call.ok();
    } else {
        call.error("ERR No such client");
    }
}

fn matches_filters(call: &mut Call<'_>) -> Option<bool> {
    let (mut matches, mut skip_me) = (true, true);
    for filter in call.args[2..].chunks(2) {
        let &[word, value] = filter else {
            call.syntax_error();
            return None;
        };
        if word.eq_ignore_ascii_case(b"id") {
            match super::call::integer(value) {
                Some(id) if id > 0 => matches &= id == call.session.id.cast_signed(),
                _ => {
                    call.error("ERR client-id should be greater than 0");
                    return None;
                }
            }
        } else if word.eq_ignore_ascii_case(b"type") {
            match is_normal(value) {
                Some(normal) => matches &= normal,
                None => {
                    unknown_type(call, value);
                    return None;
                }
            }
        } else if word.eq_ignore_ascii_case(b"addr") {
            matches &= peer(call).as_bytes() == value;
        } else if word.eq_ignore_ascii_case(b"laddr") {
            matches &= local(call).as_bytes() == value;
        } else if word.eq_ignore_ascii_case(b"user") {
            if value != b"default" {
                refuse::quoting("ERR No such user '", value, "'", call.out);
                return None;
            }
        } else if word.eq_ignore_ascii_case(b"skipme") && value.eq_ignore_ascii_case(b"yes") {
            skip_me = true;
        } else if word.eq_ignore_ascii_case(b"skipme") && value.eq_ignore_ascii_case(b"no") {
            skip_me = false;
        } else {
            call.syntax_error();
            return None;
        }
    }
    Some(matches && !skip_me)
}

/// This connection as `CLIENT LIST` prints it. Fields that only a server has
/// are zero, and stay because clients read them by name.
fn line(call: &Call<'_>) -> Vec<u8> {
    let session = &*call.session;
    let age = call.context.now.saturating_sub(session.created) / 1000;
    let flags = if session.peer.is_none() { "U" } else { "N" };
    let version = if session.version == Version::Resp3 {
        3
    } else {
        2
    };
    let command = if call.args[1].eq_ignore_ascii_case(b"info") {
        "client|info"
    } else {
        "client|list"
    };
    let rare = session.rare.as_deref();
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"")).into_owned();
    format!(
        "id={} addr={} laddr={} fd=0 name={} age={age} idle=0 flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 \
         qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
         events=r cmd={command} user=default redir=-1 resp={version} lib-name={} lib-ver={}\n",
        session.id,
        peer(call),
        local(call),
        text(Some(session.name())),
        text(rare.map(|rare| &*rare.library)),
        text(rare.map(|rare| &*rare.library_version)),
    )
    .into_bytes()
}

fn peer(call: &Call<'_>) -> String {
    match call.session.peer {
        Some(address) => address.to_string(),
        None => local(call),
    }
}

fn local(call: &Call<'_>) -> String {
    match &call.context.listener.bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("{}:0", path.display()),
    }
}
