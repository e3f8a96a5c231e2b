//! Every kind of route and every key of pools that concerns failing servers,
//! from TOML to the model: what is written, what is left out, and what is
//! refused with its place.

use std::path::Path;
use std::time::{Duration, SystemTime};

use emberline::config::model::routes::{
    Cause, FaultAnswer, HashPart, Rate, ReadFrom, RouteKind, ShadowBy, WaitFor,
};
use emberline::config::model::{Child, Dns, OnDown, Rule, Simple};
use emberline::config::{self, Config, Environment, Report, Severity, Source};
use emberline::running::Visibility;
use emberline_protocol::Kind;

fn environment() -> Environment<'static> {
    Environment {
        variable: &|_| None,
        directory: None,
        cpus: 1,
        files: std::sync::Arc::default(),
    }
}

/// Two pools and a spare one, and a listener that reaches `x`.
const REST: &str = r#"
listeners.l = { protocol = "redis", bind = "127.0.0.1:0", route = "x" }
pools.a = { protocol = "redis", servers = ["a:1", "a:2"] }
pools.b = { protocol = "redis", servers = ["b:1"] }
pools.c = { protocol = "redis", kind = "local" }
"#;

/// Read a text that has nothing wrong in it.
fn read(text: &str) -> Config {
    let source = Source::new("test", text);
    let (config, report) = config::read(&source, &environment());
    assert!(!report.has_errors(), "{}", report.render(&source));
    config
}

/// The rule of a route that is written like this.
fn rule(table: &str) -> Rule {
    let mut config = read(&format!("routes.x = {{ {table} }}"));
    config.routes.remove("x").expect("a route").value.rule
}

/// All that is said of a whole configuration, as `line:column: message`.
fn said(text: &str) -> Vec<String> {
    let source = Source::new("t", text);
    let (running, report) = config::load(&source, &environment());
    assert_eq!(running.is_none(), report.has_errors());
    report.lines(&source).collect()
}

/// What is said of a route, without what comes of its not being built.
fn said_of(table: &str) -> Vec<String> {
    let mut said = said(&format!("routes.x = {{ {table} }}\n{REST}"));
    said.retain(|line| !line.contains("is not built yet") && !line.contains("no listener reaches"));
    said
}

