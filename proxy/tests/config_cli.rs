//! The commands that need no network, as a user runs them.

use std::path::Path;
use std::process::{Command, Output};

fn emberline(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberline"));
    command
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.output().expect("the binary runs")
}

fn check(args: &[&str], code: i32, said: &str) {
    let output = emberline(args);
    let all = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
    assert!(all.contains(said), "{args:?}: {all}");
    assert!(!all.contains("panicked"), "{args:?}: {all}");
}

#[test]
fn check_tells_by_its_exit_code() {
    check(
        &["check", "-c", "configs/quickstart.toml"],
        0,
        "quickstart.toml: ok: 2 listeners, 2 pools, 2 servers; L1: off in 1 pool, observe in 1 pool\n",
    );
    let broken = "proxy/tests/data/config/typos.toml";
    check(&["check", "-c", broken], 78, "typos.toml:2:1");
    check(&["check", "-c", broken], 78, "did you mean `workers`?");
    check(
        &["check", "-c", "no/such/file.toml"],
        2,
        "cannot read no/such/file.toml",
    );
    check(&["check", "-c", "configs"], 78, "cannot read configs");
    check(&["check"], 2, "--config <FILE>");
    check(&["chekc"], 2, "check");
}

#[test]
fn serve_refuses_what_it_cannot_use() {
    check(
        &["serve", "-c", "proxy/tests/data/config/typos.toml"],
        78,
        "typos.toml:2:1",
    );
    check(&["serve", "--redis", "nonsense"], 2, "is not an address");
    check(
        &["serve", "--redis", "a:1,a:1"],
        78,
        "stands in the pool twice",
    );
    check(
        &["serve", "--workers", "0"],
        2,
        "expected a number from 1 to 256",
    );
    check(&["serve", "--admin-bind", "0.0.0.0:1"], 2, "loopback");
    check(
        &["serve", "-c", "x", "--redis", "a:1"],
        2,
        "cannot be used with",
    );
}

#[test]
fn schema_completions_and_man_are_printed() {
    check(&["schema"], 0, "\"title\": \"Emberline configuration\"");
    check(&["completions", "bash"], 0, "_emberline()");
    check(&["completions", "zsh"], 0, "#compdef emberline");
    check(&["man"], 0, ".TH emberline 1");
    check(
        &["--version"],
        0,
        concat!("emberline ", env!("CARGO_PKG_VERSION")),
    );
    check(&["--help"], 0, "Usage: emberline");
}

/// A request, and the tree that explains it.
fn explained(args: &[&str], tree: &str) {
    let output = emberline(&[&["explain"], args].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim_end(), tree.trim(), "{args:?} {failed}");
    assert!(output.status.success(), "{args:?}");
}

#[test]
fn explain_draws_the_way_of_every_key() {
    let prefix = ["-c", "configs/examples/prefix-routes.toml"];
    let of = |request| [&prefix[..], &[request]].concat();
    explained(
        &of("GET eu:img:1"),
        r#"
GET eu:img:1
└─ listener redis (redis, 127.0.0.1:7379)
   └─ key "eu:img:1"
      └─ route by_prefix: longest prefix "eu:"
         └─ route in place: no listed prefix, so the default
            └─ pool eu: ketama over 1 server
               ├─ nothing to hash
               ├─ send to 10.1.0.1:6379
               ├─ hot: from 1000 requests or 16MiB of replies in 1s
               └─ L1: observe, nothing is answered from memory
"#,
    );
    explained(
        &of("MSET user:{7} a img:\"a b\" b"),
        r#"
MSET user:{7} a img:"a b" b
└─ listener redis (redis, 127.0.0.1:7379)
   ├─ taken apart by server; OK if every server says OK
   ├─ key "user:{7}"
   │  └─ route by_prefix: longest prefix "user:"
   │     └─ pool users: ketama over 2 servers
   │        ├─ hash fnv1a_64("7") = 2248251286, the part inside the hash tag
   │        ├─ send to 10.0.1.2:6379
   │        ├─ hot: from 1000 requests or 16MiB of replies in 1s
   │        └─ L1: observe, nothing is answered from memory
   └─ key "img:a b"
      └─ route by_prefix: longest prefix "img:"
         └─ pool images: ketama over 1 server
            ├─ nothing to hash
            ├─ send to 10.0.2.1:6379
            ├─ hot: from 1000 requests or 16MiB of replies in 1s
            └─ L1: observe, nothing is answered from memory
"#,
    );
    explained(
        &["get page:1"],
        r#"
get page:1
└─ listener memcached (memcached, 127.0.0.1:12211)
   └─ key "page:1"
      └─ pool memcached: local
         ├─ answer from the memory of pool memcached
         ├─ hot: from 1000 requests or 16MiB of replies in 1s
         └─ L1: off, a local pool answers from memory already
"#,
    );
    explained(
        &["PING"],
        "
PING
└─ listener redis (redis, 127.0.0.1:7379)
   └─ answered by the proxy itself
",
    );
}

