//! What is promoted and demoted, and when.

#![allow(clippy::unwrap_used, missing_docs)]

mod traffic;

use emberline_hotkey::{Access, Board, Counts, Reason, Rule, WatchSettings};
use traffic::{Dice, POOL, Pool, settings, watches};

fn names(pool: &Pool) -> Vec<String> {
    let set = pool.board.set();
    let mut names: Vec<String> = set
        .keys()
        .map(|key| String::from_utf8_lossy(&key.key).into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_key_at_the_threshold_is_promoted_and_cools_for_two_rounds() {
    let mut pool = Pool::new(&settings(96), 1, 5_000);
    pool.reads("a", 95, 5_050);
    assert!(!pool.is_hot("a"));
    pool.reads("a", 1, 5_060);
    assert!(pool.is_hot("a"));
    // Half the threshold keeps it hot, for as long as it is in the window.
    pool.reads("a", 48, 5_950);
    pool.ticks(6_000, 6_900);
    assert!(pool.is_hot("a"));
    // The 48 were in the window that ended at 6.9 s. Those that ended at 7.0
    // and 7.1 s are cool, which is known when the next one has ended.
    pool.ticks(7_000, 7_100);
    assert!(pool.is_hot("a"));
    pool.tick(7_200);
    assert!(!pool.is_hot("a"));
}

#[test]
fn the_window_slides() {
    // 60 at the end of one second and 60 at the start of the next are 120 in
    // one window; a tumbling window would see 60.
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    pool.reads("a", 60, 5_950);
    pool.reads("a", 60, 6_050);
    pool.tick(6_100);
    // At 6.1 s its name was wanted.
    pool.reads("a", 1, 6_101);
    assert!(pool.is_hot("a"));
}

#[test]
fn a_slow_key_is_promoted_by_the_sum_over_the_workers() {
    let mut pool = Pool::new(&settings(100), 4, 5_000);
    for i in 0..120 {
        pool.record(i % 4, Access::Read, "a", 5_000 + i as u64 * 8);
    }
    pool.tick(6_000);
    for worker in 0..4 {
        pool.record(worker, Access::Read, "a", 6_001);
    }
    assert!(pool.is_hot("a"));
    let row = &pool.board.rows()[0];
    assert_eq!((row.reads.lower, row.reads.upper), (120, 120));
    assert_eq!((row.total, row.window_ms), (120, 1000));
    assert!(row.certain);
}

#[test]
fn reads_and_writes_are_counted_apart_and_count_together() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    for (key, reads, writes) in [("r", 80, 40), ("w", 20, 100)] {
        for i in 0..120 {
            let access = if i < reads {
                Access::Read
            } else {
                Access::Write
            };
            pool.record(0, access, key, 5_010);
        }
        assert_eq!(reads + writes, 120);
    }
    let mut rows = pool.board.rows();
    rows.sort_by_key(|row| row.key.key.clone());
    assert_eq!(rows[0].reason, Reason::Reads);
    assert_eq!(rows[1].reason, Reason::Writes);
    pool.tick(5_100);
    let mut rows = pool.board.rows();
    rows.sort_by_key(|row| row.key.key.clone());
    let counts = |row: usize| (rows[row].reads.lower, rows[row].writes.lower);
    assert_eq!((counts(0), counts(1)), ((80, 40), (20, 100)));
}

#[test]
fn a_hold_outlives_the_heat() {
    let held = WatchSettings {
        hold_ms: 5_000,
        ..settings(100)
    };
    let mut pool = Pool::new(&held, 1, 5_000);
    pool.reads("a", 104, 5_050);
    pool.ticks(5_100, 10_000);
    assert!(pool.is_hot("a"));
    pool.ticks(10_100, 10_200);
    assert!(!pool.is_hot("a"));
}

#[test]
fn rules_decide_by_prefix() {
    let rule = |prefix: &str, window_ms, threshold, hold_ms| Rule {
        prefix: prefix.as_bytes().into(),
        window_ms,
        threshold,
        hold_ms,
    };
    let ruled = WatchSettings {
        rules: vec![
            rule("user:", 1000, 50, 0),
            rule("user:vip:", 1000, 10_000, 0),
            rule("slow:", 10_000, 50, 0),
        ],
        ..settings(200)
    };
    let mut pool = Pool::new(&ruled, 2, 5_000);
    // Four seconds of 15 requests a second for each.
    for i in 0..60u64 {
        for key in ["user:1", "user:vip:1", "slow:1", "other"] {
            pool.record((i % 2) as usize, Access::Read, key, 5_000 + i * 66);
        }
    }
    pool.ticks(9_000, 9_900);
    pool.tick(10_000);
    pool.record(0, Access::Read, "slow:1", 10_001);
    assert_eq!(names(&pool), ["slow:1"], "only the long window holds 50");
    assert_eq!(pool.board.rows()[0].window_ms, 10_000);

    for i in 0..100u64 {
        for key in ["user:1", "user:vip:1", "other"] {
            pool.record((i % 2) as usize, Access::Read, key, 10_100 + i);
        }
    }
    assert_eq!(names(&pool), ["slow:1", "user:1"]);
    for i in 0..200u64 {
        for key in ["user:vip:1", "other"] {
            pool.record((i % 2) as usize, Access::Read, key, 10_300 + i);
        }
    }
    assert_eq!(names(&pool), ["other", "slow:1", "user:1"]);
    // Silence: each is forgotten by its own window.
    pool.ticks(10_500, 11_800);
    assert_eq!(names(&pool), ["slow:1"]);
    pool.ticks(11_900, 22_000);
    assert!(names(&pool).is_empty());
}

#[test]
fn always_hot_keys_are_promoted_from_the_start_and_stay() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    let list: Vec<Box<[u8]>> = vec![(*b"config").into(), (*b"flags").into()];
    pool.board.always(&pool.hasher, POOL, &list);
    assert_eq!(names(&pool), ["config", "flags"]);
    pool.reads("config", 3, 5_050);
    pool.ticks(5_100, 9_000);
    assert_eq!(names(&pool), ["config", "flags"]);
    let rows = pool.board.rows();
    assert!(rows.iter().all(|row| row.reason == Reason::Always));
    assert!(rows.iter().all(|row| row.reads.upper == 0));
    // A new list; what has left it goes when it is cool.
    pool.board.always(&pool.hasher, POOL, &list[..1]);
    pool.ticks(9_100, 9_400);
    assert_eq!(names(&pool), ["config"]);
}

