//! Routes that fill one child from another, before real servers.

#![allow(clippy::unwrap_used)]

mod routes_support;
mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use routes_support::{Dialect, House, story, story_of};
use support::{
    Client, Emberline, Scripted, Server, command, drain_requests, eventually, setting, show,
};

#[test]
fn warm_up_fills_the_cold_child_with_ttl_and_flags() {
    story(
        "[routes.top]
        type = 'warm_up'
        cold = 'a'
        warm = 'b'",
        "b set k 1 1000        -> ok
        b set stays 2           -> ok
        client get k            -> 1
        a get k                 ~> 1
        a ttl k                 -> 1000s
        client mget k no stays  -> 1 - 2
        a ttl stays             ~> forever
        a get no                -> -
        client set k 3          -> ok
        a get k                 -> 3
        b get k                 -> 1
        client get k            -> 3
        client set n 5          -> ok
        client incr n           -> 6
        b get n                 -> -
        client del k            -> 1
        a get k                 -> -
        b get k                 -> -
        client get k            -> -
        memcached: b set f v 1000 7  -> ok
        memcached: client get f      -> v
        memcached: a flags f         ~> 7
        memcached: a ttl f           -> 1000s
        a kill
        client get stays        -> 2
        client set k 4          -> !",
    );
}

#[test]
fn a_copy_does_not_replace_what_was_written_meanwhile() {
    story(
        "[routes.top]
        type = 'warm_up'
        cold = 'a'
        warm = 'b'
        ttl = '100s'",
        "b set k old 1000   -> ok
        client set k new     -> ok
        client get k         -> new
        a get k              -> new
        b set capped 1 5000  -> ok
        client get capped    -> 1
        a ttl capped         ~> 100s
        b ttl capped         -> 5000s",
    );
}

#[test]
fn warm_up_copies_every_type_of_redis() {
    story_of(
        Dialect::Redis,
        "[routes.top]
        type = 'warm_up'
        cold = 'a'
        warm = 'b'",
        "b HSET h f 1 g 2      -> 2
        b EXPIRE h 1000        -> 1
        b ZADD z 1 x 2 y       -> 2
        // A miss of a part is a miss; the key is copied behind it.
        client HGET h f        -> -
        client HGET h f        ~> 1
        a HGET h g             ~> 2
        a ttl h                -> 1000s
        client ZRANGE z 0 -1   ~> x y
        a ZRANGE z 0 -1        ~> x y
        client HSET h f 9      -> 0
        client HGET h f        -> 9
        b HGET h f             -> 1",
    );
}