#[test]
fn explain_says_that_a_value_may_be_in_pieces() {
    explained(
        &["-c", "configs/examples/19-big-values.toml", "get photo:1"],
        r#"
get photo:1
└─ listener memcached (memcached, 127.0.0.1:12211)
   └─ key "photo:1"
      └─ a value above 524288 bytes in pieces, for 43200s at most; the key itself
         └─ pool images: ketama over 3 servers
            ├─ hash fnv1a_64("photo:1") = 2978842622
            ├─ send to 10.0.0.2:11211 ("10.0.0.2" on the ring)
            ├─ hot: from 1000 requests or 16MiB of replies in 1s
            └─ L1: observe, nothing is answered from memory
"#,
    );
}

#[test]
fn explain_follows_the_listener_that_is_named() {
    let of = |listener, request| {
        [
            "explain",
            "-c",
            "configs/examples/listeners.toml",
            "-l",
            listener,
            request,
        ]
    };
    check(&of("shop", "GET session:1"), 0, "pool sessions");
    check(&of("shop", "SET a 1"), 0, "pool carts");
    check(
        &of("reports", "SET a 1"),
        0,
        "refused: this listener denies it",
    );
    check(&of("pages", "get a"), 0, "rendezvous over 2 servers");
    check(&of("pages", "flush_all"), 0, "every server, 2 in all");
    check(
        &of("nowhere", "GET a"),
        2,
        "expected one of pages, reports, shop",
    );
    check(&of("shop", "GET"), 2, "wrong number of arguments");
    check(&of("shop", "GET \"a"), 2, "unbalanced quotes");
    check(
        &of("shop", "SUBSCRIBE a"),
        0,
        "not supported by this proxy version",
    );
    check(
        &of("shop", "SINTER session:1 cart:1"),
        0,
        "refused with CROSSSLOT",
    );
    check(&of("shop", "NOSUCH a"), 0, "refused: unknown command");
    check(&of("shop", ""), 2, "there is no request");
}

