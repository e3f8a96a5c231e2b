//! `COMMAND`: what the commands of Redis 7.0 (and `HOTKEYS`) are, from the
//! protocol's table.
//!
//! All of them are listed, those included that this proxy refuses: clients
//! read the list for arity, flags and key positions, and a refusal explains
//! itself better than a missing entry.

use std::slice;

use emberline_protocol::redis::command::{
    Begin, COMMANDS, COUNT, Find, KeySpec, Subcommand, arity_ok, keys, lookup,
};
use emberline_protocol::redis::{Command, Version, encode};

use super::acl::in_category;
use super::call::{Call, suits};
use super::help;
use crate::glob;

pub(super) fn command(call: &mut Call<'_>) {
    if call.args.len() == 1 {
        return info_all(call);
    }
    match call.subcommand() {
        None => {}
        Some("count") => encode::integer(call.out, i64::from(COUNT as u16)),
        Some("info") => info(call),
        Some("docs") => docs(call),
        Some("list") => list(call),
        Some("getkeys") => get_keys(call, false),
        Some("getkeysandflags") => get_keys(call, true),
        Some(_) => call.lines(help::COMMAND),
    }
}

/// How many commands one request may ask about. Without an end a request of
/// a few megabytes would be answered with gigabytes.
const NAMES_MAX: usize = 1024;

/// The names that a request gives, unless they are too many.
fn names<'a>(call: &mut Call<'a>) -> Option<&'a [&'a [u8]]> {
    let names = &call.args[2..];
    if names.len() > NAMES_MAX {
        call.error("ERR too many command names: at most 1024 are described at once");
        return None;
    }
    Some(names)
}

/// A command or a subcommand: what `COMMAND` says of either.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    arity: i16,
    keys: (i16, i16, i16),
    flags: &'static [&'static str],
    categories: &'static [&'static str],
    tips: &'static [&'static str],
    key_specs: &'static [KeySpec],
    subcommands: &'static [Subcommand],
}

impl Entry {
    fn of(command: &'static Command) -> Entry {
        Entry {
            name: command.name,
            arity: command.arity,
            keys: (command.first_key, command.last_key, command.step),
            flags: command.flags,
            categories: command.categories,
            tips: command.tips,
            key_specs: command.key_specs,
            subcommands: command.subcommands,
        }
    }

    fn of_subcommand(sub: &'static Subcommand) -> Entry {
        Entry {
            name: sub.name,
            arity: sub.arity,
            keys: (sub.first_key, sub.last_key, sub.step),
            flags: sub.flags,
            categories: sub.categories,
            tips: sub.tips,
            key_specs: sub.key_specs,
            subcommands: &[],
        }
    }

    /// The entry of `get`, or of `client|list`.
    fn named(name: &[u8]) -> Option<Entry> {
        let mut words = name.splitn(2, |&byte| byte == b'|');
        let command = lookup(words.next()?)?;
        match words.next() {
            None => Some(Entry::of(command)),
            Some(word) => command.subcommand(word).map(Entry::of_subcommand),
        }
    }
}

fn info_all(call: &mut Call<'_>) {
    encode::array(call.out, COUNT);
    for command in &COMMANDS {
        describe(&Entry::of(command), call.session.version, call.out);
    }
}

fn info(call: &mut Call<'_>) {
    let Some(names) = names(call) else {
        return;
    };
    if names.is_empty() {
        return info_all(call);
    }
    let version = call.version();
    encode::array(call.out, names.len());
    for name in names {
        match Entry::named(name) {
            Some(entry) => describe(&entry, version, call.out),
            None => encode::null(call.out, version),
        }
    }
}

fn describe(entry: &Entry, version: Version, out: &mut Vec<u8>) {
    encode::array(out, 10);
    encode::bulk(out, entry.name.as_bytes());
    encode::integer(out, entry.arity.into());
    words(entry.flags, version, out);
    encode::integer(out, entry.keys.0.into());
    encode::integer(out, entry.keys.1.into());
    encode::integer(out, entry.keys.2.into());
    words(entry.categories, version, out);
    encode::set(out, entry.tips.len(), version);
    for tip in entry.tips {
        encode::bulk(out, tip.as_bytes());
    }
    encode::set(out, entry.key_specs.len(), version);
    for spec in entry.key_specs {
        describe_spec(spec, version, out);
    }
    if entry.subcommands.is_empty() {
        encode::set(out, 0, version);
    } else {
        // Redis lists no subcommands as a set and some as an array.
        encode::array(out, entry.subcommands.len());
    }
    for sub in entry.subcommands {
        // One level deep: a subcommand has none of its own.
        describe(&Entry::of_subcommand(sub), version, out);
    }
}

