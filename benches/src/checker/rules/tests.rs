//! Histories written by hand. Times are in milliseconds:
//!
//! ```text
//!   proxy  10-20 set               the next version, through the proxy
//!   direct 10-?  set               in doubt, given up 1 ms after its start
//!   proxy  10-20 set for 100       forgotten after 100 ms
//!   other  10-20 expire 100        the last version is given an end
//!   direct 10-20 del
//!   server 10-20 dies              comes back empty
//!   proxy  10-20 flush
//!   proxy  10-20 read 3            was told version 3; "-" is nothing
//!   proxy  10-20 read 3 conn 7     on this connection
//!   proxy  10-20 read 3 after 4    behind the write 4 on the same connection
//!   proxy  10-20 read 3 settled    in the last sweep
//! ```

use super::*;
use crate::checker::history::{Expiry, Foreign, Version, Wipe};
use crate::checker::stamp::Wrong;

const MS: u64 = 1_000_000;
const KEY: Key = Key { slot: 1, turn: 0 };

/// A proxy may be 100 ms behind, and 10 ms are granted; the quarantine is 50 ms.
const LATE: Bounds = Bounds {
    promise: 100 * MS,
    allowance: 10 * MS,
    quarantine: 50 * MS,
    unordered: false,
};

/// A proxy may not be behind.
const STRICT: Bounds = Bounds { promise: 0, ..LATE };

fn history(text: &str) -> History {
    let mut history = History::default();
    let mut versions: Vec<Version> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[1].split_once('-').unwrap();
        let start = start.parse::<u64>().unwrap() * MS;
        let acked = end != "?";
        let end = if acked {
            end.parse::<u64>().unwrap() * MS
        } else {
            start + MS
        };
        let via = match words[0] {
            "proxy" => Some(Via::Proxy),
            "other" => Some(Via::Other),
            "direct" => Some(Via::Direct),
            _ => None,
        };
        let number = |at: usize| words[at].parse::<u64>().unwrap() * MS;
        match words[2] {
            "set" | "del" => versions.push(Version {
                via: via.unwrap(),
                start,
                end,
                acked,
                gone: words[2] == "del",
                expiry: (words.len() > 3).then(|| Expiry {
                    from: start + number(4),
                    by: end + number(4),
                    told: None,
                }),
            }),
            "expire" => {
                versions.last_mut().unwrap().expiry = Some(Expiry {
                    from: start + number(3),
                    by: end + number(3),
                    told: Some((via.unwrap(), end)),
                });
            }
            "flush" | "dies" => history.wipes.push(Wipe {
                via,
                start,
                end: if acked { end } else { u64::MAX },
            }),
            "read" => history
                .reads
                .push(read(via.unwrap(), start, end, &words[3..])),
            other => panic!("no verb {other}"),
        }
    }
    history.versions.insert(KEY, versions);
    history
}

fn read(via: Via, start: u64, end: u64, words: &[&str]) -> Read {
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    Read {
        key: KEY,
        via,
        conn: option("conn").unwrap_or(1000 + start as u32),
        start,
        end,
        seen: words[0].parse().ok(),
        after: option("after").unwrap_or(0),
        settled: words.contains(&"settled"),
        form: "get",
    }
}

/// The rules that a history breaks, each as often as it does.
fn broken(text: &str, bounds: Bounds) -> String {
    let verdict = judge(&mut history(text), bounds);
    let codes = Rule::ALL.into_iter().flat_map(|rule| {
        let count = verdict.count(rule) as usize;
        std::iter::repeat_n(rule.code(), count)
    });
    codes.collect::<Vec<_>>().join(" ")
}

/// What a history breaks where proxies may be late.
fn check(text: &str, expected: &str) {
    assert_eq!(broken(text, LATE), expected, "{text}");
}

/// What it breaks where they may not.
fn check_strict(text: &str, expected: &str) {
    assert_eq!(broken(text, STRICT), expected, "{text}");
}

#[test]
fn r1_a_proxy_knows_what_it_has_acknowledged() {
    check("proxy 10-20 set\n proxy 21-22 read -", "R1");
    check("proxy 10-20 set\n proxy 21-22 read 1", "");
    check(
        "proxy 10-20 set\n proxy 30-40 set\n proxy 41-42 read 1",
        "R1",
    );
    // A read that began before the acknowledgement may be either.
    check("proxy 10-20 set\n proxy 15-30 read -", "");
    check("proxy 10-20 set\n proxy 15-30 read 1", "");
    // Another proxy's writes are another rule's.
    check("other 10-20 set\n proxy 21-22 read -", "");
    check(
        "proxy 10-20 set\n proxy 30-40 del\n proxy 41-42 read 1",
        "R1",
    );
    check("proxy 10-20 set\n proxy 30-40 del\n proxy 41-42 read -", "");
    check(
        "proxy 10-20 set\n proxy 30-40 flush\n proxy 41-42 read 1",
        "R1",
    );
}