#[test]
fn bytes_promote_a_key_that_is_seldom_read() {
    let heavy = WatchSettings {
        threshold_bytes: Some(1 << 20),
        ..settings(1000)
    };
    let mut pool = Pool::new(&heavy, 2, 5_000);
    let mut dice = Dice(1);
    let mut promoted_at = None;
    for now in 5_000..6_000u64 {
        let worker = (now % 2) as usize;
        // 2 MiB/s in 20 replies a second, among 2,000 small ones.
        if now % 50 == 0 {
            pool.record(worker, Access::Read, "large", now);
            let hash = pool.hash("large");
            pool.watches[worker].reply(&pool.board, hash, 100_000, now);
        }
        for _ in 0..2 {
            let key = format!("small:{}", dice.below(10_000));
            pool.record(worker, Access::Read, &key, now);
            let hash = pool.hash(&key);
            pool.watches[worker].reply(&pool.board, hash, 200, now);
        }
        if promoted_at.is_none() && pool.is_hot("large") {
            promoted_at = Some(now);
        }
    }
    // 1 MiB is reached after 525 ms; its next request gives it a name.
    let at = promoted_at.unwrap();
    assert!((5_500..=5_750).contains(&at), "{at}");
    assert_eq!(names(&pool), ["large"]);
    pool.tick(6_000);
    let row = &pool.board.rows()[0];
    assert_eq!(row.reason, Reason::Bytes);
    assert_eq!(row.reads.lower, 20);
    assert!(
        row.bytes.lower > 1_800_000 && row.bytes.upper < 2_300_000,
        "{row:?}"
    );
    pool.ticks(6_100, 7_300);
    assert!(names(&pool).is_empty());
}

#[test]
fn a_worker_that_fell_silent_keeps_no_key_hot() {
    let mut pool = Pool::new(&settings(100), 2, 5_000);
    for i in 0..200 {
        pool.record(0, Access::Read, "a", 5_000 + i);
    }
    pool.tick(5_200);
    assert!(pool.is_hot("a"));
    // Worker 0 is heard no more; worker 1 ticks.
    for now in (5_300..7_000).step_by(100) {
        pool.watches[1].tick(&pool.board, now);
    }
    assert!(!pool.is_hot("a"));
    assert_eq!(pool.board.bounds(POOL, pool.hash("a")).upper, 0);
}

