//! A request with another key, or with another time to live.
//!
//! Redis says a life in many ways: an option of `SET`, an argument of
//! `SETEX`, a moment for `EXPIREAT`, nothing at all for "for ever". What they
//! have in common is a *clause*, the arguments that say it:
//!
//! ```text
//!   SET k v NX EX 100 GET            SET k v            PERSIST k
//!              ------ 100 s                 - for ever          - for ever
//!   SET k v NX PX 10000 GET          SET k v PX 10000   PEXPIRE k 10000
//! ```
//!
//! A clause that a rule changes is written in milliseconds from now, whatever
//! it was, since the server's clock then counts and not the proxy's. Only to
//! compare a moment (`EXAT`) with a rule is the proxy's own clock asked.
//!
//! What is not changed: `KEEPTTL`, which says that the life is none of this
//! request's business; requests that a server will refuse (two lives, 0
//! seconds, an unknown option), which are passed on so that it does; and all
//! commands without a life, see [`carries_ttl`]. The patterns of `SORT .. BY`
//! and `GET` name keys that nobody can list, and are passed as they are.

use std::time::Duration;

use super::command::{Args, Command, KeyError, keys};
use super::{encode, framing};
use crate::edit::{Edit, TtlRule};

/// Whether a rule about lives can change this command.
///
/// All other writes pass unchanged, also those that create a key that lives
/// for ever: `INCR`, `MSET`, `SETNX`, `GETSET`, `HSET`, `LPUSH` and so on have
/// no place for a life, and a second command for it would not be atomic with
/// the first.
pub fn carries_ttl(command: &Command) -> bool {
    matches!(
        command.name,
        "set"
            | "setex"
            | "psetex"
            | "getex"
            | "expire"
            | "pexpire"
            | "expireat"
            | "pexpireat"
            | "persist"
            | "restore"
    )
}

/// Appends the request as it is to be sent: an array of bulk strings.
///
/// `now` is the wall clock, as the time since 1970 began. Every key of the
/// request is changed, so `MGET` of several keys stays one request. An error
/// means that the keys of the request cannot be told; then nothing has been
/// appended.
pub fn edit(
    command: &Command,
    args: &(impl Args + ?Sized),
    edit: &Edit,
    now: Duration,
    out: &mut Vec<u8>,
) -> Result<(), KeyError> {
    let mut places = Vec::new();
    if edit.key.is_some() {
        keys(command, args, &mut places)?;
        places.sort_unstable();
    }
    let change = edit
        .ttl
        .and_then(|rule| Change::of(command, args, rule, now));
    write(args, edit, &places, change, out);
    Ok(())
}

fn write(
    args: &(impl Args + ?Sized),
    edit: &Edit,
    places: &[usize],
    change: Option<Change>,
    out: &mut Vec<u8>,
) {
    let grown = change.as_ref().map_or(0, Change::added);
    let shrunk = change.as_ref().map_or(0, Change::removed);
    encode::array(out, (args.len() + grown).saturating_sub(shrunk));
    let mut renamed = Vec::new();
    for at in 0..=args.len() {
        if let Some(change) = change.as_ref().filter(|change| change.clause.at == at) {
            change.write(out);
        }
        if at == args.len() || change.as_ref().is_some_and(|change| change.replaces(at)) {
            continue;
        }
        let name = change.as_ref().and_then(|change| change.clause.name);
        match (at, name, edit.key) {
            (0, Some(name), _) => encode::bulk(out, name.as_bytes()),
            (_, _, Some(rename)) if places.binary_search(&at).is_ok() => {
                renamed.clear();
                rename(args.arg(at), &mut renamed);
                encode::bulk(out, &renamed);
            }
            _ => encode::bulk(out, args.arg(at)),
        }
    }
}

/// A clause that is to say another life.
struct Change {
    clause: Clause,
    millis: u128,
}

impl Change {
    fn of(
        command: &Command,
        args: &(impl Args + ?Sized),
        rule: TtlRule,
        now: Duration,
    ) -> Option<Change> {
        let clause = clause(command, args, now)?;
        let life = rule.apply(clause.life, Duration::from_millis(1))?;
        Some(Change {
            clause,
            millis: life.as_millis(),
        })
    }

    fn added(&self) -> usize {
        1 + usize::from(self.clause.option)
    }

    fn removed(&self) -> usize {
        self.clause.len + usize::from(self.clause.moot.is_some())
    }

    fn replaces(&self, at: usize) -> bool {
        let clause = &self.clause;
        (clause.at..clause.at + clause.len).contains(&at) || clause.moot == Some(at)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.clause.option {
            encode::bulk(out, b"PX");
        }
        encode::bulk(out, itoa::Buffer::new().format(self.millis).as_bytes());
    }
}

/// The arguments that say how long a key is to live.
#[derive(Clone, Copy)]
struct Clause {
    /// The first of them, or where they would stand.
    at: usize,
    /// How many they are.
    len: usize,
    /// What they say; `None` is for ever.
    life: Option<Duration>,
    /// Whether the word `PX` goes before the milliseconds.
    option: bool,
    /// The command that takes milliseconds, if it is another one.
    name: Option<&'static str>,
    /// Another argument that no longer holds: `ABSTTL`.
    moot: Option<usize>,
}

