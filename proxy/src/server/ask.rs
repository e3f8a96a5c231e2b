//! What routes have to know of a Redis command, for who carries it out and for
//! who explains it; `memcached` has the same of a memcached request.

pub mod memcached;

use emberline_protocol::redis::{Args, Command, reads_whole, takes_away};
use emberline_routing::Ask;

/// A command as one of its keys is routed by.
pub fn ask_of<'a>(command: &Command, args: &(impl Args + ?Sized), key: &'a [u8]) -> Ask<'a> {
    Ask {
        size: size_of(command, args),
        whole: reads_whole(command),
        removes: takes_away(command),
        conditional: is_conditional(command, args),
        ..Ask::new(key, command.kind)
    }
}

/// Whether what a write does or says depends on what the key has.
fn is_conditional(command: &Command, args: &(impl Args + ?Sized)) -> bool {
    let depends = |at: usize| {
        let words = [b"NX".as_slice(), b"XX", b"GET"];
        words
            .iter()
            .any(|word| args.arg(at).eq_ignore_ascii_case(word))
    };
    match command.name {
        "set" => (3..args.len()).any(depends),
        "setnx" | "getset" | "msetnx" => true,
        _ => false,
    }
}

/// The size of the value that takes the place of whatever the key has.
fn size_of(command: &Command, args: &(impl Args + ?Sized)) -> Option<usize> {
    let at = match command.name {
        "set" | "setnx" | "getset" => 2,
        "setex" | "psetex" => 3,
        _ => return None,
    };
    Some(args.arg(at).len())
}
