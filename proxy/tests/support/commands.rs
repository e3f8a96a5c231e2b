//! Random Redis commands whose replies depend on nothing but what the same
//! client did before.
//!
//! Left out is what two servers may answer differently: times, ids, memory
//! addresses, and the order of what is kept in a table with a random seed.
//! That is why sets of whole members hold integers only, and hashes stay small.

use super::client::command;
use super::random::Random;

/// Keys of one client, by what they usually hold; see [`Kind::keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    List,
    Hash,
    Integers,
    Members,
    Sorted,
    Stream,
    Log,
}

const KINDS: [Kind; 9] = [
    Kind::Text,
    Kind::Number,
    Kind::List,
    Kind::Hash,
    Kind::Integers,
    Kind::Members,
    Kind::Sorted,
    Kind::Stream,
    Kind::Log,
];

/// What one client asks.
#[derive(Debug)]
pub struct Commands {
    random: Random,
    prefix: String,
    /// How many bytes the largest value has.
    value_max: usize,
}

/// One request: its bytes, and how many replies it has.
#[derive(Clone, Debug)]
pub struct Asked {
    pub bytes: Vec<u8>,
    pub replies: usize,
}

type Args = Vec<Vec<u8>>;

macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(Vec::<u8>::from($arg)),*] };
}

impl Commands {
    pub fn new(seed: u64, prefix: &str, value_max: usize) -> Commands {
        Commands {
            random: Random::new(seed),
            prefix: prefix.to_owned(),
            value_max,
        }
    }

    /// The next request.
    pub fn next(&mut self) -> Asked {
        match self.random.below(200) {
            0 => Asked {
                bytes: self.nothing(),
                replies: 0,
            },
            1..=6 => Asked {
                bytes: self.inline(),
                replies: 1,
            },
            _ => {
                let mut args = self.args();
                if self.random.one_in(20) {
                    self.recase(&mut args[0]);
                }
                Asked {
                    bytes: command(&args),
                    replies: 1,
                }
            }
        }
    }

    /// The next pipeline.
    pub fn pipeline(&mut self) -> Vec<Asked> {
        (0..self.random.within(1, 64))
            .map(|_| self.next())
            .collect()
    }