/// `None`: the request says nothing that may be changed.
fn clause(command: &Command, args: &(impl Args + ?Sized), now: Duration) -> Option<Clause> {
    let number = |unit, name| {
        let life = life(args.arg(2), unit, now)?;
        Some(Clause {
            at: 2,
            len: 1,
            life: Some(life),
            option: false,
            name,
            moot: None,
        })
    };
    match command.name {
        "set" => option(args, 3, &Options::SET, now),
        "getex" => option(args, 2, &Options::GETEX, now),
        "setex" => number(Unit::Seconds, Some("PSETEX")),
        "psetex" => number(Unit::Millis, None),
        "expire" => number(Unit::Seconds, Some("PEXPIRE")),
        "pexpire" => number(Unit::Millis, None),
        "expireat" => number(Unit::SecondsAt, Some("PEXPIRE")),
        "pexpireat" => number(Unit::MillisAt, Some("PEXPIRE")),
        "persist" if args.len() == 2 => Some(Clause {
            at: 2,
            len: 0,
            life: None,
            option: false,
            name: Some("PEXPIRE"),
            moot: None,
        }),
        "restore" => restored(args, now),
        _ => None,
    }
}

/// The options of a command that takes a life as one of them.
struct Options {
    /// Words without an argument that say nothing about the life.
    others: &'static [&'static [u8]],
    /// Whether the command may say `PERSIST`.
    persists: bool,
    /// Whether it makes the key live for ever if it says nothing.
    forever: bool,
}

impl Options {
    const SET: Options = Options {
        others: &[b"nx", b"xx", b"get"],
        persists: false,
        forever: true,
    };
    const GETEX: Options = Options {
        others: &[],
        persists: true,
        forever: false,
    };
}

fn option(
    args: &(impl Args + ?Sized),
    from: usize,
    options: &Options,
    now: Duration,
) -> Option<Clause> {
    let argc = args.len();
    let clause = |at, len, life| Clause {
        at,
        len,
        life,
        option: true,
        name: None,
        moot: None,
    };
    if argc < from {
        return None;
    }
    let mut found = None;
    let mut at = from;
    while at < argc {
        let word = args.arg(at);
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        let (len, said) = if let Some(unit) = Unit::of_option(word).filter(|_| at + 1 < argc) {
            let life = life(args.arg(at + 1), unit, now)?;
            (2, Some(clause(at, 2, Some(life))))
        } else if options.persists && is(b"persist") {
            (1, Some(clause(at, 1, None)))
        } else if options.others.iter().any(|other| is(other)) {
            (1, None)
        } else {
            // KEEPTTL, or something that the server will refuse.
            return None;
        };
        if said.is_some() && found.is_some() {
            return None;
        }
        found = found.or(said);
        at += len;
    }
    match options.forever {
        true => found.or(Some(clause(argc, 0, None))),
        false => found,
    }
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]`, where 0 is for ever.
fn restored(args: &(impl Args + ?Sized), now: Duration) -> Option<Clause> {
    let mut absolute = None;
    let mut at = 4;
    while at < args.len() {
        let option = args.arg(at);
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        at += match () {
            _ if is(b"idletime") || is(b"freq") => 2,
            // Said twice is not taken twice: the server decides.
            _ if is(b"absttl") && absolute.is_some() => return None,
            _ if is(b"absttl") => {
                absolute = Some(at);
                1
            }
            _ => 1,
        };
    }
    let unit = match absolute {
        Some(_) => Unit::MillisAt,
        None => Unit::Millis,
    };
    let life = match args.arg(2) {
        b"0" => None,
        number => Some(life(number, unit, now)?),
    };
    Some(Clause {
        at: 2,
        len: 1,
        life,
        option: false,
        name: None,
        moot: absolute,
    })
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Millis,
    SecondsAt,
    MillisAt,
}

impl Unit {
    fn of_option(word: &[u8]) -> Option<Unit> {
        let units: [(&[u8], Unit); 4] = [
            (b"ex", Unit::Seconds),
            (b"px", Unit::Millis),
            (b"exat", Unit::SecondsAt),
            (b"pxat", Unit::MillisAt),
        ];
        let found = units
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map(|&(_, unit)| unit)
    }
}

/// How long a number says that a key lives. `None` leaves it alone: no number,
/// at once or in the past, or so far off that Redis refuses it.
fn life(number: &[u8], unit: Unit, now: Duration) -> Option<Duration> {
    let number = framing::number(number)?;
    let now = i64::try_from(now.as_millis()).ok()?;
    let millis = match unit {
        Unit::Seconds | Unit::SecondsAt => number.checked_mul(1000)?,
        Unit::Millis | Unit::MillisAt => number,
    };
    let left = match unit {
        Unit::Seconds | Unit::Millis => {
            millis.checked_add(now)?;
            millis
        }
        Unit::SecondsAt | Unit::MillisAt => millis.checked_sub(now)?,
    };
    let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
    Some(Duration::from_millis(left))
}
