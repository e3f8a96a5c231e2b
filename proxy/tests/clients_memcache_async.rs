//! The memcache-async crate, an ordinary client that knows one address.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use futures::executor::block_on;
use futures::io::AllowStdIo;
use memcache_async::ascii::Protocol;
use support::{Emberline, Server};

type Client = Protocol<AllowStdIo<TcpStream>>;

fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    Protocol::new(AllowStdIo::new(stream))
}

async fn exercise(client: &mut Client) {
    assert_eq!(client.version().await.unwrap(), "1.6.18");
    client.flush().await.unwrap();
    let missing = client.get("missing").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    let keys: Vec<String> = (0..100).map(|i| format!("key:{i}")).collect();
    for key in &keys {
        client.set(key, key.as_bytes(), 0).await.unwrap();
    }
    let found = client.get_multi(&keys).await.unwrap();
    let expected: HashMap<String, Vec<u8>> = keys
        .iter()
        .map(|key| (key.clone(), key.clone().into_bytes()))
        .collect();
    assert_eq!(found, expected);

    assert!(client.add("key:1", b"other", 0).await.is_err());
    client.append("key:1", b"!").await.unwrap();
    assert_eq!(client.get("key:1").await.unwrap(), b"key:1!");
    let (value, cas) = client.gets_cas("key:1").await.unwrap();
    assert_eq!(value, b"key:1!");
    assert!(client.cas("key:1", b"new", cas, 0).await.unwrap());
    assert!(!client.cas("key:1", b"newer", cas, 0).await.unwrap());
    client.delete("key:1").await.unwrap();
    assert!(client.get("key:1").await.is_err());

    client.set("count", b"41", 0).await.unwrap();
    assert_eq!(client.increment("count", 1).await.unwrap(), 42);
    assert_eq!(client.decrement("count", 2).await.unwrap(), 40);
    client.increment_noreply("count", 5).await.unwrap();
    assert_eq!(client.get("count").await.unwrap(), b"45");

    let large = vec![b'x'; 1_000_000];
    client.set("large", &large, 0).await.unwrap();
    assert_eq!(client.get("large").await.unwrap(), large);

    client.flush().await.unwrap();
    assert!(client.get_multi(&keys).await.unwrap().is_empty());
}

#[test]
fn memcache_async_works_over_two_servers() {
    let Some(servers) = Server::memcached_many(2) else {
        return;
    };
    let emberline = Emberline::memcached(&servers);
    block_on(exercise(&mut connect(emberline.memcached_address())));
}

#[test]
fn memcache_async_works_on_the_embedded_pool() {
    let emberline = Emberline::config(
        r#"
[listeners.memcached]
protocol = "memcached"
bind = "MEMCACHED_BIND"
route = "cache"

[pools.cache]
protocol = "memcached"
kind = "local"
"#,
    );
    block_on(exercise(&mut connect(emberline.memcached_address())));
}