    /// Where to cut what is sent.
    pub fn pieces<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let cuts = match self.random.below(4) {
            0 => 0,
            1 => 1,
            2 => self.random.below(8),
            _ => self.random.below(32),
        };
        self.random.pieces(bytes, cuts)
    }

    fn args(&mut self) -> Args {
        match self.random.below(100) {
            0..=19 => self.several_keys(),
            20..=24 => self.same_shard(),
            25..=30 => self.any_key(),
            31..=33 => self.wrong(),
            34..=35 => self.own(),
            _ => {
                let kind = *self.random.pick(&KINDS);
                let key = self.key(kind);
                self.of_kind(kind, key)
            }
        }
    }

    fn of_kind(&mut self, kind: Kind, key: Vec<u8>) -> Args {
        match kind {
            Kind::Text => self.text(key),
            Kind::Number => self.number(key),
            Kind::List => self.list(key),
            Kind::Hash => self.hash(key),
            Kind::Integers => self.integers(key),
            Kind::Members => self.members(key),
            Kind::Sorted => self.sorted(key),
            Kind::Stream => self.stream(key),
            Kind::Log => self.log(key),
        }
    }

    /// A key for a command of this kind; now and then one of another kind, so
    /// that the server refuses it.
    fn key(&mut self, kind: Kind) -> Vec<u8> {
        let kind = match (kind, self.random.one_in(25)) {
            // Never a string member where sets of integers are listed.
            (Kind::Members | Kind::Integers, _) | (_, false) => kind,
            _ => *self.random.pick(&KINDS),
        };
        self.key_of(kind)
    }

    fn key_of(&mut self, kind: Kind) -> Vec<u8> {
        // The number comes first: what differs in the last bytes only, fnv1a
        // sends to the same server.
        let number = self.random.below(4);
        format!("{number}:{kind:?}:{}", self.prefix).into_bytes()
    }

    fn any_kind_key(&mut self) -> Vec<u8> {
        let kind = *self.random.pick(&KINDS);
        self.key_of(kind)
    }

    /// A key that shares its server with all others of this kind.
    fn tagged(&mut self, kind: Kind) -> Vec<u8> {
        let number = self.random.below(3);
        format!("{{{}}}:{kind:?}:{number}", self.prefix).into_bytes()
    }

    /// The first key of the kind holds long values too.
    fn value_for(&mut self, key: &[u8]) -> Vec<u8> {
        let long = key.starts_with(b"0") && self.random.one_in(12);
        match long {
            true => {
                let len = self.random.below(self.value_max + 1);
                self.random.bytes(len)
            }
            false => self.short(),
        }
    }

    fn short(&mut self) -> Vec<u8> {
        match self.random.below(8) {
            0 => Vec::new(),
            1 => b"\r\n".to_vec(),
            2 => b"$5\r\nhello\r\n+OK\r\n".to_vec(),
            3 => self.integer(),
            4 | 5 => {
                let len = self.random.below(300);
                self.random.bytes(len)
            }
            _ => {
                let len = self.random.below(40);
                self.random
                    .bytes(len)
                    .iter()
                    .map(|byte| b'a' + byte % 26)
                    .collect()
            }
        }
    }

    /// At most 60 bytes: a hash of such stays a list, in the order of insertion.
    fn tiny(&mut self) -> Vec<u8> {
        let mut value = self.short();
        value.truncate(60);
        value
    }

    fn integer(&mut self) -> Vec<u8> {
        let magnitude = 10i64.pow(u32::try_from(self.random.below(12)).unwrap());
        let number = i64::try_from(self.random.next() % 1_000_000_007).unwrap() % magnitude.max(1);
        let number = if self.random.one_in(3) {
            -number
        } else {
            number
        };
        number.to_string().into_bytes()
    }

    fn index(&mut self) -> Vec<u8> {
        let index = self.random.within(0, 14);
        (i64::try_from(index).unwrap() - 5).to_string().into_bytes()
    }

    fn offset(&mut self, end: usize) -> Vec<u8> {
        self.random.below(end).to_string().into_bytes()
    }

    fn text(&mut self, key: Vec<u8>) -> Args {
        let value = self.value_for(&key);
        match self.random.below(22) {
            0..=4 => args!["SET", key, value],
            5..=9 => args!["GET", key],
            10 => {
                let flag = *self.random.pick(&["NX", "XX", "KEEPTTL", "GET"]);
                args!["SET", key, value, flag]
            }
            11 => args!["SET", key, value, "EX", "5000"],
            12 => args!["APPEND", key, self.short()],
            13 => args!["STRLEN", key],
            14 => args!["GETRANGE", key, self.index(), self.index()],
            15 => args!["SETRANGE", key, self.offset(1000), self.short()],
            16 => args!["GETSET", key, value],
            17 => args!["GETDEL", key],
            18 => args!["SETNX", key, value],
            19 => args!["SETEX", key, "5000", value],
            20 => args!["SETBIT", key, self.offset(2000), self.offset(2)],
            _ => match self.random.below(4) {
                0 => args!["GETBIT", key, self.offset(2000)],
                1 => args!["BITCOUNT", key],
                2 => args![
                    "BITFIELD",
                    key,
                    "SET",
                    "u8",
                    "#3",
                    self.offset(256),
                    "GET",
                    "i5",
                    "7"
                ],
                _ => args!["GETEX", key, "PERSIST"],
            },
        }
    }

    fn number(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(9) {
            0 => args!["INCR", key],
            1 => args!["DECR", key],
            2 => args!["INCRBY", key, self.integer()],
            3 => args!["DECRBY", key, self.integer()],
            4 => args!["INCRBYFLOAT", key, "0.5"],
            5 => args!["INCRBY", key, "9223372036854775807"],
            6 => args!["SET", key, self.integer()],
            7 => args!["INCRBY", key, self.short()],
            _ => args!["GET", key],
        }
    }

    fn list(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(20) {
            0 | 1 => args!["LPUSH", key, self.short()],
            2 | 3 => args!["RPUSH", key, self.short(), self.short(), self.short()],
            4 => args!["LPUSHX", key, self.short()],
            5 => args!["LPOP", key],
            6 => args!["RPOP", key],
            7 => args!["LPOP", key, self.offset(5)],
            8 => args!["RPOP", key, self.index()],
            9 => args!["LLEN", key],
            10 | 11 => args!["LRANGE", key, "0", "-1"],
            12 => args!["LRANGE", key, self.index(), self.index()],
            13 => args!["LINDEX", key, self.index()],
            14 => args!["LSET", key, self.index(), self.short()],
            15 => args!["LINSERT", key, "BEFORE", self.short(), self.short()],
            16 => args!["LREM", key, self.index(), self.short()],
            17 | 18 => args!["LTRIM", key, "0", self.offset(40)],
            _ => args!["LPOS", key, self.short(), "COUNT", "0"],
        }
    }

    fn field(&mut self) -> Vec<u8> {
        match self.random.below(10) {
            0 => Vec::new(),
            1 => b"\r\nf\0".to_vec(),
            number => format!("f{number}").into_bytes(),
        }
    }

    fn hash(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(18) {
            0..=2 => args!["HSET", key, self.field(), self.tiny()],
            3 => args![
                "HSET",
                key,
                self.field(),
                self.tiny(),
                self.field(),
                self.tiny()
            ],
            4 => args!["HMSET", key, self.field(), self.tiny()],
            5 => args!["HGET", key, self.field()],
            6 | 7 => args!["HMGET", key, self.field(), self.field(), self.field()],
            8 | 9 => args!["HGETALL", key],
            10 => args!["HKEYS", key],
            11 => args!["HVALS", key],
            12 => args!["HDEL", key, self.field(), self.field()],
            13 => args!["HLEN", key],
            14 => args!["HEXISTS", key, self.field()],
            15 => args!["HINCRBY", key, self.field(), self.integer()],
            16 => args!["HSETNX", key, self.field(), self.tiny()],
            _ => args!["HSTRLEN", key, self.field()],
        }
    }

    fn integers(&mut self, key: Vec<u8>) -> Args {
        let member = |random: &mut Random| random.below(60).to_string();
        match self.random.below(8) {
            0 | 1 => {
                let (a, b) = (member(&mut self.random), member(&mut self.random));
                args!["SADD", key, a, b]
            }
            2 => args!["SREM", key, member(&mut self.random)],
            3 | 4 => args!["SMEMBERS", key],
            5 => args!["SISMEMBER", key, member(&mut self.random)],
            6 => args!["SMISMEMBER", key, "1", "2", "x", "3"],
            _ => args!["SCARD", key],
        }
    }

    fn members(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(5) {
            0 | 1 => args!["SADD", key, self.short(), self.short()],
            2 => args!["SREM", key, self.short()],
            3 => args!["SISMEMBER", key, self.short()],
            _ => args!["SCARD", key],
        }
    }

    fn score(&mut self) -> Vec<u8> {
        match self.random.below(12) {
            0 => b"-inf".to_vec(),
            1 => b"1e300".to_vec(),
            2 => b"0.1".to_vec(),
            3 => b"nonsense".to_vec(),
            _ => self.offset(50),
        }
    }

    fn sorted(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(19) {
            0..=3 => args![
                "ZADD",
                key,
                self.score(),
                self.field(),
                self.score(),
                self.field()
            ],
            4 => args!["ZADD", key, "NX", "CH", self.score(), self.field()],
            5 => args!["ZINCRBY", key, self.score(), self.field()],
            6 => args!["ZSCORE", key, self.field()],
            7 => args!["ZMSCORE", key, self.field(), self.field()],
            8 => args!["ZRANK", key, self.field()],
            9 => args!["ZCARD", key],
            10 => args!["ZCOUNT", key, "(1", "30"],
            11 => args!["ZREM", key, self.field()],
            12 => args!["ZPOPMIN", key],
            13 => args!["ZPOPMAX", key, self.offset(3)],
            14 => args!["ZRANGE", key, self.index(), self.index(), "WITHSCORES"],
            15 => args!["ZRANGEBYSCORE", key, "-inf", "+inf", "LIMIT", "1", "4"],
            16 => args!["ZREVRANGE", key, "0", "-1"],
            17 => args!["ZRANGEBYLEX", key, "-", "[f5"],
            _ => args!["ZREMRANGEBYRANK", key, "0", "1"],
        }
    }

    fn stream(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(6) {
            0 | 1 => {
                let id = format!("{}-{}", self.random.below(40), self.random.below(100));
                args!["XADD", key, id, self.field(), self.short()]
            }
            2 => args!["XLEN", key],
            3 => args!["XRANGE", key, "-", "+", "COUNT", "5"],
            4 => args!["XREAD", "COUNT", "2", "STREAMS", key, "0"],
            _ => args!["XTRIM", key, "MAXLEN", "5"],
        }
    }

    fn log(&mut self, key: Vec<u8>) -> Args {
        match self.random.below(3) {
            0 | 1 => args!["PFADD", key, self.short()],
            _ => args!["PFCOUNT", key],
        }
    }

    /// What every kind of value understands.
    fn any_key(&mut self) -> Args {
        let key = self.any_kind_key();
        match self.random.below(9) {
            0 | 1 => args!["TYPE", key],
            2 => args!["EXPIRE", key, "5000"],
            3 => args!["PEXPIRE", key, "5000000", "NX"],
            4 => args!["PERSIST", key],
            5 => args!["OBJECT", "ENCODING", key],
            6 => args!["DEL", key],
            7 => args!["EXPIREAT", key, "1"],
            _ => args![
                "EVAL",
                "return {KEYS[1], ARGV[1], redis.call('EXISTS', KEYS[1])}",
                "1",
                key,
                self.short()
            ],
        }
    }

    fn several_keys(&mut self) -> Args {
        let count = self.random.within(1, 12);
        let name = *self
            .random
            .pick(&["MGET", "MGET", "MSET", "DEL", "EXISTS", "UNLINK", "TOUCH"]);
        let mut args = args![name];
        // Deleting is rare, or else there is nothing to look at.
        let count = if matches!(name, "DEL" | "UNLINK") {
            count.min(3)
        } else {
            count
        };
        for _ in 0..count {
            let key = match name {
                "MGET" | "MSET" => {
                    let kind = *self.random.pick(&[Kind::Text, Kind::Text, Kind::Number]);
                    self.key(kind)
                }
                _ => self.any_kind_key(),
            };
            args.push(key.clone());
            if name == "MSET" {
                args.push(self.value_for(&key));
            }
        }
        args
    }

    fn same_shard(&mut self) -> Args {
        use Kind::{Integers, List, Log, Sorted, Text};
        let (kind, name) = *self.random.pick(&[
            (Text, "RENAME"),
            (Text, "RENAMENX"),
            (Text, "COPY"),
            (Text, "MSETNX"),
            (Text, "SET"),
            (Text, "MGET"),
            (Text, "BITOP"),
            (List, "RPUSH"),
            (List, "RPOPLPUSH"),
            (List, "LMOVE"),
            (Integers, "SADD"),
            (Integers, "SUNION"),
            (Integers, "SINTERSTORE"),
            (Integers, "SMOVE"),
            (Integers, "SORT"),
            (Sorted, "ZADD"),
            (Sorted, "ZUNIONSTORE"),
            (Sorted, "ZINTER"),
            (Log, "PFMERGE"),
        ]);
        let (a, b, c) = (self.tagged(kind), self.tagged(kind), self.tagged(kind));
        match name {
            "MSETNX" => args![name, a, self.short(), b, self.short()],
            "SET" => args![name, a, self.short()],
            "BITOP" => args![name, "XOR", a, b, c],
            "RPUSH" => args![name, a, self.short(), self.short()],
            "LMOVE" => args![name, a, b, "LEFT", "RIGHT"],
            "SADD" => args![name, a, self.offset(30), self.offset(30)],
            "SMOVE" => args![name, a, b, self.offset(30)],
            "SORT" => args![name, a, "DESC"],
            "SUNION" | "SINTERSTORE" | "MGET" => args![name, a, b, c],
            "ZADD" => args![name, a, self.offset(30), self.field()],
            "ZUNIONSTORE" => args![name, a, "2", b, c, "WEIGHTS", "2", "3"],
            "ZINTER" => args![name, "2", a, b, "WITHSCORES"],
            _ => args![name, a, b],
        }
    }

    /// What is refused, by the proxy or by the server, in the same words.
    fn wrong(&mut self) -> Args {
        let key = self.any_kind_key();
        match self.random.below(14) {
            0 => args!["GET"],
            1 => args!["GET", key, "x"],
            2 => args!["MSET", key],
            3 => args!["MSET", key, "1", "x"],
            4 => args!["MGET"],
            5 => args!["DEL"],
            6 => args!["NOSUCHCOMMAND"],
            7 => args!["nosuch", key, self.short(), self.short(), self.short()],
            8 => args!["SET", key],
            9 => args!["SET", key, "1", "NONSENSE"],
            10 => args!["EXPIRE", key, "x"],
            11 => args!["ECHO"],
            12 => args!["OBJECT", "NONSENSE", key],
            _ => args!["ZUNION", "0", key],
        }
    }

    /// What the proxy answers itself.
    fn own(&mut self) -> Args {
        match self.random.below(7) {
            0 => args!["PING"],
            1 => args!["PING", self.short()],
            2 => args!["PING", "a", "b"],
            3 => args!["ECHO", self.short()],
            4 => args!["SELECT", "0"],
            5 => args!["CLIENT", "SETNAME", self.offset(100)],
            _ => args!["CLIENT", "GETNAME"],
        }
    }

    /// A request as a plain line.
    fn inline(&mut self) -> Vec<u8> {
        let key = String::from_utf8(self.key_of(Kind::Text)).unwrap();
        match self.random.below(7) {
            0 => format!("GET {key}\r\n"),
            1 => format!("  GET \t {key}\n"),
            2 => format!("SET {key} \"a\\x00\\n\\\"b\"\r\n"),
            3 => format!("SET {key} 'it\\'s'\r\n"),
            4 => format!("MGET {key} {} nothing\r\n", key.replace("Text", "Number")),
            5 => "PING\n".to_owned(),
            _ => format!("set {key} \"\"\r\n"),
        }
        .into_bytes()
    }

    /// What is not answered at all.
    fn nothing(&mut self) -> Vec<u8> {
        self.random
            .pick(&[&b"\r\n"[..], b"*0\r\n", b"*-1\r\n"])
            .to_vec()
    }

    fn recase(&mut self, name: &mut [u8]) {
        for byte in name {
            if self.random.one_in(2) {
                *byte ^= 0x20;
            }
        }
    }
}
