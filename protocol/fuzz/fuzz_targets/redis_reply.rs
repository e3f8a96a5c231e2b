//! Redis replies: they end at the same places however the stream is cut; no
//! more is consumed than came; an array comes apart into elements that are
//! replies themselves; a whole reply means something, and its beginning the
//! same or nothing yet.

#![no_main]

use emberline_protocol::redis::command::COMMANDS;
use emberline_protocol::redis::copy;
use emberline_protocol::redis::outcome;
use emberline_protocol::redis::reply::{ReplyError, Scanner, elements, integer, is_error, skip};
use emberline_protocol::{Fetched, Kind, Scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&piece, stream)) = input.split_first() else {
        return;
    };
    let whole = scan(stream, stream.len().max(1));
    assert_eq!(scan(stream, usize::from(piece).max(1)), whole);
    let mut rest = stream;
    for len in whole.0 {
        let (reply, behind) = rest.split_at(len);
        rest = behind;
        assert_eq!(skip(reply), Ok(Some(len)));
        assert!(integer(reply).is_none() || !is_error(reply));
        if let Ok(mut elements) = elements(reply) {
            let announced = elements.len();
            assert_eq!(elements.by_ref().count(), announced);
        }
        let command = COMMANDS.get(usize::from(piece));
        for kind in [Kind::Read, Kind::Write, Kind::Delete, Kind::Other] {
            let meant = outcome(command, kind, reply);
            let early = outcome(command, kind, &reply[..len / 2]);
            assert!(meant.is_some() && (early.is_none() || early == meant));
        }
    }
    if let Ok(Fetched::Found { copied, len }) = copy::fetched(stream) {
        assert!(copied.payload.end + 2 == len && len <= stream.len());
    }
});

fn scan(stream: &[u8], piece: usize) -> (Vec<usize>, Result<usize, ReplyError>) {
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    let (mut start, mut passed, mut come) = (0, 0, 0);
    while come < stream.len() {
        come = (come + piece).min(stream.len());
        while passed < come {
            match scanner.feed(&stream[passed..come]) {
                Ok(Scan::Done(len)) => {
                    assert!(len > 0 && len <= come - passed);
                    passed += len;
                    found.push(passed - start);
                    start = passed;
                }
                Ok(Scan::More(len)) => {
                    assert!(len <= come - passed);
                    passed += len;
                    break;
                }
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(come - start))
}
