//! Coming up and going down: the first answer, the last one, and Unix sockets.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Emberline, Server};

#[test]
fn a_pipeline_is_answered_through_the_proxy() {
    let Some(servers) = Server::redis_many(2) else {
        return;
    };
    let mut proxy = Emberline::redis(&servers);
    let mut client = proxy.client();
    assert_eq!(client.call(&["SET", "a", "1"]), b"+OK\r\n");
    assert_eq!(client.call(&["INCR", "a"]), b":2\r\n");
    proxy.assert_alive();
}
