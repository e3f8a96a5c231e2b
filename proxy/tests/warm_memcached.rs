//! `emberline warm` between real memcached servers.

#![allow(clippy::unwrap_used)]

mod support;
mod warm_support;

use emberline_protocol::memcache::base64;
use support::{Client, Server};
use warm_support::House;

fn key(i: usize) -> Vec<u8> {
    match i % 40 {
        // Only base64 can say these.
        0 => [b"bin \r\n\0\xff".as_slice(), i.to_string().as_bytes()].concat(),
        1 => format!("per%25cent+{i}").into_bytes(),
        _ => format!("key:{i}").into_bytes(),
    }
}

/// How a key is written, and whether in base64: those that must, and some that need not.
fn written(i: usize) -> (Vec<u8>, &'static [u8]) {
    let key = key(i);
    if !matches!(i % 40, 0 | 2) {
        return (key, b"");
    }
    let mut text = Vec::new();
    base64::encode(&mut text, &key);
    (text, b" b")
}

fn value(i: usize) -> Vec<u8> {
    // Several slab classes, and bytes that could end a line.
    let mut value = format!("{i}\r\nEND\r\n").into_bytes();
    value.resize(value.len() + i * 37 % 900, b'v');
    value
}

fn ttl(i: usize) -> Option<u64> {
    match i % 4 {
        0 => None,
        1 => Some(3600 + i as u64),
        // Longer than memcached takes for a length of time.
        2 => Some(60 * 86_400),
        _ => Some(500),
    }
}

fn fill_all(house: &House, count: usize) {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut clients: Vec<Client> = house.old.iter().map(Server::client).collect();
    for first in (0..count).step_by(200) {
        let mut out = vec![Vec::new(); clients.len()];
        let mut replies = vec![0; clients.len()];
        for i in first..(first + 200).min(count) {
            let home = house.old_home(&key(i));
            let (name, b) = written(i);
            let time = match ttl(i) {
                None => 0,
                Some(ttl) if ttl > 30 * 86_400 => now + ttl,
                Some(ttl) => ttl,
            };
            let value = value(i);
            let out = &mut out[home];
            out.extend(b"ms ");
            out.extend(name);
            out.extend(format!(" {} F{} T{time}", value.len(), i * 7919).into_bytes());
            out.extend(b);
            out.extend(b"\r\n");
            out.extend(value);
            out.extend(b"\r\n");
            replies[home] += 1;
        }
        for ((client, out), replies) in clients.iter_mut().zip(out).zip(replies) {
            client.send(&out);
            (0..replies).for_each(|_| assert_eq!(client.memcached_reply(), b"HD\r\n"));
        }
    }
}

/// Flags, form of the key and value, and the time to live beside them.
fn look(client: &mut Client, i: usize) -> (String, Vec<u8>, i64) {
    let (name, b) = written(i);
    let reply = client.ask([b"mg ", &name[..], b, b" v f t k\r\n"].concat());
    let end = reply.iter().position(|&byte| byte == b'\n').unwrap();
    let line = String::from_utf8_lossy(&reply[..end]).into_owned();
    let (time, rest): (Vec<&str>, Vec<&str>) = line
        .split_whitespace()
        .partition(|word| word.starts_with('t'));
    let time = time.first().map_or(-2, |time| time[1..].parse().unwrap());
    (rest.join(" "), reply[end + 1..].to_vec(), time)
}

fn size(server: &Server) -> u64 {
    let stats = server.client().ask("stats\r\n");
    let stats = String::from_utf8_lossy(&stats).into_owned();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("STAT curr_items "));
    line.unwrap().trim().parse().unwrap()
}

/// Clocks tick once a second, each server's at another moment: between two ticks
/// a reading is a second off. Some moment shows what is true.
fn alike(old: &mut Client, new: &mut Client, i: usize) -> bool {
    (0..60).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(25));
        (look(old, i).2 - look(new, i).2).abs() <= 1
    })
}