/// One reads what only the warm child has, so that it is copied; another
/// deletes it meanwhile. Whatever the order, nothing is left or comes back.
fn race(dialect: Dialect, deletes: usize) {
    const WAVE: usize = 500;
    let config = "[routes.top]\ntype = 'warm_up'\ncold = 'a'\nwarm = 'b'\ntombstone = '2s'";
    let Some(mut house) = House::new(dialect, config, "b get k") else {
        return;
    };
    let ask = |verb: &str, key: &str| match (dialect, verb) {
        (Dialect::Redis, "get") => command(&["GET", key]),
        (Dialect::Redis, "del") => command(&["DEL", key]),
        (Dialect::Redis, _) => command(&["SET", key, "v"]),
        (Dialect::Memcached, "get") => format!("get {key}\r\n").into_bytes(),
        (Dialect::Memcached, "del") => format!("delete {key}\r\n").into_bytes(),
        (Dialect::Memcached, _) => format!("set {key} 0 0 1\r\nv\r\n").into_bytes(),
    };
    let reply = |client: &mut Client| match dialect {
        Dialect::Redis => client.reply(),
        Dialect::Memcached => client.memcached_reply(),
    };
    let mut filled = 0;
    for wave in 0..deletes.div_ceil(WAVE) {
        let keys: Vec<String> = (0..WAVE).map(|number| format!("{wave}:{number}")).collect();
        let mut warm = house.servers[1].client();
        for key in &keys {
            warm.send(&ask("set", key));
        }
        keys.iter().for_each(|_| drop(reply(&mut warm)));
        let done = AtomicBool::new(false);
        let mut readers = [house.proxy.client(), house.proxy.client()];
        let mut deleter = house.proxy.client();
        std::thread::scope(|scope| {
            for reader in &mut readers {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for some in keys.chunks(50) {
                            some.iter().for_each(|key| reader.send(&ask("get", key)));
                            some.iter().for_each(|_| drop(reply(reader)));
                        }
                    }
                });
            }
            for some in keys.chunks(10) {
                some.iter().for_each(|key| deleter.send(&ask("del", key)));
                for _ in some {
                    let said = reply(&mut deleter);
                    assert!(matches!(said.first(), Some(b':' | b'D')), "{said:?}");
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        // Copies that are under way are not waited for by anybody.
        std::thread::sleep(Duration::from_millis(20));
        filled += fills(&house);
        for key in &keys {
            let left = house.perform(&format!("a get {key}"));
            assert_eq!(left, "-", "{dialect:?}: {key} is back");
        }
    }
    // Nothing would be shown if there had been nothing to race with.
    assert!(filled > deletes / 100, "only {filled} copies were made");
}

/// How many keys were copied to the first server, and by now deleted again.
fn fills(house: &House) -> usize {
    let mut server = house.servers[0].client();
    let (text, name) = match house.dialect {
        Dialect::Redis => (
            server.call(&["INFO", "commandstats"]),
            "cmdstat_restore:calls=",
        ),
        Dialect::Memcached => (server.ask("stats\r\n"), "STAT total_items "),
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let rest = text.split(name).nth(1).unwrap_or("0");
    let end = rest.find(|letter: char| !letter.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

#[test]
fn deletes_that_race_with_copies_bring_nothing_back() {
    let deletes = setting("EMBERLINE_RACE_DELETES", 2000) as usize;
    race(Dialect::Redis, deletes);
    race(Dialect::Memcached, deletes);
}

#[test]
fn slow_warm_up_spares_a_cold_child_and_lets_it_back() {
    let config = "[routes.top]
        type = 'slow_warm_up'
        target = 'a'
        fallback = 'b'
        requests_min = 20";
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, config, "b get k") else {
            return;
        };
        house.tell("b set k old -> ok");
        let asked = |house: &mut House, count: usize, answer: &str| {
            let each = (0..count).map(|_| house.perform("client get k"));
            each.filter(|got| got == answer).count()
        };
        asked(&mut house, 100, "-");
        let missed = asked(&mut house, 300, "-");
        assert!((3..=80).contains(&missed), "{missed} of 300 went to it");
        house.tell("a set k new -> ok");
        // Its hit rate rises, and with it what it gets.
        let rounds = (0..200).find(|_| asked(&mut house, 100, "new") == 100);
        assert!(rounds.is_some(), "it never gets everything again");
        house.tell(
            "client set k newer -> ok
            a get k              -> newer
            b get k              -> newer
            client del k         -> 1
            a get k              -> -
            b get k              -> -",
        );
    }
}

#[test]
fn migrate_moves_each_key_once_and_deletes_from_both() {
    let config = |start: &str| {
        format!(
            "[routes.top]\ntype = 'migrate'\nfrom = 'a'\nto = 'b'\nstart = '{start}'\ninterval = '1h'"
        )
    };
    story(
        &config("2099-01-01T00:00:00Z"),
        "client set k 1  -> ok
        a get k          -> 1
        b set k 2        -> ok
        client del k     -> 1
        b get k          -> 2",
    );
    story(
        &config("2001-01-01T00:00:00Z"),
        "client set k 1  -> ok
        b get k          -> 1
        client mget k no -> 1 -
        a get k          -> -",
    );
    let began = SystemTime::now() - Duration::from_secs(1800);
    let config = config(&rfc3339(began));
    for dialect in [Dialect::Redis, Dialect::Memcached] {
        let Some(mut house) = House::new(dialect, &config, "b get k") else {
            return;
        };
        let mut moved = 0;
        for number in 0..200 {
            let key = format!("key{number}");
            house.tell(&format!("client set {key} v -> ok\nclient get {key} -> v"));
            let (a, b) = (
                house.perform(&format!("a get {key}")),
                house.perform(&format!("b get {key}")),
            );
            assert!((a == "v") != (b == "v"), "{key}: {a} and {b}");
            moved += usize::from(b == "v");
        }
        assert!((60..=140).contains(&moved), "{moved} of 200 have moved");
        house.tell(
            "a set k 1     -> ok
            b set k 1      -> ok
            client del k   -> 1
            a get k        -> -
            b get k        -> -",
        );
    }
}

/// As a configuration writes a moment.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`, for days after 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[test]
fn staging_sees_everything_and_matters_to_nobody() {
    story(
        "[routes.top]
        type = 'staging'
        warm = 'a'
        staging = 'b'
        [pools.b]
        protocol = 'PROTOCOL'
        servers = ['@b']
        request_timeout = '60s'",
        "a set k 1 1000     -> ok
        client get k         -> 1
        b get k              ~> 1
        b ttl k              -> 1000s
        client set n 5       -> ok
        b get n              ~> 5
        client incr n        -> 6
        b get n              ~> 6
        client mget k no n   -> 1 - 6
        client del k n       -> 2
        b get k              ~> -
        b get n              ~> -
        client get k         -> -
        b set k 9            -> ok
        client get k         -> -
        b freeze
        client set k 2       -> ok
        client get k         -> 2
        client incr k        -> 3
        client del k         -> 1
        client set k 4       -> ok
        b thaw
        b get k              ~> 4
        b kill
        client set k 5       -> ok
        client get k         -> 5
        client del k         -> 1",
    );
}

#[test]
fn two_tiers_fill_the_near_one_and_write_to_the_far_one() {
    story(
        "[routes.top]
        type = 'l1_l2'
        l1 = 'a'
        l2 = 'b'
        ttl = '100s'",
        "client set k 1 1000    -> ok
        b ttl k                  -> 1000s
        a get k                  -> -
        client get k             -> 1
        client get k; a get k    ~> 1
        a ttl k                  -> 100s
        b set k 2                -> ok
        client get k             -> 1      // until the TTL ends
        client set k 3           -> ok
        client get k             -> 3
        client get k; a get k    ~> 3      // a delete is remembered for a while
        client incr k            -> 4
        client get k             -> 4
        client mget k no         -> 4 -
        client del k             -> 1
        a get k                  -> -
        b get k                  -> -
        client get k             -> -
        memcached: client set f v 1000 7  -> ok
        memcached: client get f           -> v
        memcached: client get f; a flags f  ~> 7
        b set k 5                -> ok
        a kill
        client get k             -> 5
        client set k 6           -> ok
        client get k             -> 6",
    );
}

#[test]
fn what_the_far_tier_has_not_got_is_remembered_for_a_while() {
    story(
        "[routes.top]
        type = 'l1_l2'
        l1 = 'a'
        l2 = 'b'
        negative_ttl = '3s'",
        "client get k      -> -
        b set k 1           -> ok
        client get k        -> -      // it was remembered
        client get k        ~> 1      // not for ever
        client get other    -> -
        client set other 2  -> ok
        client get other    -> 2      // who writes ends it
        client get third    -> -
        friend set third 3  -> ok
        client get third    -> 3",
    );
}

#[test]
fn a_field_that_is_not_there_does_not_make_its_key_absent() {
    story_of(
        Dialect::Redis,
        "[routes.top]
        type = 'l1_l2'
        l1 = 'a'
        l2 = 'b'
        negative_ttl = '60s'",
        "b hset h f v        -> 1
        client hget h no     -> -
        client hget h f      -> v
        client hget none f   -> -
        client hgetall none  -> 
        client hlen none     -> 0
        client type none     -> none
        b set none 1         -> ok
        client get none      -> -      // known from `hgetall` on
        client strlen none   -> 0",
    );
}

/// A server of one key that can be made to lose a copy's reply, and then to
/// hang up on everybody.
#[derive(Debug, Default)]
struct Loser {
    has: AtomicBool,
    /// A copy has come, and is not yet stored.
    adding: AtomicBool,
    /// It was deleted while that was so.
    deleted: AtomicBool,
    gone: AtomicBool,
    /// Deletes that came since it is back.
    late: AtomicUsize,
}

impl Loser {
    fn script(&self, mut stream: TcpStream) {
        drain_requests(&mut stream, |stream, args| {
            if self.gone.load(Ordering::SeqCst) {
                return false;
            }
            let reply: &[u8] = match args[0].to_ascii_uppercase().as_slice() {
                b"HELLO" => b"%1\r\n+proto\r\n:3\r\n",
                b"PING" => b"+PONG\r\n",
                b"GET" if self.has.load(Ordering::SeqCst) => b"$3\r\nold\r\n",
                b"GET" => b"$-1\r\n",
                b"DEL" => {
                    self.deleted.store(true, Ordering::SeqCst);
                    self.late.fetch_add(1, Ordering::SeqCst);
                    match self.has.swap(false, Ordering::SeqCst) {
                        true => b":1\r\n",
                        false => b":0\r\n",
                    }
                }
                b"RESTORE" => {
                    self.adding.store(true, Ordering::SeqCst);
                    eventually("nobody deletes the key", || {
                        self.deleted.load(Ordering::SeqCst)
                    });
                    self.has.store(true, Ordering::SeqCst);
                    self.gone.store(true, Ordering::SeqCst);
                    return false;
                }
                _ => b"+OK\r\n",
            };
            stream.write_all(reply).is_ok()
        });
    }
}

#[test]
fn a_copy_that_came_behind_its_delete_is_never_read() {
    let Some(warm) = Server::redis() else { return };
    let state = Arc::new(Loser::default());
    let told = Arc::clone(&state);
    let cold = Scripted::start(move |stream, _| told.script(stream));
    let proxy = Emberline::config_with(
        &format!(
            "[listeners.main]\nprotocol = 'redis'\nbind = 'REDIS_BIND'\n\
             route = {{ type = 'warm_up', cold = 'a', warm = 'b' }}\n\
             [pools.a]\nprotocol = 'redis'\nservers = ['{}']\nrequest_timeout = '20s'\n\
             [pools.b]\nprotocol = 'redis'\nservers = ['{}']\nrequest_timeout = '20s'\n",
            cold.address(),
            warm.address()
        ),
        &["--workers", "1"],
    );
    // Who speaks another version has another connection: its delete overtakes
    // the copy.
    let (mut reader, mut deleter) = (proxy.client(), proxy.client());
    assert!(deleter.call(&["HELLO", "3"]).starts_with(b"%"));
    warm.client().call(&["SET", "k", "old"]);
    assert_eq!(show(&reader.call(&["GET", "k"])), "$3\\r\\nold\\r\\n");
    eventually("no copy is made", || state.adding.load(Ordering::SeqCst));
    assert_eq!(show(&deleter.call(&["DEL", "k"])), ":1\\r\\n");
    // The copy is stored, but nobody is told, nor can anybody tell the server
    // anything: it hangs up, until all have tried.
    eventually("the server does not hang up", || {
        state.gone.load(Ordering::SeqCst)
    });
    for _ in 0..20 {
        let said = show(&reader.call(&["GET", "k"]));
        assert!(!said.contains("old"), "{said}");
        std::thread::sleep(Duration::from_millis(10));
    }
    state.late.store(0, Ordering::SeqCst);
    state.gone.store(false, Ordering::SeqCst);
    eventually("the delete does not come", || {
        let said = show(&reader.call(&["GET", "k"]));
        assert!(!said.contains("old"), "{said}");
        state.late.load(Ordering::SeqCst) > 0
    });
    // It is not a verdict for ever.
    state.has.store(true, Ordering::SeqCst);
    eventually("the key is not read again", || {
        show(&reader.call(&["GET", "k"])) == "$3\\r\\nold\\r\\n"
    });
    assert_eq!(state.late.load(Ordering::SeqCst), 1);
}