#[test]
fn workers_that_tick_rarely_forget_too() {
    let mut pool = Pool::new(&settings(100), 2, 5_000);
    pool.reads("a", 200, 5_050);
    assert!(pool.is_hot("a"));
    for now in [5_330, 5_580, 5_830, 6_080, 6_330, 6_580, 6_830] {
        pool.tick(now);
    }
    assert!(!pool.is_hot("a"));
    pool.tick(u64::MAX);
    pool.reads("a", 200, u64::MAX);
}

#[test]
fn a_full_board_promotes_the_hottest() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    pool.board = Board::new(2);
    let burst = |pool: &mut Pool, from: u64| {
        for (key, per_sub_window) in [("a", 13), ("b", 16), ("c", 19)] {
            for i in 0..10 {
                pool.reads(key, per_sub_window, from + i * 100 + 50);
            }
        }
    };
    // Nothing but the end of a sub-window finds keys as slow as these: all
    // three have reached the threshold at the same time.
    burst(&mut pool, 5_000);
    assert_eq!(pool.board.set().len(), 2);
    let before = names(&pool);
    pool.ticks(6_000, 7_500);
    assert!(names(&pool).is_empty(), "after {before:?}");
}

#[test]
fn a_burst_of_promotions_is_not_a_burst_of_sets() {
    let mut pool = Pool::new(&settings(16), 1, 5_000);
    for key in 0..10_000u64 {
        // 20,000 keys a second.
        pool.reads(&format!("key:{key}"), 16, 5_000 + key / 20);
    }
    pool.tick(5_600);
    let sets = pool.board.version();
    assert_eq!(pool.board.set().len(), 10_000);
    assert!(sets < 400, "{sets} sets");
    pool.ticks(5_700, 7_200);
    assert!(pool.board.set().is_empty());
}

#[test]
fn a_key_is_retired_before_it_leaves_and_comes_back_anew() {
    let pool = Pool::new(&settings(100), 1, 5_000);
    let hash = pool.hash("a");
    pool.board.promote(hash, POOL, b"a");
    let first = pool.board.set().get(hash).cloned().unwrap();
    let generation = first.generation();
    let version = pool.board.version();
    pool.board.promote(hash, POOL, b"a");
    assert_eq!(pool.board.version(), version, "it was promoted already");
    pool.board.demote(hash);
    assert!(first.is_retired());
    assert!(pool.board.version() > version);
    pool.board.promote(hash, POOL, b"a");
    let second = pool.board.set().get(hash).cloned().unwrap();
    assert!(second.generation() > generation && !second.is_retired());
}

#[test]
fn a_key_promoted_by_hand_waits_for_a_hand() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    pool.board.promote(pool.hash("a"), POOL, b"a");
    pool.ticks(5_100, 9_000);
    assert!(pool.is_hot("a"));
    assert_eq!(pool.board.rows()[0].reason, Reason::Hand);
}

#[test]
fn a_preloaded_key_is_held_and_then_judged_like_any_other() {
    let mut pool = Pool::new(&settings(96), 1, 5_000);
    let keys = ["read", "unread"].map(|key| (pool.hash(key), POOL, key.as_bytes()));
    pool.board.preload(keys, 8_000);
    assert_eq!(pool.board.rows()[0].reason, Reason::Preload);
    for now_ms in (5_000..8_000).step_by(100) {
        pool.reads("read", 9, now_ms);
        pool.tick(now_ms + 99);
    }
    assert_eq!(names(&pool), ["read", "unread"]);
    for now_ms in (8_000..9_000).step_by(100) {
        pool.reads("read", 9, now_ms);
        pool.tick(now_ms + 99);
    }
    assert_eq!(names(&pool), ["read"]);
    pool.ticks(9_000, 11_000);
    assert_eq!(names(&pool), [""; 0]);
}

#[test]
fn a_preload_changes_nothing_that_is_promoted_and_takes_what_there_is_room_for() {
    let mut pool = Pool::new(&settings(96), 1, 5_000);
    pool.board = Board::new(3);
    pool.board.promote(pool.hash("hand"), POOL, b"hand");
    let long = vec![b'x'; 4097];
    let wanted: [&[u8]; 5] = [b"hand", &long, b"a", b"b", b"c"];
    let hash = |key| pool.hasher.hash_in(POOL, key);
    let wanted = wanted.map(|key| (hash(key), POOL, key));
    pool.board.preload(wanted, 0);
    assert_eq!(names(&pool), ["a", "b", "hand"]);
    let rows = pool.board.rows();
    let by_hand = rows.iter().filter(|row| row.reason == Reason::Hand);
    assert_eq!(by_hand.count(), 1);
}

