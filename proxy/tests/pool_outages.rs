//! What pools do while a server is down, end to end: gutters, rehashing,
//! servers that are marked as down, and salts.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::Value;
use support::{
    Client, Emberline, Scripted, Server, TempDir, command, drain_requests, eventually, free_port,
    page, show,
};

/// A listener of this protocol on the pool `main`; `pools` is the rest.
fn proxy(protocol: &str, pools: &str) -> (Emberline, SocketAddr) {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "[listeners.main]\nprotocol = \"{protocol}\"\nbind = \"{}_BIND\"\nroute = \"main\"\n{pools}",
        protocol.to_uppercase()
    );
    let bind = admin.to_string();
    let proxy = Emberline::config_with(&config, &["--workers", "2", "--admin-bind", &bind]);
    (proxy, admin)
}

fn list(servers: &[Server]) -> String {
    let each = servers.iter().map(|at| format!("\"{}\"", at.address()));
    each.collect::<Vec<_>>().join(", ")
}

/// A key that lives on this server, found by writing through the proxy.
fn key_of(server: &Server, client: &mut Client) -> String {
    let mut own = server.client();
    let mut keys = (0..).map(|i| format!("{i}:some-key"));
    let lives = |key: &String| {
        assert_eq!(client.call(&["SET", key, "first"]), b"+OK\r\n");
        own.call(&["EXISTS", key]) == b":1\r\n"
    };
    keys.find(lives).unwrap()
}

#[test]
fn a_gutter_takes_over_while_a_server_is_down_and_forgets() {
    let (Some(mut servers), Some(spare)) = (Server::redis_many(2), Server::redis()) else {
        return;
    };
    // The gutter stands in front of who uses it, and in no route.
    let (mut proxy, admin) = proxy(
        "redis",
        &format!(
            "[pools.main]\nprotocol = \"redis\"\nservers = [{}]\n\
             on_down = {{ gutter = \"spare\" }}\ngutter_ttl = \"30s\"\n\
             [pools.spare]\nprotocol = \"redis\"\nservers = [\"{}\"]\n",
            list(&servers),
            spare.address()
        ),
    );
    let mut client = proxy.client();
    let key = key_of(&servers[0], &mut client);
    let mut gutter = spare.client();
    assert_eq!(gutter.call(&["DBSIZE"]), b":0\r\n", "all servers were up");
    servers[0].kill();
    eventually("the gutter does not take over", || {
        client.call(&["SET", &key, "second"]) == b"+OK\r\n"
    });
    assert_eq!(client.call(&["GET", &key]), b"$6\r\nsecond\r\n");
    let ttl = show(&gutter.call(&["TTL", &key]));
    assert!([":29\\r\\n", ":30\\r\\n"].contains(&&*ttl), "{ttl}");
    // Its own server cannot be told, so it is not deleted; the copy is.
    let reply = show(&client.call(&["DEL", &key]));
    assert!(reply.contains("has been down for"), "{reply}");
    eventually("the copy stays", || {
        gutter.call(&["EXISTS", &key]) == b":0\r\n"
    });
    // A counter would start anew there.
    let reply = show(&client.call(&["INCR", &key]));
    assert!(reply.contains("has been down for"), "{reply}");

    assert_eq!(client.call(&["SET", &key, "third"]), b"+OK\r\n");
    servers[0].restart();
    eventually("the server is not used again", || {
        client.call(&["GET", &key]) == b"$-1\r\n"
    });
    // A delete reaches what the last outage has left.
    assert_eq!(gutter.call(&["EXISTS", &key]), b":1\r\n");
    client.call(&["DEL", &key]);
    eventually("the copy stays", || {
        gutter.call(&["EXISTS", &key]) == b":0\r\n"
    });
    let pools: Value = serde_json::from_str(&page(admin, "/pools")).unwrap();
    let names: Vec<_> = pools["pools"].as_array().unwrap().iter().collect();
    let requests = |name: &str| {
        let pool = names.iter().find(|pool| pool["name"] == name).unwrap();
        pool["requests"].as_u64().unwrap()
    };
    assert!(requests("main") > 0, "it is a pool as any other");
    proxy.assert_alive();
}

