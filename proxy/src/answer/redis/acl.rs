//! `ACL`: there is one user, `default`, who may do everything that the
//! listener lets through. Nothing about users can be changed here.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use emberline_protocol::redis::command::COMMANDS;
use emberline_protocol::redis::encode;

use super::call::{Call, integer};
use super::help;
use super::refuse;

/// Every category, in the order that Redis lists them.
const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const GENPASS_RANGE: &str = "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096";

pub(super) fn acl(call: &mut Call<'_>) {
    match call.subcommand() {
        None => {}
        Some("whoami") => encode::bulk(call.out, b"default"),
        Some("users") => {
            encode::array(call.out, 1);
            encode::bulk(call.out, b"default");
        }
        Some("list") => list(call),
        Some("cat") => cat(call),
        Some("genpass") => genpass(call),
        Some("help") => call.lines(help::ACL),
        Some(_) => call.refuse("its one user comes from its configuration file"),
    }
}

/// The password's digest is left out: it would let a client guess offline.
fn list(call: &mut Call<'_>) {
    let line: &[u8] = match call.context.listener.password {
        Some(_) => b"user default on ~* &* +@all",
        None => b"user default on nopass ~* &* +@all",
    };
    encode::array(call.out, 1);
    encode::bulk(call.out, line);
}

fn cat(call: &mut Call<'_>) {
    match *call.args {
        [_, _] => {
            encode::array(call.out, CATEGORIES.len());
            for category in CATEGORIES {
                encode::bulk(call.out, category.as_bytes());
            }
        }
        [_, _, wanted] => {
            let known = |category: &&str| category.as_bytes().eq_ignore_ascii_case(wanted);
            match CATEGORIES.into_iter().find(|category| known(category)) {
                Some(category) => members(category, call),
                None => {
                    refuse::quoting("ERR Unknown category '", wanted, "'", call.out);
                }
            }
        }
        _ => {
            let text =
                "ERR unknown subcommand or wrong number of arguments for 'cat'. Try ACL HELP.";
            call.error(text);
        }
    }
}

fn members(category: &str, call: &mut Call<'_>) {
    let names: Vec<&str> = in_category(category.as_bytes()).collect();
    encode::array(call.out, names.len());
    for name in names {
        encode::bulk(call.out, name.as_bytes());
    }
}

/// The commands and subcommands of a category, which is given without its `@`.
pub(super) fn in_category(category: &[u8]) -> impl Iterator<Item = &'static str> {
    let is_in = move |categories: &[&str]| {
        let mut names = categories.iter().filter_map(|name| name.strip_prefix('@'));
        names.any(|name| name.as_bytes().eq_ignore_ascii_case(category))
    };
    COMMANDS.iter().flat_map(move |command| {
        let own = is_in(command.categories).then_some(command.name);
        let subcommands = command.subcommands.iter();
        let subcommands =
            subcommands.filter_map(move |sub| is_in(sub.categories).then_some(sub.name));
        own.into_iter().chain(subcommands)
    })
}

/// A random password in hexadecimal, four bits to a digit.
fn genpass(call: &mut Call<'_>) {
    let bits = match call.args.get(2) {
        None => 256,
        Some(_) if call.args.len() > 3 => {
            return refuse::wrong_subcommand(call.command, call.args[1], call.out);
        }
        Some(bits) => match integer(bits) {
            Some(bits @ 1..=4096) => bits.unsigned_abs() as usize,
            Some(_) => return call.error(GENPASS_RANGE),
            None => return call.error("ERR value is not an integer or out of range"),
        },
    };
    let digits = bits.div_ceil(4);
    let mut random = [0; 512];
    let random = &mut random[..digits.div_ceil(2)];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(random));
    if read.is_err() {
        return call.error("ERR no source of random numbers can be read");
    }
    let mut password = String::with_capacity(digits + 1);
    for byte in random {
        // Writing to a String cannot fail.
        let _ = write!(password, "{byte:02x}");
    }
    encode::bulk(call.out, &password.as_bytes()[..digits]);
}