#[test]
fn what_was_preloaded_into_a_silent_pool_can_be_let_go() {
    let mut pool = Pool::new(&settings(96), 1, 5_000);
    pool.board.promote(pool.hash("hand"), POOL, b"hand");
    let other = POOL + 1;
    let elsewhere = pool.hasher.hash_in(other, b"a");
    let keys = [(pool.hash("a"), POOL, &b"a"[..]), (elsewhere, other, b"a")];
    pool.board.preload(keys, 60_000);
    pool.reads("a", 1, 5_050);
    pool.tick(5_100);
    pool.board.forget_unheard();
    assert_eq!(names(&pool), ["a", "hand"]);
    assert!(pool.board.set().get(elsewhere).is_none());
}

#[test]
fn rows_are_busiest_first_and_add_what_workers_did() {
    let mut pool = Pool::new(&settings(96), 1, 5_000);
    pool.reads("a", 200, 5_010);
    pool.reads("b", 400, 5_020);
    let counts = Counts {
        hits: 3,
        misses: 1,
        bytes: 50,
    };
    pool.board.count(pool.hash("a"), counts);
    pool.board.count(pool.hash("a"), counts);
    pool.board.count(pool.hash("nobody"), counts);
    pool.tick(5_100);
    let rows = pool.board.rows();
    assert_eq!(&*rows[0].key.key, b"b");
    assert_eq!((rows[0].reads.lower, rows[0].total), (400, 600));
    assert_eq!(rows[0].since_ms, 5_020);
    assert_eq!((rows[1].counts.hits, rows[1].counts.bytes), (6, 100));
}

#[test]
fn sampled_counts_are_estimates_and_say_so() {
    let sampled = WatchSettings {
        sample: 10,
        ..settings(1000)
    };
    let mut pool = Pool::new(&sampled, 2, 5_000);
    for i in 0..20_000u64 {
        // Ten keys take turns: a rhythm of ten must not hide nine of them.
        let key = format!("key:{}", i % 10);
        pool.record((i / 10 % 2) as usize, Access::Read, &key, 5_000 + i / 20);
    }
    pool.tick(6_000);
    let rows = pool.board.rows();
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert!(!row.certain);
        assert!((1_400..=2_600).contains(&row.reads.lower), "{row:?}");
    }
}

#[test]
fn new_settings_leave_hot_keys_alone_for_a_window() {
    let mut pool = Pool::new(&settings(96), 2, 5_000);
    pool.reads("a", 200, 5_050);
    assert!(pool.is_hot("a"));
    let mut old = std::mem::replace(&mut pool.watches, watches(&settings(192), 2, 5_500));
    pool.tick(5_600);
    for now in [5_600, 5_700] {
        old[0].tick(&pool.board, now);
        assert_eq!(
            pool.board.bounds(POOL, pool.hash("a")).upper,
            0,
            "nobody listens"
        );
    }
    pool.ticks(5_700, 6_500);
    assert!(pool.is_hot("a"));
    pool.ticks(6_600, 6_800);
    assert!(!pool.is_hot("a"));
}

#[test]
fn pools_do_not_mix() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    let other = POOL + 1;
    let mut watch = emberline_hotkey::Watch::new(&settings(100), other, 0, 1, 5_000);
    let hash = pool.hasher.hash_in(other, b"a");
    for _ in 0..60 {
        watch.record(&pool.board, Access::Read, hash, b"a", 5_010);
    }
    pool.reads("a", 60, 5_010);
    pool.tick(5_100);
    watch.tick(&pool.board, 5_100);
    assert!(pool.board.set().is_empty());
    for _ in 0..60 {
        watch.record(&pool.board, Access::Read, hash, b"a", 5_110);
    }
    let set = pool.board.set();
    assert_eq!((set.len(), set.get(hash).unwrap().pool), (1, other));
}

#[test]
fn a_pool_without_traffic_takes_no_tables() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    pool.ticks(5_100, 6_500);
    assert!(
        pool.watches[0].memory() < 2048,
        "{}",
        pool.watches[0].memory()
    );
    pool.reads("a", 1, 6_510);
    assert!(pool.watches[0].memory() < 40 * 1024);
}

#[test]
fn a_key_too_long_to_remember_is_not_promoted() {
    let mut pool = Pool::new(&settings(100), 1, 5_000);
    pool.reads(&"k".repeat(4097), 300, 5_050);
    pool.reads(&"k".repeat(4096), 300, 5_050);
    assert_eq!(pool.board.set().len(), 1);
}