#[test]
fn r1_counts_on_one_connection_before_any_clock() {
    check("proxy 10-20 set\n proxy 10-21 read - after 1", "R1");
    check("proxy 10-20 set\n proxy 10-21 read 1 after 1", "");
}

#[test]
fn r2_a_proxy_never_goes_back() {
    let two = "direct 10-20 set\n direct 30-40 set\n";
    check(
        &format!("{two} proxy 41-42 read 2\n proxy 43-44 read 1"),
        "R2",
    );
    check(
        &format!("{two} proxy 41-42 read 1\n proxy 43-44 read 2"),
        "",
    );
    // Overlapping reads have no order, unless their connection gives them one.
    check(
        &format!("{two} proxy 41-43 read 2\n proxy 42-44 read 1"),
        "",
    );
    check(
        &format!("{two} proxy 41-43 read 2 conn 1\n proxy 41-44 read 1 conn 1"),
        "R2",
    );
    // Another proxy may be behind this one.
    check(
        &format!("{two} proxy 41-42 read 2\n other 43-44 read 1"),
        "",
    );
    // What has gone does not come back.
    let gone = "direct 10-20 set\n direct 30-40 del\n";
    let known = format!("{gone} proxy 21-22 read 1\n proxy 41-42 read -\n");
    check(&format!("{known} proxy 43-44 read 1"), "R2");
    check(&format!("{known} proxy 43-44 read -"), "");
    // Who has not read it before may have been told of the time before it.
    check(
        &format!("{gone} proxy 41-42 read -\n proxy 43-44 read 1"),
        "",
    );
}

#[test]
fn r3_nobody_is_behind_for_longer_than_the_bound() {
    let two = "direct 10-20 set\n direct 30-40 set\n";
    check(&format!("{two} proxy 149-150 read 1"), "");
    check(&format!("{two} proxy 151-152 read 1"), "R3");
    check(&format!("{two} proxy 151-152 read 2"), "");
    check_strict(&format!("{two} proxy 41-42 read 1"), "R3");
    check(&format!("{two} direct 41-42 read 1"), "R1");
    check("other 10-20 set\n direct 21-22 read -", "R3");
    // Deletions and flushes are writes, too.
    let gone = "direct 10-20 set\n direct 30-40 del\n";
    check(&format!("{gone} proxy 149-150 read 1"), "");
    check(&format!("{gone} proxy 151-152 read 1"), "R3");
    let wiped = "direct 10-20 set\n direct 30-40 flush\n";
    check(&format!("{wiped} proxy 149-150 read 1"), "");
    check(&format!("{wiped} proxy 151-152 read 1"), "R3");
    let died = "direct 10-20 set\n server 30-40 dies\n";
    check(&format!("{died} proxy 151-152 read 1"), "R3");
    check(&format!("{died} proxy 151-152 read -"), "");
    // Nothing is not newer than something.
    check(&format!("{two} proxy 151-152 read -"), "R3");
}

#[test]
fn r3_holds_for_what_somebody_else_has_read() {
    // The write is in doubt, but a read has shown that it took effect.
    let seen = "direct 10-20 set\n direct 30-? set\n other 40-50 read 2\n";
    check(&format!("{seen} proxy 159-160 read 1"), "");
    check(&format!("{seen} proxy 161-162 read 1"), "R3");
    check_strict(&format!("{seen} proxy 51-52 read 1"), "R3");
}

#[test]
fn r3_an_expiry_that_came_with_the_value_ends_it_everywhere() {
    let set = "direct 10-20 set for 50\n";
    check("proxy 10-20 set for 50\n proxy 55-59 read -", "R1");
    check("proxy 10-20 set for 50\n proxy 55-61 read -", "");
    check(&format!("{set} proxy 79-80 read 1"), "");
    check(&format!("{set} proxy 81-82 read 1"), "R3");
    check(&format!("{set} proxy 81-82 read -"), "");
    // Who may still be told of an older version has not outlived anything.
    let second = "direct 1-2 set\n direct 10-20 set for 50\n";
    check(&format!("{second} proxy 129-130 read 1"), "");
    check(&format!("{second} proxy 131-132 read 1"), "R3");
    check(&format!("{second} proxy 81-82 read 2"), "R3");
    // Told later and elsewhere, it is known after the bound.
    let told = "direct 10-20 set\n direct 30-40 expire 50\n";
    check(&format!("{told} proxy 149-150 read 1"), "");
    check(&format!("{told} proxy 151-152 read 1"), "R3");
    // Told through the same proxy, it is known at once.
    let told = "direct 10-20 set\n proxy 30-40 expire 50\n";
    check(&format!("{told} proxy 100-101 read 1"), "");
    check(&format!("{told} proxy 101-102 read 1"), "R3");
    // Nothing goes before its time.
    check(
        "proxy 10-20 set\n proxy 30-40 expire 50\n proxy 60-70 read -",
        "R1",
    );
    check(
        "proxy 10-20 set\n proxy 30-40 expire 50\n proxy 60-80 read -",
        "",
    );
}

