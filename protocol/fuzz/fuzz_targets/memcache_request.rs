//! Any bytes as a memcached client's: parsing stays within the buffer, a split
//! changes nothing, and what is forwarded is the same request, not quiet.

#![no_main]

use emberline_protocol::memcache::{Limits, Parser, Recovery, RequestError, forward, key_ok};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        value_max: 64,
        line_max: 256,
        multiget_line_max: 512,
        ..Limits::default()
    };
    // A bare newline becomes a CRLF, which may be the byte too many.
    let roomy = Limits {
        line_max: 257,
        multiget_line_max: 513,
        ..limits.clone()
    };
    let (mut parser, mut again) = (Parser::default(), Parser::default());
    let mut rest = data;
    while !rest.is_empty() {
        let parsed = parser.parse(rest, &limits);
        let mut split = Parser::default();
        let first = split.parse(&rest[..rest.len() / 2], &limits);
        let second = if first == Ok(None) {
            split.parse(rest, &limits)
        } else {
            first
        };
        assert_eq!(second, parsed);

        let consumed = match &parsed {
            Ok(None) => return,
            Ok(Some(request)) => {
                let mut line = Vec::new();
                forward(&mut line, rest, request);
                let sent = again
                    .parse(&line, &roomy)
                    .expect("a forwarded line is a request");
                let sent = sent.expect("a forwarded line is whole");
                assert!(!sent.quiet && sent.head == line.len());
                assert_eq!(
                    (sent.verb, sent.body, sent.base64),
                    (request.verb, request.body, request.base64)
                );
                assert!(parser.keys(rest).eq(again.keys(&line)));
                assert!(parser.keys(rest).all(key_ok));
                request.len()
            }
            Err(RequestError {
                recovery: Recovery::Skip(n),
                ..
            }) => {
                assert!(*n <= rest.len());
                *n
            }
            Err(RequestError {
                recovery: Recovery::Swallow(n),
                ..
            }) => *n,
            Err(RequestError {
                recovery: Recovery::Close,
                ..
            }) => return,
        };
        assert!(consumed > 0);
        rest = &rest[consumed.min(rest.len())..];
    }
});
