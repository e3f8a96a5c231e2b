//! Broken and hostile input: a clear error, no panic, no memory for what was only announced.

#![allow(clippy::unwrap_used)]

mod redis_pieces;

use emberline_protocol::redis::{Limits, ReplyError, RequestError};
use redis_pieces::{every, flow, parse, scan};

fn refused(stream: &[u8]) -> RequestError {
    let limits = Limits::default();
    let error = parse(stream, &limits, every(stream.len())).end.unwrap_err();
    let piece = if stream.len() > 4096 { 777 } else { 1 };
    assert_eq!(parse(stream, &limits, every(piece)).end, Err(error));
    assert_eq!(flow(stream, &limits, every(piece)).end, Err(error));
    error
}

fn scanned(stream: &[u8]) -> Result<usize, ReplyError> {
    let whole = scan(stream, every(stream.len()));
    let piece = if stream.len() > 4096 { 777 } else { 1 };
    assert_eq!(scan(stream, every(piece)), whole);
    whole.end
}

#[test]
fn nesting_in_a_request_is_no_argument() {
    assert_eq!(
        refused(&b"*1\r\n".repeat(100_000)),
        RequestError::ExpectedBulk(b'*')
    );
}

#[test]
fn nesting_in_a_reply_ends_at_the_depth_limit() {
    for header in ["*1\r\n", "%1\r\n", "~1\r\n", ">1\r\n", "|1\r\n", "*?\r\n"] {
        let at_limit = [header.repeat(128), ":1\r\n".into()].concat();
        assert_eq!(
            scanned(&header.repeat(100_000).into_bytes()),
            Err(ReplyError::TooDeep)
        );
        assert!(scanned(at_limit.as_bytes()).is_ok(), "{header:?}");
    }
    let mixed = "*1\r\n%1\r\n~1\r\n>1\r\n|1\r\n".repeat(20_000);
    assert_eq!(scanned(mixed.as_bytes()), Err(ReplyError::TooDeep));
}

#[test]
fn counts_that_nobody_can_mean_are_refused_before_anything_is_allocated() {
    for count in [
        "*2000000000",
        "*4294967295",
        "*+3",
        "*03",
        "*9223372036854775808",
    ] {
        let line = format!("{count}\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            RequestError::MultibulkLength,
            "{count}"
        );
    }
    for size in [
        "$9223372036854775807",
        "$-2",
        "$-1",
        "$+3",
        "$03",
        "$536870913",
    ] {
        let line = format!("*1\r\n{size}\r\n");
        assert_eq!(refused(line.as_bytes()), RequestError::BulkLength, "{size}");
    }
    for header in [
        "*2000000000",
        "*4294967295",
        "%2147483648",
        "%9223372036854775807",
    ] {
        let line = format!("{header}\r\n");
        assert_eq!(
            scanned(line.as_bytes()),
            Err(ReplyError::TooManyElements),
            "{header}"
        );
    }
    for header in [
        "$9223372036854775807",
        "$-2",
        "$+3",
        "$03",
        "*-2",
        "%-1",
        "*",
        "$",
        "_?",
        "$12a",
    ] {
        let line = format!("{header}\r\n");
        let end = scanned(line.as_bytes());
        assert!(
            end == Err(ReplyError::Length) || header == "_?",
            "{header}: {end:?}"
        );
    }
}

#[test]
fn nested_maximum_counts_share_one_budget() {
    let budget = "*536870912\r\n*536870911\r\n";
    assert!(scanned(budget.as_bytes()).is_ok());
    let over = format!("{budget}*2\r\n");
    assert_eq!(scanned(over.as_bytes()), Err(ReplyError::TooManyElements));
}

#[test]
fn a_new_reply_has_a_new_budget() {
    let mut scanner = emberline_protocol::redis::Scanner::default();
    for _ in 0..3 {
        assert!(scanner.feed(b"*1000000000\r\n:1\r\n").is_ok());
        scanner.reset();
    }
}

#[test]
fn plain_lines_with_unbalanced_quotes() {
    for line in [
        "GET \"x\\x4\r\n",
        "GET \"x\r\n",
        "GET 'x\r\n",
        "GET \"x\"y\r\n",
        "\"\n",
        "'\\'\n",
    ] {
        assert_eq!(
            refused(line.as_bytes()),
            RequestError::UnbalancedQuotes,
            "{line}"
        );
    }
    // This one is well formed: without two hexadecimal digits `\x` is an `x`.
    let found = parse(b"GET \"x\\x4\"\r\n", &Limits::default(), every(1));
    assert_eq!(found.items[0].1, [b"GET".to_vec(), b"xx4".to_vec()]);
}

#[test]
fn a_line_of_64_kib_without_an_end() {
    assert_eq!(refused(&[b'x'; 65_537]), RequestError::InlineTooBig);
    let longest = [&[b'x'; 65_536][..], b"\n"].concat();
    let found = parse(&longest, &Limits::default(), every(1000));
    assert_eq!((found.items.len(), found.end), (1, Ok(0)));
}

#[test]
fn http_is_closed_without_an_answer() {
    for line in [
        "POST / HTTP/1.1\r\n",
        "Host: localhost\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n",
    ] {
        assert_eq!(
            refused(line.as_bytes()),
            RequestError::HttpRequest,
            "{line}"
        );
    }
}

#[test]
fn a_tls_client_hello_is_refused_at_once() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_eq!(refused(hello), RequestError::InlineNul);
}

#[test]
fn garbage_from_a_server_is_an_error() {
    for garbage in [
        "HTTP/1.1 200 OK\r\n",
        "\r\n",
        "$3\r\nabcde",
        ".\r\n",
        ";1\r\n",
        "*1\r\nx",
        "$?\r\n+a\r\n",
    ] {
        assert!(scanned(garbage.as_bytes()).is_err(), "{garbage:?}");
    }
    let long_header = format!("${}", "1".repeat(64));
    assert_eq!(scanned(long_header.as_bytes()), Err(ReplyError::Length));
}
