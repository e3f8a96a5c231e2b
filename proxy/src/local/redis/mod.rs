//! The Redis face of a pool: strings, expiry, counters and the commands on
//! whole keys, answered byte for byte as Redis 7.0 answers them.
//!
//! One file per group of commands. A handler either writes its whole reply or
//! returns a [`Fault`], never both, so an error is always the only reply.

mod bits;
mod counters;
mod expiry;
mod keys;
mod long_double;
mod number;
mod scan;
mod set;
mod strings;

use emberline_protocol::redis::{Version, encode};

use super::store::{Entry, Store, TooLarge};

/// The largest string, as Redis' `proto-max-bulk-len` defaults to.
const STRING_MAX: u64 = 512 << 20;

/// The longest command name that is looked at.
const NAME_MAX: usize = 16;

/// One request on its way to its reply.
struct Call<'a> {
    store: &'a Store,
    /// The command's name in lower case, as errors say it.
    name: &'static str,
    args: &'a [&'a [u8]],
    version: Version,
    /// Milliseconds since the Unix epoch.
    now: u64,
    out: &'a mut Vec<u8>,
}

/// Why a request is answered with an error; the text is Redis' own.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    #[error("ERR value is not a valid float")]
    NotFloat,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    #[error("ERR invalid expire time in '{0}' command")]
    Expire(&'static str),
    #[error("ERR Unsupported option {0}")]
    Option(String),
    #[error("ERR {0}")]
    Said(&'static str),
    #[error("ERR {0}")]
    TooLarge(#[from] TooLarge),
    #[error(
        "ERR the embedded pool does not support '{0}': only strings, expiry and counters; \
         start emberline with --redis ADDR to proxy a real server"
    )]
    Unsupported(String),
}

type Handler = fn(&mut Call<'_>) -> Result<(), Fault>;

/// Answer one request; `args` starts with the command's name.
pub fn answer(store: &Store, args: &[&[u8]], version: Version, now: u64, out: &mut Vec<u8>) {
    if let Err(fault) = run(store, args, version, now, out) {
        encode::error(out, &fault.to_string());
    }
}

fn run(
    store: &Store,
    args: &[&[u8]],
    version: Version,
    now: u64,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let given = args.first().copied().unwrap_or_default();
    let (name, arity, handler) =
        find(given).ok_or_else(|| Fault::Unsupported(shown(given).to_ascii_lowercase()))?;
    let fits = if arity < 0 {
        args.len() >= usize::from(arity.unsigned_abs())
    } else {
        args.len() == usize::from(arity.unsigned_abs())
    };
    if !fits {
        return Err(Fault::Arity(name));
    }
    handler(&mut Call {
        store,
        name,
        args,
        version,
        now,
        out,
    })
}

/// A command by its name in any case: its name, its arity as Redis counts it
/// (the name included, negative for "at least"), and what runs it.
fn find(name: &[u8]) -> Option<(&'static str, i16, Handler)> {
    let mut lower = [0; NAME_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"get" => ("get", 2, strings::get),
        b"set" => ("set", -3, set::set),
        b"setnx" => ("setnx", 3, set::setnx),
        b"setex" => ("setex", 4, set::setex),
        b"psetex" => ("psetex", 4, set::psetex),
        b"getset" => ("getset", 3, strings::getset),
        b"getdel" => ("getdel", 2, strings::getdel),
        b"getex" => ("getex", -2, set::getex),
        b"mget" => ("mget", -2, strings::mget),
        b"mset" => ("mset", -3, strings::mset),
        b"msetnx" => ("msetnx", -3, strings::msetnx),
        b"append" => ("append", 3, strings::append),
        b"strlen" => ("strlen", 2, strings::strlen),
        b"setrange" => ("setrange", 4, strings::setrange),
        b"getrange" => ("getrange", 4, strings::getrange),
        b"substr" => ("substr", 4, strings::getrange),
        b"incr" => ("incr", 2, counters::incr),
        b"decr" => ("decr", 2, counters::decr),
        b"incrby" => ("incrby", 3, counters::incrby),
        b"decrby" => ("decrby", 3, counters::decrby),
        b"incrbyfloat" => ("incrbyfloat", 3, counters::incrbyfloat),
        b"setbit" => ("setbit", 4, bits::setbit),
        b"getbit" => ("getbit", 3, bits::getbit),
        b"bitcount" => ("bitcount", -2, bits::bitcount),
        b"expire" => ("expire", -3, expiry::expire),
        b"pexpire" => ("pexpire", -3, expiry::pexpire),
        b"expireat" => ("expireat", -3, expiry::expireat),
        b"pexpireat" => ("pexpireat", -3, expiry::pexpireat),
        b"ttl" => ("ttl", 2, expiry::ttl),
        b"pttl" => ("pttl", 2, expiry::pttl),
        b"expiretime" => ("expiretime", 2, expiry::expiretime),
        b"pexpiretime" => ("pexpiretime", 2, expiry::pexpiretime),
        b"persist" => ("persist", 2, expiry::persist),
        b"del" => ("del", -2, keys::del),
        b"unlink" => ("unlink", -2, keys::del),
        b"exists" => ("exists", -2, keys::exists),
        b"touch" => ("touch", -2, keys::exists),
        b"type" => ("type", 2, keys::kind),
        b"rename" => ("rename", 3, keys::rename),
        b"renamenx" => ("renamenx", 3, keys::renamenx),
        b"copy" => ("copy", -3, keys::copy),
        b"object" => ("object", -2, keys::object),
        b"randomkey" => ("randomkey", 1, scan::randomkey),
        b"keys" => ("keys", 2, scan::keys),
        b"scan" => ("scan", -2, scan::scan),
        b"dbsize" => ("dbsize", 1, scan::dbsize),
        b"flushall" => ("flushall", -1, scan::flush),
        b"flushdb" => ("flushdb", -1, scan::flush),
        _ => return None,
    })
}

