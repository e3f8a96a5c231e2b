//! Any bytes as a memcached server's: scanning stays within the buffer and
//! ends at the same byte however the bytes are cut; a beginning never means
//! something else than the whole.

#![no_main]

use emberline_protocol::memcache::{
    Got, KEY_MAX, Scanner, Verb, copy, got, is_error, outcome, restore_key, values,
};
use emberline_protocol::{Fetched, Scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, reply)) = data.split_first() else {
        return;
    };
    let whole = Scanner::default().feed(reply);

    let step = usize::from(cut) % 16 + 1;
    let mut scanner = Scanner::default();
    let (mut passed, mut fed) = (0, 0);
    let pieces = loop {
        if fed == reply.len() {
            break Ok(Scan::More(passed));
        }
        fed = (fed + step).min(reply.len());
        match scanner.feed(&reply[passed..fed]) {
            Ok(Scan::More(n)) => passed += n,
            Ok(Scan::Done(n)) => break Ok(Scan::Done(passed + n)),
            Err(error) => break Err(error),
        }
        assert!(passed <= fed);
    };
    assert_eq!(pieces, whole);

    let mut items = values(reply);
    let bytes: usize = items.by_ref().map(|item| item.bytes.len()).sum();
    assert_eq!(bytes + items.rest().len(), reply.len());
    let _ = is_error(reply);

    // Both readers of an `mg` reply's first line find the same length.
    let end = reply.iter().position(|&b| b == b'\n');
    let line = end.map_or(reply, |end| &reply[..=end]);
    if let (Some(Got::Value(len, _)), true) = (got(line), line.len() < 8192 && end.is_some()) {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed(line), Ok(Scan::More(line.len())));
        assert_eq!(scanner.body_missing(), len + 2);
    }

    for &verb in Verb::ALL {
        let early = outcome(verb, &reply[..reply.len().min(usize::from(cut))]);
        assert!(early.is_none() || early == outcome(verb, reply));
        let mut restored = Vec::new();
        restore_key(verb, line, b"key", false, &mut restored);
        assert!(restored.len() <= line.len() + KEY_MAX);
    }
    if let (Ok(Fetched::Found { copied, len }), Ok(_)) = (copy::fetched(reply), &whole) {
        assert_eq!(whole, Ok(Scan::Done(len)));
        assert!(copied.payload.end + 2 == len);
    }
});
