//! Hostile and broken memcached input: an error that keeps the stream in step
//! or a closed connection, and never a line that a server reads differently.

#![allow(clippy::unwrap_used)]

mod memcache_support;

use emberline_protocol::Scan;
use emberline_protocol::memcache::{
    Limits, Parser, Recovery, ReplyError, RequestError, Scanner, Verb, forward, fragment, values,
};
use memcache_support::{proxy, unescape};

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";

/// Parses what begins `client`, which must be refused.
fn refused(client: &str) -> (String, Recovery) {
    let client = unescape(client);
    let RequestError { reply, recovery } = Parser::default()
        .parse(&client, &Limits::default())
        .expect_err(&client.escape_ascii().to_string());
    (reply.into_owned(), recovery)
}

/// What the client reads, from a server that says `OK` to every line.
fn answer(client: &str) -> String {
    let answer = proxy(&unescape(client), &Limits::default(), |_, _| {
        b"OK\r\n".to_vec()
    });
    answer.escape_ascii().to_string()
}

#[test]
fn a_bare_newline_is_an_error_and_nothing_more() {
    assert_eq!(answer(r"\n\nversion\n"), r"ERROR\r\nERROR\r\nOK\r\n");
}

#[test]
fn a_get_without_a_key_is_an_error() {
    for client in ["get\\r\\n", "get \\r\\n", "gets    \\n", "gat\\r\\n"] {
        let (reply, recovery) = refused(client);
        assert_eq!(
            (reply.as_str(), recovery),
            ("ERROR", Recovery::Skip(unescape(client).len()))
        );
    }
}

#[test]
fn keys_beyond_250_bytes_are_refused_wherever_they_stand() {
    assert!(
        Parser::default()
            .parse(&unescape(r"get {k*250}\r\n"), &Limits::default())
            .is_ok()
    );
    for client in [
        r"get {k*251}\r\n",
        r"get a b {k*251} c\r\n",
        r"gat 0 a {k*251}\r\n",
        r"delete {k*251}\r\n",
        r"mg {k*251} v\r\n",
        r"set {k*251} 0 0 1\r\n",
    ] {
        assert_eq!(
            refused(client),
            (BAD_FORMAT.into(), Recovery::Skip(unescape(client).len()))
        );
    }
}

#[test]
fn keys_with_control_bytes_never_reach_a_server() {
    for client in [
        r"get a\x00b\r\n",
        r"get a\rb\r\n",
        r"get a\tb c\r\n",
        r"mg a\x7f\r\n",
        r"incr a\x01 1\r\n",
    ] {
        assert_eq!(
            refused(client),
            (BAD_FORMAT.into(), Recovery::Skip(unescape(client).len()))
        );
    }
    // memcached would store this one, so its value is skipped with it.
    let line = r"set a\tb 0 0 5\r\n";
    assert_eq!(
        refused(line),
        (
            BAD_FORMAT.into(),
            Recovery::Swallow(unescape(line).len() + 7)
        )
    );
    assert_eq!(
        answer(r"set a\tb 0 0 7\r\nversion\r\nversion\r\n"),
        format!(r"{BAD_FORMAT}\r\nOK\r\n")
    );
}

#[test]
fn a_line_cut_by_a_nul_never_reaches_a_server() {
    assert_eq!(refused(r"delete a \x00noreply\r\n").0, BAD_FORMAT);
    assert_eq!(
        refused(r"set a 0 0 1 x\x00 noreply\r\n"),
        (BAD_FORMAT.into(), Recovery::Close)
    );
    assert_eq!(
        refused(r"ms a 1 T0\x00\r\n"),
        (BAD_FORMAT.into(), Recovery::Close)
    );
}