/// A client's bytes inside an error: at most 128 of them, as text.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}

impl Call<'_> {
    /// The live value of a key.
    fn read(&self, key: &[u8]) -> Option<std::sync::Arc<Entry>> {
        self.store.read(key, self.now)
    }

    /// The clock as the signed number that Redis calculates with.
    fn clock(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX)
    }

    fn ok(&mut self) {
        encode::simple(self.out, "OK");
    }

    fn integer(&mut self, value: i64) {
        encode::integer(self.out, value);
    }

    /// A length or count; none comes near the largest integer.
    fn count(&mut self, value: usize) {
        encode::integer(self.out, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn bulk(&mut self, value: &[u8]) {
        encode::bulk(self.out, value);
    }

    fn null(&mut self) {
        encode::null(self.out, self.version);
    }

    /// A value, or the null of the client's protocol version.
    fn value(&mut self, entry: Option<&Entry>) {
        match entry {
            Some(entry) => self.bulk(&entry.data),
            None => self.null(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ask(store: &Store, line: &str) -> String {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        answer(store, &args, Version::Resp2, 1_000_000, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_command_it_lacks_is_told_so() {
        let store = Store::new(1 << 20);
        assert_eq!(
            ask(&store, "LPUSH k v"),
            "-ERR the embedded pool does not support 'lpush': only strings, expiry and counters; \
             start emberline with --redis ADDR to proxy a real server\r\n"
        );
        assert!(ask(&store, "a-very-long-name-indeed x").contains("does not support 'a-very"));
    }

    #[test]
    fn a_value_larger_than_the_pool_is_refused() {
        let store = Store::new(2_000);
        assert_eq!(ask(&store, "SET k small"), "+OK\r\n");
        let big = "x".repeat(3_000);
        let reply = ask(&store, &format!("SET k {big}"));
        assert!(reply.starts_with("-ERR the value needs "), "{reply}");
        assert_eq!(ask(&store, "GET k"), "$5\r\nsmall\r\n");
    }

    #[test]
    fn flushall_is_complete_at_once() {
        let store = Store::new(1 << 20);
        for i in 0..500 {
            ask(&store, &format!("SET k{i} v"));
        }
        assert_eq!(ask(&store, "DBSIZE"), ":500\r\n");
        assert_eq!(ask(&store, "FLUSHALL"), "+OK\r\n");
        assert_eq!(ask(&store, "DBSIZE"), ":0\r\n");
        assert_eq!(ask(&store, "GET k1"), "$-1\r\n");
        ask(&store, "SET k v");
        assert_eq!(ask(&store, "DBSIZE"), ":1\r\n");
    }
}