fn words(words: &[&str], version: Version, out: &mut Vec<u8>) {
    encode::set(out, words.len(), version);
    for word in words {
        encode::simple(out, word);
    }
}

fn describe_spec(spec: &KeySpec, version: Version, out: &mut Vec<u8>) {
    encode::map(out, if spec.notes.is_empty() { 3 } else { 4 }, version);
    if !spec.notes.is_empty() {
        encode::bulk(out, b"notes");
        encode::bulk(out, spec.notes.as_bytes());
    }
    encode::bulk(out, b"flags");
    words(spec.flags, version, out);
    encode::bulk(out, b"begin_search");
    match spec.begin {
        Begin::Index(at) => typed("index", &[("index", at)], version, out),
        Begin::Keyword(word, from) => {
            search("keyword", 2, version, out);
            encode::bulk(out, b"keyword");
            encode::bulk(out, word.as_bytes());
            number("startfrom", from, out);
        }
        Begin::Unknown => typed("unknown", &[], version, out),
    }
    encode::bulk(out, b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            let fields = [("lastkey", last), ("keystep", step), ("limit", limit)];
            typed("range", &fields, version, out);
        }
        Find::Keynum { index, first, step } => {
            let fields = [("keynumidx", index), ("firstkey", first), ("keystep", step)];
            typed("keynum", &fields, version, out);
        }
        Find::Unknown => typed("unknown", &[], version, out),
    }
}

/// `{type: kind, spec: {fields}}`, of numbers alone.
fn typed(kind: &str, fields: &[(&str, i16)], version: Version, out: &mut Vec<u8>) {
    search(kind, fields.len(), version, out);
    for (name, value) in fields {
        number(name, *value, out);
    }
}

fn search(kind: &str, fields: usize, version: Version, out: &mut Vec<u8>) {
    encode::map(out, 2, version);
    encode::bulk(out, b"type");
    encode::bulk(out, kind.as_bytes());
    encode::bulk(out, b"spec");
    encode::map(out, fields, version);
}

fn number(name: &str, value: i16, out: &mut Vec<u8>) {
    encode::bulk(out, name.as_bytes());
    encode::integer(out, value.into());
}

/// `COMMAND DOCS`: what the table knows; argument trees are left out, as no
/// client needs them to work. Names that are no command are left out, as in Redis.
fn docs(call: &mut Call<'_>) {
    let version = call.version();
    let Some(names) = names(call) else {
        return;
    };
    let out = &mut *call.out;
    if names.is_empty() {
        encode::map(out, COUNT, version);
        for command in &COMMANDS {
            document(command, version, out);
        }
        return;
    }
    let known: Vec<_> = names.iter().filter_map(|name| Doc::named(name)).collect();
    encode::map(out, known.len(), version);
    for doc in known {
        match doc {
            Doc::Command(command) => document(command, version, out),
            Doc::Subcommand(command, sub) => document_subcommand(command, sub, version, out),
        }
    }
}

enum Doc {
    Command(&'static Command),
    Subcommand(&'static Command, &'static Subcommand),
}

impl Doc {
    fn named(name: &[u8]) -> Option<Doc> {
        let mut words = name.splitn(2, |&byte| byte == b'|');
        let command = lookup(words.next()?)?;
        match words.next() {
            None => Some(Doc::Command(command)),
            Some(word) => Some(Doc::Subcommand(command, command.subcommand(word)?)),
        }
    }
}

fn document(command: &'static Command, version: Version, out: &mut Vec<u8>) {
    encode::bulk(out, command.name.as_bytes());
    let facts = [
        ("summary", command.summary.trim_end()),
        ("since", command.since),
        ("group", command.group),
    ];
    let container = !command.subcommands.is_empty();
    encode::map(out, facts.len() + usize::from(container), version);
    for (name, text) in facts {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, text.as_bytes());
    }
    if container {
        encode::bulk(out, b"subcommands");
        encode::map(out, command.subcommands.len(), version);
        for sub in command.subcommands {
            document_subcommand(command, sub, version, out);
        }
    }
}

fn document_subcommand(command: &Command, sub: &Subcommand, version: Version, out: &mut Vec<u8>) {
    encode::bulk(out, sub.name.as_bytes());
    encode::map(out, 1, version);
    encode::bulk(out, b"group");
    encode::bulk(out, command.group.as_bytes());
}