#[test]
fn lengths_that_overflow_are_refused_without_waiting_for_them() {
    for len in [
        "-1",
        "2147483646",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "4294967297",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999999",
        "+1",
        "1\\r",
        "0x1",
        "1e1",
    ] {
        for client in [format!(r"set a 0 0 {len}\r\n"), format!(r"ms a {len}\r\n")] {
            let head = unescape(&client).len();
            assert_eq!(
                refused(&client),
                (BAD_FORMAT.into(), Recovery::Skip(head)),
                "{client}"
            );
        }
    }
    assert_eq!(
        refused(r"set a 0 0 2147483645\r\n"),
        (
            "SERVER_ERROR object too large for cache".into(),
            Recovery::Swallow(22 + 2147483647)
        ),
    );
}

#[test]
fn a_refused_value_is_not_read_as_commands() {
    let limits = Limits {
        value_max: 4,
        ..Limits::default()
    };
    let client = b"set a 0 0 11\r\nflush_all\r\n\r\nversion\r\n";
    let mut lines = Vec::new();
    let got = proxy(client, &limits, |line, _| {
        lines.push(line.to_vec());
        b"VERSION 1\r\n".to_vec()
    });
    assert_eq!(
        got,
        b"SERVER_ERROR object too large for cache\r\nVERSION 1\r\n"
    );
    assert_eq!(lines, [b"version\r\n"]);
}

#[test]
fn a_line_without_an_end_is_given_up() {
    let limits = Limits::default();
    let mut parser = Parser::default();
    let garbage = [b'x'; 2049];
    assert_eq!(parser.parse(&garbage[..2048], &limits), Ok(None));
    let error = parser.parse(&garbage, &limits).unwrap_err();
    assert_eq!(
        (&*error.reply, error.recovery),
        ("CLIENT_ERROR line too long", Recovery::Close)
    );

    let mut multiget = b"gets ".to_vec();
    multiget.resize(limits.multiget_line_max, b'k');
    assert_eq!(parser.parse(&multiget, &limits), Ok(None));
    multiget.push(b'k');
    assert_eq!(
        parser.parse(&multiget, &limits).unwrap_err().recovery,
        Recovery::Close
    );
}

#[test]
fn the_binary_protocol_is_refused_without_a_word() {
    assert_eq!(
        refused(r"\x80\x00\x00\x03"),
        (String::new(), Recovery::Close)
    );
    assert_eq!(refused(r"\x80"), (String::new(), Recovery::Close));
}

#[test]
fn noreply_and_q_never_reach_a_server() {
    for (client, want) in [
        (r"set a 0 0 1 noreply\r\n", r"set a 0 0 1\r\n"),
        (r"delete a 0 noreply\r\n", r"delete a 0\r\n"),
        (r"delete noreply\r\n", r"delete noreply\r\n"),
        (r"flush_all 0 noreply\r\n", r"flush_all 0\r\n"),
        (r"flush_all noreply\n", r"flush_all\r\n"),
        (r"verbosity 1 noreply\r\n", r"verbosity 1\r\n"),
        (
            r"slabs automove 1 noreply noreply\r\n",
            r"slabs automove 1\r\n",
        ),
        (r"lru noreply noreply\r\n", ""),
        (r"mg a q v Oq q1\r\n", ""),
        (r"mg a k q v Oq\r\n", r"mg a k v Oq\r\n"),
        (r"mg q q\r\n", r"mg q\r\n"),
        (r"ms q 1 T0 q\r\n", r"ms q 1 T0\r\n"),
    ] {
        let client = unescape(client);
        let Ok(Some(request)) = Parser::default().parse(&client, &Limits::default()) else {
            assert_eq!(want, "", "{}", client.escape_ascii());
            continue;
        };
        let mut line = Vec::new();
        forward(&mut line, &client, &request);
        assert_eq!(line.escape_ascii().to_string(), want);
    }
}

#[test]
fn a_fragment_leaves_out_what_is_no_key() {
    let line = b"gat 30 a b\r\n";
    let request = Parser::default()
        .parse(line, &Limits::default())
        .unwrap()
        .unwrap();
    let mut out = Vec::new();
    let keys: [&[u8]; 4] = [b"a", b"b\r\nflush_all", b"c d", b"e"];
    fragment(&mut out, line, &request, keys.into_iter());
    assert_eq!(out, b"gat 30 a e\r\n");
}

