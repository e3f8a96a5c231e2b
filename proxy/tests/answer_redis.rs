//! What the proxy answers itself is what a redis-server 7.0 answers.
#![allow(clippy::unwrap_used)]

mod answer_support;

use answer_support::{NOW, Server, ask, context, pool, running};
use emberline::answer::redis::{Session, answer, permitted_before_auth, refuse};
use emberline::answer::{Context, Then};
use emberline::running::{Protocol, Running};
use emberline_protocol::Scan;
use emberline_protocol::redis::command::COMMANDS;
use emberline_protocol::redis::reply::elements;
use emberline_protocol::redis::{Class, Scanner, Version, command::lookup, encode};

/// The arguments of a line: words between spaces, `''` for an empty one and
/// `\r\n` for a line break.
fn words(line: &str) -> Vec<Vec<u8>> {
    let plain = |word: &str| match word {
        "''" => Vec::new(),
        word => word
            .replace("\\r\\n", "\r\n")
            .replace('_', " ")
            .into_bytes(),
    };
    line.split(' ').map(plain).collect()
}

/// One client of the proxy.
struct Client<'a> {
    session: Session,
    context: Context<'a>,
}

impl<'a> Client<'a> {
    fn new(running: &'a Running) -> Client<'a> {
        let password = running.listeners[0].password.is_some();
        let peer = Some(([127, 0, 0, 1], 50_000).into());
        Client {
            session: Session::new(7, peer, NOW - 5000, password),
            context: context(running),
        }
    }

    /// Answers as the data plane does.
    fn ask_bytes(&mut self, line: &str) -> (Vec<u8>, Then) {
        let words = words(line);
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        let mut then = Then::Continue;
        match lookup(args[0]) {
            None => refuse::unknown(&args, &mut out),
            Some(command) if !self.session.authenticated && !permitted_before_auth(command) => {
                refuse::unauthenticated(&mut out);
            }
            Some(command) => match command.class {
                Class::Local => {
                    then = answer(command, &args, &mut self.session, &self.context, &mut out);
                }
                _ => refuse::by_class(command, &mut out),
            },
        }
        (out, then)
    }

    fn ask(&mut self, line: &str) -> String {
        String::from_utf8(self.ask_bytes(line).0).unwrap()
    }
}

fn ask_server(stream: &mut std::net::TcpStream, line: &str) -> Vec<u8> {
    let words = words(line);
    let mut request = Vec::new();
    encode::command(&mut request, words.iter().map(Vec::as_slice));
    ask(
        stream,
        &request,
        |reply| matches!(Scanner::default().feed(reply), Ok(Scan::Done(len)) if len == reply.len()),
    )
}

const SAME: &str = "\
ping
PING hello
ping a b
echo hi
echo
echo a b
foo
foo a b
fo\\r\\no a\\r\\nb
time x
select 0
select 00
select +0
select x
select
auth
auth x
auth default x
auth nobody x
auth a b c
hello 4
hello x
hello 2 foo
hello 2 setname
hello 2 setname a_b
hello 2 auth nobody x
hello 2 auth default
cluster info
cluster keyslot a
cluster keyslot
cluster foo
cluster
role
role x
reset x
slowlog get
slowlog get -1
slowlog get -2
slowlog get x
slowlog get 5 6
slowlog len
slowlog reset
slowlog foo
slowlog
latency latest
latency history x
latency history
latency reset
latency reset a b
latency graph x
latency histogram foo
latency doctor x
latency foo
acl whoami
acl whoami x
acl users
acl list
acl cat
acl cat foo
acl cat a b
acl genpass 0
acl genpass 4097
acl genpass x
acl genpass 1 2
acl foo
config get save
config get SAVE
config get appendonly appendonly
config get maxmemory-polic?
config get nothing
config get
config foo
config set a
client foo
CLIENT FOO
client
client getname
client getname x
client setname foo
client getname
client setname a_b
client getname
client setname ''
client getname
client setname
client reply foo
client no-evict on
client no-evict OFF
client no-evict foo
client getredir
client trackinginfo
client trackinginfo x
client caching yes
client tracking foo
client tracking off
client unpause
client unpause x
client unblock 1
client unblock x
client unblock 1 timeout
client unblock 1 foo
client unblock 1 timeout foo
client list type pubsub
client list type foo
client list id 999999
client list id x
client list id
client list foo
client kill 1.2.3.4:5
client kill id 999999
client kill id 0
client kill id x
client kill id 1 foo
client kill foo bar
client kill type foo
client kill type pubsub
client kill user nobody
client kill user default type normal
client kill skipme foo
client kill addr 1.2.3.4:5
client kill laddr 1.2.3.4:5 skipme no
client reply on
command count x
command foo
command info foo
command info get foo set
command info client|id client|foo
command docs foo
command list foo
command list filterby foo a
command list filterby aclcat
command list filterby aclcat foo
command list filterby aclcat read x
command list filterby module x
command list filterby pattern zzz*
command getkeys
command getkeys get
command getkeys get a
command getkeys get a b
command getkeys ping x
command getkeys foo x
command getkeys object foo a
command getkeys object encoding a
command getkeys config get a
command getkeys xinfo stream k
command getkeys memory usage a
command getkeys mset a b c d
command getkeys eval x 0
command getkeys eval x 2 a b
command getkeys zunionstore d 2 a b
command getkeys zunionstore d 5 a
command getkeys xread foo streams a b
command getkeys sort a by b store c
command getkeys bitop and a b c
command getkeysandflags get a
command getkeysandflags set a b
command getkeysandflags set a b get
command getkeysandflags mset a b c d
command getkeysandflags eval x 2 a b
command getkeysandflags rename a b
command getkeysandflags bitfield a get u8 0
command getkeysandflags bitfield a set u8 0 1
command getkeysandflags sort a
command getkeysandflags sort a store b
command getkeysandflags lmpop 2 a b left
command getkeysandflags zunionstore d 2 a b
command getkeysandflags xreadgroup group a b streams k j 1 2
command getkeysandflags georadius a 1 2 3 km store b
command getkeysandflags spublish a b
command getkeysandflags xinfo stream k
info nothing
client reply off
ping
client reply skip
client reply on
client reply skip
ping
ping
reset
client getname
hello 3 setname x
hello 2
client getname";

/// Requests that are not answered.
fn is_silent(line: &str, muted: &mut (bool, bool)) -> bool {
    let (off, skip) = *muted;
    *muted = match line {
        "client reply off" => (true, false),
        "client reply on" | "reset" => (false, false),
        "client reply skip" => (off, true),
        _ => (off, false),
    };
    let spoken = matches!(line, "client reply on" | "reset");
    (off || skip || line == "client reply off" || line == "client reply skip") && !spoken
}

/// The id of a connection is not the same on both sides.
fn without_id(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply).into_owned();
    match text.split_once("$2\r\nid\r\n:") {
        Some((before, behind)) => {
            let rest = behind.split_once("\r\n").unwrap().1;
            format!("{before}id {rest}")
        }
        None => text,
    }
}