#[test]
fn a_memcached_gutter_takes_over() {
    let (Some(mut servers), Some(spare)) = (Server::memcached_many(1), Server::memcached()) else {
        return;
    };
    let (mut proxy, _) = proxy(
        "memcached",
        &format!(
            "[pools.spare]\nprotocol = \"memcached\"\nservers = [\"{}\"]\n\
             [pools.main]\nprotocol = \"memcached\"\nservers = [{}]\n\
             on_down = {{ gutter = \"spare\" }}\ngutter_ttl = \"3s\"\n",
            spare.address(),
            list(&servers)
        ),
    );
    let mut client = proxy.client();
    assert_eq!(client.ask("set k 0 0 1\r\nx\r\n"), b"STORED\r\n");
    servers[0].kill();
    eventually("the gutter does not take over", || {
        client.ask("set k 7 0 1\r\ny\r\n") == b"STORED\r\n"
    });
    assert_eq!(client.ask("get k\r\n"), b"VALUE k 7 1\r\ny\r\nEND\r\n");
    let ttl = show(&spare.client().ask("mg k t\r\n"));
    let left: u32 = ttl.trim_start_matches("HD t")[..1].parse().unwrap();
    assert!(left <= 3, "{ttl}");
    servers[0].restart();
    eventually("the server is not used again", || {
        client.ask("get k\r\n") == b"END\r\n"
    });
    proxy.assert_alive();
}

#[test]
fn rehash_goes_to_another_server_of_the_pool() {
    let Some(mut servers) = Server::redis_many(3) else {
        return;
    };
    let (mut proxy, _) = proxy(
        "redis",
        &format!(
            "[pools.main]\nprotocol = \"redis\"\nservers = [{}]\non_down = \"rehash\"\n",
            list(&servers)
        ),
    );
    let mut client = proxy.client();
    let key = key_of(&servers[0], &mut client);
    servers[0].kill();
    eventually("nobody takes over", || {
        client.call(&["SET", &key, "second"]) == b"+OK\r\n"
    });
    assert_eq!(client.call(&["GET", &key]), b"$6\r\nsecond\r\n");
    let mut others = [servers[1].client(), servers[2].client()];
    let found = others.each_mut().map(|other| other.call(&["EXISTS", &key]));
    assert!(
        found.contains(&b":1\r\n".to_vec()),
        "it stays in the pool: {found:?}"
    );
    servers[0].restart();
    eventually("its own server is not used again", || {
        client.call(&["GET", &key]) == b"$-1\r\n"
    });
    proxy.assert_alive();
}

/// What is streamed is not planned: it must not come before a delete that the
/// server has not been told of.
#[test]
fn a_large_mset_does_not_overtake_a_delete_that_waits() {
    let phase = Arc::new(AtomicUsize::new(0));
    let (now, (told, hears)) = (Arc::clone(&phase), mpsc::channel());
    let server = Scripted::start(move |mut stream, _| {
        let told = told.clone();
        if now.load(Ordering::SeqCst) == 0 {
            return;
        }
        drain_requests(&mut stream, |stream, args| {
            let reply: &[u8] = match (args[0].as_slice(), now.load(Ordering::SeqCst)) {
                (b"PING", _) => b"+PONG\r\n",
                (b"DEL", 1) => b"-LOADING not yet\r\n",
                (b"DEL", _) => b":1\r\n",
                _ => b"+OK\r\n",
            };
            let _ = told.send((args[0].clone(), reply.to_vec()));
            stream.write_all(reply).is_ok()
        });
    });
    let dir = TempDir::new();
    let (mut proxy, _) = proxy(
        "redis",
        &format!(
            "[pools.main]\nprotocol = \"redis\"\nservers = [\"{}\"]\nrequest_timeout = \"20s\"\n\
             probe_first = \"20ms\"\nprobe_last = \"50ms\"\ndelete_log = \"{}\"\n",
            server.address(),
            dir.path().join("deletes.log").display()
        ),
    );
    let mut client = proxy.client();
    assert_eq!(client.call(&["DEL", "k"]), b":1\r\n");
    phase.store(1, Ordering::SeqCst);
    eventually("it is not asked again", || {
        show(&client.call(&["PING", "x"])).contains('x')
            && hears.try_iter().any(|(name, _)| name == b"DEL")
    });
    let value = vec![b'x'; 3 << 20];
    client.send(&command(&[&b"MSET"[..], b"k", &value, b"other", b"y"]));
    // Until the delete has been tried a few times more.
    let refused = hears.iter().filter(|(name, _)| {
        assert_ne!(name, b"MSET");
        name == b"DEL"
    });
    assert_eq!(refused.take(5).count(), 5);
    phase.store(2, Ordering::SeqCst);
    assert_eq!(show(&client.reply()), "+OK\\r\\n");
    let said: Vec<_> = hears.try_iter().collect();
    let place =
        |name: &[u8], reply: &[u8]| said.iter().position(|it| it.0 == name && it.1 == reply);
    let (deleted, written) = (place(b"DEL", b":1\r\n"), place(b"MSET", b"+OK\r\n"));
    assert!(
        deleted.is_some() && deleted < written,
        "{deleted:?} {written:?}"
    );
    proxy.assert_alive();
}