#[test]
fn every_command_of_the_protocol_is_known() {
    for verb in Verb::ALL {
        let line = match verb.name() {
            "cas" => "cas k 0 0 1 1\r\n".to_string(),
            "ms" => "ms k 1\r\n".to_string(),
            "delete" => "delete k\r\n".to_string(),
            name if verb.has_body() => format!("{name} k 0 0 1\r\n"),
            name => format!("{name} 1 1\r\n"),
        };
        let request = Parser::default()
            .parse(line.as_bytes(), &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!((request.verb, request.head), (*verb, line.len()));
        assert_eq!(request.body.is_some(), verb.has_body());
    }
}

#[test]
fn servers_that_talk_nonsense_are_found_out() {
    let check = |reply: &[u8], want| {
        assert_eq!(
            Scanner::default().feed(reply),
            want,
            "{}",
            reply.escape_ascii()
        );
    };
    check(
        b"HTTP/1.1 400 Bad Request\r\n",
        Err(ReplyError::UnknownWord),
    );
    check(b"-ERR unknown command\r\n", Err(ReplyError::UnknownWord));
    check(b"\r\n", Err(ReplyError::UnknownWord));
    check(b"VALUE k 0\r\n", Err(ReplyError::BadHeader));
    check(b"VALUE k 0 -1\r\n", Err(ReplyError::BadHeader));
    check(
        b"VALUE k 0 18446744073709551615\r\n",
        Err(ReplyError::BadHeader),
    );
    check(b"VA\r\n", Err(ReplyError::BadHeader));
    check(b"VALUE k 0 1\r\nxyEND\r\n", Err(ReplyError::BadDataEnd));
    check(
        b"VALUE k 0 1\r\nx\r\nSTORED\r\n",
        Err(ReplyError::UnknownWord),
    );
    check(&[b'S'; 8192], Err(ReplyError::LineTooLong));
    check(&[b'S'; 8191], Ok(Scan::More(0)));
}

#[test]
fn replies_end_where_memcached_ends_them() {
    let check = |reply: &[u8]| {
        let mut buf = reply.to_vec();
        buf.extend_from_slice(b"STORED\r\n");
        let want = Ok(Scan::Done(reply.len()));
        assert_eq!(
            Scanner::default().feed(&buf),
            want,
            "{}",
            reply.escape_ascii()
        );
    };
    check(b"END\r\n");
    check(b"VALUE END 0 5\r\nEND\r\n\r\nVALUE b 0 0 7\r\n\r\nEND\r\n");
    check(b"VALUE a 0 1\r\nx\r\nSERVER_ERROR out of memory writing get response\r\n");
    check(b"STAT pid 1\r\nSTAT version 1.6.18\r\nEND\r\n");
    check(b"ITEM a [1 b; 0 s]\r\nEND\r\n");
    check(b"VA 5 kfoo O1\r\nEND\r\n\r\n");
    check(b"42\r\n");
    check(b"ERROR: shutdown not enabled\r\n");
    check(b"ME a exp=-1 la=2 cas=23 fetch=no cls=1 size=61\r\n");
}

#[test]
fn a_value_streams_through_as_it_arrives() {
    let mut scanner = Scanner::default();
    let reply = b"VALUE k 0 10\r\n0123456789\r\nEND\r\n";
    assert_eq!(scanner.feed(&reply[..16]), Ok(Scan::More(16)));
    assert_eq!(scanner.body_missing(), 10);
    assert_eq!(scanner.feed(&reply[16..25]), Ok(Scan::More(8)));
    assert_eq!(scanner.body_missing(), 2);
    assert_eq!(scanner.feed(&reply[24..]), Ok(Scan::Done(7)));
    let items: Vec<_> = values(reply)
        .map(|v| (v.key, v.flags, v.data, v.cas))
        .collect();
    assert_eq!(items, [(&b"k"[..], 0, &b"0123456789"[..], None)]);
}