fn compare(version: Version) {
    let server = Server::start(
        "redis-server",
        &["--save", "", "--bind", "127.0.0.1", "--port"],
    );
    let mut stream = server.connect();
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    let mut muted = (false, false);
    let mut different = Vec::new();
    for line in SAME.lines() {
        let before = muted;
        let silent = is_silent(line, &mut muted);
        if version == Version::Resp3 && !silent && before == (false, false) {
            // RESET and HELLO 2 take RESP3 away: ask for it again.
            ask_server(&mut stream, "hello 3");
            client.ask("hello 3");
        }
        let ours = client.ask_bytes(line).0;
        let theirs = if silent {
            let words = words(line);
            let mut request = Vec::new();
            encode::command(&mut request, words.iter().map(Vec::as_slice));
            ask(&mut stream, &request, |_| true)
        } else {
            ask_server(&mut stream, line)
        };
        let (ours, theirs) = (without_id(&ours), without_id(&theirs));
        if ours != theirs {
            different.push(format!("{line}\n   ours {ours:?}\n theirs {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn answers_are_those_of_a_redis_server_in_resp2() {
    compare(Version::Resp2);
}

#[test]
fn answers_are_those_of_a_redis_server_in_resp3() {
    compare(Version::Resp3);
}

/// Whether Redis 7.0 does not have this command or subcommand.
fn is_newer(name: &str) -> bool {
    name.split('|').next() == Some("hotkeys")
}

/// `COMMAND INFO` of everything. Redis lists subcommands in the order of a hash
/// table seeded at its start, so that each is asked for by its own name.
#[test]
fn every_command_is_described_as_a_redis_server_does() {
    let server = Server::start(
        "redis-server",
        &["--save", "", "--bind", "127.0.0.1", "--port"],
    );
    let mut stream = server.connect();
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    for hello in ["hello 2", "hello 3"] {
        ask_server(&mut stream, hello);
        client.ask(hello);
        for command in COMMANDS.iter().filter(|command| !is_newer(command.name)) {
            let own = command.subcommands.is_empty().then_some(command.name);
            let subcommands = command.subcommands.iter().map(|sub| sub.name);
            for name in own.into_iter().chain(subcommands) {
                // A name holds no space; `_` stands for one in these tests.
                let words: Vec<&[u8]> = vec![b"command", b"info", name.as_bytes()];
                let mut request = Vec::new();
                encode::command(&mut request, words.iter().copied());
                let theirs = ask(&mut stream, &request, |reply| {
                    matches!(Scanner::default().feed(reply), Ok(Scan::Done(_)))
                });
                let mut ours = Vec::new();
                let command = lookup(b"command").unwrap();
                let _ = answer(
                    command,
                    &words,
                    &mut client.session,
                    &client.context,
                    &mut ours,
                );
                assert_eq!(
                    String::from_utf8_lossy(&ours),
                    String::from_utf8_lossy(&theirs),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn lists_of_commands_are_those_of_a_redis_server() {
    let server = Server::start(
        "redis-server",
        &["--save", "", "--bind", "127.0.0.1", "--port"],
    );
    let mut stream = server.connect();
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    for line in [
        "command list",
        "command list filterby pattern x*",
        "command list filterby pattern *|GET*",
        "command list filterby aclcat hyperloglog",
        "acl cat read",
        "acl cat dangerous",
        "acl cat Slow",
    ] {
        let sorted = |reply: &[u8]| {
            let mut names: Vec<String> = elements(reply)
                .unwrap()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .filter(|name| {
                    !is_newer(
                        name.rsplit("\r\n")
                            .find(|word| !word.is_empty())
                            .unwrap_or(name),
                    )
                })
                .collect();
            names.sort();
            names
        };
        let ours = client.ask_bytes(line).0;
        let theirs = ask_server(&mut stream, line);
        assert_eq!(sorted(&ours), sorted(&theirs), "{line}");
    }
}

#[test]
fn nothing_is_answered_before_authentication() {
    let running = running(Protocol::Redis, Some("secret"));
    let mut client = Client::new(&running);
    let refused = "-NOAUTH Authentication required.\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(client.ask("ping"), refused);
    assert_eq!(client.ask("get a"), refused);
    assert_eq!(client.ask("auth wrong"), wrong);
    assert_eq!(client.ask("auth nobody secret"), wrong);
    assert!(
        client
            .ask("hello 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert_eq!(client.ask("ping"), refused);
    assert_eq!(client.session.version, Version::Resp2);
    assert_eq!(client.ask("hello 3 auth default wrong"), wrong);
    assert!(
        client
            .ask("hello 3 auth default secret setname me")
            .starts_with("%7\r\n")
    );
    assert_eq!(client.ask("ping"), "+PONG\r\n");
    assert_eq!(client.ask("client getname"), "$2\r\nme\r\n");
    assert_eq!(client.ask("reset"), "+RESET\r\n");
    assert_eq!(client.ask("ping"), refused);
    assert_eq!(client.ask("auth secret"), "+OK\r\n");
    assert_eq!(client.ask("auth default secret"), "+OK\r\n");
    assert_eq!(client.ask("client getname"), "$-1\r\n");
}

#[test]
fn every_local_command_is_answered_whatever_its_arguments() {
    let running = running(Protocol::Redis, None);
    for command in COMMANDS
        .iter()
        .filter(|command| command.class == Class::Local)
    {
        let mut lines = vec![command.name.to_string()];
        let subcommands = command.subcommands.iter();
        lines.extend(subcommands.map(|sub| sub.name.replace('|', " ")));
        for line in lines {
            for more in [
                "", " ''", " a", " a b", " a b c", " on", " 0", " -1 1", " help",
            ] {
                let line = format!("{line}{more}");
                let mut client = Client::new(&running);
                let (reply, _) = client.ask_bytes(&line);
                let silent = line.starts_with("client reply") && reply.is_empty();
                let whole = Scanner::default().feed(&reply) == Ok(Scan::Done(reply.len()));
                assert!(
                    whole || silent,
                    "{line}: {:?}",
                    String::from_utf8_lossy(&reply)
                );
            }
        }
    }
}

#[test]
fn a_small_request_gets_no_huge_answer() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    for line in [
        "command info",
        "command docs",
        "config get",
        "info",
        "latency reset",
    ] {
        let reply = client.ask(&format!("{line}{}", " xgroup".repeat(100_000)));
        assert!(reply.len() < 1000, "{line}: {}", reply.len());
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    for (line, why) in [
        (
            "config set maxmemory 1",
            "its settings come from its configuration file",
        ),
        (
            "config rewrite",
            "its settings come from its configuration file",
        ),
        ("client pause 100", "it would stop every client"),
        ("client tracking on", "does not pass invalidations on"),
        ("acl setuser x", "its one user comes from"),
        ("select 1", "DB index is out of range"),
        ("multi", "transaction"),
        ("shutdown", "refused"),
    ] {
        let reply = client.ask(line);
        assert!(
            reply.starts_with("-ERR ") && reply.contains(why),
            "{line}: {reply}"
        );
        assert_eq!(reply.matches("\r\n").count(), 1);
    }
}

#[test]
fn a_client_sees_and_ends_its_own_connection() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    assert_eq!(client.ask("client setinfo lib-name redis-py"), "+OK\r\n");
    assert_eq!(client.ask("client setinfo LIB-VER 5.0.8"), "+OK\r\n");
    assert_eq!(
        client.ask("client setinfo lib-ver a_b"),
        "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"
    );
    assert_eq!(
        client.ask("client setinfo foo x"),
        "-ERR Unrecognized option 'foo'\r\n"
    );
    assert_eq!(client.ask("client no-touch on"), "+OK\r\n");
    assert_eq!(client.ask("client id"), ":7\r\n");
    let line = client.ask("client info");
    for field in [
        "id=7 ",
        "addr=127.0.0.1:50000 ",
        "laddr=127.0.0.1:7379 ",
        " age=5 ",
        " lib-name=redis-py lib-ver=5.0.8\n",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    let end = |line: &str, reply: &str, then| {
        let mut client = Client::new(&running);
        let (bytes, what) = client.ask_bytes(line);
        assert_eq!(String::from_utf8_lossy(&bytes), reply, "{line}");
        assert_eq!(what, then, "{line}");
    };
    end("client kill 127.0.0.1:50000", "+OK\r\n", Then::Close);
    end("client kill id 7", ":0\r\n", Then::Continue);
    end("client kill id 7 skipme no", ":1\r\n", Then::Close);
    end("quit", "+OK\r\n", Then::Close);
}

#[test]
fn info_prints_the_sections_that_are_asked_for() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    let all = client.ask("info");
    for field in [
        "# Server\r\nredis_version:7.0.15\r\n",
        "tcp_port:7379\r\n",
        "uptime_in_seconds:3600\r\n",
        "connected_clients:3\r\n",
        "total_commands_processed:1234\r\n",
        "\r\n\r\n# Replication\r\nrole:master\r\n",
        "# Emberline\r\nlistener:main\r\n",
    ] {
        assert!(all.contains(field), "{field} in {all}");
    }
    assert_eq!(client.ask("info everything").len(), all.len());
    assert_eq!(client.ask("info KEYSPACE"), "$12\r\n# Keyspace\r\n\r\n");
    assert_eq!(client.ask("info cluster keyspace").matches('#').count(), 2);
    client.ask("hello 3");
    assert_eq!(client.ask("info keyspace"), "=16\r\ntxt:# Keyspace\r\n\r\n");
}

#[test]
fn passwords_are_as_long_as_asked_for() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    for (line, digits) in [
        ("acl genpass", 64),
        ("acl genpass 5", 2),
        ("acl genpass 4096", 1024),
    ] {
        let reply = client.ask(line);
        assert!(reply.starts_with(&format!("${digits}\r\n")), "{reply}");
        assert_ne!(client.ask("acl genpass"), client.ask("acl genpass"));
    }
}

#[test]
fn the_proxys_own_command_is_listed_with_the_others() {
    let running = running(Protocol::Redis, None);
    let mut client = Client::new(&running);
    assert_eq!(client.ask("command count"), ":241\r\n");
    assert!(
        client
            .ask("command list")
            .contains("$11\r\nhotkeys|get\r\n")
    );
    assert!(
        client
            .ask("command info hotkeys")
            .contains("$7\r\nhotkeys\r\n:-2\r\n")
    );
    assert!(client.ask("acl cat admin").contains("hotkeys|start"));
}

/// A reply without what only framing needs, a line for each element.
fn elements_of(reply: &str) -> Vec<&str> {
    let lines = reply.split("\r\n");
    lines
        .filter(|line| !line.starts_with('$') && !line.is_empty())
        .collect()
}

#[test]
fn hot_keys_are_told_in_the_outline_of_redis_and_in_full() {
    let mut running = running(Protocol::Redis, None);
    running.pools.push(pool(Protocol::Redis));
    let mut client = Client::new(&running);
    let head = [
        "tracking-active",
        ":1",
        "sample-ratio",
        ":1",
        "selected-slots",
        "*1",
        "*2",
        ":0",
        ":16383",
        "collection-start-time-unix-ms",
        ":1699999999000",
        "collection-duration-ms",
        ":1000",
        "total-net-bytes",
        ":6300",
        "by-net-bytes",
        "*4",
        "00000000000000b0",
        ":4500",
        "00000000000000a0",
        ":1800",
        "by-requests",
        "*4",
        "00000000000000a0",
        ":450",
        "00000000000000b0",
        ":90",
        "emberline-keys",
        "*2",
    ];
    let busiest = [
        "key",
        "00000000000000a0",
        "pool",
        "cache",
        "state",
        "cached",
        "requests-per-second",
        "500",
        "requests-per-second-min",
        "450",
        "requests-per-second-max",
        "550",
        "reads-per-second",
        "490",
        "writes-per-second",
        "10",
        "bytes-per-second",
        "2000",
        "share",
        "0.5",
        "certain",
        ":1",
        "window-ms",
        ":1000",
        "hits",
        ":3",
        "misses",
        ":1",
        "hot-ms",
        ":5000",
    ];
    let resp2 = client.ask("hotkeys get");
    let expected = [
        &["*1", "*18"],
        &head[..],
        &["*30"],
        &busiest[..],
        &["*30", "key"],
    ]
    .concat();
    let found = elements_of(&resp2);
    assert_eq!(found[..expected.len()], expected[..]);
    assert_eq!(found[expected.len()], "00000000000000b0");
    // In RESP3 maps are maps and rates are numbers.
    client.ask("hello 3");
    let resp3 = client.ask("hotkeys get");
    assert!(
        resp3.starts_with("*1\r\n%9\r\n$15\r\ntracking-active\r\n:1\r\n"),
        "{resp3}"
    );
    assert!(resp3.contains("$5\r\nshare\r\n,0.5\r\n"), "{resp3}");
    // COUNT cuts every list.
    let one = client.ask("HOTKEYS GET COUNT 1");
    assert!(
        one.contains("by-net-bytes\r\n*2\r\n$16\r\n00000000000000b0\r\n"),
        "{one}"
    );
    assert!(one.contains("emberline-keys\r\n*1\r\n"), "{one}");
}

#[test]
fn hotkeys_accepts_the_whole_workflow_and_says_no_to_nonsense() {
    let mut running = running(Protocol::Redis, None);
    running.pools.push(pool(Protocol::Redis));
    {
        let mut client = Client::new(&running);
        for (line, reply) in [
            ("hotkeys start metrics 2 cpu net duration 60", "+OK\r\n"),
            ("hotkeys stop", "+OK\r\n"),
            ("hotkeys reset", "+OK\r\n"),
            (
                "hotkeys get count 0",
                "-ERR COUNT must be between 1 and 64\r\n",
            ),
            (
                "hotkeys get count 65",
                "-ERR COUNT must be between 1 and 64\r\n",
            ),
            (
                "hotkeys get count x",
                "-ERR COUNT must be between 1 and 64\r\n",
            ),
            ("hotkeys get count", "-ERR syntax error\r\n"),
            ("hotkeys get limit 1", "-ERR syntax error\r\n"),
            (
                "hotkeys stop now",
                "-ERR wrong number of arguments for 'hotkeys|stop' command\r\n",
            ),
            (
                "hotkeys",
                "-ERR wrong number of arguments for 'hotkeys' command\r\n",
            ),
            (
                "hotkeys foo",
                "-ERR unknown subcommand 'foo'. Try HOTKEYS HELP.\r\n",
            ),
        ] {
            assert_eq!(client.ask(line), reply, "{line}");
        }
        assert!(
            client
                .ask("hotkeys help")
                .contains("+GET [COUNT <count>]\r\n")
        );
    }
    // Where nothing is counted there is nothing to tell, as before START.
    running.pools[0].hotkey.enabled = false;
    assert_eq!(Client::new(&running).ask("hotkeys get"), "$-1\r\n");
}
