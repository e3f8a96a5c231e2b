//! Redis replies: they end at the same places however the stream is cut; no
//! more is consumed than came; an array comes apart into elements that are
//! replies themselves.

#![no_main]

use emberline_protocol::Scan;
use emberline_protocol::redis::reply::{ReplyError, Scanner, elements, integer, is_error, skip};
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
