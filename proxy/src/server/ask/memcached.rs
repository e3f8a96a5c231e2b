//! The same of a memcached request: some of it stands in the flags of its line.

use emberline_protocol::memcache::{Request, Verb, flags};
use emberline_routing::Ask;

/// A request as one of its keys is routed by. `line` is its line, without the
/// data block.
pub fn ask_of<'a>(request: &Request, line: &[u8], key: &'a [u8]) -> Ask<'a> {
    let verb = request.verb;
    Ask {
        size: request.body.filter(|_| replaces(verb, line)),
        conditional: is_conditional(verb, line),
        numbered: is_numbered(verb, line),
        lives: lives(verb, line),
        ..Ask::new(key, verb.kind())
    }
}

/// Whether its data block takes the place of whatever the key has.
fn replaces(verb: Verb, line: &[u8]) -> bool {
    let joins = |(flag, mode): (u8, &[u8])| {
        flag == b'M' && matches!(mode.first(), Some(b'A' | b'a' | b'P' | b'p'))
    };
    match verb {
        Verb::Set | Verb::Add | Verb::Replace | Verb::Cas => true,
        Verb::MetaSet => !flags(line, verb).any(joins),
        _ => false,
    }
}

/// Whether it stores only if the item is, or is not, as the client says.
fn is_conditional(verb: Verb, line: &[u8]) -> bool {
    let depends = |(flag, mode): (u8, &[u8])| match flag {
        b'C' => true,
        b'M' => !matches!(mode.first(), Some(b'S' | b's')),
        _ => false,
    };
    match verb {
        Verb::Add | Verb::Replace | Verb::Cas => true,
        Verb::MetaSet => replaces(verb, line) && flags(line, verb).any(depends),
        _ => false,
    }
}

/// Whether it reads the unique number of a value to be compared later, or
/// compares it.
fn is_numbered(verb: Verb, line: &[u8]) -> bool {
    let says = |wanted| flags(line, verb).any(|(flag, _)| flag == wanted);
    match verb {
        Verb::Gets | Verb::Cas => true,
        Verb::MetaGet => says(b'c'),
        Verb::MetaSet | Verb::MetaDelete | Verb::MetaArithmetic => says(b'C'),
        _ => false,
    }
}

/// Whether it says a time to live, and is no write: `ma` and `mg` with `N` or
/// `T`.
fn lives(verb: Verb, line: &[u8]) -> bool {
    matches!(verb, Verb::MetaGet | Verb::MetaArithmetic)
        && flags(line, verb).any(|(flag, _)| matches!(flag, b'N' | b'T'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use emberline_protocol::memcache::{Limits, Parser};

    /// What a route learns of this line, a word each.
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let bytes = format!("{line}\r\n");
        let parsed = Parser::default().parse(bytes.as_bytes(), &Limits::default());
        let request = parsed.unwrap().unwrap();
        let ask = ask_of(&request, bytes.as_bytes(), b"k");
        let size = ask.size.map(|size| format!("size={size}"));
        let words = [
            (ask.conditional, "conditional"),
            (ask.numbered, "numbered"),
            (ask.lives, "lives"),
        ];
        let words = words.into_iter().filter(|(is, _)| *is);
        let said: Vec<String> = words.map(|(_, word)| word.to_owned()).collect();
        let said: Vec<String> = size.into_iter().chain(said).collect();
        assert_eq!(said.join(" "), expected, "{line}");
    }

    #[test]
    fn the_line_says_what_routes_go_by() {
        check("get k", "");
        check("gets k", "numbered");
        check("set k 0 0 5", "size=5");
        check("add k 0 0 5", "size=5 conditional");
        check("append k 0 0 5", "");
        check("cas k 0 0 5 7", "size=5 conditional numbered");
        check("delete k", "");
        check("mg k v", "");
        check("mg k v c", "numbered");
        check("mg k v N30", "lives");
        check("ma k N30", "lives");
        check("ma k C7", "numbered");
        check("md k C7", "numbered");
        check("ms k 5", "size=5");
        check("ms k 5 MS", "size=5");
        check("ms k 5 ME", "size=5 conditional");
        check("ms k 5 MA", "");
        check("ms k 5 C7", "size=5 conditional numbered");
    }
}
