//! The admin address, asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The status and the body of what `method` and `path` are answered with.
#[track_caller]
pub fn http(to: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).unwrap();
    let ask = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// The body of a page that is there.
#[track_caller]
pub fn page(from: SocketAddr, path: &str) -> String {
    let (status, body) = http(from, "GET", path);
    assert_eq!(status, 200, "{body}");
    body
}
