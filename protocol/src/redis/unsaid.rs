//! Replies in the place of a server's, of the shape that a client of the
//! command expects: that a key is not there, and that a write is being done.
//!
//! To a read, a key that is not there is what a server with no keys answers;
//! a test asks one. To anything else it means "nothing was done": the number 0
//! where the reply counts what was done, null for the rest.

use super::command::Command;
use super::encode::{self, Version};
use crate::Kind;

/// Append what `command` is answered if none of its keys is there. `args` are
/// all of the request, with its name.
pub fn missing(command: &Command, args: &[&[u8]], version: Version, out: &mut Vec<u8>) {
    let items = |from: usize| args.len().saturating_sub(from);
    let says = |word: &str| {
        args.iter()
            .any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    match command.name {
        "mget" => nulls(items(1), version, out),
        "hmget" | "zmscore" | "geohash" => nulls(items(2), version, out),
        "geopos" => {
            encode::array(out, items(2));
            (0..items(2)).for_each(|_| encode::null_array(out, version));
        }
        "smismember" => {
            encode::array(out, items(2));
            (0..items(2)).for_each(|_| encode::integer(out, 0));
        }
        "hgetall" => encode::map(out, 0, version),
        "smembers" | "sinter" | "sunion" | "sdiff" => encode::set(out, 0, version),
        "type" => encode::simple(out, "none"),
        "hscan" | "sscan" | "zscan" => {
            encode::array(out, 2);
            encode::bulk(out, b"0");
            encode::array(out, 0);
        }
        "ttl" | "pttl" | "expiretime" | "pexpiretime" => encode::integer(out, -2),
        // Of no bits at all the first 0 is the first bit.
        "bitpos" if args.get(2).is_none_or(|bit| *bit != b"0") => encode::integer(out, -1),
        "getrange" | "substr" => encode::bulk(out, b""),
        "lcs" if says("LEN") => encode::integer(out, 0),
        "lcs" if says("IDX") => {
            encode::map(out, 2, version);
            encode::bulk(out, b"matches");
            encode::array(out, 0);
            encode::bulk(out, b"len");
            encode::integer(out, 0);
        }
        "lcs" => encode::bulk(out, b""),
        "hrandfield" | "zrandmember" | "srandmember" if args.len() > 2 => encode::array(out, 0),
        "lpos" if says("COUNT") => encode::array(out, 0),
        "xread" | "xreadgroup" => encode::null_array(out, version),
        "bitfield" | "bitfield_ro" if args.len() == 2 => encode::array(out, 0),
        name if is_list(name) => encode::array(out, 0),
        name if counts(name) => encode::integer(out, 0),
        "getdel" | "getex" => encode::null(out, version),
        _ if matches!(command.kind, Kind::Delete | Kind::Touch) => {
            encode::integer(out, 0);
        }
        _ => encode::null(out, version),
    }
}

/// Append what `command` is answered if it has been done, where that is one
/// thing for all keys and values; whether it is.
///
/// A delete counts its first key as there: nobody can know.
pub fn accepted(command: &Command, args: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let says = |word: &str| {
        args.iter()
            .any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    };
    match command.name {
        // With these words it answers what was there, or whether it was.
        "set" if args.len() > 3 && ["GET", "NX", "XX"].iter().any(|word| says(word)) => {
            return false;
        }
        "set" | "setex" | "psetex" | "mset" | "hmset" | "pfmerge" | "restore" => {
            encode::simple(out, "OK");
        }
        "del" | "unlink" => encode::integer(out, 1),
        "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" | "touch" => {
            encode::integer(out, 1);
        }
        _ => return false,
    }
    true
}

fn nulls(count: usize, version: Version, out: &mut Vec<u8>) {
    encode::array(out, count);
    (0..count).for_each(|_| encode::null(out, version));
}

/// Whether a key that is not there is an empty list to it.
fn is_list(name: &str) -> bool {
    matches!(
        name,
        "lrange"
            | "hkeys"
            | "hvals"
            | "sort"
            | "sort_ro"
            | "geosearch"
            | "georadius"
            | "georadius_ro"
            | "georadiusbymember"
            | "georadiusbymember_ro"
            | "xrange"
            | "xrevrange"
            | "zrange"
            | "zrangebylex"
            | "zrangebyscore"
            | "zrevrange"
            | "zrevrangebylex"
            | "zrevrangebyscore"
            | "zinter"
            | "zunion"
            | "zdiff"
            | "zpopmin"
            | "zpopmax"
    )
}

/// Whether it answers how much there is, or was done.
fn counts(name: &str) -> bool {
    let reads = matches!(
        name,
        "bitcount"
            | "bitpos"
            | "exists"
            | "getbit"
            | "hexists"
            | "hlen"
            | "hstrlen"
            | "llen"
            | "pfcount"
            | "scard"
            | "sintercard"
            | "sismember"
            | "strlen"
            | "touch"
            | "xlen"
            | "zcard"
            | "zcount"
            | "zintercard"
            | "zlexcount"
    );
    reads
        || name.ends_with("store")
        || matches!(
            name,
            "append"
                | "bitop"
                | "copy"
                | "geoadd"
                | "hdel"
                | "hset"
                | "hsetnx"
                | "linsert"
                | "lpush"
                | "lpushx"
                | "lrem"
                | "move"
                | "msetnx"
                | "pfadd"
                | "renamenx"
                | "rpush"
                | "rpushx"
                | "sadd"
                | "setbit"
                | "setnx"
                | "setrange"
                | "smove"
                | "srem"
                | "xack"
                | "xdel"
                | "xtrim"
                | "zadd"
                | "zrem"
                | "zremrangebylex"
                | "zremrangebyrank"
                | "zremrangebyscore"
        )
}