fn names(children: &[&Child]) -> Vec<String> {
    let name = |child: &&Child| match child.name() {
        Some(name) => name.value.clone(),
        None => "in place".to_owned(),
    };
    children.iter().map(name).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The least that can be written of each kind, and where it leads.
const KINDS: [(&str, &str, &[&str]); 29] = [
    (
        "prefix",
        "children = { 'u:' = 'a' }, default = 'b'",
        &["a", "b"],
    ),
    ("operation", "reads = 'a', writes = 'b'", &["a", "b"]),
    ("replicas", "children = ['a', 'b']", &["a", "b"]),
    ("failover", "children = ['a', 'b']", &["a", "b"]),
    ("gutter", "main = 'a', gutter = 'b'", &["a", "b"]),
    ("miss_failover", "children = ['a', 'b']", &["a", "b"]),
    ("warm_up", "cold = 'a', warm = 'b'", &["a", "b"]),
    ("slow_warm_up", "target = 'a', fallback = 'b'", &["a", "b"]),
    (
        "migrate",
        "from = 'a', to = 'b', start = '2027-01-01T00:00:00Z'",
        &["a", "b"],
    ),
    ("staging", "warm = 'a', staging = 'b'", &["a", "b"]),
    (
        "shadow",
        "main = 'a', copies = [{ route = 'b' }]",
        &["a", "b"],
    ),
    ("split_hot", "child = 'a', copies = 2, keys = ['k']", &["a"]),
    ("l1_l2", "l1 = 'a', l2 = 'b'", &["a", "b"]),
    ("size_split", "small = 'a', large = 'b'", &["a", "b"]),
    ("big_value", "child = 'a'", &["a"]),
    ("ttl", "child = 'a', cap = '1h'", &["a"]),
    ("key", "child = 'a', add_prefix = 'x'", &["a"]),
    ("hash_key", "child = 'a'", &["a"]),
    ("by_host", "children = ['a', 'b']", &["a", "b"]),
    ("by_client", "children = ['a', 'b']", &["a", "b"]),
    ("random", "children = ['a', 'b']", &["a", "b"]),
    ("latest", "children = ['a', 'b']", &["a", "b"]),
    ("load_balance", "children = ['a', 'b']", &["a", "b"]),
    (
        "rate_limit",
        "child = 'a', over = 'b', reads = 10",
        &["a", "b"],
    ),
    ("limit_inflight", "child = 'a', max = 10", &["a"]),
    ("fault", "child = 'a', delay = '1s'", &["a"]),
    ("log", "child = 'a'", &["a"]),
    ("null", "", &[]),
    ("error", "", &[]),
];

/// A route of a kind with its least.
fn least(kind: &str, keys: &str) -> String {
    match keys {
        "" => format!("type = '{kind}'"),
        _ => format!("type = '{kind}', {keys}"),
    }
}

#[test]
fn every_kind_can_be_written_with_little() {
    for (kind, keys, children) in KINDS {
        let table = least(kind, keys);
        assert_eq!(said_of(&table), Vec::<String>::new(), "{kind}");
        let rule = rule(&table);
        assert_eq!(names(&rule.children()), children, "{kind}");
        assert!(matches!(rule.simple(), Simple::Rule), "{kind}");
        let word = format!("{:?}", rule.kind()).to_lowercase();
        assert_eq!(word, kind.replace('_', ""), "{kind}");
    }
    let wrong = said_of("type = 'nonsense'");
    assert_eq!(wrong, ["t:1:21: unknown type of route \"nonsense\""]);
    let missing = said_of("children = ['a']");
    assert_eq!(missing, ["t:1:12: `type` is missing in [routes.x]"]);
}

/// Whatever is read is built.
#[test]
fn every_kind_is_built() {
    for (kind, keys, _) in KINDS {
        let text = format!("routes.x = {{ {} }}\n{REST}", least(kind, keys));
        let mut errors = said(&text);
        errors.retain(|line| line.contains("not built"));
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn defaults_are_filled_in() {
    let Rule::Replicas(replicas) = rule("type = 'replicas', children = ['a', 'b']") else {
        panic!("replicas")
    };
    assert_eq!(
        (replicas.read, replicas.wait),
        (ReadFrom::First, WaitFor::All)
    );
    assert_eq!((replicas.read_repair, replicas.hedge_after), (false, None));

    let Rule::Failover(failover) = rule("type = 'failover', children = ['a', 'b']") else {
        panic!("failover")
    };
    use Cause::{Busy, Connect, Down, Lost, Timeout};
    assert_eq!(failover.on, [Timeout, Connect, Down, Busy, Lost]);
    assert_eq!(failover.on(Kind::Read), failover.on);
    assert_eq!((failover.max_tries, failover.rate), (2, None));
    assert_eq!((failover.burst, failover.retry_writes), (100, false));

    let Rule::Gutter(gutter) = rule("type = 'gutter', main = 'a', gutter = 'b'") else {
        panic!("gutter")
    };
    assert_eq!((gutter.ttl, gutter.on.len()), (secs(10), 5));
    let Rule::WarmUp(warm_up) = rule("type = 'warm_up', cold = 'a', warm = 'b'") else {
        panic!("warm_up")
    };
    assert_eq!((warm_up.tombstone, warm_up.ttl), (secs(2), None));
    let Rule::SlowWarmUp(slow) = rule("type = 'slow_warm_up', target = 'a', fallback = 'b'") else {
        panic!("slow_warm_up")
    };
    assert_eq!((slow.enable_below, slow.disable_above), (0.7, 0.9));
    assert_eq!((slow.start, slow.step, slow.requests_min), (0.1, 1.0, 100));
    let Rule::Shadow(shadow) = rule("type = 'shadow', main = 'a', copies = [{ route = 'b' }]")
    else {
        panic!("shadow")
    };
    assert_eq!(
        (shadow.copies[0].share, shadow.copies[0].by),
        (1.0, ShadowBy::Key)
    );
    let Rule::L1L2(tiers) = rule("type = 'l1_l2', l1 = 'a', l2 = 'b'") else {
        panic!("l1_l2")
    };
    assert_eq!((tiers.ttl, tiers.negative_ttl), (secs(3600), secs(0)));
    let Rule::SizeSplit(split) = rule("type = 'size_split', small = 'a', large = 'b'") else {
        panic!("size_split")
    };
    assert_eq!(split.threshold, 64 << 10);
    let Rule::BigValue(big) = rule("type = 'big_value', child = 'a'") else {
        panic!("big_value")
    };
    assert_eq!(big.chunk, 512 << 10);
    assert_eq!(big.ttl, Duration::from_secs(24 * 3600));
    let Rule::HashKey(hashed) = rule("type = 'hash_key', child = 'a'") else {
        panic!("hash_key")
    };
    assert_eq!(hashed.part(), HashPart::Before("|#|"));
    let Rule::Latest(latest) = rule("type = 'latest', children = ['a', 'b', 'c']") else {
        panic!("latest")
    };
    assert_eq!(latest.count, 2);
    let Rule::RateLimit(limit) = rule("type = 'rate_limit', child = 'a', reads = 10") else {
        panic!("rate_limit")
    };
    assert!(matches!(&limit.over, Child::Inline(table) if table.rule.kind() == RouteKind::Error));
    let ten = Rate {
        rate: 10.0,
        burst: 10.0,
    };
    assert_eq!(limit.rates(Kind::Read), [Some(ten), None]);
    assert_eq!(limit.rates(Kind::Write), [None, None]);
    let Rule::Fault(fault) = rule("type = 'fault', child = 'a', answer = 'drop'") else {
        panic!("fault")
    };
    assert_eq!(
        (fault.delay, fault.share, fault.answer),
        (secs(0), 1.0, FaultAnswer::Drop)
    );
    let Rule::Log(log) = rule("type = 'log', child = 'a'") else {
        panic!("log")
    };
    assert_eq!((log.share, log.keys), (0.01, Visibility::Hash));
    let Rule::Error(error) = rule("type = 'error'") else {
        panic!("error")
    };
    assert_eq!(error.message, "refused by the proxy's configuration");
}

#[test]
fn what_is_written_is_taken() {
    let Rule::Prefix(prefix) = rule(
        "type = 'prefix', children = { 'a:' = 'a', 'b:' = 'b' }, default = 'c', rewrite = { 'a:' = 'x:' }",
    ) else {
        panic!("prefix")
    };
    assert_eq!(
        (prefix.replacement("a:"), prefix.replacement("b:")),
        (Some("x:"), None)
    );
    let Rule::Prefix(prefix) =
        rule("type = 'prefix', children = { 'a:' = 'a' }, default = 'c', strip = true")
    else {
        panic!("prefix")
    };
    assert_eq!(prefix.replacement("a:"), Some(""));

    let Rule::Replicas(replicas) = rule(
        "type = 'replicas', children = ['a', 'b'], read = 'least_loaded', wait = 'majority', read_repair = true, hedge_after = '5ms'",
    ) else {
        panic!("replicas")
    };
    assert_eq!(
        (replicas.read, replicas.wait),
        (ReadFrom::LeastLoaded, WaitFor::Majority)
    );
    assert_eq!(replicas.hedge_after, Some(Duration::from_millis(5)));

    let Rule::Failover(failover) = rule(
        "type = 'failover', children = ['a', 'b', 'c'], on = ['error', 'miss'], on_writes = [], \
         on_deletes = ['down'], max_tries = 2, rate = 0.2, burst = 7, retry_writes = true",
    ) else {
        panic!("failover")
    };
    assert_eq!(failover.on(Kind::Read), [Cause::Error, Cause::Miss]);
    assert_eq!(failover.on(Kind::Write), []);
    assert_eq!(failover.on(Kind::Delete), [Cause::Down]);
    assert_eq!(
        (failover.max_tries, failover.rate, failover.burst),
        (2, Some(0.2), 7)
    );
    let Rule::Failover(salted) = rule("type = 'failover', salted = 'a'") else {
        panic!("failover")
    };
    assert_eq!((salted.max_tries, salted.children.len()), (3, 0));

    let moment = SystemTime::UNIX_EPOCH + secs(1_798_761_600);
    for start in ["'2027-01-01T00:00:00Z'", "2027-01-01T01:00:00+01:00"] {
        let table =
            format!("type = 'migrate', from = 'a', to = 'b', interval = '2h', start = {start}");
        let Rule::Migrate(migrate) = rule(&table) else {
            panic!("migrate")
        };
        assert_eq!((migrate.start, migrate.interval), (moment, secs(7200)));
    }
    let Rule::Ttl(ttl) = rule("type = 'ttl', child = 'a', cap = '1h', floor = '1m'") else {
        panic!("ttl")
    };
    assert_eq!(
        (ttl.set, ttl.cap, ttl.floor),
        (None, Some(secs(3600)), Some(secs(60)))
    );
    let Rule::Key(key) = rule(
        "type = 'key', child = 'a', strip_prefix = 'old:', add_suffix = ':v2', replace = { 'a:' = '' }",
    ) else {
        panic!("key")
    };
    assert_eq!(key.strip_prefix.as_deref(), Some("old:"));
    assert_eq!(
        (key.add_suffix.as_deref(), key.replace[0].1.as_str()),
        (Some(":v2"), "")
    );
    let Rule::HashKey(hashed) = rule("type = 'hash_key', child = 'a', delimiter = ':', index = 1")
    else {
        panic!("hash_key")
    };
    assert_eq!(hashed.part(), HashPart::Between(":", 1));
    let Rule::RateLimit(limit) = rule(
        "type = 'rate_limit', child = 'a', over = 'null', all = 0.5, writes = { rate = 100, burst = 1 }",
    ) else {
        panic!("rate_limit")
    };
    let all = Rate {
        rate: 0.5,
        burst: 1.0,
    };
    let writes = Rate {
        rate: 100.0,
        burst: 1.0,
    };
    assert_eq!(limit.rates(Kind::Write), [Some(writes), Some(all)]);
    assert!(matches!(&limit.over, Child::Inline(table) if table.rule.kind() == RouteKind::Null));
    let Rule::SplitHot(split) = rule("type = 'split_hot', child = 'a', copies = 3, keys = ['k']")
    else {
        panic!("split_hot")
    };
    assert_eq!((split.copies, split.keys), (3, vec!["k".to_owned()]));
}

/// Where a request of each kind goes.
#[test]
fn operations_fall_to_the_default_or_to_writes() {
    let check = |table: &str, found: [&str; 6]| {
        let Rule::Operation(operation) = rule(&format!("type = 'operation', {table}")) else {
            panic!("operation")
        };
        use Kind::{Counter, Delete, Other, Read, Touch, Write};
        let children = [Read, Write, Delete, Counter, Touch, Other].map(|kind| {
            operation
                .child(kind)
                .and_then(Child::name)
                .expect("a name")
                .value
                .clone()
        });
        assert_eq!(children, found, "{table}");
    };
    check("default = 'c', reads = 'a'", ["a", "c", "c", "c", "c", "c"]);
    check("reads = 'a', writes = 'b'", ["a", "b", "b", "b", "b", "b"]);
    check(
        "reads = 'a', writes = 'b', default = 'c'",
        ["a", "b", "c", "c", "c", "c"],
    );
    check(
        "reads = 'a', writes = 'b', deletes = 'c', counters = 'd', touches = 'e'",
        ["a", "b", "c", "d", "e", "b"],
    );
}

/// The words of the reference, as they stand there.
#[test]
fn the_keys_that_are_fixed_are_read() {
    let text = r#"
[routes.by_prefix]
type = "prefix"
children = { "user:" = "users", "img:" = "images" }
default = "main"
[routes.by_operation]
type = "operation"
reads = "near"
writes = "all"
[routes.copies]
type = "replicas"
children = ["a", "b", "c"]
read = "first"
wait = "all"
read_repair = true
hedge_after = "5ms"
[routes.safe]
type = "failover"
children = ["a", "b"]
on = ["timeout", "connect", "down"]
[routes.spare]
type = "gutter"
main = "a"
gutter = "g"
ttl = "10s"
[routes.warming]
type = "warm_up"
cold = "new"
warm = "old"
tombstone = "2s"
[routes.tested]
type = "shadow"
main = "a"
copies = [{ route = "b", share = 0.1, by = "key" }]
[routes.moving]
type = "migrate"
from = "old"
to = "new"
start = "2027-01-01T00:00:00Z"
interval = "1h"
"#;
    assert_eq!(read(text).routes.len(), 8);
}

/// A table and everything that is said of it.
#[test]
fn mistakes_are_told_with_their_places() {
    let check = |table: &str, expected: &[&str]| {
        assert_eq!(said_of(table), expected, "{table}");
    };
    check(
        "type = 'failover'",
        &["t:1:12: `children` is missing in [routes.x]"],
    );
    check(
        "type = 'failover', children = 'a'",
        &["t:1:44: `children` is not an array of children"],
    );
    check(
        "type = 'failover', children = ['a', 5]",
        &[
            "t:1:50: a child is an integer, expected the name of a pool or a route, or a route in place",
        ],
    );
    check(
        "type = 'failover', children = ['a', 'bb']",
        &["t:1:50: there is no pool and no route named \"bb\""],
    );
    check(
        "type = 'failover', children = ['a', 'b'], wait = 'all'",
        &["t:1:56: unknown key `wait` in [routes.x]"],
    );
    check(
        "type = 'failover', children = ['a', 'b'], on = ['timeout', 'timeout', 'never']",
        &[
            "t:1:73: \"timeout\" stands in `on` twice",
            "t:1:84: unknown outcome \"never\"",
        ],
    );
    check(
        "type = 'failover', children = ['a', 'b'], rate = 1.5",
        &["t:1:63: `rate` is 1.5, expected 0 to 1"],
    );
    check(
        "type = 'failover', children = ['a', 'b'], rate = nan",
        &["t:1:63: `rate` is NaN, expected 0 to 1"],
    );
    check(
        "type = 'failover', children = ['a', 'b'], burst = 5",
        &["t:1:64: `burst` has no meaning without `rate`"],
    );
    check(
        "type = 'failover', children = ['a', 'b'], max_tries = 5",
        &["t:1:68: `max_tries` is 5, and there are 2 children"],
    );
    check(
        "type = 'failover', children = ['a', 'b'], max_tries = 0",
        &["t:1:68: `max_tries` is 0, expected 1 to 64"],
    );
    check(
        "type = 'failover', salted = 'a', children = ['a', 'b']",
        &["t:1:58: `children` and `salted` cannot stand together"],
    );
    check(
        "type = 'failover', salted = { type = 'null' }",
        &["t:1:42: `salted` is not the name of a pool"],
    );
    check(
        "type = 'failover', salted = 'b'",
        &["t:1:42: pool `b` has no second server to fail over to"],
    );
    check(
        "type = 'replicas', children = ['a', 'b'], read = 'fastest', hedge_after = '1ms'",
        &["t:1:88: `hedge_after` has no meaning with `read = \"fastest\"`"],
    );
    check(
        "type = 'replicas', children = ['a', 'b'], read = 'fastest', read_repair = true",
        &["t:1:12: `read_repair` has no meaning with `read = \"fastest\"`"],
    );
    check(
        "type = 'split_hot', child = 'a', copies = 2",
        &["t:1:12: `keys` is missing in [routes.x]"],
    );
    check(
        "type = 'replicas', children = ['a', 'b'], read = 'near'",
        &["t:1:12: `read = \"near\"` and no `zone` in [proxy]: no replica is near"],
    );
    check(
        "type = 'replicas', children = ['a', 'b'], wait = 'al'",
        &["t:1:63: unknown number of writes to wait for \"al\""],
    );
    check(
        "type = 'operation', reads = 'a'",
        &["t:1:12: `writes` is missing in [routes.x]"],
    );
    check(
        "type = 'operation'",
        &[
            "t:1:12: `reads` is missing in [routes.x]",
            "t:1:12: `writes` is missing in [routes.x]",
        ],
    );
    check(
        "type = 'gutter', main = 'a', gutter = 'b', ttl = '500ms'",
        &["t:1:63: `ttl` is 500ms, expected 1s to 31536000s"],
    );
    check(
        "type = 'gutter', main = 'a'",
        &["t:1:12: `gutter` is missing in [routes.x]"],
    );
    check(
        "type = 'gutter', main = 'a', gutter = 'a'",
        &["t:1:52: `a` stands in this route twice"],
    );
    check(
        "type = 'warm_up', cold = 'a', warm = 'b', tombstone = '2h'",
        &["t:1:68: `tombstone` is 7200s, expected 0s to 3600s"],
    );
    check(
        "type = 'slow_warm_up', target = 'a', fallback = 'b', enable_below = 0.95",
        &[
            "t:1:82: `enable_below` is 0.95 and `disable_above` 0.9: expected the first to be smaller",
        ],
    );
    check(
        "type = 'migrate', from = 'a', to = 'b', start = '2027-01-01'",
        &[
            "t:1:62: \"2027-01-01\" is not a moment: write the date, the time and the offset from UTC, as in \"2027-01-01T00:00:00Z\"",
        ],
    );
    check(
        "type = 'migrate', from = 'a', to = 'b', start = 5",
        &["t:1:62: `start` is an integer, expected a moment such as \"2027-01-01T00:00:00Z\""],
    );
    check(
        "type = 'migrate', from = 'a', to = 'b'",
        &["t:1:12: `start` is missing in [routes.x]"],
    );
    check(
        "type = 'shadow', main = 'a', copies = [{ route = 'b', share = 2, of = 'key' }]",
        &[
            "t:1:76: `share` is 2, expected 0 to 1",
            "t:1:79: unknown key `of` in routes.x.copies[0]",
        ],
    );
    check(
        "type = 'shadow', main = 'a', copies = ['b']",
        &["t:1:53: an element of `copies` is a string, expected a table"],
    );
    check(
        "type = 'shadow', main = 'a', copies = {}",
        &["t:1:52: `copies` is not an array of tables"],
    );
    check(
        "type = 'split_hot', child = 'a', keys = ['']",
        &[
            "t:1:12: `copies` is missing in [routes.x]",
            "t:1:55: a key of 0 bytes, expected 1 to 1024",
        ],
    );
    check(
        "type = 'l1_l2', l1 = 'a', l2 = 'b', negative_ttl = '10ms'",
        &["t:1:65: `negative_ttl` is 10ms, expected 0s or at least 1s"],
    );
    check(
        "type = 'size_split', small = 'a', large = 'b', threshold = 0",
        &["t:1:73: `threshold` is 0B, expected 1B to 1GiB"],
    );
    check(
        "type = 'big_value', child = 'a', chunk = '1B'",
        &["t:1:55: `chunk` is 1B, expected 1KiB to 64MiB"],
    );
    check(
        "type = 'big_value', child = 'a', ttl = '0s'",
        &["t:1:53: `ttl` is 0s, expected 1s to 31536000s"],
    );
    check(
        "type = 'ttl', child = 'a', set = '1h', cap = '1h'",
        &["t:1:47: `set` cannot stand together with `cap` or `floor`"],
    );
    check(
        "type = 'ttl', child = 'a', cap = '1s', floor = '1h'",
        &["t:1:61: `floor` is 3600s, above the `cap` of 1s"],
    );
    check(
        "type = 'key', child = 'a', add_prefix = 'a b', strip_prefix = ''",
        &[
            "t:1:54: `add_prefix` has \"a b\": keys hold no blanks and no control characters",
            "t:1:76: `strip_prefix` has an empty text, which every key begins and ends with",
        ],
    );
    check(
        "type = 'key', child = 'a', replace = { \"a\\r\\n\" = 'b' }",
        &["t:1:53: `replace` has \"a\\r\\n\": keys hold no blanks and no control characters"],
    );
    check(
        "type = 'hash_key', child = 'a', stop = '#', delimiter = ':'",
        &["t:1:53: `stop` and `delimiter` cannot stand together"],
    );
    check(
        "type = 'hash_key', child = 'a', index = 1",
        &["t:1:54: `index` has no meaning without `delimiter`"],
    );
    check(
        "type = 'latest', children = ['a', 'b'], count = 3",
        &["t:1:62: `count` is 3, and there are 2 children"],
    );
    check(
        "type = 'rate_limit', child = 'a', reads = -1, writes = { burst = 5, size = 1 }",
        &[
            "t:1:56: `reads` is -1, expected 0 to 1000000000",
            "t:1:69: `rate` is missing in routes.x.writes",
            "t:1:82: unknown key `size` in routes.x.writes",
        ],
    );
    check(
        "type = 'limit_inflight', child = 'a'",
        &["t:1:12: `max` is missing in [routes.x]"],
    );
    check(
        "type = 'fault', child = 'a', answer = 'crash', share = 'all'",
        &[
            "t:1:52: unknown answer \"crash\"",
            "t:1:69: `share` is a string, expected a number",
        ],
    );
    check(
        "type = 'log', child = 'a', keys = 'none'",
        &["t:1:48: unknown way to show keys \"none\""],
    );
    check(
        "type = 'error', message = \"a\\nb\"",
        &["t:1:40: `message` has control characters"],
    );
    check(
        "type = 'null', child = 'a'",
        &["t:1:29: unknown key `child` in [routes.x]"],
    );
    check(
        "type = 'prefix', children = { 'a:' = 'a' }, default = 'b', rewrite = { 'aa:' = 'x' }",
        &["t:1:85: this prefix is not listed"],
    );
    check(
        "type = 'prefix', children = { 'a:' = 'a' }, default = 'b', strip = true, rewrite = { 'a:' = 'x' }",
        &["t:1:99: `strip` and `rewrite` cannot stand together"],
    );
}

/// A route without children is `null`, one with a single child is that child.
#[test]
fn routes_that_decide_nothing_are_left_out() {
    let null = |table: &str| {
        assert!(matches!(rule(table).simple(), Simple::Null), "{table}");
        let said = said_of(table);
        assert!(
            said[0].contains("has no children: it answers as `null` does"),
            "{said:?}"
        );
    };
    let child = |table: &str| {
        let rule = rule(table);
        let Simple::Child(child) = rule.simple() else {
            panic!("{table}")
        };
        assert_eq!(child.name().expect("a name").value, "a");
        let source = Source::new("t", format!("routes.x = {{ {table} }}"));
        let (_, report) = config::read(&source, &environment());
        let shown = report.render(&source);
        assert_eq!(report.count(Severity::Note), 1, "{shown}");
        assert!(
            shown.starts_with("note: this ") && shown.contains("decides nothing"),
            "{shown}"
        );
    };
    for kind in
        "replicas failover miss_failover by_host by_client random latest load_balance".split(' ')
    {
        null(&format!("type = '{kind}', children = []"));
        child(&format!("type = '{kind}', children = ['a']"));
    }
    child("type = 'operation', default = 'a'");
    child("type = 'shadow', main = 'a', copies = []");
    child("type = 'ttl', child = 'a'");
    child("type = 'key', child = 'a'");
    child("type = 'rate_limit', child = 'a'");
    child("type = 'fault', child = 'a'");
    // Not to wait for the only replica is a decision.
    let one = rule("type = 'replicas', children = ['a'], wait = 'none'");
    assert!(matches!(one.simple(), Simple::Rule));
}

/// `null` and `error` stand where a name may, and so nothing may be called so.
#[test]
fn leaves_may_be_written_as_words() {
    let found = rule("type = 'failover', children = ['a', 'error', 'null']");
    let kinds: Vec<_> = found
        .children()
        .iter()
        .filter_map(|child| match child {
            Child::Inline(table) => Some(table.rule.kind()),
            Child::Name(_) => None,
        })
        .collect();
    assert_eq!(kinds, [RouteKind::Error, RouteKind::Null]);
    let said =
        said("[routes.null]\ntype = 'error'\n[pools.error]\nprotocol = 'redis'\nkind = 'local'\n");
    let taken = |name| format!("the name `{name}` is taken: it is a route that answers itself");
    assert!(
        said.contains(&format!("t:1:9: {}", taken("null"))),
        "{said:?}"
    );
    assert!(
        said.contains(&format!("t:3:8: {}", taken("error"))),
        "{said:?}"
    );
}

/// A kind's least, its children replaced by this one.
fn through(kind: &str, keys: &str, child: &str) -> Option<String> {
    let keys = keys.replacen("'a'", child, 1);
    keys.contains(child).then(|| least(kind, &keys))
}

#[test]
fn circles_are_found_through_every_kind() {
    let mut ring = String::new();
    let kinds: Vec<_> = KINDS
        .iter()
        .filter(|(_, _, children)| !children.is_empty())
        .collect();
    for (i, (kind, keys, _)) in kinds.iter().enumerate() {
        let next = format!("'r{}'", (i + 1) % kinds.len());
        let table = through(kind, keys, &next).expect("a child");
        ring += &format!("routes.r{i} = {{ {table} }}\n");
        // And each by itself.
        let table = through(kind, keys, "'x'").expect("a child");
        let found = said_of(&table);
        assert!(
            found.iter().any(|line| line.contains("a circle: x -> x")),
            "{kind}: {found:?}"
        );
    }
    let text = format!("{ring}routes.x = {{ type = 'log', child = 'r0' }}\n{REST}");
    let found = said(&text);
    assert!(
        found
            .iter()
            .any(|line| line.contains("lead in a circle: r0 -> r1")),
        "{found:?}"
    );
}

#[test]
fn every_kind_counts_its_depth_protocols_and_names() {
    for (kind, keys, _) in KINDS.iter().filter(|(_, _, children)| !children.is_empty()) {
        let named = through(kind, keys, "'nobody'").expect("a child");
        let found = said_of(&named);
        assert!(
            found[0].contains("no pool and no route named \"nobody\""),
            "{kind}: {found:?}"
        );

        let other = through(kind, keys, "'m'").expect("a child");
        let pool = "pools.m = { protocol = 'memcached', servers = ['m:1'] }";
        let found = said(&format!("{pool}\nroutes.x = {{ {other} }}\n{REST}"));
        let clash = "pool `m` speaks memcached and listener `l` redis";
        assert!(
            found.iter().any(|line| line.contains(clash)),
            "{kind}: {found:?}"
        );

        // Thirty-two in a row are well, one more is too many.
        let mut text = String::new();
        for i in 0..33 {
            let next = if i == 32 {
                "'b'".to_owned()
            } else {
                format!("'r{}'", i + 1)
            };
            text += &format!(
                "routes.r{i} = {{ {} }}\n",
                through(kind, keys, &next).expect("a child")
            );
        }
        let deep = |start: usize| {
            let found = said(&format!(
                "{text}{}",
                REST.replace("'x'", "")
                    .replace("\"x\"", &format!("\"r{start}\""))
            ));
            found
                .iter()
                .any(|line| line.contains("33 routes follow each other"))
        };
        assert!(deep(0) && !deep(1), "{kind}");

        // As deep in place.
        let mut nested = "'b'".to_owned();
        for _ in 0..40 {
            nested = format!("{{ {} }}", through(kind, keys, &nested).expect("a child"));
        }
        let found = said(&format!("routes.x = {nested}\n{REST}"));
        assert!(
            found
                .iter()
                .any(|line| line.contains("nest deeper than 32")),
            "{kind}: {found:?}"
        );
    }
}

#[test]
fn ten_thousand_children_cost_what_their_text_does() {
    let many: String = (0..10_000).map(|i| format!("'p{i}',")).collect();
    for kind in "replicas failover miss_failover random".split(' ') {
        let found = said_of(&format!("type = '{kind}', children = [{many}]"));
        assert_eq!(found.len(), 10_000, "{kind}");
    }
    let same = "'a',".repeat(10_000);
    assert_eq!(
        said_of(&format!("type = 'random', children = [{same}]")).len(),
        9_999
    );
    let inline = "{ type = 'fault', child = 'a', delay = '1s' },".repeat(10_000);
    assert_eq!(
        said_of(&format!("type = 'random', children = [{inline}]")).len(),
        0
    );
    let copies = "{ route = 'nobody', share = 7 },".repeat(10_000);
    let found = said_of(&format!("type = 'shadow', main = 'a', copies = [{copies}]"));
    assert!(found.len() >= 20_000, "{}", found.len());
    let rewrite: String = (0..10_000).map(|i| format!("'k{i}' = 'x',")).collect();
    let prefix = format!(
        "type = 'prefix', children = {{ a = 'a' }}, default = 'b', rewrite = {{ {rewrite} }}"
    );
    assert_eq!(said_of(&prefix).len(), 10_000);
}

/// Every value that a key may be given, of every kind.
#[test]
fn no_value_of_any_key_is_a_panic() {
    let values = [
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "1e308",
        "nan",
        "-inf",
        "-0.0",
        "'0s'",
        "'1us'",
        "'18446744073709551615h'",
        "'99999999999TiB'",
        "true",
        "[]",
        "[[]]",
        "[{}]",
        "{}",
        "''",
        "'a'",
        "['a', 'a', 'a']",
        "{ type = 'null' }",
        "1979-05-27",
        "1979-05-27T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:60-23:59",
        "'null'",
        "{ a = { a = 'a' } }",
    ];
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).expect("JSON");
    for (kind, keys, _) in KINDS {
        let kinds = schema["definitions"]
            .as_object()
            .expect("definitions")
            .values();
        let table = kinds
            .into_iter()
            .find(|table| table["properties"]["type"]["enum"] == serde_json::json!([kind]))
            .unwrap_or_else(|| panic!("{kind} is not in the schema"));
        for key in table["properties"].as_object().expect("keys").keys() {
            for value in values {
                let kept: Vec<_> = parts(keys)
                    .into_iter()
                    .filter(|part| !part.starts_with(key))
                    .collect();
                let other = if key == "type" {
                    String::new()
                } else {
                    format!("type = '{kind}', ")
                };
                let table = format!(
                    "{other}{}{}{key} = {value}",
                    kept.join(", "),
                    if kept.is_empty() { "" } else { ", " }
                );
                said_of(&table);
            }
        }
    }
}

/// The keys of a table, cut at the commas that stand in no bracket.
fn parts(keys: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = vec![String::new()];
    for c in keys.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        match (c, depth) {
            (',', 0) => found.push(String::new()),
            _ => found.last_mut().expect("a part").push(c),
        }
    }
    found
        .iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

fn pools(text: &str) -> Config {
    read(&format!("{REST}\n{text}"))
}

#[test]
fn a_pool_says_what_it_does_about_servers_that_fail() {
    let config = pools(
        "[pools.p]\nprotocol = 'redis'\nservers = ['p:1', { address = 'p:2', down = true }]\n\
         on_down = { gutter = 'a' }\ngutter_ttl = '3s'\nzone = 'eu-1'\nqueue_timeout = '20ms'\n\
         retry_budget = 0.5\nfailures = 5\nprobe_first = '1s'\nprobe_last = '1m'\npanic = 1\n\
         salt = 'x'\ndns = 'expand'\n\
         delete_log = { path = 'd.log', bytes_max = '1MiB', age_max = '5m' }\n",
    );
    let pool = &config.pools["p"].value;
    let health = pool.health();
    assert_eq!(
        (health.failures, health.panic, health.retry_budget),
        (5, 1.0, 0.5)
    );
    assert_eq!((health.probe_first, health.probe_last), (secs(1), secs(60)));
    assert_eq!(
        (health.queue_timeout, health.gutter_ttl),
        (Duration::from_millis(20), secs(3))
    );
    let gutter = pool.on_down.as_ref().and_then(|at| at.value.gutter());
    assert_eq!(gutter.expect("a gutter").value, "a");
    assert_eq!(pool.dns.as_ref().map(|at| at.value), Some(Dns::Expand));
    let log = pool.delete_log.as_ref().expect("a log");
    assert_eq!(
        (log.path.value.as_str(), log.bytes_max, log.age_max),
        ("d.log", 1 << 20, secs(300))
    );
    let servers = pool.servers.as_ref().expect("servers");
    assert_eq!([0, 1].map(|i| servers[i].down.is_some()), [false, true]);

    let health = config.pools["a"].value.health();
    assert_eq!(
        (health.failures, health.panic, health.retry_budget),
        (3, 0.5, 0.2)
    );
    assert_eq!(
        (health.probe_first, health.probe_last),
        (Duration::from_millis(250), secs(10))
    );
    assert_eq!(
        (health.queue_timeout, health.gutter_ttl),
        (secs(1), secs(10))
    );

    let short = pools(
        "[pools.p]\nprotocol = 'redis'\nservers = ['p:1']\non_down = 'rehash'\ndelete_log = 'd'\n",
    );
    let pool = &short.pools["p"].value;
    assert_eq!(
        pool.on_down.as_ref().map(|at| &at.value),
        Some(&OnDown::Rehash)
    );
    let log = pool.delete_log.as_ref().expect("a log");
    assert_eq!((log.bytes_max, log.age_max), (64 << 20, secs(3600)));
}

#[test]
fn what_pools_cannot_mean_is_refused() {
    let check = |keys: &str, expected: &[&str]| {
        let text = format!("pools.p = {{ protocol = 'redis', servers = ['p:1'], {keys} }}\n{REST}");
        let mut found = said(&text);
        found.retain(|line| !line.contains("no listener reaches") && !line.contains("named \"x\""));
        assert_eq!(found, expected, "{keys}");
    };
    check(
        "on_down = 'eror'",
        &["t:1:62: `on_down` is none of its choices"],
    );
    check(
        "on_down = { gutter = 'q' }",
        &["t:1:73: there is no pool \"q\""],
    );
    check(
        "on_down = { gutter = 'p' }",
        &["t:1:73: pool `p` cannot be its own gutter"],
    );
    check(
        "on_down = { gutter = 'a', ttl = '1s' }",
        &["t:1:78: unknown key `ttl` in pools.p.on_down"],
    );
    check(
        "gutter_ttl = '1s'",
        &["t:1:65: `gutter_ttl` has no meaning in pool `p`: it has no gutter"],
    );
    check(
        "zone = 'a b'",
        &["t:1:59: \"a b\" cannot be a name: use at most 64 letters, digits, `_`, `-` and `.`"],
    );
    check("panic = 0", &["t:1:60: `panic` is 0, expected 0.01 to 1"]);
    check(
        "retry_budget = 2",
        &["t:1:67: `retry_budget` is 2, expected 0 to 1"],
    );
    check(
        "failures = 0",
        &["t:1:63: `failures` is 0, expected 1 to 1000"],
    );
    check(
        "probe_first = '20s'",
        &["t:1:66: `probe_first` is 20s, above the `probe_last` of 10s"],
    );
    check("delete_log = ''", &["t:1:65: this cannot be a path"]);
    check(
        "delete_log = { bytes_max = 1 }",
        &[
            "t:1:65: `path` is missing in pools.p.delete_log",
            "t:1:79: `bytes_max` is 1B, expected 4KiB to 1048576GiB",
        ],
    );
    check(
        "salt = \"a\\u0000\"",
        &["t:1:59: `salt` has more than 64 bytes or a control character among them"],
    );
    check(
        "dns = 'all'",
        &["t:1:58: unknown use of a name's addresses \"all\""],
    );

    let shared = format!(
        "pools.p = {{ protocol = 'redis', servers = ['p:1'], delete_log = 'd' }}\n\
         pools.q = {{ protocol = 'redis', servers = ['q:1'], delete_log = 'd' }}\n{REST}"
    );
    assert!(
        said(&shared).contains(&"t:2:65: pools `p` and `q` cannot share a delete log".to_owned())
    );
    let chain = format!(
        "pools.p = {{ protocol = 'redis', servers = ['p:1'], on_down = {{ gutter = 'q' }} }}\n\
         pools.q = {{ protocol = 'redis', servers = ['q:1'], on_down = {{ gutter = 'a' }} }}\n{REST}"
    );
    assert!(said(&chain).contains(&"t:1:73: pool `q` is a gutter and has one itself".to_owned()));
    let other = format!(
        "pools.p = {{ protocol = 'redis', servers = ['p:1'], on_down = {{ gutter = 'q' }} }}\n\
         pools.q = {{ protocol = 'memcached', servers = ['q:1'] }}\n{REST}"
    );
    assert!(
        said(&other).contains(&"t:1:73: pool `q` speaks memcached and pool `p` redis".to_owned())
    );
}

#[test]
fn names_and_services_want_what_suits_them() {
    let base = REST.replace("\"x\"", "\"p\"");
    let check = |servers: &str, dns: &str, expected: &str| {
        let found = said(&format!(
            "pools.p = {{ protocol = 'redis', servers = [{servers}], dns = '{dns}' }}\n{base}"
        ));
        let is_said = found.iter().any(|line| line.contains(expected));
        assert!(is_said, "{found:?}");
    };
    let service = "pool `p`: \"_r._tcp.x\" is a service, which is many servers";
    check("'_r._tcp.x'", "first", service);
    check("'_r._tcp'", "expand", "neither host:port nor a service");
    let named = "pool `p`: `name` cannot be for all that \"p:1\" stands for";
    check("{ address = 'p:1', name = 'n' }", "expand", named);
    let terms = said(&format!(
        "dns = {{ ttl_min = '2s', ttl_max = '1s' }}\n{REST}"
    ));
    let expected = "`ttl_min` is 2s, above the `ttl_max` of 1s";
    assert!(
        terms.iter().any(|line| line.contains(expected)),
        "{terms:?}"
    );
}

#[test]
fn pool_keys_that_are_built_are_not_refused() {
    let base = REST.replace("\"x\"", "\"p\"");
    let fine = "pools.p = { protocol = 'redis', servers = ['p:1', { address = 'p:2', down = true }], \
                on_down = { gutter = 'a' }, gutter_ttl = '1s', salt = 'x', delete_log = 'd' }";
    assert!(
        !said(&format!("{fine}\n{base}"))
            .iter()
            .any(|line| line.contains("built"))
    );
}

#[test]
fn pools_take_over_what_they_do_not_say() {
    let config = read(&format!(
        "{REST}\n[pool_defaults]\nconnect_timeout = '1s'\nhash = 'md5'\ndatabase = 5\ncapacity = '2MiB'\n\
         zone = 'z'\non_down = {{ gutter = 'a' }}\ngutter_ttl = '3s'\nvalue_max = '2MiB'\n\
         username = 'u'\npassword = 'hunter2'\n\
         [pools.own]\nprotocol = 'redis'\nservers = ['o:1']\nconnect_timeout = '2s'\non_down = 'error'\n\
         distribution = 'crc16_slots'\npassword_env = 'X'\n\
         [pools.m]\nprotocol = 'memcached'\nservers = ['m:1']\n"
    ));
    let pool = |name: &str| &config.pools[name].value;
    let (a, b, c, own, m) = (pool("a"), pool("b"), pool("c"), pool("own"), pool("m"));
    assert_eq!(
        b.connect_timeout.as_ref().map(|at| at.value.0),
        Some(secs(1))
    );
    assert_eq!(
        own.connect_timeout.as_ref().map(|at| at.value.0),
        Some(secs(2))
    );
    assert!(
        b.hash.is_some() && own.hash.is_none(),
        "it brings its own hash"
    );
    assert!(b.database.is_some() && m.database.is_none() && c.database.is_none());
    assert!(m.value_max.is_some() && b.value_max.is_none());
    assert!(c.capacity.is_some() && b.capacity.is_none());
    assert!([a, b, c, own, m].iter().all(|pool| pool.zone.is_some()));
    assert!(
        a.on_down.is_none() && b.on_down.is_some(),
        "none is its own gutter"
    );
    assert!(b.gutter_ttl.is_some() && own.gutter_ttl.is_none() && a.gutter_ttl.is_none());
    assert!(b.username.is_some() && b.password.is_some());
    assert!(
        own.username.is_none() && own.password.is_none(),
        "it has credentials"
    );
}

/// What works is built with what it took over, and a shared mistake is told
/// once.
#[test]
fn shared_defaults_reach_the_running_pools() {
    let many: String = (0..500)
        .map(|i| {
            format!(
                "[pools.p{i}]\nprotocol = 'redis'\nservers = ['p:{}']\n",
                i + 1
            )
        })
        .collect();
    let listener = "listeners.l = { protocol = 'redis', bind = '127.0.0.1:0', route = 'p0' }\n";
    let load = |defaults: &str| -> (Option<emberline::running::Running>, Report) {
        let source = Source::new(
            "t",
            format!("{listener}[pool_defaults]\n{defaults}\n{many}"),
        );
        config::load(&source, &environment())
    };
    let (running, _) = load("request_timeout = '7s'");
    let running = running.expect("a configuration");
    assert!(
        running
            .pools
            .iter()
            .all(|pool| pool.timeout_request == secs(7))
    );
    for wrong in [
        "request_timeout = '0s'",
        "password_file = '/no/such/file'",
        "on_down = { gutter = 'nobody' }",
        "probe_first = '1m'",
        "servers = ['a:1']",
        "protocol = 'redis'",
        "delete_log = 'd'",
    ] {
        let (running, report) = load(wrong);
        assert!(running.is_none(), "{wrong}");
        assert_eq!(
            report.count(Severity::Error),
            1,
            "{wrong}: {:?}",
            report.diagnostics().take(3).collect::<Vec<_>>()
        );
    }
}

/// What stands in for another pool is reached.
#[test]
fn a_gutter_is_reached_by_its_pool() {
    let text = "listeners.l = { protocol = 'redis', bind = '127.0.0.1:0', route = 'p' }\n\
                pools.p = { protocol = 'redis', servers = ['p:1'], on_down = { gutter = 'g' } }\n\
                pools.g = { protocol = 'redis', servers = ['g:1'] }\n\
                pools.h = { protocol = 'redis', servers = ['h:1'] }\n";
    let found = said(text);
    assert!(
        !found.iter().any(|line| line.contains("reaches pool `g`")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|line| line.contains("reaches pool `h`")),
        "{found:?}"
    );
}

#[test]
fn near_wants_a_zone_that_a_pool_has() {
    let check = |tables: &str, warned: bool| {
        let text = format!(
            "routes.x = {{ type = 'replicas', children = ['a', 'z'], read = 'near' }}\n\
             pools.z = {{ protocol = 'redis', servers = ['z:1'], zone = 'eu' }}\n{REST}\n{tables}"
        );
        let found = said(&text);
        let near = found.iter().any(|line| line.contains("no replica is near"));
        assert_eq!(near, warned, "{found:?}");
    };
    check("", true);
    check("[proxy]\nzone = 'us'", true);
    check("[proxy]\nzone = 'eu'", false);
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/routes.md");
    std::fs::read_to_string(path).expect("the page is there")
}

/// The page has what the schema has: a section for every kind, and in it a
/// row for every key with its default.
#[test]
fn the_page_on_routes_knows_every_kind_and_key() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).expect("JSON");
    let page = page();
    let mut tables: Vec<(String, String)> = vec![
        ("RateTable".to_owned(), "## `rate_limit`".to_owned()),
        ("ShadowCopy".to_owned(), "## `shadow`".to_owned()),
    ];
    for (name, table) in schema["definitions"].as_object().expect("definitions") {
        if let Some(kind) = table["properties"]["type"]["enum"][0].as_str() {
            tables.push((name.clone(), format!("## `{kind}`")));
            assert!(page.contains(&format!("| [`{kind}`](#{kind}) |")), "{kind}");
        }
    }
    assert_eq!(tables.len(), KINDS.len() + 2);
    for (table, heading) in tables {
        let (_, section) = page.split_once(&format!("{heading}\n")).expect(&heading);
        let section = section.split("\n## ").next().expect("a section");
        assert!(section.contains("```toml"), "{heading} has no example");
        let rows: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        for (key, property) in schema["definitions"][&table]["properties"]
            .as_object()
            .expect("keys")
        {
            if key == "type" {
                continue;
            }
            let named = |row: &&&str| {
                row.split(" | ")
                    .next()
                    .is_some_and(|first| first.contains(&format!("`{key}`")))
            };
            let row = rows.iter().find(named);
            let row = row.unwrap_or_else(|| panic!("{table}.{key} is not on the page"));
            if let Some(default) = property.get("default") {
                let shown = default.to_string().replace(',', ", ").replace('|', "\\|");
                let shown = format!("`{shown}`");
                assert!(
                    row.contains(&shown),
                    "{table}.{key} is {shown} unless written"
                );
            }
        }
    }
    let pool = schema["definitions"]["PoolTable"]["properties"]
        .as_object()
        .expect("keys");
    let (_, section) = page.split_once("## Pools\n").expect("a section on pools");
    for key in "salt on_down gutter_ttl zone queue_timeout retry_budget failures probe_first probe_last panic delete_log dns".split(' ') {
        let row = section.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{key}`")));
        let row = row.unwrap_or_else(|| panic!("{key}"));
        if let Some(default) = pool[key].get("default") {
            assert!(row.contains(&format!("`{default}`")), "{key}: {default}");
        }
    }
}

/// Every example on the page is read without an error or a warning, and every
/// name in it is on the page's list of pools.
#[test]
fn the_examples_on_the_page_are_read() {
    let page = page();
    let pools: String = [
        "a", "b", "c", "main", "users", "images", "spare", "old", "new",
    ]
    .iter()
    .map(|name| {
        format!("pools.{name} = {{ protocol = 'redis', servers = ['{name}:1', '{name}:2'] }}\n")
    })
    .collect();
    let mut read = 0;
    for block in page.split("```toml\n").skip(1) {
        let (text, _) = block.split_once("```").expect("an end");
        let route = text
            .lines()
            .find_map(|line| line.strip_prefix("[routes.")?.strip_suffix(']'));
        let route = route.unwrap_or("main");
        let listener = format!(
            "listeners.l = {{ protocol = 'redis', bind = '127.0.0.1:0', route = '{route}' }}\n"
        );
        let mut found = said(&format!("{listener}{pools}{text}"));
        found.retain(|line| {
            !line.contains("not built yet") && !line.contains("no listener reaches")
        });
        assert_eq!(found, Vec::<String>::new(), "{text}");
        read += 1;
    }
    assert!(read >= 29, "{read}");
}