fn all_there(house: &House, count: usize) {
    let mut old: Vec<Client> = house.old.iter().map(Server::client).collect();
    let mut new: Vec<Client> = house.new.iter().map(Server::client).collect();
    for i in 0..count {
        let was = look(&mut old[house.old_home(&key(i))], i);
        let is = look(&mut new[house.new_home(&key(i))], i);
        assert!(was.0.starts_with("VA "), "key {i}: {}", was.0);
        assert_eq!((&was.0, &was.1), (&is.0, &is.1), "key {i}");
        assert_eq!(was.2 < 0, is.2 < 0, "key {i}: {} and {}", was.2, is.2);
        assert!(
            (was.2 - is.2).abs() <= 1
                || alike(
                    &mut old[house.old_home(&key(i))],
                    &mut new[house.new_home(&key(i))],
                    i
                ),
            "key {i}: {} and {}",
            was.2,
            is.2
        );
    }
    assert_eq!(house.new.iter().map(size).sum::<u64>(), count as u64);
}

#[test]
fn every_item_arrives_with_flags_and_time_to_live() {
    let Some(house) = House::memcached(2, 3) else {
        return;
    };
    fill_all(&house, 20_000);
    let summary = house.warm(&[]);
    assert_eq!(summary["copied"], 20_000, "{summary:#}");
    all_there(&house, 20_000);
}

#[test]
fn a_killed_run_goes_on_and_misses_nothing() {
    let Some(house) = House::memcached(2, 3) else {
        return;
    };
    fill_all(&house, 20_000);
    let file = &house.killed_half_way("8000");
    let half: u64 = house.new.iter().map(size).sum();
    assert!((1..20_000).contains(&half), "{half}");

    let summary = house.warm(&["--checkpoint", file]);
    assert!(summary["seen"].as_u64().unwrap() < 20_000, "{summary:#}");
    all_there(&house, 20_000);
    assert_eq!(house.warm(&["--checkpoint", file])["complete_before"], true);
}

#[test]
fn slices_of_a_restarted_server_are_not_trusted() {
    let Some(mut house) = House::memcached(1, 2) else {
        return;
    };
    fill_all(&house, 500);
    let file = &house.killed_half_way("100");
    house.old[0].restart();
    fill_all(&house, 500);
    let summary = house.warm(&["--checkpoint", file]);
    assert_eq!(summary["seen"], 500, "{summary:#}");
}

#[test]
fn a_target_that_was_restarted_is_filled_again() {
    let Some(mut house) = House::memcached(1, 2) else {
        return;
    };
    fill_all(&house, 500);
    let path = house.path("state.json");
    let file = path.to_str().unwrap();
    house.warm(&["--checkpoint", file]);
    house.new[0].restart();
    assert_eq!(size(&house.new[0]), 0);
    let summary = house.warm(&["--checkpoint", file]);
    let name = house.new[0].address().to_string();
    assert_eq!(summary["restarted"], serde_json::json!([name]));
    all_there(&house, 500);
}

