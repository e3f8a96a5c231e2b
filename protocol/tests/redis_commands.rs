//! The table of commands against `data/redis/commands.csv`.

#![allow(clippy::unwrap_used)]

use emberline_protocol::Kind;
use emberline_protocol::redis::command::{
    COMMANDS, COUNT, arity_ok, blocking, by_id, keys, lookup, single_key,
};
use emberline_protocol::redis::{Class, Command, FanOut, KeyError, Split};

/// The fields of one line; a quoted field may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

fn rows() -> Vec<Vec<String>> {
    let csv = include_str!("data/redis/commands.csv");
    csv.lines().skip(1).map(fields).collect()
}

fn class_name(class: Class) -> &'static [&'static str] {
    match class {
        Class::Single => &["single-key"],
        Class::SameShard => &[
            "multi-key same-shard",
            "single-key/multi-key; blocking with BLOCK",
        ],
        Class::Split(_) => &["multi-key splittable"],
        Class::Local => &["proxy-answered"],
        Class::FanOut(_) => &["fan-out & merge"],
        Class::Refused(_) => &["refused"],
        Class::Later(_) => &["connection-state", "connection-state (blocking)"],
    }
}

#[test]
fn the_table_says_what_the_csv_says() {
    let rows = rows();
    assert_eq!(rows.len(), COUNT);
    for (id, row) in rows.iter().enumerate() {
        let command = by_id(id as u16);
        assert_eq!(usize::from(command.id), id);
        assert_eq!(command.name, row[0]);
        let numbers = [
            command.arity,
            command.first_key,
            command.last_key,
            command.step,
        ];
        let numbers = numbers.map(|number| number.to_string());
        assert_eq!(numbers[..], row[1..5], "{}", row[0]);
        assert!(class_name(command.class).contains(&&*row[6]), "{}", row[0]);
        assert_eq!(command.movable, row[9] == "yes", "{}", row[0]);
        if row[10] == "write" {
            assert!(command.write, "{}", row[0]);
        }
        if row[10] == "read" {
            assert!(!command.write, "{}", row[0]);
        }
        assert_eq!(command.flags.join(" "), row[11], "{}", row[0]);
        let subcommands: Vec<_> = command
            .subcommands
            .iter()
            .map(|sub| sub.name.strip_prefix(&format!("{}|", row[0])).unwrap())
            .collect();
        assert_eq!(subcommands.join(" "), row[13], "{}", row[0]);
        assert_eq!(
            row[5].is_empty(),
            command.key_specs.is_empty(),
            "{}",
            row[0]
        );
    }
}

#[test]
fn every_command_is_found_by_its_name_in_any_case() {
    for command in &COMMANDS {
        let upper = command.name.to_ascii_uppercase();
        for name in [command.name, &upper] {
            assert_eq!(lookup(name.as_bytes()).unwrap().id, command.id);
        }
        let mut longer = upper.into_bytes();
        longer.push(b'X');
        assert!(lookup(&longer).is_none_or(|other| other.id != command.id));
    }
    for unknown in [
        "",
        "g",
        "ge",
        "GET ",
        "G\u{45}T\0",
        "nosuch",
        "get\u{20ac}",
        "a very long name that no command has",
    ] {
        assert!(lookup(unknown.as_bytes()).is_none(), "{unknown:?}");
    }
    // Bytes that only look alike when the bit 0x20 is set.
    assert!(lookup(b"restore\x0dasking").is_none());
}

fn check(name: &str, class: Class, kind: Kind) {
    let command = lookup(name.as_bytes()).unwrap();
    assert_eq!((command.class, command.kind), (class, kind), "{name}");
}

#[test]
fn classes_and_kinds() {
    check("get", Class::Single, Kind::Read);
    check("set", Class::Single, Kind::Write);
    check("incrby", Class::Single, Kind::Counter);
    check("expire", Class::Single, Kind::Touch);
    check("mget", Class::Split(Split::Mget), Kind::Read);
    check("mset", Class::Split(Split::Mset), Kind::Write);
    check("del", Class::Split(Split::Sum), Kind::Delete);
    check("touch", Class::Split(Split::Sum), Kind::Read);
    check("eval", Class::SameShard, Kind::Write);
    check("eval_ro", Class::SameShard, Kind::Read);
    check("xread", Class::SameShard, Kind::Read);
    check("flushdb", Class::FanOut(FanOut::FlushAll), Kind::Other);
    check("keys", Class::FanOut(FanOut::Concat), Kind::Other);
    check("hello", Class::Local, Kind::Other);
    assert!(lookup(b"flushall").unwrap().write);
    assert!(lookup(b"evalsha").unwrap().write);
}

#[test]
fn a_refusal_names_its_command_and_says_why() {
    for command in &COMMANDS {
        if let Class::Refused(text) | Class::Later(text) = command.class {
            assert!(
                text.starts_with(&command.name.to_ascii_uppercase()),
                "{text}"
            );
            assert!(text.contains(": ") || text.contains("without"), "{text}");
        }
    }
}

fn command(name: &str) -> &'static Command {
    lookup(name.as_bytes()).unwrap()
}

#[test]
fn the_one_key_of_a_single_command() {
    assert_eq!(single_key(command("get"), 2), Ok(1));
    assert_eq!(single_key(command("get"), 1), Err(KeyError::Arity("get")));
    assert_eq!(single_key(command("object"), 3), Ok(2));
    assert_eq!(
        single_key(command("object"), 2),
        Err(KeyError::NoKey("object"))
    );
    for command in &COMMANDS {
        if command.class == Class::Single && arity_ok(command, 9) {
            let args: Vec<&[u8]> = vec![b"1"; 9];
            let mut found = Vec::new();
            if keys(command, &args, &mut found).is_ok() && !found.is_empty() {
                assert_eq!(single_key(command, 9), Ok(found[0]), "{}", command.name);
            }
        }
    }
}

#[test]
fn only_requests_that_may_wait_are_blocking() {
    let check = |request: &str, expected| {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        assert_eq!(
            blocking(lookup(args[0]).unwrap(), &args),
            expected,
            "{request}"
        );
    };
    check("BLPOP a 0", true);
    check("XREAD BLOCK 0 STREAMS a $", true);
    check("XREAD COUNT 1 STREAMS block 0", false);
    check("XREADGROUP GROUP block c STREAMS a >", false);
    check("XREADGROUP GROUP g c COUNT 1 block 5 STREAMS a >", true);
    check("LPOP a", false);
}

#[test]
fn no_request_makes_key_search_panic() {
    let words: [&[u8]; 8] = [
        b"1",
        b"store",
        b"STREAMS",
        b"-1",
        b"",
        b"99999999999999999999",
        b"limit",
        b"create",
    ];
    let mut out = Vec::new();
    for command in &COMMANDS {
        for argc in 0..7 {
            for seed in 0..words.len() {
                let mut args: Vec<&[u8]> = (0..argc).map(|i| words[(seed + i * 3) % 8]).collect();
                if let Some(name) = args.first_mut() {
                    *name = command.name.as_bytes();
                }
                if keys(command, &args, &mut out).is_ok() {
                    assert!(
                        out.iter().all(|at| *at > 0 && *at < argc),
                        "{}",
                        command.name
                    );
                }
                blocking(command, &args);
            }
        }
    }
}
