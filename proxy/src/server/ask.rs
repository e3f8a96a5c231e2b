//! What routes have to know of a Redis command, for who carries it out and for
//! who explains it; `memcached` has the same of a memcached request.

pub mod memcached;

use emberline_protocol::redis::request::Parser;
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

/// The same of a command of which no more than this beginning has come: both
/// of what it may turn out to be. They differ while options may follow that
/// make it conditional. None: not even the size of its value is known yet.
pub fn asks_of_beginning<'a>(
    command: &Command,
    (parser, bytes): (&Parser, &[u8]),
    key: &'a [u8],
) -> Option<[Ask<'a>; 2]> {
    let come = parser.len();
    let size = match value_at(command) {
        Some(at) if at < come => Some(parser.arg(bytes, at).len()),
        Some(at) if at == come => Some(parser.bulk_size()?),
        Some(_) => return None,
        None => None,
    };
    let ask = Ask {
        size,
        ..ask_of(command, &parser.request(bytes), key)
    };
    let options_follow = command.name == "set" && parser.args_announced() > come.max(3);
    let worst = Ask {
        conditional: ask.conditional || options_follow,
        ..ask
    };
    Some([ask, worst])
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
    Some(args.arg(value_at(command)?).len())
}

/// Which argument that value is.
fn value_at(command: &Command) -> Option<usize> {
    match command.name {
        "set" | "setnx" | "getset" => Some(2),
        "setex" | "psetex" => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emberline_protocol::redis::command;
    use emberline_protocol::redis::request::{Limits, Step};

    /// What is known when so much has come: the size, and whether it is
    /// conditional, at best and at worst.
    #[track_caller]
    fn check(beginning: &str, expected: Option<(Option<usize>, [bool; 2])>) {
        let mut parser = Parser::default();
        let bytes = beginning.as_bytes();
        let step = parser.parse(bytes, &Limits::default()).unwrap();
        assert_eq!(step, Step::Partial, "{beginning}");
        let command = command::lookup(parser.arg(bytes, 0)).unwrap();
        let asks = asks_of_beginning(command, (&parser, bytes), b"k");
        let known = asks.map(|asks| {
            assert_eq!(asks[0].size, asks[1].size, "{beginning}");
            (asks[0].size, asks.map(|ask| ask.conditional))
        });
        assert_eq!(known, expected, "{beginning:?}");
    }

    #[test]
    fn what_has_not_come_is_not_guessed() {
        const SET: &str = "\r\n$3\r\nSET\r\n$1\r\nk\r\n";
        check(&format!("*3{SET}"), None);
        check(&format!("*3{SET}$90"), None);
        check(&format!("*3{SET}$90\r\n"), Some((Some(90), [false; 2])));
        let open = Some((Some(90), [false, true]));
        check(&format!("*5{SET}$90\r\nvv"), open);
        let value = format!("{SET}$2\r\nvv\r\n");
        let open = Some((Some(2), [false, true]));
        check(&format!("*4{value}"), open);
        check(&format!("*5{value}$2\r\nEX\r\n$2\r\n"), open);
        let known = Some((Some(2), [true; 2]));
        check(&format!("*5{value}$2\r\nnx\r\n"), known);
        check(&format!("*6{value}$2\r\nEX\r\n$1\r\n9\r\n"), open);
        let setnx = "*3\r\n$5\r\nSETNX\r\n$1\r\nk\r\n$7\r\n";
        check(setnx, Some((Some(7), [true; 2])));
        let setex = "*4\r\n$5\r\nSETEX\r\n$1\r\nk\r\n$1\r\n9\r\n";
        check(setex, None);
        check(&format!("{setex}$8\r\n1234"), Some((Some(8), [false; 2])));
        let append = "*3\r\n$6\r\nAPPEND\r\n$1\r\nk\r\n$7\r\n";
        check(append, Some((None, [false; 2])));
    }
}
