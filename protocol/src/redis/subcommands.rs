//! The subcommands of the containers in `table.rs`, as `COMMAND INFO` of Redis
//! 7.0.15 gives them, in alphabetical order.

use super::command::Subcommand;
use super::table::{key, sub};

#[rustfmt::skip]
pub(super) static ACL: [Subcommand; 13] = [
    sub("acl|cat", -2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow"], &[],
        &[]),
    sub("acl|deluser", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|dryrun", -4, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|genpass", -2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow"], &[],
        &[]),
    sub("acl|getuser", 3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("acl|list", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|load", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|log", -2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|save", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|setuser", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|users", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("acl|whoami", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow"], &[],
        &[]),
];

#[rustfmt::skip]
pub(super) static CLIENT: [Subcommand; 16] = [
    sub("client|caching", 3, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|getname", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|getredir", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|id", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|info", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &["nondeterministic_output"],
        &[]),
    sub("client|kill", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &[],
        &[]),
    sub("client|list", -2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &["nondeterministic_output"],
        &[]),
    sub("client|no-evict", 3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &[],
        &[]),
    sub("client|pause", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &[],
        &[]),
    sub("client|reply", 3, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|setname", 3, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|tracking", -3, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|trackinginfo", 2, (0, 0, 0), &["noscript", "loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("client|unblock", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &[],
        &[]),
    sub("client|unpause", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous", "@connection"], &[],
        &[]),
];

#[rustfmt::skip]
pub(super) static CLUSTER: [Subcommand; 27] = [
    sub("cluster|addslots", -3, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|addslotsrange", -4, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|bumpepoch", 2, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output"],
        &[]),
    sub("cluster|count-failure-reports", 3, (0, 0, 0), &["admin", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output"],
        &[]),
    sub("cluster|countkeysinslot", 3, (0, 0, 0), &["stale"], &["@slow"], &[],
        &[]),
    sub("cluster|delslots", -3, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|delslotsrange", -4, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|failover", -2, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|flushslots", 2, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|forget", 3, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|getkeysinslot", 4, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
    sub("cluster|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("cluster|info", 2, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
    sub("cluster|keyslot", 3, (0, 0, 0), &["stale"], &["@slow"], &[],
        &[]),
    sub("cluster|links", 2, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
    sub("cluster|meet", -4, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|myid", 2, (0, 0, 0), &["stale"], &["@slow"], &[],
        &[]),
    sub("cluster|nodes", 2, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
    sub("cluster|replicas", 3, (0, 0, 0), &["admin", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output"],
        &[]),
    sub("cluster|replicate", 3, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|reset", -2, (0, 0, 0), &["admin", "noscript", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|saveconfig", 2, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|set-config-epoch", 3, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|setslot", -4, (0, 0, 0), &["admin", "stale", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("cluster|shards", 2, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
    sub("cluster|slaves", 3, (0, 0, 0), &["admin", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output"],
        &[]),
    sub("cluster|slots", 2, (0, 0, 0), &["stale"], &["@slow"], &["nondeterministic_output"],
        &[]),
];

#[rustfmt::skip]
pub(super) static COMMAND: [Subcommand; 7] = [
    sub("command|count", 2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("command|docs", -2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &["nondeterministic_output_order"],
        &[]),
    sub("command|getkeys", -4, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("command|getkeysandflags", -4, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("command|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &[],
        &[]),
    sub("command|info", -2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &["nondeterministic_output_order"],
        &[]),
    sub("command|list", -2, (0, 0, 0), &["loading", "stale"], &["@slow", "@connection"], &["nondeterministic_output_order"],
        &[]),
];

#[rustfmt::skip]
pub(super) static CONFIG: [Subcommand; 5] = [
    sub("config|get", -3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("config|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("config|resetstat", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("config|rewrite", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("config|set", -4, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[]),
];

#[rustfmt::skip]
pub(super) static FUNCTION: [Subcommand; 9] = [
    sub("function|delete", 3, (0, 0, 0), &["write", "noscript"], &["@write", "@slow", "@scripting"], &["request_policy:all_shards", "response_policy:all_succeeded"],
        &[]),
    sub("function|dump", 2, (0, 0, 0), &["noscript"], &["@slow", "@scripting"], &[],
        &[]),
    sub("function|flush", -2, (0, 0, 0), &["write", "noscript"], &["@write", "@slow", "@scripting"], &["request_policy:all_shards", "response_policy:all_succeeded"],
        &[]),
    sub("function|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow", "@scripting"], &[],
        &[]),
    sub("function|kill", 2, (0, 0, 0), &["noscript", "allow_busy"], &["@slow", "@scripting"], &["request_policy:all_shards", "response_policy:one_succeeded"],
        &[]),
    sub("function|list", -2, (0, 0, 0), &["noscript"], &["@slow", "@scripting"], &["nondeterministic_output_order"],
        &[]),
    sub("function|load", -3, (0, 0, 0), &["write", "denyoom", "noscript"], &["@write", "@slow", "@scripting"], &["request_policy:all_shards", "response_policy:all_succeeded"],
        &[]),
    sub("function|restore", -3, (0, 0, 0), &["write", "denyoom", "noscript"], &["@write", "@slow", "@scripting"], &["request_policy:all_shards", "response_policy:all_succeeded"],
        &[]),
    sub("function|stats", 2, (0, 0, 0), &["noscript", "allow_busy"], &["@slow", "@scripting"], &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        &[]),
];

#[rustfmt::skip]
pub(super) static HOTKEYS: [Subcommand; 5] = [
    // Of Redis 8.6, but for HELP, which it answers without listing it, and
    // for the arity of GET, which may have a COUNT here.
    sub("hotkeys|get", -2, (0, 0, 0), &["admin", "noscript"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("hotkeys|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("hotkeys|reset", 2, (0, 0, 0), &["admin", "noscript"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("hotkeys|start", -2, (0, 0, 0), &["admin", "noscript"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("hotkeys|stop", 2, (0, 0, 0), &["admin", "noscript"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
];

#[rustfmt::skip]
pub(super) static LATENCY: [Subcommand; 7] = [
    sub("latency|doctor", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &[]),
    sub("latency|graph", 3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &[]),
    sub("latency|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("latency|histogram", -2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &[]),
    sub("latency|history", 3, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &[]),
    sub("latency|latest", 2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        &[]),
    sub("latency|reset", -2, (0, 0, 0), &["admin", "noscript", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[]),
];

#[rustfmt::skip]
pub(super) static MEMORY: [Subcommand; 6] = [
    sub("memory|doctor", 2, (0, 0, 0), &[], &["@slow"], &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        &[]),
    sub("memory|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("memory|malloc-stats", 2, (0, 0, 0), &[], &["@slow"], &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        &[]),
    sub("memory|purge", 2, (0, 0, 0), &[], &["@slow"], &["request_policy:all_shards", "response_policy:all_succeeded"],
        &[]),
    sub("memory|stats", 2, (0, 0, 0), &[], &["@slow"], &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        &[]),
    sub("memory|usage", -3, (2, 2, 1), &["readonly"], &["@read", "@slow"], &[],
        &[key(2, &["RO"])]),
];

#[rustfmt::skip]
pub(super) static MODULE: [Subcommand; 5] = [
    sub("module|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("module|list", 2, (0, 0, 0), &["admin", "noscript"], &["@admin", "@slow", "@dangerous"], &["nondeterministic_output_order"],
        &[]),
    sub("module|load", -3, (0, 0, 0), &["admin", "noscript", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("module|loadex", -3, (0, 0, 0), &["admin", "noscript", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
    sub("module|unload", 3, (0, 0, 0), &["admin", "noscript", "no_async_loading"], &["@admin", "@slow", "@dangerous"], &[],
        &[]),
];

#[rustfmt::skip]
pub(super) static OBJECT: [Subcommand; 5] = [
    sub("object|encoding", 3, (2, 2, 1), &["readonly"], &["@keyspace", "@read", "@slow"], &["nondeterministic_output"],
        &[key(2, &["RO"])]),
    sub("object|freq", 3, (2, 2, 1), &["readonly"], &["@keyspace", "@read", "@slow"], &["nondeterministic_output"],
        &[key(2, &["RO"])]),
    sub("object|help", 2, (0, 0, 0), &["loading", "stale"], &["@keyspace", "@slow"], &[],
        &[]),
    sub("object|idletime", 3, (2, 2, 1), &["readonly"], &["@keyspace", "@read", "@slow"], &["nondeterministic_output"],
        &[key(2, &["RO"])]),
    sub("object|refcount", 3, (2, 2, 1), &["readonly"], &["@keyspace", "@read", "@slow"], &["nondeterministic_output"],
        &[key(2, &["RO"])]),
];

#[rustfmt::skip]
pub(super) static PUBSUB: [Subcommand; 6] = [
    sub("pubsub|channels", -2, (0, 0, 0), &["pubsub", "loading", "stale"], &["@pubsub", "@slow"], &[],
        &[]),
    sub("pubsub|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("pubsub|numpat", 2, (0, 0, 0), &["pubsub", "loading", "stale"], &["@pubsub", "@slow"], &[],
        &[]),
    sub("pubsub|numsub", -2, (0, 0, 0), &["pubsub", "loading", "stale"], &["@pubsub", "@slow"], &[],
        &[]),
    sub("pubsub|shardchannels", -2, (0, 0, 0), &["pubsub", "loading", "stale"], &["@pubsub", "@slow"], &[],
        &[]),
    sub("pubsub|shardnumsub", -2, (0, 0, 0), &["pubsub", "loading", "stale"], &["@pubsub", "@slow"], &[],
        &[]),
];

#[rustfmt::skip]
pub(super) static SCRIPT: [Subcommand; 6] = [
    sub("script|debug", 3, (0, 0, 0), &["noscript"], &["@slow", "@scripting"], &[],
        &[]),
    sub("script|exists", -3, (0, 0, 0), &["noscript"], &["@slow", "@scripting"], &["request_policy:all_shards", "response_policy:agg_logical_and"],
        &[]),
    sub("script|flush", -2, (0, 0, 0), &["noscript"], &["@slow", "@scripting"], &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[]),
    sub("script|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow", "@scripting"], &[],
        &[]),
    sub("script|kill", 2, (0, 0, 0), &["noscript", "allow_busy"], &["@slow", "@scripting"], &["request_policy:all_shards", "response_policy:one_succeeded"],
        &[]),
    sub("script|load", 3, (0, 0, 0), &["noscript", "stale"], &["@slow", "@scripting"], &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[]),
];

#[rustfmt::skip]
pub(super) static SLOWLOG: [Subcommand; 4] = [
    sub("slowlog|get", -2, (0, 0, 0), &["admin", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["request_policy:all_nodes", "nondeterministic_output"],
        &[]),
    sub("slowlog|help", 2, (0, 0, 0), &["loading", "stale"], &["@slow"], &[],
        &[]),
    sub("slowlog|len", 2, (0, 0, 0), &["admin", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        &[]),
    sub("slowlog|reset", 2, (0, 0, 0), &["admin", "loading", "stale"], &["@admin", "@slow", "@dangerous"], &["request_policy:all_nodes", "response_policy:all_succeeded"],
        &[]),
];

#[rustfmt::skip]
pub(super) static XGROUP: [Subcommand; 6] = [
    sub("xgroup|create", -5, (2, 2, 1), &["write", "denyoom"], &["@write", "@stream", "@slow"], &[],
        &[key(2, &["RW", "insert"])]),
    sub("xgroup|createconsumer", 5, (2, 2, 1), &["write", "denyoom"], &["@write", "@stream", "@slow"], &[],
        &[key(2, &["RW", "insert"])]),
    sub("xgroup|delconsumer", 5, (2, 2, 1), &["write"], &["@write", "@stream", "@slow"], &[],
        &[key(2, &["RW", "delete"])]),
    sub("xgroup|destroy", 4, (2, 2, 1), &["write"], &["@write", "@stream", "@slow"], &[],
        &[key(2, &["RW", "delete"])]),
    sub("xgroup|help", 2, (0, 0, 0), &["loading", "stale"], &["@stream", "@slow"], &[],
        &[]),
    sub("xgroup|setid", -5, (2, 2, 1), &["write"], &["@write", "@stream", "@slow"], &[],
        &[key(2, &["RW", "update"])]),
];

#[rustfmt::skip]
pub(super) static XINFO: [Subcommand; 4] = [
    sub("xinfo|consumers", 4, (2, 2, 1), &["readonly"], &["@read", "@stream", "@slow"], &["nondeterministic_output"],
        &[key(2, &["RO", "access"])]),
    sub("xinfo|groups", 3, (2, 2, 1), &["readonly"], &["@read", "@stream", "@slow"], &[],
        &[key(2, &["RO", "access"])]),
    sub("xinfo|help", 2, (0, 0, 0), &["loading", "stale"], &["@stream", "@slow"], &[],
        &[]),
    sub("xinfo|stream", -3, (2, 2, 1), &["readonly"], &["@read", "@stream", "@slow"], &[],
        &[key(2, &["RO", "access"])]),
];