/// `COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN value]`, subcommands included.
fn list(call: &mut Call<'_>) {
    let names: Vec<&str> = match *call.args {
        [_, _] => all_names().collect(),
        [_, _, filterby, kind, value] if filterby.eq_ignore_ascii_case(b"filterby") => {
            if kind.eq_ignore_ascii_case(b"pattern") {
                let matches = |name: &&str| glob::matches_name(value, name.as_bytes());
                all_names().filter(matches).collect()
            } else if kind.eq_ignore_ascii_case(b"aclcat") {
                in_category(value).collect()
            } else if kind.eq_ignore_ascii_case(b"module") {
                Vec::new()
            } else {
                return call.syntax_error();
            }
        }
        _ => return call.syntax_error(),
    };
    encode::array(call.out, names.len());
    for name in names {
        encode::bulk(call.out, name.as_bytes());
    }
}

fn all_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|command| {
        let subcommands = command.subcommands.iter().map(|sub| sub.name);
        slice::from_ref(&command.name)
            .iter()
            .copied()
            .chain(subcommands)
    })
}

/// `COMMAND GETKEYS` and `GETKEYSANDFLAGS`: the keys of a request given in full.
fn get_keys(call: &mut Call<'_>, flags: bool) {
    let request = &call.args[2..];
    let Some((command, arity, specs)) = resolve(request) else {
        return call.error("ERR Invalid command specified");
    };
    if !specs.iter().any(is_of_keys) {
        return call.error("ERR The command has no key arguments");
    }
    let suits = match command.subcommands {
        [] => arity_ok(command, request.len()),
        _ => suits(arity, request.len()),
    };
    if !suits {
        return call.error("ERR Invalid number of arguments specified for command");
    }
    let mut found = Vec::new();
    let told = specs
        .iter()
        .all(|spec| positions(command, spec, request, &mut found));
    if !told {
        found.clear();
    }
    if found.is_empty() && !command.flags.contains(&"no_mandatory_keys") {
        return call.error("ERR Invalid arguments specified for command");
    }
    let version = call.version();
    encode::array(call.out, found.len());
    for (at, spec) in found {
        if flags {
            encode::array(call.out, 2);
            encode::bulk(call.out, request[at]);
            words(&flags_of(command, spec, request), version, call.out);
        } else {
            encode::bulk(call.out, request[at]);
        }
    }
}

/// Channels of sharded pub/sub are found like keys and are none.
fn is_of_keys(spec: &KeySpec) -> bool {
    !spec.flags.contains(&"not_key")
}

fn resolve(request: &[&[u8]]) -> Option<(&'static Command, i16, &'static [KeySpec])> {
    let command = lookup(request.first()?)?;
    if command.subcommands.is_empty() {
        return Some((command, command.arity, command.key_specs));
    }
    match request.get(1) {
        None => Some((command, command.arity, command.key_specs)),
        Some(word) => command
            .subcommand(word)
            .map(|sub| (command, sub.arity, sub.key_specs)),
    }
}

/// The keys that one specification finds, and whether the request tells them.
/// The protocol finds those of all specifications at once, so it is shown a
/// command that has this one alone.
fn positions(
    command: &Command,
    spec: &'static KeySpec,
    request: &[&[u8]],
    found: &mut Vec<(usize, &'static KeySpec)>,
) -> bool {
    let alone = Command {
        key_specs: slice::from_ref(spec),
        subcommands: &[],
        arity: -1,
        step: 0,
        ..*command
    };
    let mut at = Vec::new();
    let told = keys(&alone, request, &mut at).is_ok();
    found.extend(at.into_iter().map(|at| (at, spec)));
    told
}

/// What a request does to a key. Where that depends on the arguments
/// (`variable_flags`), they are looked at, as Redis does.
fn flags_of(command: &Command, spec: &KeySpec, request: &[&[u8]]) -> Vec<&'static str> {
    let has = |word: &[u8]| {
        request
            .iter()
            .skip(2)
            .any(|arg| arg.eq_ignore_ascii_case(word))
    };
    match command.name {
        "set" if !has(b"get") => vec!["OW", "update"],
        "bitfield" if !has(b"set") && !has(b"incrby") => vec!["RO", "access"],
        _ => {
            let flags = spec.flags.iter().copied();
            flags
                .filter(|flag| !matches!(*flag, "variable_flags" | "incomplete"))
                .collect()
        }
    }
}