/// What the L1 makes of a request, the last line of its explanation, and when
/// its key is hot, the line before.
#[test]
fn explain_says_what_the_l1_would_do() {
    let of = |file: &str, request: &str, hot: &str, l1: &str| {
        let file = format!("configs/examples/{file}.toml");
        let output = emberline(&["explain", "-c", &file, request]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = said.lines().rev().map(|line| {
            let at = line.find("─ ").expect("a branch of the tree");
            line[at..].trim_start_matches("─ ").to_owned()
        });
        assert_eq!(lines.next(), Some(format!("L1: {l1}")), "{request}\n{said}");
        assert_eq!(
            lines.next(),
            Some(format!("hot: {hot}")),
            "{request}\n{said}"
        );
    };
    let hot = "from 500 requests or 16MiB of replies in 1s";
    let tracking = |request: &str, l1: &str| of("l1-tracking", request, hot, l1);
    tracking("GET a", "tracking, ttl 60s, max item 256KiB");
    tracking("MGET a", "tracking, ttl 60s, max item 256KiB");
    tracking(
        "SET a 1",
        "tracking, and this request ends what is kept of the key",
    );
    tracking(
        "EXPIRE a 1",
        "tracking, and this request ends what is kept of the key",
    );
    tracking(
        "HGETALL a",
        "tracking, but only GET and MGET are answered from memory",
    );

    let hot = "from 1000 requests or 16MiB of replies in 1s";
    let memcached = |request: &str, l1: &str| of("l1-ttl-memcached", request, hot, l1);
    memcached("get a", "ttl, ttl 500ms, max item 256KiB");
    memcached("mg a v", "ttl, ttl 500ms, max item 256KiB");
    memcached("gets price:1", "revalidate, ttl 300s, max item 1MiB");
    memcached(
        "delete a",
        "ttl, and this request ends what is kept of the key",
    );

    let observe = "observe, nothing is answered from memory";
    let rules = |key: &str, hot: &str| of("hotkey-rules", &format!("GET {key}"), hot, observe);
    rules("x", hot);
    rules("config:global", "always, it is listed");
    rules(
        "user:1",
        "from 100 requests or 16MiB of replies in 1s, for 5s at least, by rule \"user:\"",
    );
    rules(
        "user:secret:1",
        "from 1000 requests or 16MiB of replies in 1s, by rule \"user:secret:\"",
    );
    let big = "from 50 requests or 64MiB of replies in 1s";
    of("hotkey-rules", "GET big:1", big, "off");
}

/// Explains a request of each protocol under this route of two pools.
fn explained_under(route: &str, protocol: &str, request: &str) -> String {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("emberline-explain-{}-{number}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text = format!(
        "[listeners.in]\nprotocol = '{protocol}'\nbind = '127.0.0.1:0'\nroute = 'top'\n\
         [routes.top]\n{route}\n\
         [pools.old]\nprotocol = '{protocol}'\nservers = ['127.0.0.1:1']\n\
         [pools.new]\nprotocol = '{protocol}'\nservers = ['127.0.0.1:2', '127.0.0.1:3']\n"
    );
    std::fs::write(&path, text).expect("a written file");
    let output = emberline(&["explain", "-c", &path.to_string_lossy(), request]);
    std::fs::remove_file(&path).expect("it is removed");
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{failed}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn explain_knows_the_time_and_the_size_of_a_value() {
    let migrate = "type = 'migrate'\nfrom = 'old'\nto = 'new'\n\
                   start = '2020-01-01T00:00:00Z'\ninterval = '1h'";
    let said = explained_under(migrate, "redis", "GET k");
    assert!(said.contains("pool new"), "{said}");
    let split = "type = 'size_split'\nsmall = 'old'\nlarge = 'new'\nthreshold = '4B'";
    for (protocol, request) in [("redis", "SET k 12345"), ("memcached", "set k 0 0 5")] {
        let said = explained_under(split, protocol, request);
        let (new, old) = (said.find("pool new"), said.find("pool old"));
        assert!(new < old, "{said}");
    }
}

#[test]
fn explain_joins_the_keys_of_one_command_as_the_proxy_does() {
    let key = "type = 'key'\nchild = 'old'\nadd_prefix = 'p:'";
    let said = explained_under(key, "redis", "RENAME a b");
    assert!(said.contains("all keys are in one place"), "{said}");
}

/// What the proxy hashes is the key that it sends; only a hash tag is one.
#[test]
fn explain_takes_no_other_key_for_a_hash_tag() {
    let key = "type = 'key'\nchild = 'new'\nadd_prefix = 'p:'";
    let hash = |request: &str| {
        let said = explained_under(key, "redis", request);
        let line = said.lines().find(|line| line.contains("hash fnv1a_64"));
        line.expect("a hash").to_owned()
    };
    let plain = hash("GET a");
    assert!(plain.contains("(\"p:a\")"), "{plain}");
    assert!(!plain.contains("hash tag"), "{plain}");
    let tagged = hash("GET {a}");
    assert!(tagged.contains("(\"a\")"), "{tagged}");
    assert!(
        tagged.ends_with(", the part inside the hash tag"),
        "{tagged}"
    );
}

/// Nothing that the plan knows is left out.
#[test]
fn explain_says_all_of_a_plan() {
    let failover = "type = 'failover'\nchildren = ['old', 'new']\nretry_writes = true\n\
                    rate = 0.1";
    let said = explained_under(failover, "redis", "SET k 1");
    for words in ["writes too, although", "as often as the rate allows"] {
        assert!(said.contains(words), "{said}");
    }
    let staging = "type = 'staging'\nwarm = 'old'\nstaging = 'new'";
    let said = explained_under(staging, "redis", "GET k");
    assert!(said.contains("└─ add to 127.0.0.1:"), "{said}");
    for (keys, shown) in [("hash", "a hash of the key"), ("plain", "the key")] {
        let log = format!("type = 'log'\nchild = 'old'\nshare = 1.0\nkeys = '{keys}'");
        let said = explained_under(&log, "redis", "GET k");
        let line = format!("logged by top with {shown}\n");
        assert!(said.contains(&line), "{said}");
    }
}

/// What stands in the flags of a memcached line reaches the routes.
#[test]
fn explain_asks_of_a_memcached_request_what_the_proxy_asks() {
    let replicas = "type = 'replicas'\nchildren = ['old', 'new']";
    let refused = "cannot compare a value's unique number";
    for (request, is_refused) in [
        ("cas k 0 0 5 7", true),
        ("ms k 5 C7", true),
        ("md k C7", true),
        ("gets k", false),
        ("set k 0 0 5", false),
        ("ms k 5", false),
    ] {
        let said = explained_under(replicas, "memcached", request);
        assert_eq!(said.contains(refused), is_refused, "{said}");
    }
    let split = "type = 'size_split'\nsmall = 'old'\nlarge = 'new'\nthreshold = '4B'";
    for (request, pool) in [("ms k 5", "new"), ("ms k 5 MA", "old")] {
        let said = explained_under(split, "memcached", request);
        let first = said.lines().find(|line| line.contains("pool "));
        assert!(first.is_some_and(|line| line.contains(pool)), "{said}");
    }
}

/// A pool counts and keeps keys as they reach it, and so do its rules.
#[test]
fn explain_shows_the_heat_of_the_key_that_reaches_the_pool() {
    let rules = "\n[pools.old.hotkey]\nalways = ['user:2']\n\
                 [[pools.old.hotkey.rules]]\nprefix = 'user:'\nthreshold = 7\n\
                 [pools.old.l1]\nmode = 'ttl'\nttl = '2s'\n";
    let check = |route: &str, request: &str, hot: &str| {
        let said = explained_under(&format!("{route}{rules}"), "redis", request);
        let line = said.lines().find(|line| line.contains("hot: "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(hot), "{said}");
    };
    let (ruled, listed) = ("from 7 requests", "always, it is listed");
    let strip = "type = 'key'\nchild = 'old'\nstrip_prefix = 'app:'";
    check(strip, "GET app:user:1", ruled);
    check(strip, "GET app:user:2", listed);
    let add = "type = 'key'\nchild = 'old'\nadd_prefix = 'user:'";
    check(add, "GET 1", ruled);
    check(add, "GET user:2", ruled);
    let prefix = "type = 'prefix'\nchildren = { 'app:' = 'old' }\ndefault = 'new'\nstrip = true";
    check(prefix, "GET app:user:1", ruled);
    check(prefix, "GET app:user:2", listed);
    // Where the request is another one there, too.
    let tiers = "type = 'l1_l2'\nl1 = 'old'\nl2 = 'new'\n\
                 [pools.old.delete_log]\npath = 'deletes.log'";
    let said = explained_under(tiers, "redis", "SET k 1");
    let written = "written to the delete log if that server does not answer";
    assert!(said.contains(written), "{said}");
}
