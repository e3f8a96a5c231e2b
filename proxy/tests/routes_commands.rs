//! A table of requests, sent through every route that answers from one place
//! while nothing fails: the replies are those of a server without a proxy, byte
//! for byte.
//!
//! Where a route must answer otherwise, it is listed with its [`Otherwise`],
//! request by request. A request that a route refuses is not sent to the plain
//! server either, so that what comes behind it still finds the same.

#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Client, Emberline, Server, command, eventually, show};

/// A route, and what it answers otherwise than a plain server.
struct Case {
    name: &'static str,
    /// The table of the route, before the pools `a`, `b` and `c`.
    route: &'static str,
    redis: &'static [Otherwise],
    memcached: &'static [Otherwise],
}

/// What a route says where a plain server says something else.
#[derive(Clone, Copy)]
enum Otherwise {
    /// These requests get this error, in which `NAME` is the command's, and
    /// nothing is done.
    Refuses(&'static str, &'static [&'static str]),
    /// This request is carried out, and its reply is another.
    Says(&'static str, &'static str),
    /// The reply to this request is the plain server's, or this one.
    MaySay(&'static str, &'static str),
}

use Otherwise::{MaySay, Refuses, Says};

impl Case {
    const fn new(name: &'static str, route: &'static str) -> Case {
        Case {
            name,
            route,
            redis: &[],
            memcached: &[],
        }
    }

    const fn redis(self, redis: &'static [Otherwise]) -> Case {
        Case { redis, ..self }
    }

    const fn memcached(self, memcached: &'static [Otherwise]) -> Case {
        Case { memcached, ..self }
    }
}

const CASES: &[Case] = &[
    Case::new("pool", "route = 'a'"),
    Case::new(
        "replicas, first",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']",
    )
    .memcached(&[UNIQUE]),
    Case::new(
        "replicas, random",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']\nread = 'random'",
    )
    .memcached(WINNERS),
    Case::new(
        "replicas, fastest",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']\nread = 'fastest'",
    )
    .memcached(WINNERS),
    Case::new(
        "replicas, majority",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']\nwait = 'majority'",
    )
    .memcached(&[UNIQUE]),
    Case::new(
        "replicas, one",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']\nwait = 'one'",
    )
    .memcached(&[UNIQUE]),
    Case::new(
        "replicas, repair",
        "type = 'replicas'\nchildren = ['a', 'b', 'c']\nread_repair = true",
    )
    .memcached(&[UNIQUE]),
    Case::new("failover", "type = 'failover'\nchildren = ['a', 'b', 'c']"),
    Case::new("gutter", "type = 'gutter'\nmain = 'a'\ngutter = 'b'"),
    Case::new(
        "miss_failover",
        "type = 'miss_failover'\nchildren = ['a', 'b']",
    ),
    Case::new("warm_up", "type = 'warm_up'\ncold = 'a'\nwarm = 'b'"),
    Case::new("staging", "type = 'staging'\nwarm = 'a'\nstaging = 'b'"),
    Case::new(
        "shadow",
        "type = 'shadow'\nmain = 'a'\ncopies = [{ route = 'b' }]",
    ),
    Case::new(
        "shadow, half by key",
        "type = 'shadow'\nmain = 'a'\ncopies = [{ route = 'b', share = 0.5, by = 'key' }]",
    ),
    Case::new("l1_l2", "type = 'l1_l2'\nl1 = 'a'\nl2 = 'b'"),
    Case::new("ttl", "type = 'ttl'\nchild = 'a'\ncap = '700h'")
        // What is to live for ever is capped, too.
        .redis(&[
            Says("ttl p:{u}n", ":2520000"),
            Says("ttl p:{u}e", ":2520000"),
        ])
        .memcached(&[Says("ma w D10 v t", "VA 2 t2520000\r\n12")]),
    Case::new("key", "type = 'key'\nchild = 'a'\nadd_prefix = 'app:'").redis(&[PATTERNS]),
    Case::new(
        "prefix, strip",
        "type = 'prefix'\nchildren = { 'p:' = 'a' }\ndefault = 'a'\nstrip = true",
    )
    .redis(&[PATTERNS]),
    Case::new(
        "prefix",
        "type = 'prefix'\nchildren = { 'p:' = 'a' }\ndefault = 'b'",
    ),
    Case::new("operation", "type = 'operation'\nreads = 'a'\nwrites = 'a'"),
    Case::new(
        "hash_key",
        "type = 'hash_key'\nchild = 'a'\ndelimiter = '}'",
    ),
    Case::new("by_host", "type = 'by_host'\nchildren = ['a', 'b']"),
    Case::new("by_client", "type = 'by_client'\nchildren = ['a', 'b']"),
    Case::new("random", "type = 'random'\nchildren = ['a', 'a']"),
    Case::new("latest", "type = 'latest'\nchildren = ['a', 'b', 'c']"),
    Case::new(
        "load_balance",
        "type = 'load_balance'\nchildren = ['a', 'a']",
    ),
    Case::new(
        "rate_limit",
        "type = 'rate_limit'\nchild = 'a'\nall = 1000000",
    ),
    Case::new(
        "limit_inflight",
        "type = 'limit_inflight'\nchild = 'a'\nmax = 100000",
    ),
    Case::new("log", "type = 'log'\nchild = 'a'\nshare = 1.0"),
    Case::new(
        "size_split",
        "type = 'size_split'\nsmall = 'a'\nlarge = 'b'\nthreshold = '1GiB'",
    )
    .redis(CONDITIONAL)
    .memcached(CONDITIONAL_MEMCACHED),
    Case::new(
        "big_value",
        "type = 'big_value'\nchild = 'a'\nchunk = '64MiB'",
    )
    .redis(PIECES)
    .memcached(PIECES_MEMCACHED),
    Case::new(
        "migrate",
        "type = 'migrate'\nfrom = 'a'\nto = 'b'\nstart = '2099-01-01T00:00:00Z'",
    ),
    Case::new(
        "slow_warm_up",
        "type = 'slow_warm_up'\ntarget = 'a'\nfallback = 'b'\nrequests_min = 100000",
    ),
    Case::new(
        "split_hot",
        "type = 'split_hot'\nchild = 'a'\ncopies = 2\nkeys = ['p:{u}none']",
    ),
];

/// Every replica counts its own, so that one would do it and the others not.
const UNIQUE: Otherwise = Refuses(
    "SERVER_ERROR route \"top\" cannot compare a value's unique number: \
     every replica counts its own",
    &[
        "cas k 5 0 3 @CAS|new",
        "cas k 5 0 3 @CAS|no!",
        "cas no 0 0 1 1|x",
        "ms k 2 C@CAS|CC",
        "ms k 2 C1|XX",
    ],
);

/// Every replica tells one client that it is the one to make a new value, so a
/// client that is sent to another replica may be told, too.
const WINNERS: &[Otherwise] = &[
    UNIQUE,
    MaySay("mg viv N90 v t", "VA 0 t90 W\r\n"),
    MaySay("mg m v", "VA 4 X W\r\nPred"),
];

/// The patterns of SORT name keys that nobody can list, and are not rewritten:
/// the server finds no weights, and sorts by the values.
const PATTERNS: Otherwise = Says("SORT p:{u}l BY p:{u}w*", "*2\r\n$1\r\n1\r\n$1\r\n3");

/// What the value is, and so whether the condition holds, may be known to
/// either child.
const CONDITIONAL: &[Otherwise] = &[Refuses(
    "-ERR route \"top\" cannot carry out a conditional write: \
     what it depends on may be in either child",
    &[
        "SETNX p:{u}once 1",
        "SETNX p:{u}once no",
        "GETSET p:{u}once 2",
        "SET p:{u}c 1 NX",
        "SET p:{u}c 2 NX",
        "SET p:{u}c 3 XX GET",
        "SET p:{u}d 1 XX",
        "SET p:{u}c 5 GET",
        "SET p:{u}c 6 PX 90000 NX",
        "MSETNX p:{u}m1 1 p:{u}m2 2",
        "MSETNX p:{u}m2 3 p:{u}m4 4",
    ],
)];

const CONDITIONAL_MEMCACHED: &[Otherwise] = &[Refuses(
    "SERVER_ERROR route \"top\" cannot carry out a conditional write: \
     what it depends on may be in either child",
    &[
        "add k 0 0 1|x",
        "add new 0 0 1|x",
        "replace no 0 0 1|x",
        "replace new 3 0 1|y",
        "cas k 5 0 3 @CAS|new",
        "cas k 5 0 3 @CAS|no!",
        "cas no 0 0 1 1|x",
        "ms k 2 C@CAS|CC",
        "ms k 2 C1|XX",
        "ms m 3 ME|no!",
        "ms m 3 MR F0|red",
        "ms w 1 ME q|2",
    ],
)];

/// What would leave something that could be taken for a head, or looks at one.
const PIECES: &[Otherwise] = &[Refuses(
    "-ERR route `top` keeps large values in pieces, where NAME cannot work",
    &[
        "APPEND p:{u}s -world",
        "SETRANGE p:{u}s 6 W",
        "SORT p:{u}l BY nosort GET # GET p:{u}none*",
        "SETBIT p:{u}bits 7 1",
        "GETBIT p:{u}bits 7",
        "BITCOUNT p:{u}bits",
        "BITPOS p:{u}bits 1",
        "BITFIELD p:{u}bits SET u8 0 255 GET u4 0",
        "BITFIELD_RO p:{u}bits GET u4 0",
        "BITOP NOT p:{u}not p:{u}bits",
        "BITOP AND p:{u}and p:{u}bits p:{u}not",
        "COPY p:{u}s p:{u}s2",
        "COPY p:{u}n p:{u}s2 REPLACE",
        "RENAME p:{u}s2 p:{u}s3",
        "RENAME p:{u}none p:{u}s3",
        "RENAMENX p:{u}s3 p:{u}s",
        "RENAMENX p:{u}s3 p:{u}s4",
        "LCS p:{u}s p:{u}s4",
        "DUMP p:{u}h",
        "DUMP p:{u}none",
        "RESTORE p:{u}restored 0 @DUMP",
        "RESTORE p:{u}restored 90000 @DUMP REPLACE",
        "MSETNX p:{u}m1 1 p:{u}m2 2",
        "MSETNX p:{u}m2 3 p:{u}m4 4",
        INCRBY_AND_GET,
        "EVALSHA @SHA 2 p:{u}m1 p:{u}m2 5",
        "EVAL_RO return(redis.call('get',KEYS[1])) 1 p:{u}m1",
        "EVAL redis.call('del',KEYS[1]) 1 p:{u}m1",
        "EVAL return(redis.call('nosuch',KEYS[1])) 1 p:{u}m1",
    ],
)];

const INCRBY_AND_GET: &str = "EVAL \
    return{redis.call('incrby',KEYS[1],ARGV[1]),redis.call('get',KEYS[2])} 2 p:{u}m1 p:{u}m2 5";

const PIECES_MEMCACHED: &[Otherwise] = &[Refuses(
    "SERVER_ERROR route `top` keeps large values in pieces, where NAME cannot work",
    &[
        "append k 0 0 2|de",
        "prepend k 0 0 1|_",
        "append no 0 0 1|x",
        "ms m 3 MA|two",
        "ms m 1 MP|P",
    ],
)];

/// `@DUMP` stands for what the plain server's last DUMP said, `@SHA` for the
/// hash of the script before, `@SOON` for a moment in 1000 seconds. Sets of several members hold integers only, and
/// streams have their ids given: the replies depend on nothing else.
const REDIS: &str = "\
GET p:{u}s
SET p:{u}s hello
GET p:{u}s
SET p:{u}n 10 EX 100
TTL p:{u}n
INCR p:{u}n
INCRBY p:{u}n 5
DECR p:{u}n
INCRBYFLOAT p:{u}f 1.5
APPEND p:{u}s -world
STRLEN p:{u}s
GETRANGE p:{u}s 0 3
SETRANGE p:{u}s 6 W
SUBSTR p:{u}s 1 2
SETNX p:{u}once 1
SETNX p:{u}once no
GETSET p:{u}once 2
GETDEL p:{u}once
GET p:{u}once
GETEX p:{u}n PERSIST
ttl p:{u}n
GETEX p:{u}n EX 200
TTL p:{u}n
SET p:{u}c 1 NX
SET p:{u}c 2 NX
SET p:{u}c 3 XX GET
SET p:{u}c 4 KEEPTTL
SET p:{u}d 1 XX
SET p:{u}c 5 GET
SET p:{u}c 6 PX 90000 NX
GET p:{u}c
SETEX p:{u}e 100 v
PSETEX p:{u}p 100000 v
TTL p:{u}e
TTL p:{u}p
EXPIRE p:{u}e 50
EXPIRE p:{u}e 200 NX
EXPIRE p:{u}e 20 LT
EXPIRE p:{u}e 60 GT
TTL p:{u}e
PERSIST p:{u}e
ttl p:{u}e
EXPIREAT p:{u}e @SOON
EXPIRETIME p:{u}e
PEXPIRETIME p:{u}e
PEXPIRE p:{u}none 1000
EXPIRE p:{u}e -1
EXISTS p:{u}e
INCR p:{u}s
LPUSH p:{u}s x
SET p:{u}s
NOSUCH p:{u}s
GET
HSET p:{u}h a 1 b 2
HGET p:{u}h a
HGET p:{u}h no
HGETALL p:{u}h
HMGET p:{u}h a no
HINCRBY p:{u}h a 5
HINCRBYFLOAT p:{u}h b 0.5
HSETNX p:{u}h a 9
HMSET p:{u}h c 3
HSTRLEN p:{u}h c
HKEYS p:{u}h
HVALS p:{u}h
HEXISTS p:{u}h no
HSCAN p:{u}h 0
HDEL p:{u}h c b
HLEN p:{u}h
HRANDFIELD p:{u}h
HGETALL p:{u}none
RPUSH p:{u}l 3 1 2
LPUSH p:{u}l 4
LRANGE p:{u}l 0 -1
LINDEX p:{u}l 1
LSET p:{u}l 0 5
LINSERT p:{u}l BEFORE 1 6
LREM p:{u}l 0 6
LPOS p:{u}l 2
LPUSHX p:{u}none 1
LMOVE p:{u}l p:{u}m LEFT RIGHT
RPOPLPUSH p:{u}l p:{u}m
LRANGE p:{u}m 0 -1
LMPOP 2 p:{u}none p:{u}m LEFT COUNT 1
LPOP p:{u}none
SORT p:{u}l
SORT p:{u}l DESC LIMIT 0 1
SORT_RO p:{u}l
SORT p:{u}l STORE p:{u}sorted
LRANGE p:{u}sorted 0 -1
MSET p:{u}w1 2 p:{u}w3 1
SORT p:{u}l BY p:{u}w*
SORT p:{u}l BY nosort GET # GET p:{u}none*
LTRIM p:{u}l 0 0
RPOP p:{u}l 2
LLEN p:{u}l
SADD p:{u}x 1 2 3
SADD p:{u}y 2 3 4
SMEMBERS p:{u}x
SISMEMBER p:{u}x 1
SMISMEMBER p:{u}x 1 9
SCARD p:{u}x
SINTER p:{u}x p:{u}y
SUNION p:{u}x p:{u}y
SDIFF p:{u}x p:{u}y
SINTERSTORE p:{u}i p:{u}x p:{u}y
SUNIONSTORE p:{u}uni p:{u}x p:{u}y
SDIFFSTORE p:{u}diff p:{u}x p:{u}y
SMEMBERS p:{u}i
SINTERCARD 2 p:{u}x p:{u}y
SMOVE p:{u}x p:{u}y 1
SREM p:{u}x 3
SSCAN p:{u}x 0
SRANDMEMBER p:{u}x
SPOP p:{u}x
SCARD p:{u}x
ZADD p:{u}z 1 a 2 b 3 c
ZADD p:{u}w 10 a 20 b
ZADD p:{u}z GT CH 5 a
ZADD p:{u}z INCR 2 b
ZSCORE p:{u}z a
ZSCORE p:{u}z no
ZMSCORE p:{u}z a no
ZRANGE p:{u}z 0 -1 WITHSCORES
ZREVRANGE p:{u}z 0 0
ZRANGEBYSCORE p:{u}z 4 +inf
ZCOUNT p:{u}z 0 4
ZRANK p:{u}z c
ZINCRBY p:{u}z 1.5 c
ZUNIONSTORE p:{u}zz 2 p:{u}z p:{u}w WEIGHTS 2 1
ZINTERSTORE p:{u}zi 2 p:{u}z p:{u}w
ZINTER 2 p:{u}z p:{u}w WITHSCORES
ZDIFF 2 p:{u}z p:{u}w
ZRANGESTORE p:{u}zr p:{u}zz 0 1
ZRANGE p:{u}zz 0 -1 WITHSCORES
ZMPOP 2 p:{u}none p:{u}zr MIN
ZSCAN p:{u}z 0
ZREM p:{u}z a
ZPOPMIN p:{u}z
ZREMRANGEBYSCORE p:{u}z -inf +inf
ZCARD p:{u}z
XADD p:{u}t 1-1 f v
XADD p:{u}t 1-2 f w
XADD p:{u}t 1-1 f v
XADD p:{u}none NOMKSTREAM 1-1 f v
XLEN p:{u}t
XRANGE p:{u}t - +
XREAD COUNT 5 STREAMS p:{u}t 1-1
XREAD STREAMS p:{u}t 9-9
XGROUP CREATE p:{u}t g 0
XREADGROUP GROUP g me COUNT 1 STREAMS p:{u}t >
XPENDING p:{u}t g
XACK p:{u}t g 1-1
XDEL p:{u}t 1-1
XTRIM p:{u}t MAXLEN 0
XINFO GROUPS p:{u}t
SETBIT p:{u}bits 7 1
GETBIT p:{u}bits 7
BITCOUNT p:{u}bits
BITPOS p:{u}bits 1
BITFIELD p:{u}bits SET u8 0 255 GET u4 0
BITFIELD_RO p:{u}bits GET u4 0
BITOP NOT p:{u}not p:{u}bits
BITOP AND p:{u}and p:{u}bits p:{u}not
STRLEN p:{u}and
PFADD p:{u}p1 a b c
PFADD p:{u}p2 c d
PFCOUNT p:{u}p1
PFCOUNT p:{u}p1 p:{u}p2
PFMERGE p:{u}p3 p:{u}p1 p:{u}p2
PFCOUNT p:{u}p3
GEOADD p:{u}geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
GEODIST p:{u}geo Palermo Catania km
GEOPOS p:{u}geo Palermo
GEOSEARCH p:{u}geo FROMLONLAT 15 37 BYRADIUS 100 km ASC WITHDIST
GEOSEARCHSTORE p:{u}near p:{u}geo FROMLONLAT 15 37 BYRADIUS 100 km
ZCARD p:{u}near
COPY p:{u}s p:{u}s2
COPY p:{u}s p:{u}s2
COPY p:{u}n p:{u}s2 REPLACE
GET p:{u}s2
RENAME p:{u}s2 p:{u}s3
GET p:{u}s2
GET p:{u}s3
TTL p:{u}s3
RENAME p:{u}none p:{u}s3
RENAMENX p:{u}s3 p:{u}s
RENAMENX p:{u}s3 p:{u}s4
LCS p:{u}s p:{u}s4
TYPE p:{u}h
TYPE p:{u}none
OBJECT ENCODING p:{u}h
OBJECT ENCODING p:{u}y
OBJECT ENCODING p:{u}none
OBJECT REFCOUNT p:{u}h
DUMP p:{u}h
RESTORE p:{u}restored 0 @DUMP
RESTORE p:{u}restored 0 @DUMP
RESTORE p:{u}restored 90000 @DUMP REPLACE
HGETALL p:{u}restored
TTL p:{u}restored
DUMP p:{u}none
MSETNX p:{u}m1 1 p:{u}m2 2
MSETNX p:{u}m2 3 p:{u}m4 4
MGET p:{u}m1 p:{u}m2 p:{u}m4
EVAL return{redis.call('incrby',KEYS[1],ARGV[1]),redis.call('get',KEYS[2])} 2 p:{u}m1 p:{u}m2 5
EVALSHA @SHA 2 p:{u}m1 p:{u}m2 5
EVAL_RO return(redis.call('get',KEYS[1])) 1 p:{u}m1
EVAL redis.call('del',KEYS[1]) 1 p:{u}m1
GET p:{u}m1
EVAL return(redis.call('nosuch',KEYS[1])) 1 p:{u}m1
MSET x 1 y 2 z 3 v 4 x 5
MGET x no y z x
EXISTS x y no x
TOUCH x y no
UNLINK x no
MGET x y z
DEL y z no y
MGET x y z p:{u}s
EXISTS p:{u}h p:{u}s
DEL p:{u}s p:{u}h
EXISTS p:{u}h p:{u}s v
SET a:b:c 1
GET a:b:c
ECHO hi
PING";

/// A `|` stands for the end of a line, `@CAS` for the number that the last
/// `gets` or `mg c` told. What may say nothing is followed by an `mn`.
const MEMCACHED: &str = "\
get k
set k 5 0 3|abc
get k
get k no
set n 0 100 2|10
incr n 5
decr n 20
incr k 1
incr no 1
add k 0 0 1|x
add new 0 0 1|x
replace no 0 0 1|x
replace new 3 0 1|y
append k 0 0 2|de
prepend k 0 0 1|_
append no 0 0 1|x
get k new n no
gets k
cas k 5 0 3 @CAS|new
cas k 5 0 3 @CAS|no!
cas no 0 0 1 1|x
get k
touch k 100
touch no 100
gat 200 k
gats 200 k
gat 200 k no new
mg k t
mg k v
mg k s v f k Oq1
mg k v c
mg no v
mg no v q
mg k v q
ms k 2 C@CAS|CC
ms k 2 C1|XX
ms m 3 T90 F7 c|one
mg m t f v
ms m 3 ME|no!
ms m 3 MA|two
ms m 3 MR F0|red
ms m 1 MP|P
ms m 3 S5|bad
mg m v f
ms w 1 q|1
ms w 1 ME q|2
mg w v k Oz
ma w
ma w D10 v t
ma w MD D3 v
ma no v
ma auto N90 J13 v t
mg viv N90 v t
mg viv N90 v t
md m I T30
mg m v
mg m v
ms m 2|ok
mg m v f
md m q
md m
md no q
mg Zm9v b v k
ms Zm9v 3 b|bar
mg Zm9v b v k
mg foo v
get foo
set r 0 0 1 noreply|7
incr r 1 noreply
get r
delete r noreply
get r
delete k
delete k
get k
delete new 0
set neg 0 -1 1|x
get neg
set bad 0 0 x
get
nosuch
mg
me no
mn";

#[test]
fn redis_replies_are_those_of_a_plain_server() {
    let Some(plain) = Server::redis() else { return };
    let servers = Server::redis_many(6).unwrap();
    let mut wrong = String::new();
    for case in cases() {
        let proxy = before(&servers, "redis", case.route);
        for way in [Way::Resp2, Way::Resp3, Way::Pipelined] {
            for server in servers.iter().chain([&plain]) {
                server.client().call(&["FLUSHALL"]);
            }
            let expected = redis_expected(&mut plain.client(), way, case.redis);
            let got = redis_got(&mut proxy.client(), way, &expected);
            compare(case.name, &format!("{way:?}"), &expected, &got, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn memcached_replies_are_those_of_a_plain_server() {
    let Some(plain) = Server::memcached() else {
        return;
    };
    let servers = Server::memcached_many(6).unwrap();
    let mut wrong = String::new();
    for case in cases() {
        let proxy = before(&servers, "memcached", case.route);
        for server in servers.iter().chain([&plain]) {
            server.client().ask("flush_all\r\n");
        }
        let expected = memcached_replies(&mut plain.client(), case.memcached, true);
        let got = memcached_replies(&mut proxy.client(), case.memcached, false);
        let got: Vec<Vec<u8>> = got.into_iter().map(|exchange| exchange.reply).collect();
        compare(case.name, "text", &expected, &got, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The near tier numbers its copy by itself, and `cas` goes to the far one.
#[test]
fn a_copy_in_the_near_tier_does_not_spoil_cas() {
    let Some(servers) = Server::memcached_many(6) else {
        return;
    };
    let proxy = before(&servers, "memcached", "type = 'l1_l2'\nl1 = 'a'\nl2 = 'b'");
    let mut client = proxy.client();
    // So that the near tier has counted further than the far one.
    for server in &servers[..2] {
        for _ in 0..10 {
            server.client().ask("set other 0 0 1\r\nx\r\n");
        }
    }
    client.ask("set k 0 0 1\r\n1\r\n");
    eventually("the near tier has no copy", || {
        client.ask("get k\r\n");
        let has = |server: &Server| server.client().ask("get k\r\n").starts_with(b"VALUE");
        servers[..2].iter().any(has)
    });
    let cas = cas_of("gets", &client.ask("gets k\r\n")).unwrap();
    let stored = client.ask(format!("cas k 0 0 1 {cas}\r\n2\r\n"));
    assert_eq!(stored, b"STORED\r\n");
    let cas = cas_of("mg k c", &client.ask("mg k c\r\n")).unwrap();
    let stored = client.ask(format!("ms k 1 C{cas}\r\n3\r\n"));
    assert_eq!(stored, b"HD\r\n");
}

/// All of them, or the one that `EMBERLINE_ROUTE` names.
fn cases() -> impl Iterator<Item = &'static Case> {
    let only = std::env::var("EMBERLINE_ROUTE").ok();
    CASES
        .iter()
        .filter(move |case| only.as_deref().is_none_or(|only| only == case.name))
}

/// A proxy with this route before three pools of two servers each.
fn before(servers: &[Server], protocol: &str, route: &str) -> Emberline {
    let bind = format!("{}_BIND", protocol.to_uppercase());
    let mut text = format!("[listeners.main]\nprotocol = '{protocol}'\nbind = '{bind}'\n");
    text += &match route.starts_with("route") {
        true => route.to_owned(),
        false => format!("route = 'top'\n[routes.top]\n{route}"),
    };
    for (name, pair) in ["a", "b", "c"].iter().zip(servers.chunks(2)) {
        let (one, other) = (pair[0].address(), pair[1].address());
        write!(
            text,
            "\n[pools.{name}]\nprotocol = '{protocol}'\nservers = ['{one}', '{other}']"
        )
        .unwrap();
    }
    Emberline::config(&text)
}

/// A request and what came, or ought to come, of it.
struct Exchange {
    line: &'static str,
    request: Vec<u8>,
    reply: Vec<u8>,
    /// What may come as well.
    or: Option<Vec<u8>>,
}

/// How a client of Redis sends the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Resp2,
    Resp3,
    /// All at once, in RESP2.
    Pipelined,
}

impl Way {
    fn begin(self, client: &mut Client) {
        if self == Way::Resp3 {
            client.call(&["HELLO", "3"]);
        }
    }
}

/// What a plain server says to the table, and where the route says otherwise.
fn redis_expected(plain: &mut Client, way: Way, otherwise: &[Otherwise]) -> Vec<Exchange> {
    way.begin(plain);
    let (mut dump, mut sha) = (Vec::new(), Vec::new());
    let soon = SystemTime::now() + Duration::from_secs(1000);
    let soon = soon.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let soon = soon.to_string().into_bytes();
    let mut exchanges = Vec::new();
    for line in REDIS.lines() {
        let words = line.split(' ').map(|word| match word {
            "@DUMP" => dump.clone(),
            "@SHA" => sha.clone(),
            "@SOON" => soon.clone(),
            word => word.as_bytes().to_vec(),
        });
        let words: Vec<Vec<u8>> = words.collect();
        let request = command(&words);
        if words[0] == b"EVAL" && words[2] == b"2" {
            sha = bulk(&plain.call(&[b"SCRIPT", &b"LOAD"[..], &words[1]]));
        }
        let told = told(line, otherwise);
        let mut reply = match told {
            Some(Refuses(..)) => Vec::new(),
            _ => plain.call(&words),
        };
        if words[0] == b"DUMP" && reply.starts_with(b"$") && !reply.starts_with(b"$-") {
            dump = bulk(&reply);
        }
        let or = expect(line, told, &mut reply);
        exchanges.push(Exchange {
            line,
            request,
            reply,
            or,
        });
    }
    exchanges
}

fn redis_got(client: &mut Client, way: Way, exchanges: &[Exchange]) -> Vec<Vec<u8>> {
    way.begin(client);
    if way != Way::Pipelined {
        let each = exchanges.iter().map(|exchange| {
            client.send(&exchange.request);
            client.reply()
        });
        return each.collect();
    }
    let requests = exchanges.iter().map(|exchange| &exchange.request[..]);
    client.send(&requests.collect::<Vec<_>>().concat());
    exchanges.iter().map(|_| client.reply()).collect()
}

/// The value in a bulk string.
fn bulk(reply: &[u8]) -> Vec<u8> {
    let start = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    reply[start..reply.len() - 2].to_vec()
}

/// What the route says of its own to this request.
fn told(line: &str, otherwise: &[Otherwise]) -> Option<Otherwise> {
    let is_told = |other: &&Otherwise| match other {
        Refuses(_, requests) => requests.contains(&line),
        Says(request, _) | MaySay(request, _) => *request == line,
    };
    otherwise.iter().find(is_told).copied()
}

/// Put what the route says in the place of the plain server's reply; or answer
/// what it may say as well.
fn expect(line: &str, told: Option<Otherwise>, reply: &mut Vec<u8>) -> Option<Vec<u8>> {
    let whole = |text: &str| {
        let name = line.split(' ').next().unwrap().to_uppercase();
        let end = if is_quiet(line) { "\r\nMN\r\n" } else { "\r\n" };
        (text.replace("NAME", &name) + end).into_bytes()
    };
    match told? {
        Refuses(text, _) | Says(_, text) => *reply = whole(text),
        MaySay(_, text) => return Some(whole(text)),
    }
    None
}

/// What a memcached, or a proxy, says to the table; a plain server is not asked
/// what the route refuses.
fn memcached_replies(client: &mut Client, otherwise: &[Otherwise], plain: bool) -> Vec<Exchange> {
    let mut cas = String::from("1");
    let mut exchanges = Vec::new();
    for line in MEMCACHED.lines() {
        let mut request = line.replace('|', "\r\n").replace("@CAS", &cas) + "\r\n";
        if is_quiet(line) {
            request += "mn\r\n";
        }
        let told = told(line, otherwise);
        let mut reply = Vec::new();
        if !plain || !matches!(told, Some(Refuses(..))) {
            client.send(request.as_bytes());
            reply = client.memcached_reply();
            while is_quiet(line) && !reply.ends_with(b"MN\r\n") {
                reply.extend(client.memcached_reply());
            }
        }
        if let Some(number) = cas_of(line, &reply) {
            cas = number;
        }
        reply = normal(line, reply);
        let or = match plain {
            true => expect(line, told, &mut reply),
            false => None,
        };
        exchanges.push(Exchange {
            line,
            request: request.into_bytes(),
            reply,
            or,
        });
    }
    exchanges
}

/// Whether it may have no reply of its own, so that an `mn` is sent behind it.
fn is_quiet(line: &str) -> bool {
    let mut words = line.split([' ', '|']);
    words.any(|word| matches!(word, "q" | "noreply"))
}

/// The unique number of an item, which every server counts for itself.
fn cas_of(line: &str, reply: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(reply);
    let head = text.split("\r\n").next()?;
    let mut words = head.split(' ');
    match line.split(' ').next()? {
        "gets" | "gats" => Some(words.nth(4)?.to_owned()),
        _ if line.split([' ', '|']).any(|word| word == "c") => {
            Some(words.find_map(|word| word.strip_prefix('c'))?.to_owned())
        }
        _ => None,
    }
}

/// Without what differs for a good reason: the unique number, and a TTL of
/// which a second or two have passed.
fn normal(line: &str, reply: Vec<u8>) -> Vec<u8> {
    let Ok(mut text) = String::from_utf8(reply.clone()) else {
        return reply;
    };
    if let Some(cas) = cas_of(line, &reply) {
        let place = match line.starts_with('g') {
            true => format!(" {cas}\r\n"),
            false => format!(" c{cas}"),
        };
        text = text.replacen(&place, &place.replace(&cas, "CAS"), 1);
    }
    for whole in [30, 90, 100, 200, 2_520_000] {
        for passed in 1..=2 {
            for end in ["\r\n", " "] {
                let (left, whole) = (
                    format!(" t{}{end}", whole - passed),
                    format!(" t{whole}{end}"),
                );
                text = text.replace(&left, &whole);
            }
        }
    }
    text.into_bytes()
}

/// Note every reply that is not what was expected.
fn compare(name: &str, way: &str, expected: &[Exchange], got: &[Vec<u8>], wrong: &mut String) {
    for (exchange, got) in expected.iter().zip(got) {
        let Exchange {
            line, reply, or, ..
        } = exchange;
        let is_right = got == reply || or.as_ref() == Some(got) || is_nearly(line, got, reply);
        if !is_right {
            let (got, reply) = (show(got), show(reply));
            writeln!(
                wrong,
                "{name}, {way}: {line}\n    got      {got}\n    expected {reply}"
            )
            .unwrap();
        }
    }
}

/// Whether these are lives in seconds between which little time has passed.
fn is_nearly(line: &str, got: &[u8], expected: &[u8]) -> bool {
    let life = |reply: &[u8]| -> Option<i64> {
        let number = std::str::from_utf8(reply).ok()?.strip_prefix(':')?;
        number.trim_end().parse().ok().filter(|&life| life > 3)
    };
    let is_life = line.to_uppercase().starts_with("TTL ");
    is_life && matches!((life(got), life(expected)), (Some(a), Some(b)) if a.abs_diff(b) <= 3)
}