#[test]
fn r4_what_is_read_was_written() {
    check("proxy 10-20 set\n proxy 21-22 read 2", "R4");
    check("proxy 21-22 read 1\n proxy 30-40 set", "R4");
    check(
        "proxy 10-20 set\n proxy 30-40 del\n proxy 41-42 read 2",
        "R4",
    );
    let mut torn = history("proxy 10-20 set");
    torn.aliens.push(Alien {
        key: KEY,
        via: Via::Proxy,
        end: 30 * MS,
        wrong: Foreign::Value(Wrong::Torn),
        excerpt: "check:1:0|0|".to_owned(),
    });
    assert_eq!(judge(&mut torn, LATE).count(Rule::Written), 1);
}

#[test]
fn r5_when_all_is_quiet_everybody_agrees_with_the_server() {
    let quiet = "direct 10-20 set\n direct 30-? set\n direct 900-901 read 2 settled\n";
    let same = "proxy 902-903 read 2 settled\n direct 904-905 read 2 settled";
    check(&format!("{quiet}{same}"), "");
    let older = "proxy 902-903 read 1 settled\n direct 904-905 read 2 settled";
    check(&format!("{quiet}{older}"), "R5");
    // The server itself was not quiet.
    let moving = "direct 10-20 set\n direct 30-? set\n direct 900-901 read 1 settled\n";
    check(&format!("{moving}{older}"), "");
}

#[test]
fn a_write_in_doubt_is_either_or_but_not_both() {
    let doubt = "proxy 10-20 set\n proxy 30-? set\n";
    check(&format!("{doubt} proxy 500-501 read 1"), "");
    check(&format!("{doubt} proxy 500-501 read 2"), "");
    check(
        &format!("{doubt} proxy 500-501 read 1\n proxy 502-503 read 2"),
        "",
    );
    check(
        &format!("{doubt} proxy 500-501 read 2\n proxy 502-503 read 1"),
        "R2",
    );
}

#[test]
fn what_was_sent_behind_a_write_in_doubt_may_be_overtaken_by_it() {
    let behind = "proxy 10-20 set\n proxy 30-? set\n proxy 30-40 set\n";
    check(
        &format!("{behind} proxy 41-42 read 3\n proxy 43-44 read 2"),
        "",
    );
    check(&format!("{behind} proxy 41-42 read 1"), "R1");
}

/// In doubt from 30 to 31 ms, so the quarantine of 50 ms ends at 81 ms, and
/// 10 ms are granted.
#[test]
fn a_write_in_doubt_that_lands_in_its_quarantine_is_known_after_it() {
    let landed = "proxy 10-20 set\n proxy 30-? set\n direct 60-70 read 2\n";
    check(&format!("{landed} proxy 90-92 read 1"), "");
    check(&format!("{landed} proxy 92-93 read 1"), "R1");
    check(&format!("{landed} proxy 92-93 read 2"), "");
    // Landed later, it is nobody's promise before the bound.
    let later = "proxy 10-20 set\n proxy 30-? set\n direct 70-81 read 2\n";
    check(&format!("{later} proxy 92-93 read 1"), "");
}

#[test]
fn a_wipe_may_have_taken_what_was_written_meanwhile_or_not() {
    let during = "proxy 10-20 set\n direct 30-60 flush\n proxy 40-50 set\n";
    check(&format!("{during} proxy 61-62 read 2"), "");
    check(&format!("{during} proxy 61-62 read -"), "");
    check(&format!("{during} proxy 61-62 read 1"), "R1");
    // Without an acknowledgement it may still come.
    let doubt = "proxy 10-20 set\n direct 30-? flush\n";
    check(
        &format!("{doubt} proxy 500-501 read 1\n proxy 502-503 read -"),
        "",
    );
    check(
        &format!("{doubt} proxy 500-501 read -\n proxy 502-503 read 1"),
        "R2",
    );
}

#[test]
fn staleness_is_counted_from_the_acknowledgement_of_the_next_write() {
    let text = "direct 10-20 set\n direct 30-40 set\n proxy 70-71 read 1\n proxy 72-73 read 2";
    let verdict = judge(&mut history(text), LATE);
    assert_eq!((verdict.reads, verdict.staleness.len()), (2, 1));
    assert!(
        (29_900..30_100).contains(&verdict.staleness.max()),
        "{:?}",
        verdict.staleness.max()
    );
}
