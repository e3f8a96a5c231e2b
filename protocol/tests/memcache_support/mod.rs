//! A proxy without sockets, and the escapes of the transcripts.

use emberline_protocol::memcache::{
    Dialect, Limits, Parser, Recovery, Verb, body_terminated, forward, suppressed,
};

/// What a client reads that sends `client` and then closes. `server` is given
/// a line with its body, and says its reply.
pub fn proxy(
    client: &[u8],
    limits: &Limits,
    mut server: impl FnMut(&[u8], &[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let (mut parser, mut answer) = (Parser::default(), Vec::new());
    let mut rest = client;
    loop {
        let request = match parser.parse(rest, limits) {
            Ok(Some(request)) => request,
            Ok(None) => return answer,
            Err(error) => {
                if !error.reply.is_empty() {
                    answer.extend_from_slice(error.reply.as_bytes());
                    answer.extend_from_slice(b"\r\n");
                }
                match error.recovery {
                    Recovery::Skip(n) => rest = &rest[n..],
                    Recovery::Swallow(n) => rest = &rest[n.min(rest.len())..],
                    Recovery::Close => return answer,
                }
                continue;
            }
        };
        if request.verb == Verb::Quit || rest.len() < request.len() {
            return answer;
        }
        if !body_terminated(rest, &request) {
            if !(request.quiet && request.dialect == Dialect::Text) {
                answer.extend_from_slice(b"CLIENT_ERROR bad data chunk\r\n");
            }
        } else {
            let mut line = Vec::new();
            forward(&mut line, rest, &request);
            let reply = server(&line, &rest[request.head..request.len()]);
            if !(request.quiet && suppressed(request.verb, &reply)) {
                answer.extend_from_slice(&reply);
            }
        }
        rest = &rest[request.len()..];
    }
}

/// `\r`, `\n`, `\t`, `\\`, `\'`, `\"`, `\xNN`, and `{k*251}` for 251 times `k`.
pub fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut chars) = (Vec::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().unwrap() {
                'r' => out.push(b'\r'),
                'n' => out.push(b'\n'),
                't' => out.push(b'\t'),
                'x' => {
                    let hex: String = chars.by_ref().take(2).collect();
                    out.push(u8::from_str_radix(&hex, 16).unwrap());
                }
                other => out.push(other as u8),
            },
            '{' => {
                let inside: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let (what, times) = inside.rsplit_once('*').unwrap();
                out.extend_from_slice(what.repeat(times.parse().unwrap()).as_bytes());
            }
            c => out.push(u8::try_from(c).unwrap()),
        }
    }
    out
}