/// With a listener in the server's place, nobody ever comes.
#[test]
fn a_server_that_is_marked_as_down_is_never_connected_to() {
    let Some(servers) = Server::redis_many(1) else {
        return;
    };
    let marked = Scripted::start(|_, _| {});
    let pools = format!(
        "[pools.main]\nprotocol = \"redis\"\nprobe_first = \"10ms\"\nprobe_last = \"20ms\"\n\
         servers = [{}, {{ address = \"{}\", down = true }}]\n\
         [pools.main.l1]\nmode = \"ttl\"\n[hotkey]\nthreshold = 1\n",
        list(&servers),
        marked.address()
    );
    let (mut proxy, admin) = proxy("redis", &pools);
    let mut client = proxy.client();
    let expected = format!(
        "-ERR server {} is marked as down in the proxy's configuration\r\n",
        marked.address()
    );
    let mut counts = [0, 0];
    for i in 0..200 {
        let key = format!("{}:key", i / 4);
        let reply = match i % 2 {
            0 => client.call(&["SET", &key, "x"]),
            _ => client.call(&["GET", &key]),
        };
        let at = usize::from(show(&reply) == show(expected.as_bytes()));
        assert!(at == 1 || !reply.starts_with(b"-"), "{}", show(&reply));
        counts[at] += 1;
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    let reply = show(&client.call(&["FLUSHALL"]));
    assert!(reply.contains("marked as down"), "{reply}");
    let pools: Value = serde_json::from_str(&page(admin, "/pools")).unwrap();
    let shown = &pools["pools"][0]["servers"][1];
    assert_eq!(shown["state"], "down");
    assert_eq!(shown["marked_down"], true);
    assert_eq!(shown["down"]["ejected"], true);
    assert_eq!(shown["down"]["next_probe_ms"], Value::Null);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(marked.connections(), 0);
    proxy.assert_alive();
}

/// No key moves when a server is marked; its keys go where `on_down` says.
#[test]
fn a_marked_server_keeps_its_place_on_the_ring() {
    let config = |second: &str, more: &str| {
        format!(
            "[listeners.redis]\nprotocol = \"redis\"\nbind = \"127.0.0.1:7379\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"redis\"\nservers = [\"a:1\", {second}, \"c:1\"]\n{more}\n\
             [pools.spare]\nprotocol = \"redis\"\nservers = [\"spare:1\"]\n"
        )
    };
    let up = config("\"b:1\"", "");
    let down = config("{ address = \"b:1\", down = true }", "");
    let gutter = "on_down = { gutter = \"spare\" }\ngutter_ttl = \"3s\"";
    let guarded = config("{ address = \"b:1\", down = true }", gutter);
    let mut seen = 0;
    for i in 0..30 {
        let request = format!("GET {i}:key");
        let plain = explain(&up, &request);
        let marked = explain(&down, &request);
        let told = ", marked as down: nothing is sent there";
        assert_eq!(marked.replace(told, ""), plain);
        assert_eq!(marked.contains(told), plain.contains("send to b:1"));
        let guarded = explain(&guarded, &request);
        assert_eq!(guarded.contains("send to spare:1"), plain.contains("b:1"));
        if plain.contains("b:1") {
            seen += 1;
        } else {
            let when = "while that server is down: pool spare, to live at most 3s";
            assert!(guarded.contains(when), "{guarded}");
        }
    }
    assert!(seen > 0);
}

fn explain(config: &str, request: &str) -> String {
    let dir = TempDir::new();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_emberline"))
        .arg("explain")
        .arg("-c")
        .arg(&file)
        .arg(request)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A salted pool puts a key where a pool without a salt puts the key with the
/// salt behind it, and says so.
#[test]
fn a_salt_is_part_of_what_is_hashed() {
    let config = |salt: &str| {
        format!(
            "[listeners.redis]\nprotocol = \"redis\"\nbind = \"127.0.0.1:7379\"\nroute = \"main\"\n\
             [pools.main]\nprotocol = \"redis\"\nservers = [\"a:1\", \"b:1\", \"c:1\", \"d:1\"]\n\
             {salt}\n"
        )
    };
    let (plain, salted) = (config(""), config("salt = \"pepper\""));
    let found = explain(&salted, "GET cart:{user:7}");
    let hash = "hash fnv1a_64(\"user:7pepper\") = ";
    assert!(found.contains(hash), "{found}");
    let said = ", the part inside the hash tag, with the salt \"pepper\" behind it";
    assert!(found.contains(said), "{found}");
    let place = |text: &str| {
        let line = text.lines().find(|line| line.contains("send to"));
        line.unwrap().to_owned()
    };
    for i in 0..20 {
        let by_hand = explain(&plain, &format!("GET user:{i}pepper"));
        let by_salt = explain(&salted, &format!("GET user:{i}"));
        assert_eq!(place(&by_salt), place(&by_hand));
    }
}

/// A running proxy knows which servers are up, and where it would go.
#[test]
fn explain_live_shows_the_servers_and_the_branch_that_is_taken() {
    let (Some(mut servers), Some(spare)) = (Server::redis_many(1), Server::redis()) else {
        return;
    };
    let (mut proxy, admin) = proxy(
        "redis",
        &format!(
            "[pools.main]\nprotocol = \"redis\"\nservers = [{}]\n\
             on_down = {{ gutter = \"spare\" }}\n\
             [pools.spare]\nprotocol = \"redis\"\nservers = [\"{}\"]\n",
            list(&servers),
            spare.address()
        ),
    );
    let explain = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_emberline"))
            .args(["explain", "--live", "--admin", &admin.to_string()])
            .args(args)
            .output()
            .unwrap();
        let (out, err) = (output.stdout, output.stderr);
        let text = [out, err].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = explain(&["GET k"]);
    assert_eq!(code, Some(0), "{text}");
    let up = format!("send to {}, up\n", servers[0].address());
    assert!(text.contains(&up), "{text}");
    assert!(!text.contains("taken now"), "{text}");

    servers[0].kill();
    let mut client = proxy.client();
    eventually("the gutter does not take over", || {
        client.call(&["SET", "k", "x"]) == b"+OK\r\n"
    });
    let (_, text) = explain(&["GET k"]);
    let down = format!("send to {}, down for ", servers[0].address());
    assert!(text.contains(&down), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.contains(&format!("send to {}, up\n", spare.address())));
    let taken: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with(", taken now"))
        .collect();
    assert_eq!(taken.len(), 1, "{text}");
    assert!(taken[0].contains("pool spare: "), "{text}");

    let (code, text) = explain(&["--listener", "nobody", "GET k"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no listener `nobody`"), "{text}");
    proxy.assert_alive();
}
