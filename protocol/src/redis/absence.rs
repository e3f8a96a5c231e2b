//! What a command says, or does, of a key as a whole.
//!
//! A reply that found nothing may be about the key or about a part of it. `GET`
//! finds nothing where there is no key; `HGET` also where the hash is there and
//! has not got that field, and `STRLEN`'s 0 is that of an empty string, too.
//! Who looks elsewhere for what is missing here, or remembers that it is
//! missing, has to know the one from the other: the older copy of a hash still
//! has the field that was deleted in the newer one.

use super::command::Command;
use super::outcome::outcome;
use crate::{Kind, Outcome};

/// Whether this reply, or its beginning, proves that no key of the request is there.
///
/// The null of `MGET` does not: it stands for a hash or a list as well.
pub fn proves_absence(command: &Command, reply: &[u8]) -> bool {
    let missed = outcome(Some(command), command.kind, reply) == Some(Outcome::Miss);
    missed && reads_whole(command) && command.name != "mget"
}

/// Whether who finds nothing by this command finds nothing at all, as far as it
/// is concerned: there is no key, or (`MGET`) none that it could read. An empty
/// list, set, hash or sorted set is no key; an empty stream or string is one.
pub fn reads_whole(command: &Command) -> bool {
    matches!(
        command.name,
        "get" | "getex" | "mget" | "dump" | "exists" | "touch" | "type"
    ) || matches!(command.name, "ttl" | "pttl" | "expiretime" | "pexpiretime")
        || matches!(
            command.name,
            "hgetall" | "hkeys" | "hvals" | "hlen" | "llen" | "scard" | "smembers" | "zcard"
        )
}

/// Whether a write may leave less than there was, or nothing, without being a
/// delete: `HDEL`, `LPOP`, `RENAME`, a `*STORE` of an empty result, a script.
/// What an older copy of the key still has would then come back from there.
///
/// Any write counts that is not known to leave a key behind.
pub fn takes_away(command: &Command) -> bool {
    command.kind == Kind::Write && command.write && !leaves_a_key(command.name)
}

fn leaves_a_key(name: &str) -> bool {
    matches!(
        name,
        "set" | "setex" | "psetex" | "setnx" | "getset" | "mset" | "msetnx" | "restore"
    ) || matches!(
        name,
        "append" | "setrange" | "setbit" | "bitfield" | "pfadd" | "pfmerge" | "copy"
    ) || matches!(
        name,
        "hset" | "hmset" | "hsetnx" | "geoadd" | "sadd" | "zadd"
    ) || matches!(
        name,
        "lpush" | "rpush" | "lpushx" | "rpushx" | "linsert" | "lset"
    ) || matches!(
        name,
        "xadd" | "xack" | "xclaim" | "xautoclaim" | "xgroup" | "xreadgroup" | "xsetid"
    )
}