/// A dump is read as fast as the server can, whatever the pace: so there is one.
#[test]
fn keys_that_fit_into_memory_are_dumped_once() {
    let Some(house) = House::memcached(1, 2) else {
        return;
    };
    fill_all(&house, 5000);
    let dumps = || {
        let stats = house.old[0].client().ask("stats\r\n");
        let stats = String::from_utf8_lossy(&stats).into_owned();
        let mut lines = stats.lines();
        let line = lines.find_map(|line| line.strip_prefix("STAT lru_crawler_starts "));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = dumps();
    assert_eq!(house.warm(&[])["copied"], 5000);
    // The server's own LRU crawls now and then.
    assert!((1..4).contains(&(dumps() - before)), "{}", dumps() - before);
    let summary = house.warm(&["--source-p99", "1s"]);
    assert_eq!(summary["seen"], 5000);
}

/// A slow reader of a dump makes memcached hold locks; a dump of a few keys
/// fits into the buffers between and would not show it.
#[test]
fn a_dump_larger_than_buffers_blocks_nobody() {
    let Some(house) = House::memcached(1, 2) else {
        return;
    };
    let mut client = house.old[0].client();
    for first in (0..150_000).step_by(1000) {
        let line = |i| format!("ms {i}:{} 1\r\nv\r\n", "k".repeat(200));
        client.send(
            (first..first + 1000)
                .map(line)
                .collect::<String>()
                .as_bytes(),
        );
        (0..1000).for_each(|_| assert_eq!(client.memcached_reply(), b"HD\r\n"));
    }
    assert_eq!(size(&house.old[0]), 150_000);
    let summary = house.warm(&["--rate", "100000"]);
    assert_eq!(summary["copied"], 150_000, "{summary:#}");
}

#[test]
fn what_the_target_has_stays_unless_told_otherwise() {
    let Some(house) = House::memcached(2, 3) else {
        return;
    };
    fill_all(&house, 600);
    let mine = key(7);
    let name = String::from_utf8(mine.clone()).unwrap();
    let mut client = house.new[house.new_home(&mine)].client();
    client.ask(format!("set {name} 1 0 5\r\nnewer\r\n"));
    let summary = house.warm(&["--dry-run"]);
    assert_eq!(
        (
            summary["copied"].as_u64(),
            summary["skipped"]["existed"].as_u64()
        ),
        (Some(599), Some(1))
    );
    assert_eq!(house.new.iter().map(size).sum::<u64>(), 1);

    assert_eq!(house.warm(&[])["skipped"]["existed"], 1);
    let kept = format!("VALUE {name} 1 5\r\nnewer\r\nEND\r\n");
    assert_eq!(client.ask(format!("get {name}\r\n")), kept.as_bytes());
    assert_eq!(house.warm(&["--replace"])["copied"], 600);
    all_there(&house, 600);
}

#[test]
fn leftovers_short_lives_and_foreign_prefixes_stay_behind() {
    let Some(house) = House::memcached(2, 2) else {
        return;
    };
    let mut names = (0..)
        .map(|i| format!("left:{i}"))
        .filter(|key| house.old_home(key.as_bytes()) == 0);
    let homeless = names.next().unwrap();
    house.old[1]
        .client()
        .ask(format!("set {homeless} 0 0 1\r\nx\r\n"));
    for (name, ttl) in [("a:1", 0), ("a:2", 900), ("a:3", 20), ("b:4", 0)] {
        let mut client = house.old[house.old_home(name.as_bytes())].client();
        client.ask(format!("set {name} 0 {ttl} 1\r\nx\r\n"));
    }
    let summary = house.warm(&["--match", "a:", "--min-ttl", "1m"]);
    assert_eq!(
        (
            summary["copied"].as_u64(),
            summary["skipped"]["short"].as_u64()
        ),
        (Some(2), Some(1))
    );
    let summary = house.warm(&[]);
    assert_eq!(
        (
            summary["copied"].as_u64(),
            summary["skipped"]["leftovers"].as_u64()
        ),
        (Some(2), Some(1))
    );
    assert_eq!(house.warm(&["--all"])["copied"], 1);
}

#[test]
fn an_item_that_is_too_large_does_not_end_the_run() {
    let Some(mut house) = House::memcached(1, 0) else {
        return;
    };
    let Some(small) = Server::memcached_with(&["-I", "512k"]) else {
        return;
    };
    house.new.push(small);
    house.configure("", "");
    fill_all(&house, 300);
    let large = "v".repeat(700_000);
    house.old[0]
        .client()
        .ask(format!("set large 0 0 700000\r\n{large}\r\n"));
    let output = house.try_warm(&[]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        warm_support::said(&output)
    );
    let summary = warm_support::summary(&output);
    assert_eq!(
        (summary["copied"].as_u64(), summary["refused"].as_u64()),
        (Some(300), Some(1))
    );
    let said = summary["refusals"][0].as_str().unwrap();
    assert!(
        said.starts_with("large at ") && said.contains("too large"),
        "{said}"
    );
    all_there(&house, 300);
}

#[test]
fn reading_leaves_no_trace_in_the_source() {
    let Some(house) = House::memcached(1, 1) else {
        return;
    };
    house.old[0].client().ask("set k 0 0 1\r\nv\r\n");
    house.warm(&[]);
    // `h`: whether it has been hit before.
    assert_eq!(house.old[0].client().ask("mg k h\r\n"), b"HD h0\r\n");
}
